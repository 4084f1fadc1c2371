"""A question on its way, as values: what a step orders, and what the dispatcher notes about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from judgeflow.engine.inflight import Arrival
from judgeflow.errors import JudgeError, JudgeflowError, JudgeUnreachable, PermanentJudgeError, RateLimited
from judgeflow.ports import Clock, Permit
from judgeflow.types import Cost, Question, Reservation, Stock, Usage


class NotAsked(JudgeflowError):
    """The question was never sent; `status` says why."""

    def __init__(self, status: str) -> None:
        super().__init__(f"not asked: {status}")
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a step wants asked.

    `cost` is the worst case, `planned` what the budget counts for it until it is reserved, `stock` what the run may have spent and
    put aside with it, `deadline` in clock seconds (None: never).  `lot` names the step: its questions come in ranking order.  `place` is
    the judge's on the panel, `step` the step's number for those who watch.
    """

    question: Question
    cost: Cost
    planned: Cost
    stock: Stock
    deadline: float | None
    lot: object
    place: int = 0
    step: int | None = None


@dataclass(slots=True, eq=False)
class Job:
    """One question on its way.  Only the dispatcher changes it.

    `waiters` counts who wants the reply, `planned` tells that the budget still counts it, `queued` that the dispatcher does; `sent` is
    its place among all attempts.
    """

    order: Order
    deadline: float | None
    future: asyncio.Future[Arrival]
    waiters: int = 1
    planned: bool = True
    queued: bool = False
    reservation: Reservation | None = None
    first_attempt_at: float | None = None
    sent: int = 0
    under_way: bool = False
    failures: int = 0
    limited: int = 0

    @property
    def question(self) -> Question:
        """What is asked."""
        return self.order.question

    @property
    def attempts(self) -> int:
        """Attempts that failed so far."""
        return self.failures + self.limited


class Attempt:
    """When one attempt was sent, for the gate and for the store; a `Departure`.  `permit` is what the gate gave for it."""

    def __init__(self, permit: Permit, clock: Clock) -> None:
        self.permit = permit
        self._clock = clock
        self._at: float | None = None
        self._closed = False

    def hold(self) -> None:
        """See `Departure.hold`."""
        self._at = None
        self.permit.hold()

    def sent(self) -> None:
        """See `Departure.sent`."""
        self._at = self._clock.now()
        self.permit.sent()

    def noted(self, reservation: Reservation) -> Reservation:
        """Return the reservation with this attempt among its sends; a judge that did not tell when has sent it by now."""
        if self._at is None:
            self.sent()
        ago = self._clock.now() - (self._at or 0.0)
        return replace(reservation, sends=reservation.sends + 1, sent_at=self._clock.wall() - ago)

    def answered(self, usage: Usage) -> None:
        """A reply has come."""
        self._closed = True
        self.permit.settle(usage)

    def failed(self, error: JudgeError) -> None:
        """No reply has come.  What was turned away took no tokens; what was never sent did not count at all."""
        self._closed = True
        if isinstance(error, JudgeUnreachable):
            self.permit.cancel()
        elif isinstance(error, RateLimited | PermanentJudgeError) and not error.maybe_paid:
            self.permit.settle(Usage())
        else:
            self.permit.lost()

    def ended(self) -> None:
        """However it ended: nothing counts as on its way for ever."""
        if not self._closed:
            self._closed = True
            if self._at is None:
                self.sent()
            self.permit.lost()
