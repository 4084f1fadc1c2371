"""Create a verdict database, bring it up to date, and recognise what lies at an address.

An older database is never upgraded in passing: other processes may still be writing to it with the version that made it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, MetaData, Table, select
from sqlalchemy import inspect as look_at

import judgeflow
from judgeflow.errors import SchemaMismatch, StoreUnavailable
from judgeflow.store.engines import database_at
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
    database = database_at(url)
    with store_errors(database.name):
        database.require_writable()
    state = await inspect(url)
    if state.kind in {"missing", "empty"}:
        await upgrade(url)
    elif state.kind != "current":
        raise mismatch(url, state)


async def inspect(url: str) -> SchemaState:
    """Tell what lies at `url` without changing it.  Raises `StoreUnavailable` if that cannot be read."""
    database = database_at(url)
    with store_errors(database.name):
        database.require_readable()
        if not database.exists():
            return SchemaState(kind="missing")
        engine = database.reporting()
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(_state)
        finally:
            await engine.dispose()


async def require_current(url: str) -> None:
    """Raise `SchemaMismatch` unless an up-to-date database is at `url`, and `StoreUnavailable` if that cannot be read."""
    state = await inspect(url)
    if state.kind != "current":
        raise mismatch(url, state)


async def upgrade(url: str, revision: str = "head") -> SchemaState:
    """Bring the database at `url` to `revision` in one transaction, creating it if need be; return what it was before.

    Raises `SchemaMismatch` for a newer or a foreign database, `StoreUnavailable` if it cannot be written.
    """
    database = database_at(url)
    with store_errors(database.name):
        database.require_writable()
    before = await inspect(url)
    if before.kind in {"newer", "foreign"}:
        raise mismatch(url, before)
    with store_errors(database.name):
        writer = database.writer(patience_s=None)
        try:
            await writer.visit(_migrate, revision)
        finally:
            await writer.aclose()
    return before


def mismatch(url: str, state: SchemaState) -> SchemaMismatch:
    """Return the error about a database whose schema is not this version's, with the next step to take."""
    database = database_at(url)
    name, command = database.name, f"judgeflow db upgrade --url {shlex.quote(database.url)}"
    if state.kind == "older":
        return SchemaMismatch(f"{name} has schema {state.revision}, this judgeflow needs {REVISIONS[-1]}; run: {command}")
    if state.kind == "newer":
        newest = f"this judgeflow knows revisions up to {REVISIONS[-1]}"
        return SchemaMismatch(f"{name} has schema {state.revision}, {newest}; upgrade judgeflow, or choose another [store] url")
    if state.kind == "foreign":
        return SchemaMismatch(f"{name} belongs to another program; choose another [store] url")
    return SchemaMismatch(f"{name} holds no verdict database yet; create it with: {command}")


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


def _migrate(connection: Connection, revision: str) -> None:
    from alembic import command  # 0.4 s to import, and needed only when there is something to migrate
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    with connection.begin():
        command.upgrade(config, revision)
