"""`judgeflow db check`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from judgeflow.cli.db.common import AsJson, ConfigFile, Url, address_of, print_json
from judgeflow.cli.options import ShowProgress
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from judgeflow.store.check import Finding


def check(url: Url = None, config: ConfigFile = None, progress: ShowProgress = True, as_json: AsJson = False) -> None:
    """Prove that the database is sound: schema, pages, references, every key, readings, budgets.  Exit code 1 if it is not.

    Example: judgeflow db check --url verdicts.db
    """
    import asyncio

    from judgeflow.cli.interrupt import interruptible
    from judgeflow.cli.progress import activity
    from judgeflow.store.check import check as run_checks
    from judgeflow.store.engines import database_at, file_of
    from judgeflow.store.failures import SAVE

    address = address_of(url, config)
    so_far: list[Finding] = []
    with interruptible(lambda: _kept(so_far)), activity(wanted=progress) as tell:
        findings = asyncio.run(run_checks(address, tell, so_far.append))
    sound = all(finding.ok for finding in findings)
    if as_json:
        print_json({"url": database_at(address).url, "ok": sound, "findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok   ' if finding.ok else 'WRONG'} {finding.check}: {finding.detail}")
        if not sound and file_of(address) is not None:
            typer.echo(f"copy the file with its -wal before anything else; restore a backup, {SAVE}", err=True)
    if not sound:
        raise typer.Exit(1)


def _kept(so_far: list[Finding]) -> str:
    wrong = [f"{finding.check}: {finding.detail}" for finding in so_far if not finding.ok]
    found = f"WRONG {'; '.join(wrong)}" if wrong else "and nothing is wrong so far"
    return f"after {plural(len(so_far), 'check')}, {found}; a check only reads, and the same command begins again"
