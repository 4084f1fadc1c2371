"""Budget arithmetic of one run: pure, and the same for every store.

    reserve ──> open ──┬─ settle ──> settled    counts its actual cost as spent
                       ├─ charge ──> charged    counts its worst case as spent
                       └─ release ─> released   counts nothing

A closed reservation stays as it is, so repeating a settlement changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from judgeflow.errors import StoreError
from judgeflow.types import Cost, Dispatch, Reservation, Stock

USD_DECIMALS = 12


class ReservationState(StrEnum):
    """What became of budget that was put aside."""

    OPEN = "open"
    SETTLED = "settled"
    CHARGED = "charged"
    RELEASED = "released"
    COMPACTED = "compacted"  # a row that stands for many closed ones, with the sum of what they count for


class Entry(NamedTuple):
    """One reservation: `cost` is what it counts for now; the last three are as in `Reservation`."""

    call_key: bytes
    cost: Cost
    state: ReservationState = ReservationState.OPEN
    judge: bytes | None = None
    sends: int = 0
    sent_at: float | None = None


class Ledger:
    """What one run has spent and put aside.

    `spent`, `reserved`, `entries` and `changed` (ids of entries that were made or closed here, in that order) are written by `reserve`
    and `close` alone, which never await, so no two of them interleave.
    """

    def __init__(self, spent: Cost = Cost(), reserved: Cost = Cost(), entries: Iterable[tuple[str, Entry]] = ()) -> None:  # noqa: B008 - frozen
        self.spent = spent
        self.reserved = reserved
        self.entries = dict(entries)
        self.changed: dict[str, None] = {}

    def reserve(self, reservation: Reservation, stock: Stock) -> bool:
        """Put budget aside if everything spent and reserved then stays within `stock`; return whether it was.

        Raises `StoreError` for an id that was used before.
        """
        if reservation.id in self.entries:
            raise StoreError(f"reservation {reservation.id!r} was made before; give every reservation an id of its own")
        reserved = _sum(self.reserved, reservation.cost)
        if not stock.admits(_sum(self.spent, reserved)):
            return False
        self.reserved = reserved
        self._write(reservation, reservation.cost, ReservationState.OPEN)
        return True

    def close(self, reservation: Reservation, state: ReservationState, actual: Cost) -> None:
        """Count `actual` as spent instead of the reservation; nothing happens if it is closed already.

        A reservation that is not known here counts all the same: what was paid for must show up in the budget.  Raises `StoreError` for
        a price that is no number: added up, it would make a budget without end.
        """
        entry = self.entries.get(reservation.id)
        if entry is not None and entry.state is not ReservationState.OPEN:
            return
        if not math.isfinite(actual.usd):
            raise StoreError(f"reservation {reservation.id!r} cannot hold a value of {actual.usd} USD; nothing else is wrong with it")
        if entry is not None:
            self.reserved = _sum(self.reserved, entry.cost, sign=-1)
        self.spent = _sum(self.spent, actual)
        self._write(reservation, actual, state)

    def _write(self, reservation: Reservation, cost: Cost, state: ReservationState) -> None:
        self.changed[reservation.id] = None
        self.entries[reservation.id] = Entry(
            call_key=reservation.call_key,
            cost=cost,
            state=state,
            judge=reservation.judge,
            sends=reservation.sends,
            sent_at=reservation.sent_at,
        )


def dispatch(state: str, sent_at: float | None, sends: int, tokens: int) -> Dispatch:
    """Return what a reservation says about its question; one that is open may be on its way at this moment."""
    if state == ReservationState.OPEN:
        return Dispatch(at=None, requests=max(1, sends), tokens=tokens, answered=False)
    return Dispatch(at=sent_at, requests=sends, tokens=tokens, answered=state == ReservationState.SETTLED)


def _sum(first: Cost, second: Cost, sign: int = 1) -> Cost:
    """Add costs, dollars to a billionth of a millidollar, so that sums of decimal prices come back to zero."""
    return Cost(
        requests=first.requests + sign * second.requests,
        tokens=first.tokens + sign * second.tokens,
        usd=round(first.usd + sign * second.usd, USD_DECIMALS),
    )
