"""What was paid for while the store could not be written: kept in memory, offered again, and told about once.

    store_failed ──> nothing new is asked of any judge; what is under way comes back and waits here ──> store_recovered

Nothing is sent while anything waits here, so it never holds more than what was in flight, or put aside, when the store failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from judgeflow.engine.events import Observers
from judgeflow.errors import StoreError, StoreUnavailable
from judgeflow.ports import Clock

Write = Callable[[], Awaitable[None]]

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
LAST_ATTEMPTS = 3
"""How often what the store would not take is offered again while closing."""


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """A write that the store has not taken yet, and what to call when it has."""

    write: Write
    saved: Callable[[], None]


class Backlog:
    """The writes that a session's store has not taken, those of all judges together, oldest first.

    `failure` says why the store cannot be used; None while it can.  State changes in `failed`, `works`, `keep` and `save_again`; all
    on one loop.
    """

    def __init__(self, clock: Clock, observers: Observers) -> None:
        self.failure: StoreUnavailable | None = None
        self._failed_at = 0.0
        self._written = 0
        self._clock = clock
        self._observers = observers
        self._unsaved: deque[_Unsaved] = deque()
        self._saving = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._unsaved)

    def failed(self, error: StoreUnavailable) -> None:
        """The store cannot be used.  Said once, until it works again."""
        if self.failure is None:
            self._failed_at, self._written = self._clock.now(), 0
            self._observers.notice("store_failed", error=str(error))
        self.failure = error

    def works(self) -> None:
        """The store has taken a write of something to be paid for.  As long as others wait, that is no recovery."""
        if self.failure is not None and not self._unsaved:
            self.failure = None
            seconds = round(self._clock.now() - self._failed_at, 3)
            self._observers.notice("store_recovered", seconds=seconds, written=self._written)

    def keep(self, write: Write, saved: Callable[[], None]) -> None:
        """Offer `write` again until the store takes it, then call `saved`."""
        self._unsaved.append(_Unsaved(write, saved))
        if self._again is None or self._again.done():
            self._again = asyncio.get_running_loop().create_task(self._save_until_done(), name="judgeflow-unsaved")

    async def save_again(self) -> None:
        """Offer the store what it has not taken yet, oldest first.  Raises `StoreUnavailable` if it still does not."""
        async with self._saving:
            while self._unsaved:
                oldest = self._unsaved[0]
                try:
                    await oldest.write()
                except Exception as error:  # a store is foreign code: see as_store_error
                    if isinstance(failure := as_store_error(error), StoreUnavailable):
                        self.failed(failure)
                        raise failure from error
                    self._observers.notice("reply_not_stored", error=str(failure))
                self._unsaved.popleft()
                self._written += 1
                oldest.saved()
                self.works()

    async def aclose(self) -> None:
        """Offer what is left a few times more, and say what had to be given up."""
        if self._again is not None:
            self._again.cancel()
            await asyncio.wait([self._again])
        for attempt in range(LAST_ATTEMPTS if self._unsaved else 0):
            try:
                await self.save_again()
            except StoreUnavailable as error:
                if attempt + 1 == LAST_ATTEMPTS:
                    self._observers.notice("replies_not_stored", count=len(self._unsaved), error=str(error))
                    return
                await asyncio.sleep(FIRST_WAIT_S * 2**attempt)

    async def _save_until_done(self) -> None:
        wait_s = FIRST_WAIT_S
        while self._unsaved:
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
            try:
                await self.save_again()
            except StoreUnavailable:
                continue


def as_store_error(error: BaseException) -> StoreError:
    """What a store raises against its contract counts as a store that cannot be used."""
    return error if isinstance(error, StoreError) else StoreUnavailable(f"the store raised {error!r}")
