"""A question on its way, as values: what a step orders, and what the dispatcher notes about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from judgeflow.engine.inflight import Arrival
from judgeflow.errors import JudgeflowError
from judgeflow.types import Cost, Question, Reservation, Stock


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
    the judge's on the panel.
    """

    question: Question
    cost: Cost
    planned: Cost
    stock: Stock
    deadline: float | None
    lot: object
    place: int = 0


@dataclass(slots=True, eq=False)
class Job:
    """One question on its way.  Only the dispatcher changes it.

    `waiters` counts who wants the reply, `planned` tells that the budget still counts it, `sent` is its place among all attempts.
    """

    order: Order
    deadline: float | None
    future: asyncio.Future[Arrival]
    waiters: int = 1
    planned: bool = True
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
