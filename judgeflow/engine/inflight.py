"""Single flight: an equal question is asked once, whoever wants it and however many do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from judgeflow.types import Call


class SingleFlight:
    """Questions under way by call key, and those that came back while somebody was still deciding.

    Between a step's store read and its asking, another step may get the same question answered.  A step therefore watches: what
    completes meanwhile is put into its own dictionary.  Changed only in synchronous code on the scheduler's loop.
    """

    def __init__(self) -> None:
        self._pending: dict[bytes, asyncio.Future[Call]] = {}
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

    def pending(self, call_key: bytes) -> asyncio.Future[Call] | None:
        """Return the flight of this question, if there is one.  It is shared: never cancel it."""
        return self._pending.get(call_key)

    def launch(self, call_key: bytes, flight: asyncio.Future[Call]) -> asyncio.Future[Call]:
        """Make a question's flight known to everybody.  Nobody may have one under way."""
        self._pending[call_key] = flight
        flight.add_done_callback(lambda done: self._landed(call_key, done))
        return flight

    def _landed(self, call_key: bytes, flight: asyncio.Future[Call]) -> None:
        del self._pending[call_key]
        if not flight.cancelled() and flight.exception() is None:
            for watcher in self._watchers:
                watcher[call_key] = flight.result()
