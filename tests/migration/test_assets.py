"""Databases of every earlier revision, committed as files: upgraded, read, written and reused, on SQLite and on PostgreSQL."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from make_assets import ASSETS, IDENTITY, PAIRS, RUN, OldJudge, columns
from sqlalchemy import MetaData, create_engine, func, select

from judgeflow import Scheduler
from judgeflow.config import RoutingConfig
from judgeflow.keys import pair_keys, questions
from judgeflow.store import SqlStore, migrate, schema
from judgeflow.store.check import check
from judgeflow.store.engines import database_at
from judgeflow.store.queries import summary
from judgeflow.testing.store_contract import make_call, make_reservation
from judgeflow.types import Cost, Pair, Stock

MOST_BYTES = 200_000
KNOWN_SINCE = {
    "run": "0002",
    "step": "0002",
    "decision": "0002",
    "reservation": "0002",
    "pacing": "0004",
    "score": "0005",
    "label": "0005",
    "reading": "0006",
}

every_revision = pytest.mark.parametrize("revision", schema.REVISIONS)


@pytest.fixture
def old(tmp_path, revision):
    """A copy of the database that this revision has left."""
    return shutil.copy(ASSETS / f"{revision}.db", tmp_path / "verdicts.db")


def rows_of(path, of):
    """Every row by table, with the columns that the database `of` has."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("ATTACH ? AS other", (str(of),))
        names = {table: columns(database, table, "other") for table in schema.metadata.tables}
        chosen = {table: ", ".join(f'"{name}"' for name in found) for table, found in names.items() if found}
        return {table: database.execute(f'SELECT {found} FROM "{table}" ORDER BY 1, 2').fetchall() for table, found in chosen.items()}


async def differences(url):
    """What the schema at `url` has otherwise than the code expects."""

    def compare(connection):
        context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE, "compare_type": True})
        return compare_metadata(context, schema.metadata)

    writer = database_at(url).writer()
    try:
        return await writer.visit(compare)
    finally:
        await writer.aclose()


async def check_usable(url, revision):
    """All that was paid for can be read and is not asked again, and the database takes more."""
    assert await differences(url) == []
    assert [finding for finding in await check(url) if not finding.ok] == []
    judge = OldJudge()
    asked = [question for pair in PAIRS for question in questions(pair, pair_keys(pair), IDENTITY.fingerprint)]
    store = await SqlStore.open(url)
    calls = await store.read([question.call_key for question in asked])
    assert calls.keys() == {question.call_key for question in asked}
    assert {call.reply.usage.total > 0 and call.reading.status.value for call in calls.values()} == {"ok"}
    state = await store.open_run(RUN, {}, IDENTITY)
    assert state.spent.requests == (12 if revision >= "0002" else 0)
    assert state.reserved.requests == (1 if revision >= "0002" else 0)
    assert state.last_step == (1 if revision >= "0002" else None)
    assert (state.pacing is not None) == (revision >= "0004")
    assert len(await store.decisions(RUN, 0)) == (6 if revision >= "0002" else 0)
    assert {item.at is None for item in await store.dispatches(IDENTITY, 0)} == ({True, False} if revision >= "0003" else set())
    pair = Pair(prompt="A new one?", response_a="yes", response_b="no")
    new, _ = questions(pair, pair_keys(pair), IDENTITY.fingerprint)
    reservation = replace(make_reservation("new"), call_key=new.call_key)
    assert await store.reserve(RUN, reservation, Stock()) is True
    await store.settle(RUN, reservation, new, replace(make_call(new), judge=IDENTITY.fingerprint))
    async with Scheduler(store=store, judge=judge, routing=RoutingConfig(policy="always"), run=RUN) as scheduler:
        step = await scheduler.route(PAIRS)
    assert step.statistics.sources == {"store": len(PAIRS)}
    assert judge.statistics.requests == 0
    assert (await store.run_state(RUN)).spent == state.spent + Cost(requests=1)
    await store.aclose()
    assert [finding for finding in await check(url) if not finding.ok] == []


def test_every_revision_has_left_a_small_database_with_rows_in_all_of_its_tables():
    assert tuple(sorted(path.stem for path in ASSETS.iterdir())) == schema.REVISIONS
    for path in ASSETS.iterdir():
        assert path.stat().st_size < MOST_BYTES
        counts = {table: len(rows) for table, rows in rows_of(path, path).items()}
        assert min(counts.values()) > 0
        assert counts.keys() == {name for name in schema.metadata.tables if KNOWN_SINCE.get(name, "0001") <= path.stem}


@every_revision
async def test_what_an_earlier_version_has_paid_for_is_kept_and_used(old, revision):
    before = await migrate.upgrade(str(old))
    assert before.revision == revision
    untouched = ASSETS / f"{revision}.db"
    assert rows_of(old, untouched) == rows_of(untouched, untouched)
    await check_usable(str(old), revision)


def insert(connection, rows):
    with connection.begin():
        for table, found in rows.items():
            connection.execute(schema.metadata.tables[table].insert(), found)
        for table in ("run", "step"):
            if table in rows:  # rows that came with their numbers have not moved the sequence that makes them
                connection.execute(select(func.setval(f"{table}_id_seq", max(row["id"] for row in rows[table]))))


def typed_rows(path):
    """Every row of an asset by table, parents first, as values of Python."""
    engine, found = create_engine(f"sqlite:///{path}"), MetaData()
    try:
        with engine.connect() as connection:
            found.reflect(connection)
            names = [table.name for table in schema.metadata.sorted_tables if table.name in found.tables]
            return {name: [dict(row) for row in connection.execute(select(found.tables[name])).mappings()] for name in names}
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    "revision", [*schema.REVISIONS[:1], *(pytest.param(name, marks=pytest.mark.slow) for name in schema.REVISIONS[1:])]
)
async def test_on_a_server_too_what_an_earlier_version_has_paid_for_is_kept_and_used(empty_postgresql_url, revision):
    url = empty_postgresql_url
    await migrate.upgrade(url, revision)
    writer = database_at(url).writer()
    rows = typed_rows(ASSETS / f"{revision}.db")
    await writer.visit(insert, rows)
    await writer.aclose()
    before = await migrate.upgrade(url)
    assert (before.revision, before.kind) == (revision, "current" if revision == schema.REVISIONS[-1] else "older")
    kept = (await summary(url)).rows
    assert {table: kept[table] for table in rows} == {table: len(found) for table, found in rows.items()}
    await check_usable(url, revision)
