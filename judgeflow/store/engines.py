"""Addresses of databases and the connections to them.

SQLite runs in WAL mode: one writing connection, which takes the write lock when a transaction begins (so what it reads there stays
true until it commits), beside readers that never wait for it.  synchronous=NORMAL survives the death of the process at any point;
a power cut may cost the last moments, never the file.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from judgeflow.errors import ConfigurationError, StoreUnavailable
from judgeflow.store.failures import BUSY_SECONDS

DRIVER = "sqlite+aiosqlite"
READERS = 4
_WAL_RETRY_SECONDS = 0.02

_WAIT = f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}"
_WRITER = (_WAIT, "PRAGMA synchronous=NORMAL", "PRAGMA foreign_keys=ON")
_READER = (_WAIT, "PRAGMA query_only=ON")
_ANY_THREAD = {"check_same_thread": False}


def normalise_url(url: str, directory: str | Path = ".") -> str:
    """Return the full address of a database given as SQLAlchemy URL or as plain path; relative paths start from `directory`.

    Raises `ConfigurationError` for an address that cannot be a verdict database.
    """
    try:
        address = make_url(url) if "://" in url else URL.create(DRIVER, database=url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(f"[store] url: {url!r} is no database address; write {DRIVER}:///FILE or a plain path") from error
    if address.drivername not in {"sqlite", DRIVER}:
        raise ConfigurationError(f"[store] url: {address.drivername} is not supported in this version; write {DRIVER}:///FILE")
    if not address.database or address.database == ":memory:":
        raise ConfigurationError(f"[store] url: {url!r} names no file; write {DRIVER}:///FILE, or pass MemoryStore() to Scheduler")
    path = Path(directory).expanduser() / Path(address.database).expanduser()
    return address.set(drivername=DRIVER, database=str(path)).render_as_string(hide_password=False)


def file_of(url: str) -> Path:
    """Return the file behind a normalised address."""
    return Path(make_url(url).database or "")


def require_writable(path: Path) -> None:
    """Raise `StoreUnavailable`, naming file or folder, if a database at `path` could not be written."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise StoreUnavailable(f"{path}: the folder {folder} does not exist; create it, or choose another [store] url")
    if path.is_dir():
        raise StoreUnavailable(f"{path} is a folder; choose a file as [store] url")
    # SQLite keeps its log beside the database, so the folder counts as much as the file.
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnavailable(f"{path}: the folder {folder} cannot be written; make it writable, or choose another [store] url")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StoreUnavailable(f"{path}: the file cannot be read and written; change its permissions, or choose another [store] url")


def writer_engine(url: str) -> Engine:
    """Return an engine with one connection, whose transactions hold the write lock from their beginning.

    It blocks, so it is used on a thread of its own: a transaction of a dozen statements is then one visit there, not a dozen.
    """
    # Whoever begins a transaction here also ends it, so the pool need not roll back again.
    engine = create_engine(
        make_url(url).set(drivername="sqlite"), pool_size=1, max_overflow=0, pool_reset_on_return=None, connect_args=_ANY_THREAD
    )
    _on_connect(engine, _WRITER)
    event.listen(engine, "connect", _enter_wal)

    @event.listens_for(engine, "begin")
    def lock(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def reader_engine(url: str) -> AsyncEngine:
    """Return an engine that can only read; every statement sees what was committed before it."""
    engine = create_async_engine(
        url, isolation_level="AUTOCOMMIT", pool_size=READERS, max_overflow=0, pool_reset_on_return=None, pool_timeout=BUSY_SECONDS
    )
    _on_connect(engine.sync_engine, _READER)
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


def _on_connect(engine: Engine, pragmas: Sequence[str]) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()
