"""A window on a verdict database that others are writing: it can only read, and every look is short.

What looks through it may be slow, but never makes the runs slow: every visit has a time limit, few look at once, and no connection
holds a transaction between two statements.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from judgeflow.errors import ReadTooLong
from judgeflow.store import migrate
from judgeflow.store.database import Database
from judgeflow.store.engines import database_at
from judgeflow.store.survey import Readable


class Window(Readable):
    """A `Readable` whose every visit is short.  Made by `open`; used on the loop that opened it.

    `visit_s` is what a visit may take (on a server, each of its statements), and how long a reader waits while `at_once` others look.
    """

    def __init__(self, database: Database, engine: AsyncEngine, *, visit_s: float, at_once: int) -> None:
        super().__init__(engine, database.name, patience_s=visit_s)
        self._places = asyncio.Semaphore(at_once)

    @classmethod
    async def open(cls, url: str, *, visit_s: float, at_once: int) -> Self:
        """Open the database at `url`.  Raises as `judgeflow.store.queries.reading`."""
        database = database_at(url)
        state = await migrate.inspect(url)
        if state.kind != "current":
            raise migrate.mismatch(url, state)
        engine = database.browsing(visit_s=visit_s, connections=at_once)
        return cls(database, engine, visit_s=visit_s, at_once=at_once)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for one short visit.  Raises `ReadTooLong` if that, or the wait for a place, takes too long."""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._places.acquire()
        except TimeoutError:
            raise ReadTooLong(f"{self.where}: others are looking at it; try again in a moment") from None
        try:
            async with super().connect() as connection:
                yield connection
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Let go of the database."""
        await self._engine.dispose()
