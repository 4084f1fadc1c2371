"""Verdicts in a file: SQLite in WAL mode.

One writing connection, which takes the write lock when a transaction begins (so what it reads there stays true until it commits),
beside readers that never wait for it.  synchronous=NORMAL survives the death of the process at any point; a power cut may cost the
last moments, never the file.
"""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from judgeflow.errors import StoreUnavailable
from judgeflow.store import readonly
from judgeflow.store.database import READERS, Reader, Writer
from judgeflow.store.failures import BUSY_SECONDS
from judgeflow.store.texts import HOLDS, holds_folded

_WAL_RETRY_SECONDS = 0.02

_OPERATIONS_A_LOOK = 5000
"""Some tenths of a millisecond of work."""

_WAIT = f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}"
_CACHE = "PRAGMA cache_size=-16384"
"""16 MB of pages, in place of 2: about what a step touches, with the way to it through the indexes."""

_WRITER = (_WAIT, "PRAGMA synchronous=NORMAL", "PRAGMA foreign_keys=ON")
_READER = (_WAIT, _CACHE, "PRAGMA query_only=ON")
_ANY_THREAD = {"check_same_thread": False}
_READING: Mapping[str, Any] = {
    "isolation_level": "AUTOCOMMIT",
    "pool_size": READERS,
    "max_overflow": 0,
    "pool_reset_on_return": None,
    "pool_timeout": BUSY_SECONDS,
}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class SqliteDatabase:
    """A `Database` in a file."""

    def __init__(self, address: str) -> None:
        self.url = address
        self.path = Path(make_url(address).database or "")

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def require_readable(self) -> None:
        """See `Database.require_readable`.  Opening these would fail too, but on a thread that may outlive a short event loop."""
        if self.path.is_dir():
            raise StoreUnavailable(f"{self.path} is a folder; choose a file as [store] url")
        if self.path.exists() and not os.access(self.path, os.R_OK):
            raise StoreUnavailable(f"{self.path}: the file cannot be read; change its permissions, or choose another [store] url")

    def require_writable(self) -> None:
        """See `Database.require_writable`."""
        path, folder = self.path, self.path.absolute().parent
        if not folder.is_dir():
            raise StoreUnavailable(f"{path}: the folder {folder} does not exist; create it, or choose another [store] url")
        if path.is_dir():
            raise StoreUnavailable(f"{path} is a folder; choose a file as [store] url")
        # SQLite keeps its log beside the database, so the folder counts as much as the file.
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"{path}: the folder {folder} cannot be written; make it writable, or choose another [store] url")
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            advice = "change its permissions, or choose another [store] url"
            raise StoreUnavailable(f"{path}: the file cannot be read and written; {advice}")

    def writer(self, *, patience_s: float | None = None) -> SqliteWriter:  # noqa: ARG002  # a file answers, or fails
        """See `Database.writer`."""
        return SqliteWriter(self.url)

    def reader(self) -> SqliteReader:
        """See `Database.reader`."""
        return SqliteReader(self.url)

    def readers(self) -> AsyncEngine:
        """See `Database.readers`; a file that cannot be written is read all the same, as `readonly` says."""
        if readonly.can_be_written(self.path):
            engine = create_async_engine(self.url, **_READING)
        else:
            engine = create_async_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
            readonly.connect_without_writing(engine.sync_engine, self.path)
        _on_connect(engine.sync_engine, _READER)
        return engine

    reporting = readers

    def browsing(self, *, visit_s: float, connections: int) -> AsyncEngine:
        """See `Database.browsing`.  The file is opened for reading only: closing it leaves the write-ahead log to those who write."""
        address = URL.create("sqlite+aiosqlite", database=f"file:{quote(str(self.path.absolute()))}", query={"mode": "ro", "uri": "true"})
        engine = create_async_engine(
            address,
            isolation_level="AUTOCOMMIT",
            pool_size=connections,
            max_overflow=0,
            pool_reset_on_return=None,
            pool_timeout=BUSY_SECONDS,
        )
        _on_connect(engine.sync_engine, (f"PRAGMA busy_timeout={round(visit_s * 1000)}", "PRAGMA query_only=ON"))
        _end_visits_after(engine.sync_engine, visit_s)
        _search_by_case_folding(engine.sync_engine)
        return engine

    async def size(self, _connection: AsyncConnection) -> int:
        """Return the bytes of the file and its write-ahead log."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def damage(self, connection: AsyncConnection) -> list[str]:
        """See `Database.damage`: every page is read."""
        lines = (await connection.execute(text("PRAGMA integrity_check"))).scalars().all()
        return [] if list(lines) == ["ok"] else [line.replace("\n", " ") for line in lines]

    async def dangling(self, connection: AsyncConnection) -> list[str]:
        """See `Database.dangling`."""
        rows = await connection.execute(text("PRAGMA foreign_key_check"))
        return [f"row {number} of {table} refers to a missing row of {parent}" for table, number, parent, _ in rows]


class SqliteReader(Reader):
    """A few connections to a file, each on a thread: what is read becomes values there, not on the loop."""

    def __init__(self, address: str) -> None:
        self.engine = create_engine(make_url(address).set(drivername="sqlite"), connect_args=_ANY_THREAD, **_READING)
        _on_connect(self.engine, _READER)
        self._threads = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="judgeflow-read")

    async def visit(
        self, work: Callable[Concatenate[Connection, Arguments], Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """See `Reader.visit`; cancelling the caller does not interrupt it."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._visit(lambda at: work(at, *arguments, **options))
        )

    async def aclose(self) -> None:
        """See `Reader.aclose`."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()

    def _visit(self, work: Callable[[Connection], Result]) -> Result:
        with self.engine.connect() as connection:
            return work(connection)


class SqliteWriter(Writer):
    """The one writing connection to a file."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.engine = _writer_engine(address)
        self._driver: sqlite3.Connection | None = None  # while a visit is under way; changed by its thread alone

    def _visit(self, work: Callable[[Connection], Result]) -> Result:
        with self.engine.connect() as connection:
            self._driver = connection.connection.driver_connection
            try:
                return work(connection)
            finally:
                self._driver = None

    def interrupt(self) -> None:
        """See `Writer.interrupt`."""
        driver = self._driver
        if driver is not None:
            driver.interrupt()

    def _close(self) -> None:
        self.engine.dispose()


