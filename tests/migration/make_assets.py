"""Makes `assets/NNNN.db`: a small verdict database with rows in all of its tables, for every revision of the schema.

    python tests/migration/make_assets.py

makes those that are missing.  Run it when a migration is added, and commit what it makes; those of earlier revisions stay as they
are, since they stand for databases that users have.  A real run fills a database of this version, the schema of the revision is
built by the migrations, and then every row is copied with the columns that the revision has.
"""

import asyncio
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from judgeflow import Scheduler
from judgeflow.config import RoutingConfig
from judgeflow.keys import pair_keys
from judgeflow.store import SqlStore, migrate, schema
from judgeflow.testing import FakeScorer, ScriptedJudge
from judgeflow.types import Cost, JudgeIdentity, Message, Pair, Reservation, Stock

ASSETS = Path(__file__).parent / "assets"
RUN = "old run"
IDENTITY = JudgeIdentity(
    id="old judge", model="judge-one", fingerprint=b"the-fingerprint-of-an-old-judge!", parameters={"temperature": 0.5}
)
PAIRS = (
    Pair(prompt="Which is longer?", response_a="a mile", response_b="a kilometre"),
    Pair(prompt="Which is longer?", response_a="a mile", response_b="a light year"),
    Pair(prompt="Write nothing.", response_a="", response_b="nothing"),
    Pair(prompt="日本語で答えて。", response_a="はい \U0001f600", response_b="いいえ"),
    Pair(prompt="A zero byte, please.", response_a="\x00", response_b="\x1a"),
    Pair(
        prompt=(Message(role="system", content="Be brief."), Message(role="user", content="Why?")), response_a="So.", response_b="Because."
    ),
)


class OldJudge(ScriptedJudge):
    """A judge whose verdicts are keyed the same for ever, whatever becomes of templates and parameters."""

    @property
    def identity(self) -> JudgeIdentity:
        return IDENTITY


async def fill(path: Path) -> None:
    """Route the pairs, and leave a reservation open, in a database of this version."""
    judge = OldJudge(prompt_usd_per_mtok=2.0, completion_usd_per_mtok=8.0)
    store = await SqlStore.open(str(path), wall=lambda: 1_750_000_000.0)
    async with Scheduler(store=store, judge=judge, routing=RoutingConfig(policy="always"), run=RUN) as scheduler:
        await scheduler.route(PAIRS, step=0)
    adaptive = RoutingConfig(policy="error", max_share=0.5)  # which keeps what it has learnt
    async with Scheduler(store=store, judge=judge, scorer=FakeScorer(), routing=adaptive, run=RUN) as scheduler:
        await scheduler.route(PAIRS, step=1)
    orphan = Reservation(id="orphan", call_key=b"?" * 32, cost=Cost(requests=1, tokens=1000, usd=0.01), judge=IDENTITY.fingerprint)
    await store.reserve(RUN, orphan, Stock())
    await store.aclose()
    _fill_tables_of_imports(path)
    _fill_superseded_readings(path)
    _fill_pressure(path)


def _fill_tables_of_imports(path: Path) -> None:
    keys = [pair_keys(pair).pair for pair in PAIRS]
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO score VALUES ('old scorer', ?, 0.5, 1.25, 1750000000.0)", [(key,) for key in keys])
        database.executemany("INSERT INTO label VALUES (?, 1, 'lengths', 'people', 1750000000.0)", [(key,) for key in keys])


def _fill_superseded_readings(path: Path) -> None:
    superseded = "SELECT key, 1750000000.0, 'unparseable', NULL, 0, 0, NULL, NULL FROM call"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"INSERT INTO reading {superseded} ORDER BY key LIMIT 3")


def _fill_pressure(path: Path) -> None:
    pressure = {
        "max_in_flight": 64,
        "in_flight": 16,
        "rate_limited": 12,
        "busy": 1,
        "lowered_s": 8.5,
        "admits": {"requests_per_minute": 60},
    }
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE step SET pressure = ? WHERE step = 1", (json.dumps({IDENTITY.id: pressure}),))


def columns(database: sqlite3.Connection, table: str, of: str = "main") -> list[str]:
    """Names of a table's columns in their order."""
    return [row[1] for row in database.execute(f'PRAGMA {of}.table_info("{table}")')]


def copy_rows(source: Path, target: Path) -> None:
    """Copy every row into the tables and columns that `target` has."""
    with closing(sqlite3.connect(target)) as database:
        database.execute("ATTACH ? AS source", (str(source),))
        for table in (table.name for table in schema.metadata.sorted_tables):
            names = ", ".join(f'"{name}"' for name in columns(database, table))
            if names:
                database.execute(f'INSERT INTO main."{table}" ({names}) SELECT {names} FROM source."{table}"')
        database.commit()
        database.execute("DETACH source")
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")


async def make(target: Path) -> None:
    """Make the asset of the revision that the file is named for."""
    with tempfile.TemporaryDirectory() as folder:
        full, old = Path(folder) / "full.db", Path(folder) / "old.db"
        await fill(full)
        await migrate.upgrade(str(old), target.stem)
        copy_rows(full, old)
        shutil.copyfile(old, target)


if __name__ == "__main__":
    ASSETS.mkdir(exist_ok=True)
    for revision in schema.REVISIONS:
        if not (ASSETS / f"{revision}.db").exists():
            asyncio.run(make(ASSETS / f"{revision}.db"))
