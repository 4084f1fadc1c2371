"""What the verbs that change a whole database share: a writing connection, and one moment to read from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.store import migrate
from judgeflow.store.database import Writer
from judgeflow.store.engines import database_at
from judgeflow.store.failures import store_errors

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Tell = Callable[[str, int, int], None]
"""Is told what is going on, how much of it is done, and how much there is."""


def untold(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


class Writing:
    """The writing connection to one database; every visit is on a thread, so the loop goes on."""

    def __init__(self, writer: Writer, where: str) -> None:
        self._writer = writer
        self._where = where

    async def visit(
        self, work: Callable[Concatenate[Connection, Arguments], Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """Run `work` with the connection, outside a transaction; what it begins takes the write lock, and waits for it if need be."""
        with store_errors(self._where):
            return await self._writer.visit(work, *arguments, **options)

    def interrupt(self) -> None:
        """End the statement under way, as `Writer.interrupt`."""
        self._writer.interrupt()


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[Writing]:
    """Connect to an up-to-date database to change it.

    Raises `StoreUnavailable` if it cannot be written, `SchemaMismatch` if it is missing or has another schema.
    """
    database = database_at(url)
    with store_errors(database.name):
        database.require_writable()
    await migrate.require_current(url)
    writer = database.writer(patience_s=None)
    try:
        yield Writing(writer, database.name)
    finally:
        await writer.aclose()


@asynccontextmanager
async def one_moment(connection: AsyncConnection) -> AsyncIterator[None]:
    """Let every statement inside the block see the same moment, whoever writes meanwhile."""
    if connection.dialect.name != "sqlite":  # elsewhere a reading connection is like this anyway
        yield
        return
    await connection.exec_driver_sql("BEGIN")
    try:
        yield
    finally:
        if not connection.invalidated:  # as whoever is cancelled in the middle of a statement leaves it
            await connection.exec_driver_sql("ROLLBACK")
