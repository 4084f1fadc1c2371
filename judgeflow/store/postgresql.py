"""Verdicts on a server: PostgreSQL through asyncpg, for several machines on one database.

A writing transaction begins by taking one advisory lock of the whole database, as BEGIN IMMEDIATE does on a file: what it reads stays
true until it commits.  Row locks on the runs would let different runs write side by side, but runs share texts and replies, and two
transactions that insert the same ones in different orders end in a deadlock.  The lock goes with the transaction, so also with
a connection that breaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, ForeignKey, Select, event, func, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from judgeflow.errors import StoreUnavailable
from judgeflow.plurals import plural
from judgeflow.store import schema
from judgeflow.store.database import ANSWER_SECONDS, READERS, Reader, Writer
from judgeflow.store.failures import BUSY_SECONDS

CONNECT_SECONDS = 20.0

WRITE_LOCK = int.from_bytes(b"judgflow")
"""Number of the advisory lock that a writing transaction holds."""

_WAIT = {"lock_timeout": f"{BUSY_SECONDS}s", "idle_in_transaction_session_timeout": f"{BUSY_SECONDS}s"}
_READ_ONLY = {"default_transaction_read_only": "on"}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class PostgresqlDatabase:
    """A `Database` on a PostgreSQL server; it is created by whoever looks after the server."""

    def __init__(self, address: str) -> None:
        self._address = make_url(address)
        self.url = self._address._replace(password=None).render_as_string()  # set() takes None for no change

    @property
    def name(self) -> str:
        """The address without its password."""
        return self.url

    def exists(self) -> bool:
        """Only the server knows."""
        return True

    def require_readable(self) -> None:
        """Only the server knows."""

    def require_writable(self) -> None:
        """Only the server knows."""

    def writer(self, *, patience_s: float | None = ANSWER_SECONDS) -> PostgresqlWriter:
        """See `Database.writer`."""
        return PostgresqlWriter(self._engine(_WAIT, patience_s, pool_size=1))

    def reader(self) -> PostgresqlReader:
        """See `Database.reader`."""
        return PostgresqlReader(self.readers())

    def readers(self) -> AsyncEngine:
        """See `Database.readers`."""
        return self._engine(_READ_ONLY, ANSWER_SECONDS, pool_size=READERS, isolation_level="AUTOCOMMIT")

    def reporting(self) -> AsyncEngine:
        """See `Database.reporting`: all statements of one connection see the same moment."""
        return self._engine(_READ_ONLY, None, pool_size=1, isolation_level="REPEATABLE READ")

    def browsing(self, *, visit_s: float, connections: int) -> AsyncEngine:
        """See `Database.browsing`: here the time is that of a single statement."""
        settings = _READ_ONLY | {"statement_timeout": f"{round(visit_s * 1000)}ms"}
        return self._engine(settings, ANSWER_SECONDS, pool_size=connections, isolation_level="AUTOCOMMIT")

    async def size(self, connection: AsyncConnection) -> int:
        """Return the bytes of all tables with their indexes."""
        return int((await connection.execute(text(_SIZE))).scalar_one())

    async def damage(self, connection: AsyncConnection) -> list[str]:
        """See `Database.damage`: pages whose checksum was found wrong so far, and indexes that may not be used."""
        failures = (await connection.execute(text(_CHECKSUM_FAILURES))).scalar() or 0
        pages = [f"the server has found {plural(failures, 'page')} with a wrong checksum"] if failures else []
        return pages + [f"index {name} is invalid" for name in (await connection.execute(text(_INVALID_INDEXES))).scalars()]

    async def dangling(self, connection: AsyncConnection) -> list[str]:
        """See `Database.dangling`: the server refuses such rows, but a restored table may have them all the same."""
        return [
            f"{plural(number, f'row of {table.name} refers', f'rows of {table.name} refer')} to a missing row of {key.column.table.name}"
            for table in schema.metadata.sorted_tables
            for key in table.foreign_keys
            if (number := (await connection.execute(_orphans(key))).scalar())
        ]

    def _engine(self, settings: dict[str, str], patience_s: float | None, **options: Any) -> AsyncEngine:
        """Return an engine that notices connections that broke while they were idle."""
        connect_args = {
            "async_creator_fn": self._connect,
            "server_settings": {"application_name": "judgeflow"} | settings,
            "timeout": CONNECT_SECONDS,
            "command_timeout": patience_s,
        }
        return create_async_engine(
            self._address, connect_args=connect_args, pool_pre_ping=True, max_overflow=0, pool_timeout=BUSY_SECONDS, **options
        )

    async def _connect(self, **options: Any) -> Any:
        import asyncpg

        try:
            connection = await asyncpg.connect(**options)
        except OSError as error:  # also what took too long
            said = str(error) or f"no answer for {CONNECT_SECONDS:.0f} s"
            advice = "start it, or check host and port of [store] url"
            raise StoreUnavailable(f"{self.name}: the PostgreSQL server cannot be reached ({said}); {advice}") from error
        encoding = connection.get_settings().server_encoding
        if encoding != "UTF8":  # a reply with other characters would be refused after it was paid for
            await connection.close()
            advice = "create one with: createdb --template=template0 --encoding=UTF8 NAME"
            raise StoreUnavailable(f"{self.name}: texts of this database are {encoding}, but replies may hold any character; {advice}")
        return connection


class PostgresqlReader(Reader):
    """A few connections to a server, on the loop of whoever reads."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine.sync_engine
        self._async_engine = engine

    async def visit(
        self, work: Callable[Concatenate[Connection, Arguments], Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """See `Reader.visit`; every statement of `work` lets the loop go on."""
        async with self._async_engine.connect() as connection:
            return await connection.run_sync(work, *arguments, **options)

    async def aclose(self) -> None:
        """See `Reader.aclose`."""
        await self._async_engine.dispose()


class PostgresqlWriter(Writer):
    """The one writing connection to a server, on an event loop of its thread: what is written never holds up the loop of the run."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self.engine = engine.sync_engine
        self._async_engine = engine
        self._runner = asyncio.Runner()
        self._visiting: asyncio.Task[Any] | None = None  # while a visit is under way; changed by its thread alone

        @event.listens_for(self.engine, "begin")
        def lock(connection: Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    def _visit(self, work: Callable[[Connection], Result]) -> Result:
        return self._runner.run(self._with_connection(work))

    async def _with_connection(self, work: Callable[[Connection], Result]) -> Result:
        self._visiting = asyncio.current_task()
        try:
            async with self._async_engine.connect() as connection:
                return await connection.run_sync(work)
        finally:
            self._visiting = None

    def interrupt(self) -> None:
        """See `Writer.interrupt`."""
        visiting = self._visiting
        if visiting is not None:
            visiting.get_loop().call_soon_threadsafe(visiting.cancel)

    def _close(self) -> None:
        self._runner.run(self._async_engine.dispose())
        self._runner.close()


def _orphans(key: ForeignKey) -> Select[int]:
    child, parent = key.parent.table, key.column.table.alias("parent")
    joined = child.outerjoin(parent, parent.c[key.column.name] == key.parent)
    return select(func.count()).select_from(joined).where(key.parent.is_not(None), parent.c[key.column.name].is_(None))


_SIZE = """
    SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""
_CHECKSUM_FAILURES = "SELECT checksum_failures FROM pg_stat_database WHERE datname = current_database()"
_INVALID_INDEXES = """
    SELECT class.relname FROM pg_index JOIN pg_class class ON class.oid = pg_index.indexrelid
    WHERE NOT pg_index.indisvalid AND class.relnamespace = current_schema()::regnamespace ORDER BY 1
"""
