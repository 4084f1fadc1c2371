"""Receives the requests of trainers: so many at a time, one that is repeated once, and none while the service is being closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from judgeflow.plurals import plural

T = TypeVar("T")

GRACE_S = 5.0
"""How long work goes on without anybody who waits for it: who has lost the connection asks again at once, who has died does not."""

KEEP_S = 60.0
"""How long an answer is kept for whoever asks for it again."""


class Busy(Exception):
    """There are too many requests, or the service is being closed: ask again after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(slots=True, eq=False)
class _Work:
    task: asyncio.Task[Any]
    waiting: int = 0


class Reception:
    """Runs the work of at most `at_once` requests.  Belongs to one event loop; memory holds answers for `KEEP_S`."""

    def __init__(self, *, at_once: int) -> None:
        self._at_once = at_once
        self._named: dict[str, _Work] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = False
        self.left = 0
        """How many requests had no answer when their time was over."""

    @property
    def is_open(self) -> bool:
        """Whether new requests are taken."""
        return not self._closing

    @property
    def under_way(self) -> int:
        """How many requests are being answered."""
        return len(self._running)

    async def answer(self, name: str | None, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `work` makes.  A request of the same `name` shares it, while it runs and for a while after.

        When nobody has waited for it for a while, it is cancelled.  Raises `Busy`, and what the work raises.
        """
        shared = self._named.get(name) if name else None
        found = shared or self._begin(name, work)
        found.waiting += 1
        try:
            answer: T = await asyncio.shield(found.task)
            return answer
        finally:
            found.waiting -= 1
            if not found.waiting and not found.task.done():
                asyncio.get_running_loop().call_later(GRACE_S if name else 0.0, self._give_up, found)

    async def aclose(self, within_s: float) -> None:
        """Take no more requests; give those that are under way `within_s` seconds, and then cancel them.  Idempotent."""
        self._closing = True
        if self._running:
            _done, late = await asyncio.wait(self._running, timeout=within_s)
            self.left += len(late)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Let the current task be a request that is being answered, for one whose answer is no whole.  Raises `Busy`."""
        self._admit()
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            yield
        finally:
            self._running.discard(task)

    def _admit(self) -> None:
        if self._closing:
            raise Busy("the service is being closed")
        if len(self._running) >= self._at_once:
            raise Busy(f"{plural(self._at_once, 'request is', 'requests are')} being answered, and no more are taken at a time")

    def _begin(self, name: str | None, work: Callable[[], Coroutine[Any, Any, Any]]) -> _Work:
        self._admit()
        begun = _Work(task=asyncio.get_running_loop().create_task(work()))
        self._running.add(begun.task)
        begun.task.add_done_callback(lambda task: self._ended(name, task))
        if name:
            self._named[name] = begun
        return begun

    def _ended(self, name: str | None, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        failed = task.cancelled() or task.exception() is not None
        if name:
            asyncio.get_running_loop().call_later(0.0 if failed else KEEP_S, self._named.pop, name, None)

    @staticmethod
    def _give_up(work: _Work) -> None:
        if not work.waiting:
            work.task.cancel()
