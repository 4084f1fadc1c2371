"""What every kind of verdict database offers: one writing connection, others that read beside it, a name for messages, and what only
it knows.

Everything above works on SQLAlchemy connections and is the same for all.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

READERS = 4

ANSWER_SECONDS = 60.0
"""How long a server may take for one statement of a store; longer than it may wait for the lock."""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Writer(ABC):
    """The writing connection of one process, on a thread of its own; whoever begins a transaction there is the only one that writes.

    A transaction of a dozen statements is one visit to that thread, not a dozen.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judgeflow-store")
        self._closed = False

    async def visit(
        self, work: Callable[Concatenate[Connection, Arguments], Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """Run `work` on the thread with the connection, outside a transaction; cancelling the caller does not interrupt it."""
        call = asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._visit(lambda at: work(at, *arguments, **options)))
        return await call

    def visit_and_wait(self, work: Callable[[Connection], Result]) -> Result:
        """Like `visit`, for callers that are not on an event loop."""
        return self._thread.submit(self._visit, work).result()

    def close(self) -> None:
        """Like `aclose`, for callers that are not on an event loop."""
        if not self._closed:
            self._closed = True
            self._end()

    async def aclose(self) -> None:
        """Wait for visits under way, then close the connection.  Idempotent."""
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    @abstractmethod
    def interrupt(self) -> None:
        """End the statement under way, so that its visit raises; where the database cannot, it goes on.  Any thread may call it."""

    @abstractmethod
    def _visit(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` with the connection: on the thread."""

    @abstractmethod
    def _close(self) -> None:
        """Close the connection: on the thread."""


class Reader(ABC):
    """The connections of one process that only read; every statement sees what was committed before it."""

    @abstractmethod
    async def visit(
        self, work: Callable[Concatenate[Connection, Arguments], Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        """Run `work` with one of them; several may run at a time."""

    @abstractmethod
    async def aclose(self) -> None:
        """Wait for visits under way, then close the connections.  Idempotent."""


class Database(Protocol):
    """One verdict database, by its address.  Making one opens nothing."""

    @property
    def name(self) -> str:
        """How messages name it: never with a password."""

    @property
    def url(self) -> str:
        """What to write after `--url` to mean it: never with a password."""

    def exists(self) -> bool:
        """Whether there can be something at the address; False only where that is certain without opening it."""

    def require_readable(self) -> None:
        """Raise `StoreUnavailable` for what cannot be read, as far as that can be told without opening it."""

    def require_writable(self) -> None:
        """Raise `StoreUnavailable` for what cannot be written or created, as far as that can be told without opening it."""

    def writer(self, *, patience_s: float | None = ANSWER_SECONDS) -> Writer:
        """Return what writes; a server may take `patience_s` for one statement, None: as long as it needs."""

    def reader(self) -> Reader:
        """Return what reads beside the writer."""

    def readers(self) -> AsyncEngine:
        """Return connections that can only read, for a loop; every statement sees what was committed before it."""

    def reporting(self) -> AsyncEngine:
        """Return connections for long reads, which can only read."""

    def browsing(self, *, visit_s: float, connections: int) -> AsyncEngine:
        """Return connections that cannot write and end what takes longer than `visit_s` seconds: it raises, as `ReadTooLong`."""

    async def size(self, connection: AsyncConnection) -> int:
        """Return the bytes it takes on disk."""

    async def damage(self, connection: AsyncConnection) -> list[str]:
        """Return what is broken in its files, as far as the database itself can tell."""

    async def dangling(self, connection: AsyncConnection) -> list[str]:
        """Return which rows refer to missing ones."""
