"""This process's reservations, from the moment they are taken until the store has closed them.

A reply that the store does not take at once goes to the backlog and is offered again: it was paid for.
"""

from __future__ import annotations

import functools
import itertools
import uuid
from collections.abc import Callable

from judgeflow.engine.backlog import Backlog, Write, as_store_error
from judgeflow.errors import StoreClosed, StoreError, StoreUnavailable
from judgeflow.ports import Store
from judgeflow.types import Call, Cost, Question, Reservation, Stock


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
    """Puts budget aside for one judge's questions, settles it, and hands the `backlog` what could not be written.

    `reserved` tells what this judge's open reservations put aside, `pending` how many the store is deciding about.  They change in
    `reserve` and `_close`, on one loop.
    """

    def __init__(self, store: Store, run: str, judge: bytes, purse: Purse, backlog: Backlog) -> None:
        self.backlog = backlog
        self.pending = 0
        self.reserved = Cost()
        self._prefix = uuid.uuid4().hex[:24]
        self._numbers = itertools.count()
        self._purse = purse
        self._store = store
        self._run = run
        self._judge = judge

    async def reserve(self, question: Question, cost: Cost, stock: Stock) -> Reservation | Call | None:
        """Put `cost` aside.  Returns the stored call if there is one already, None if `stock` does not admit it now.

        Raises `StoreError`, whatever the store raises.
        """
        number = next(self._numbers)
        reservation = Reservation(id=f"{self._prefix}{number:08x}", call_key=question.call_key, cost=cost, judge=self._judge)
        self.pending += 1
        try:
            granted = await self._store.reserve(self._run, reservation, stock)
        except Exception as error:  # a store is foreign code: see as_store_error
            raise as_store_error(error) from error
        finally:
            self.pending -= 1
        self.backlog.works()
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
        except StoreUnavailable as error:
            self.backlog.failed(error)
        except StoreError:
            return  # it stays charged

    async def _write(self, reservation: Reservation, write: Write) -> None:
        try:
            await write()
        except Exception as error:  # a store is foreign code: see as_store_error
            failure = as_store_error(error)
            if isinstance(failure, StoreUnavailable) and not isinstance(failure, StoreClosed):
                self.backlog.keep(write, functools.partial(self._close, reservation))
            else:  # another attempt would fail too
                self._close(reservation)
            raise failure from error
        self._close(reservation)

    def _close(self, reservation: Reservation) -> None:
        self.reserved -= reservation.cost
        self._purse.close()
