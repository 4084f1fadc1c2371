"""Single flight: an equal question is asked once, whoever wants it and however many do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from judgeflow.types import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """The stored reply that a flight came back with; `paid` tells that it was asked for and paid by this process just now."""

    call: Call
    paid: bool


class SingleFlight:
    """Questions under way by call key, and those that came back while somebody was still deciding.

    Between a step's store read and its asking, another step may get the same question answered.  A step therefore watches: what
    completes meanwhile is put into its own dictionary.  Changed only in synchronous code on the scheduler's loop.
    """

    def __init__(self) -> None:
        self._pending: dict[bytes, asyncio.Future[Arrival]] = {}
        self._watchers: list[dict[bytes, Call]] = []

    @contextmanager
    def watch(self) -> Iterator[dict[bytes, Call]]:
        """Collect every call that completes inside the block."""
        completed: dict[bytes, Call] = {}
        self._watchers.append(completed)
        try:
            yield completed
        finally:
            self._watchers = [watcher for watcher in self._watchers if watcher is not completed]

    def pending(self, call_key: bytes) -> asyncio.Future[Arrival] | None:
        """Return the flight of this question, if there is one.  It is shared: never cancel it."""
        flight = self._pending.get(call_key)
        return None if flight is None or flight.done() else flight

    def launch(self, call_key: bytes, flight: asyncio.Future[Arrival]) -> asyncio.Future[Arrival]:
        """Make a question's flight known to everybody.  Nobody may have one under way."""
        self._pending[call_key] = flight
        flight.add_done_callback(lambda done: self._landed(call_key, done))
        return flight

    def _landed(self, call_key: bytes, flight: asyncio.Future[Arrival]) -> None:
        if self._pending.get(call_key) is flight:
            del self._pending[call_key]
        if not flight.cancelled() and flight.exception() is None:
            for watcher in self._watchers:
                watcher[call_key] = flight.result().call
