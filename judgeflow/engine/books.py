"""What one judge's questions hold of the run's budget until they are sent: planned at first, then put aside."""

from __future__ import annotations

import asyncio

from judgeflow.engine.accounts import Accounts
from judgeflow.engine.jobs import Job
from judgeflow.routing.budget import Budget
from judgeflow.types import Cost, Reservation


class Books:
    """Counts what a judge's questions hold, and gives back what they do not need.

    `planned` is what the budget counts for questions that are not reserved yet, `queued` the worst case of everything that is reserved and
    waits to be sent.  Both change in the methods below, on one loop.
    """

    def __init__(self, accounts: Accounts, budget: Budget) -> None:
        self.planned = Cost()
        self.queued = Cost()
        self._accounts = accounts
        self._budget = budget
        self._releases: set[asyncio.Task[None]] = set()

    def plan(self, cost: Cost) -> None:
        """Count a question that this judge will be asked."""
        self.planned += cost
        self._budget.plan(cost)

    def unplan(self, cost: Cost) -> None:
        """The question is reserved by now, or will not be asked."""
        self.planned -= cost
        self._budget.unplan(cost)

    def unplan_job(self, job: Job) -> None:
        """The same for a question on its way, which may not be counted any more."""
        if job.planned:
            job.planned = False
            self.unplan(job.order.planned)
            self.recount(job)

    def let_go(self, job: Job) -> None:
        """Nothing is held for this question any more."""
        self.unplan_job(job)
        if job.reservation is not None:
            reservation, job.reservation = job.reservation, None
            self.give_back(reservation)

    def give_back(self, reservation: Reservation) -> None:
        """Release what was put aside for a question that is not sent after all."""
        task = asyncio.get_running_loop().create_task(self._accounts.release(reservation))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    def recount(self, job: Job) -> None:
        """Keep `queued` right after a change to a job.  A sum over everything that waits would be as long as the queue."""
        queued = not job.planned and not job.under_way and not job.future.done()
        if queued is not job.queued:
            job.queued = queued
            self.queued = self.queued + job.order.cost if queued else self.queued - job.order.cost

    @property
    def is_giving_back(self) -> bool:
        """Whether something is being given back at this moment."""
        return bool(self._releases)

    async def released(self) -> None:
        """Wait until budget of questions that are not sent after all is given back."""
        if self._releases:
            await asyncio.wait(self._releases)
