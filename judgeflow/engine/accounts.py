"""This process's reservations, from the moment they are taken until the store has closed them.

A reply that the store does not take at once is kept here and offered again: it was paid for.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from judgeflow.engine.events import Observers
from judgeflow.errors import StoreClosed, StoreError, StoreUnavailable
from judgeflow.ports import Store
from judgeflow.types import Call, Cost, Question, Reservation, Stock

Write = Callable[[], Awaitable[None]]

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
LAST_ATTEMPTS = 3
"""How often what the store would not take is offered again while closing."""


@dataclass(frozen=True, slots=True)
class _Unsaved:
    """A write that the store has not taken yet."""

    reservation: Reservation
    write: Write


class Purse:
    """The reservations of this process for one run, whichever judge they are for: how many are open, and how many were closed.

    Judges share a budget: where one gives something back, another's question may fit.  `on_close` has who is told then.  Changed by
    `Accounts` alone.
    """

    def __init__(self) -> None:
        self.open = 0
        self.closed = 0
        self.on_close: list[Callable[[], None]] = []

    def close(self) -> None:
        """Count one reservation as closed, and tell everybody."""
        self.open -= 1
        self.closed += 1
        for tell in self.on_close:
            tell()


class Accounts:
    """Puts budget aside for one judge's questions, settles it, and keeps what could not be written.

    `reserved` tells what this judge's open reservations put aside, `pending` how many the store is deciding about.  They change in
    `reserve` and `_close`, `_unsaved` in `_keep` and `save_again`; all on one loop.
    """

    def __init__(self, store: Store, run: str, judge: bytes, observers: Observers, purse: Purse) -> None:
        self.pending = 0
        self.reserved = Cost()
        self._prefix = uuid.uuid4().hex[:24]
        self._numbers = itertools.count()
        self._purse = purse
        self._store = store
        self._run = run
        self._judge = judge
        self._observers = observers
        self._unsaved: deque[_Unsaved] = deque()
        self._saving = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None

    async def reserve(self, question: Question, cost: Cost, stock: Stock) -> Reservation | Call | None:
        """Put `cost` aside.  Returns the stored call if there is one already, None if `stock` does not admit it now.

        Raises `StoreError`, whatever the store raises.
        """
        number = next(self._numbers)
        reservation = Reservation(id=f"{self._prefix}{number:08x}", call_key=question.call_key, cost=cost, judge=self._judge)
        self.pending += 1
        try:
            granted = await self._store.reserve(self._run, reservation, stock)
        except Exception as error:  # a store is foreign code: see _as_store_error
            raise _as_store_error(error) from error
        finally:
            self.pending -= 1
        if isinstance(granted, Call):
            return granted
        if not granted:
            return None
        self._purse.open += 1
        self.reserved += cost
        return reservation

    async def settle(self, reservation: Reservation, question: Question, call: Call) -> None:
        """Store a reply.  Raises `StoreUnavailable` if it has to wait here, `StoreError` if it cannot be stored and is charged."""

        async def write() -> None:
            try:
                await self._store.settle(self._run, reservation, question, call)
            except StoreUnavailable:
                raise
            except StoreError:
                await self._store.charge(self._run, reservation)
                raise

        await self._write(reservation, write)

    async def charge(self, reservation: Reservation) -> None:
        """Charge a reservation at its worst case.  Raises `StoreUnavailable` if that has to wait here."""
        await self._write(reservation, lambda: self._store.charge(self._run, reservation))

    async def release(self, reservation: Reservation) -> None:
        """Give a reservation back; where the store does not take that now, later.  With a closed one it stays charged."""
        try:
            await self._write(reservation, lambda: self._store.release(self._run, reservation))
        except StoreClosed:
            return
        except StoreError as error:
            self._observers.notice("release_delayed", error=str(error))

    async def save_again(self) -> None:
        """Offer the store what it has not taken yet, oldest first.  Raises `StoreUnavailable` if it still does not."""
        async with self._saving:
            while self._unsaved:
                oldest = self._unsaved[0]
                try:
                    await oldest.write()
                except Exception as error:  # a store is foreign code: see _as_store_error
                    if isinstance(failure := _as_store_error(error), StoreUnavailable):
                        raise failure from error
                    self._observers.notice("reply_not_stored", error=str(failure))
                self._unsaved.popleft()
                self._close(oldest.reservation)

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

    async def _write(self, reservation: Reservation, write: Write) -> None:
        try:
            await write()
        except Exception as error:  # a store is foreign code: see _as_store_error
            failure = _as_store_error(error)
            if isinstance(failure, StoreUnavailable) and not isinstance(failure, StoreClosed):
                self._keep(_Unsaved(reservation, write))
            else:  # another attempt would fail too
                self._close(reservation)
            raise failure from error
        self._close(reservation)

    def _close(self, reservation: Reservation) -> None:
        self.reserved -= reservation.cost
        self._purse.close()

    def _keep(self, unsaved: _Unsaved) -> None:
        self._unsaved.append(unsaved)
        if self._again is None or self._again.done():
            self._again = asyncio.get_running_loop().create_task(self._save_until_done(), name="judgeflow-unsaved")

    async def _save_until_done(self) -> None:
        wait_s = FIRST_WAIT_S
        while self._unsaved:
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
            try:
                await self.save_again()
            except StoreUnavailable:
                continue


def _as_store_error(error: Exception) -> StoreError:
    """What a store raises against its contract counts as a store that cannot be used."""
    return error if isinstance(error, StoreError) else StoreUnavailable(f"the store raised {error!r}")
