"""A window on a database can only read, and ends what takes too long: on a file and on a server."""

import asyncio
import sqlite3
import time
from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from judgeflow.errors import ReadTooLong, SchemaMismatch, StoreUnavailable
from judgeflow.store import migrate
from judgeflow.store.window import Window

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_url")
    path = str(tmp_path / "a folder?&#%" / "verdicts.db")
    (tmp_path / "a folder?&#%").mkdir()
    asyncio.run(migrate.upgrade(path))
    return path


@pytest.fixture
async def window(url):
    window = await Window.open(url, visit_s=1.0, at_once=1)
    yield window
    await window.aclose()


async def test_a_statement_that_takes_too_long_is_ended_and_the_next_one_works(window):
    started = time.monotonic()
    with pytest.raises(ReadTooLong, match="longer than it may"):
        async with window.connect() as connection:
            await connection.execute(text(ENDLESS))
    assert 0.9 < time.monotonic() - started < 60
    async with window.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM run"))).scalar() == 0


async def test_nothing_can_be_written(window):
    async with window.connect() as connection:
        with pytest.raises(DBAPIError, match=r"read.?only"):
            await connection.execute(text("DELETE FROM run"))


async def test_who_has_to_wait_too_long_for_a_place_is_told_and_gets_one_later(window):
    async with window.connect():
        with pytest.raises(ReadTooLong, match="others are looking"):
            async with window.connect():
                pass
    async with window.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1


async def test_a_database_that_is_locked_is_told_with_how_long_the_look_has_waited(tmp_path):
    path = str(tmp_path / "verdicts.db")
    await migrate.upgrade(path)
    window = await Window.open(path, visit_s=0.2, at_once=1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match=r"another process has kept it locked for 0\.2 s; "):
            async with window.connect() as connection:
                await connection.execute(text("SELECT count(*) FROM run"))
        other.execute("ROLLBACK")
    async with window.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM run"))).scalar() == 0
    await window.aclose()


async def test_a_look_that_is_broken_off_gives_its_place_back(window):
    look = asyncio.create_task(_look(window, asyncio.Event()))
    await asyncio.sleep(0)
    look.cancel()
    await asyncio.gather(look, return_exceptions=True)
    async with window.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1


async def _look(window, never):
    async with window.connect():
        await never.wait()


async def test_what_is_no_database_of_ours_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(SchemaMismatch, match="judgeflow db upgrade"):
        await Window.open(str(tmp_path / "missing.db"), visit_s=1.0, at_once=1)
    assert not (tmp_path / "missing.db").exists()
    (tmp_path / "garbage.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnavailable, match="damaged or no SQLite database"):
        await Window.open(str(tmp_path / "garbage.db"), visit_s=1.0, at_once=1)
