"""Budget is put aside for the first in line, in batches that share a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from judgeflow.engine.accounts import Accounts, Purse
from judgeflow.engine.backlog import Backlog
from judgeflow.engine.books import Books
from judgeflow.engine.inflight import Arrival
from judgeflow.engine.jobs import Job
from judgeflow.engine.line import Line
from judgeflow.errors import StoreError
from judgeflow.types import Call, Reservation

Answer = Reservation | Call | BaseException | None
"""What the store says to one question: granted; there is a reply already; a failure; or it does not fit the budget now."""


class Reserving:
    """Takes questions from the queue of a judge's `line`, and gets them ready.

    `places` tells for how many of those that are queued a reservation would be of use now; `store_failed` hears of a job that the store
    could not decide about.
    """

    def __init__(
        self,
        *,
        line: Line,
        books: Books,
        accounts: Accounts,
        purse: Purse,
        backlog: Backlog,
        places: Callable[[], int],
        store_failed: Callable[[Job, BaseException], None],
    ) -> None:
        self._line = line
        self._books = books
        self._accounts = accounts
        self._purse = purse
        self._backlog = backlog
        self._places = places
        self._store_failed = store_failed
        self._batch: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Reserve what is queued, until the line is closed."""
        line = self._line
        while line.closed is None:
            while not (room := self._room()):
                await line.queue_moves()
            line.reserving = [line.queue.popleft() for _ in range(room)]
            # A batch of its own task: a reservation that the store has accepted must not be forgotten when this coroutine ends.
            self._batch = asyncio.get_running_loop().create_task(self._reserve(line.reserving))
            await asyncio.wait([self._batch])

    async def finished(self) -> None:
        """Wait until what is being reserved is: until then the store may count it already, and the budget still as planned."""
        if self._batch is not None and not self._batch.done():
            await asyncio.wait([self._batch])

    def _room(self) -> int:
        """How many queued questions may be reserved now.  While the first does not fit the budget, it is tried alone."""
        room = self._places()
        if self._line.short_since is None:
            return room
        nothing_changed = self._purse.open > 0 and self._purse.closed == self._line.short_since
        return 0 if nothing_changed else min(1, room)

    async def _reserve(self, batch: Sequence[Job]) -> None:
        jobs = [job for job in batch if self._line.still_wants(job)]
        closed = self._purse.closed  # what closes from here on, a refusal may not know of
        answers = await self._ask_store(jobs)
        self._line.short_since = None
        refused = answers.index(None) if None in answers else len(answers)
        for job, answer in zip(jobs[:refused], answers[:refused], strict=True):
            self._reserved(job, answer)
        if refused < len(answers):
            self._wait_for_budget(jobs[refused:], answers[refused:], closed)
        self._line.reserving = ()

    async def _ask_store(self, jobs: Sequence[Job]) -> Sequence[Answer]:
        try:
            await self._backlog.save_again()
        except StoreError as error:
            return [error] * len(jobs)
        orders = [job.order for job in jobs]
        reserving = (self._accounts.reserve(order.question, order.cost, order.stock) for order in orders)
        return await asyncio.gather(*reserving, return_exceptions=True)

    def _reserved(self, job: Job, answer: Answer) -> None:
        if isinstance(answer, BaseException):
            self._store_failed(job, answer)
            return
        self._books.unplan_job(job)
        if isinstance(answer, Call):  # somebody has paid for the reply since this step read the store
            self._line.land(job, Arrival(call=answer, paid=False))
            return
        job.reservation = answer
        if self._backlog.failure is not None:  # the store has failed since: what it could not keep is not paid for
            self._line.drop(job, self._backlog.failure)
        elif self._line.still_wants(job):
            self._line.make_ready(job)

    def _wait_for_budget(self, jobs: Sequence[Job], answers: Sequence[Answer], closed: int) -> None:
        """The first of `jobs` does not fit now.  Replies tend to cost less than was put aside for them, so it waits for those under way.

        Nobody behind it is asked instead, however cheap: costs decide what is feasible, never who is preferred.  When nothing is
        under way any more, it is declined with all of its step that stand behind it.  `closed` is how many reservations were closed
        when the store was asked: where more are by now, the refusal is out of date, and the first is tried again at once.
        """
        behind: list[Job] = []
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, Reservation):
                self._books.give_back(answer)
            if isinstance(answer, Call | BaseException):
                self._reserved(job, answer)
            elif not job.future.done():
                behind.append(job)
        self._line.queue.extendleft(reversed(behind))
        if behind and (self._purse.open > 0 or self._purse.closed != closed):
            self._line.short_since = closed
        elif behind:
            self._line.decline(behind[0].order.lot)
