"""`judgeflow db upgrade`."""

from __future__ import annotations

from judgeflow.cli.db.common import AsJson, ConfigFile, Url, address_of, print_json


def upgrade(url: Url = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Create the database, or bring an older one to this version's schema.  Copy it first: there is no way back.

    Example: judgeflow db upgrade --url verdicts.db
    """
    import asyncio

    from judgeflow.store import migrate
    from judgeflow.store.engines import database_at
    from judgeflow.store.schema import REVISIONS

    address = address_of(url, config)
    before = asyncio.run(migrate.upgrade(address))
    shown = database_at(address).url
    found = before.revision or "nothing"
    if as_json:
        print_json({"url": shown, "before": before.revision, "revision": REVISIONS[-1], "changed": before.kind != "current"})
    elif before.kind == "current":
        print(f"{shown} is up to date (schema {REVISIONS[-1]})")
    else:
        print(f"{shown}: schema {found} -> {REVISIONS[-1]}")
