"""Addresses of databases: a path, or SQLAlchemy's way to write where a database is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from judgeflow.errors import ConfigurationError
from judgeflow.store.database import Database

SQLITE = "sqlite+aiosqlite"
POSTGRESQL = "postgresql+asyncpg"
_DRIVERS = {"sqlite": SQLITE, SQLITE: SQLITE, "postgres": POSTGRESQL, "postgresql": POSTGRESQL, POSTGRESQL: POSTGRESQL}

_OPTIONS = ("host", "port", "ssl", "passfile", "target_session_attrs", "prepared_statement_cache_size")
"""What may stand after the question mark of a PostgreSQL address."""


def database_at(url: str) -> Database:
    """Return the database at a URL or a plain path, unopened.  Raises `ConfigurationError` as `normalise_url`."""
    address = normalise_url(url)
    if make_url(address).drivername == SQLITE:
        from judgeflow.store.sqlite import SqliteDatabase

        return SqliteDatabase(address)
    from judgeflow.store.postgresql import PostgresqlDatabase

    return PostgresqlDatabase(address)


def normalise_url(url: str, directory: str | Path = ".") -> str:
    """Return the full address of a database given as SQLAlchemy URL or as plain path; relative paths start from `directory`.

    It may hold a password: what is shown is `Database.url`.  Raises `ConfigurationError` for an address that cannot be a verdict
    database.
    """
    try:
        address = make_url(url) if "://" in url else URL.create(SQLITE, database=url)
    except (ArgumentError, ValueError) as error:
        problem = f"[store] url: {_masked(url)!r} is no database address; write a plain path, or {POSTGRESQL}://USER@HOST/DATABASE"
        raise ConfigurationError(problem) from (None if "@" in url else error)
    driver = _DRIVERS.get(address.drivername)
    if driver is None:
        accepted = f"write {SQLITE}:///FILE or {POSTGRESQL}://USER@HOST/DATABASE"
        raise ConfigurationError(f"[store] url: {address.drivername} is not supported in this version; {accepted}")
    full = _file_address(address, url, Path(directory)) if driver == SQLITE else _server_address(address)
    return full.set(drivername=driver).render_as_string(hide_password=False)


def file_of(url: str) -> Path | None:
    """Return the file behind a normalised address; None for a database on a server."""
    address = make_url(url)
    return Path(address.database or "") if address.drivername == SQLITE else None


def _file_address(address: URL, url: str, directory: Path) -> URL:
    if not address.database or address.database == ":memory:":
        raise ConfigurationError(f"[store] url: {url!r} names no file; write {SQLITE}:///FILE, or pass MemoryStore() to Scheduler")
    return address.set(database=str(directory.expanduser() / Path(address.database).expanduser()))


def _server_address(address: URL) -> URL:
    if not address.database:
        raise ConfigurationError(f"[store] url: the address names no database; write {POSTGRESQL}://USER@HOST/DATABASE")
    query = {("ssl" if name == "sslmode" else name): value for name, value in address.query.items()}
    unknown = sorted(query.keys() - set(_OPTIONS))
    if unknown:
        raise ConfigurationError(f"[store] url: {unknown[0]} is no option of an address; accepted are {', '.join(_OPTIONS)}")
    if importlib.util.find_spec("asyncpg") is None:
        raise ConfigurationError("[store] url: PostgreSQL needs asyncpg; install it with: pip install 'judgeflow[postgresql]'")
    return address.set(query=query)


def _masked(url: str) -> str:
    """Hide what may be a password in an address that cannot be read."""
    return re.sub(r"://.*@", "://***@", url)