def _writer_engine(address: str) -> Engine:
    """Return an engine with one connection, whose transactions hold the write lock from their beginning."""
    # Whoever begins a transaction here also ends it, so the pool need not roll back again.
    engine = create_engine(
        make_url(address).set(drivername="sqlite"), pool_size=1, max_overflow=0, pool_reset_on_return=None, connect_args=_ANY_THREAD
    )
    _on_connect(engine, _WRITER)
    event.listen(engine, "connect", _enter_wal)

    @event.listens_for(engine, "begin")
    def lock(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _enter_wal(connection: sqlite3.Connection, _record: object) -> None:
    """Put a database into WAL mode.  Only the first connection to a new file changes anything; for that, SQLite never waits itself."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
        else:
            return
        time.sleep(_WAL_RETRY_SECONDS)


def _end_visits_after(engine: Engine, seconds: float) -> None:
    """Have SQLite ask every few thousand of its operations whether the visit's time is over."""

    @event.listens_for(engine, "connect")
    def watch(connection: Any, record: Any) -> None:
        record.info["until"] = math.inf
        late = lambda: time.monotonic() > record.info["until"]  # noqa: E731 - the driver wants a callable
        connection.run_async(lambda driver: driver.set_progress_handler(late, _OPERATIONS_A_LOOK))

    @event.listens_for(engine, "checkout")
    def begin(_connection: Any, record: Any, _proxy: object) -> None:
        record.info["until"] = time.monotonic() + seconds


def _search_by_case_folding(engine: Engine) -> None:
    """Give connections the function that `texts.holds` calls."""

    @event.listens_for(engine, "connect")
    def add(connection: Any, _record: object) -> None:
        connection.run_async(lambda driver: driver.create_function(HOLDS, 2, holds_folded, deterministic=True))


def _on_connect(engine: Engine, pragmas: Sequence[str]) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()
