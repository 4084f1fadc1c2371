"""Create a verdict database, bring it up to date, and recognise what lies at an address.

An older database is never upgraded in passing: other processes may still be writing to it with the version that made it.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, MetaData, Table, select
from sqlalchemy import inspect as look_at

import judgeflow
from judgeflow.errors import SchemaMismatch, StoreUnavailable
from judgeflow.store.engines import file_of, normalise_url, reader_engine, require_writable, writer_engine
from judgeflow.store.failures import store_errors
from judgeflow.store.schema import REVISIONS, VERSION_TABLE

Kind = Literal["missing", "empty", "current", "older", "newer", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaState:
    """What lies at an address; `revision` is the schema's, where the database is judgeflow's."""

    kind: Kind
    revision: str | None = None


async def prepare(url: str) -> None:
    """Make sure that a usable database is at `url`: create a missing one, raise `SchemaMismatch` for another schema than ours."""
    path = file_of(normalise_url(url))
    with store_errors(str(path)):
        require_writable(path)
    state = await inspect(url)
    if state.kind in {"missing", "empty"}:
        await upgrade(url)
    elif state.kind != "current":
        raise mismatch(url, state)


async def inspect(url: str) -> SchemaState:
    """Tell what lies at `url` without changing it.  Raises `StoreUnavailable` if that cannot be read."""
    address = normalise_url(url)
    path = file_of(address)
    # Opening these would fail too, but on a thread that may outlive a short event loop.
    if path.is_dir():
        raise StoreUnavailable(f"{path} is a folder; choose a file as [store] url")
    if path.exists() and not os.access(path, os.R_OK):
        raise StoreUnavailable(f"{path}: the file cannot be read; change its permissions, or choose another [store] url")
    with store_errors(str(path)):
        if not path.exists():
            return SchemaState(kind="missing")
        engine = reader_engine(address)
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(_state)
        finally:
            await engine.dispose()


async def upgrade(url: str, revision: str = "head") -> SchemaState:
    """Bring the database at `url` to `revision` in one transaction, creating it if need be; return what it was before.

    Raises `SchemaMismatch` for a newer or a foreign database, `StoreUnavailable` if it cannot be written.
    """
    address = normalise_url(url)
    path = file_of(address)
    with store_errors(str(path)):
        require_writable(path)
    before = await inspect(address)
    if before.kind in {"newer", "foreign"}:
        raise mismatch(address, before)
    with store_errors(str(path)):
        await asyncio.to_thread(_upgrade, address, revision)
    return before


def mismatch(url: str, state: SchemaState) -> SchemaMismatch:
    """Return the error about a database whose schema is not this version's, with the next step to take."""
    address = normalise_url(url)
    path = file_of(address)
    if state.kind == "older":
        command = f"judgeflow db upgrade --url {address}"
        return SchemaMismatch(f"{path} has schema {state.revision}, this judgeflow needs {REVISIONS[-1]}; run: {command}")
    if state.kind == "newer":
        newest = f"this judgeflow knows revisions up to {REVISIONS[-1]}"
        return SchemaMismatch(f"{path} has schema {state.revision}, {newest}; upgrade judgeflow, or choose another [store] url")
    if state.kind == "foreign":
        return SchemaMismatch(f"{path} belongs to another program; choose another [store] url")
    return SchemaMismatch(f"{path} holds no verdict database yet; create it with: judgeflow db upgrade --url {address}")


def migrations_folder() -> Path:
    """Return where the migrations lie: inside the installed package, or beside it in a checkout."""
    package = Path(judgeflow.__file__).parent
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise StoreUnavailable(f"the migrations are missing from this installation ({package}); install judgeflow again")


def _state(connection: Connection) -> SchemaState:
    tables = set(look_at(connection).get_table_names())
    if not tables:
        return SchemaState(kind="empty")
    if VERSION_TABLE not in tables:
        return SchemaState(kind="foreign")
    version = Table(VERSION_TABLE, MetaData(), autoload_with=connection)
    revision = connection.execute(select(version.c.version_num)).scalar()
    return SchemaState(kind=_kind(revision), revision=revision)


def _kind(revision: str | None) -> Kind:
    if revision is None:
        return "empty"
    if revision not in REVISIONS:
        return "newer"
    return "current" if revision == REVISIONS[-1] else "older"


def _upgrade(address: str, revision: str) -> None:
    engine = writer_engine(address)
    try:
        with engine.begin() as connection:
            _migrate(connection, revision)
    finally:
        engine.dispose()


def _migrate(connection: Connection, revision: str) -> None:
    from alembic import command  # 0.4 s to import, and needed only when there is something to migrate
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
