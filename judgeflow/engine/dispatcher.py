"""One line of questions to a judge, two coroutines that let them out, and a task for each attempt under way.

A question's way: queued -> reserved in the store -> admitted by the gate -> asked -> settled in the store -> its future resolves.
The gate comes last, so that what it admits is sent at once: else a slow commit would move requests into a later window.  Whatever
fails on the way ends in the future too; a reply that was paid for is stored even if nobody waits any more.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable

from judgeflow.clock import MOMENT_S
from judgeflow.engine.accounts import Accounts, Purse
from judgeflow.engine.asking import Asker
from judgeflow.engine.backlog import Backlog, as_store_error
from judgeflow.engine.books import Books
from judgeflow.engine.events import Observers
from judgeflow.engine.health import Health
from judgeflow.engine.inflight import Arrival
from judgeflow.engine.jobs import Attempt, Job, NotAsked, Order
from judgeflow.engine.line import Line
from judgeflow.engine.reserving import Reserving
from judgeflow.engine.seat import Seat
from judgeflow.engine.standstill import Standstill
from judgeflow.errors import JudgeError, JudgeflowError, JudgeOverloaded, JudgeUnreachable, RateLimited, StoreUnavailable
from judgeflow.ports import DEPARTURE, Clock, Permit, Store
from judgeflow.routing.budget import Budget
from judgeflow.routing.concurrency import Concurrency
from judgeflow.routing.threshold import Experience
from judgeflow.types import Cost, JudgeState, Reply

COMMIT_S = 0.01
"""About how long the store takes to put budget aside, with what else waits to be written."""

AT_THE_GATE = 8
"""So many questions wait at a closed gate with their budget put aside.  When it opens, more are put aside in one commit."""


class Dispatcher:
    """Lets questions to one judge out in FIFO order, as fast as limits and budget allow and no faster.

    Everything happens on one loop.  `_in_flight` and `_sent` change only between awaits, in the methods below; where questions wait is the
    `line`'s, what they hold the `books`'.  No more reservations are open than `concurrency` admits requests, but for a few made ahead,
    replies that are being stored, questions that rest before another attempt, and those that were open when it fell.  `has_stand_in` tells
    that another judge is asked where this one fails: nobody waits for it then.  With `named` its notices say which judge they are about.
    """

    def __init__(
        self,
        *,
        seat: Seat,
        store: Store,
        budget: Budget,
        purse: Purse,
        backlog: Backlog,
        run: str,
        clock: Clock,
        observers: Observers,
        named: bool = False,
        has_stand_in: bool = False,
    ) -> None:
        self.seat = seat
        self.gate = seat.gate
        self.clock = clock
        self.concurrency = Concurrency(seat.max_in_flight)
        self.experience = Experience()
        self.accounts = Accounts(store, run, seat.judge.identity.fingerprint, purse, backlog)
        self.books = Books(self.accounts, budget)
        self.line = Line(self.books, clock)
        self._backlog = backlog
        self._notice = observers.naming(seat.judge.identity.id, seat.label) if named else observers.notice
        patience = 0 if has_stand_in else seat.retry.attempts
        self.health = Health(seat, self.concurrency, patience=patience, clock=clock, notice=self._notice)
        self._standstill = Standstill(clock, self._notice)
        self._asker = Asker(seat.judge, run, clock, observers)
        self._reserving = Reserving(
            line=self.line,
            books=self.books,
            accounts=self.accounts,
            purse=purse,
            backlog=backlog,
            places=self._places,
            store_failed=self._store_failed,
        )
        purse.on_close.append(self.line.stir)
        self._in_flight = 0
        self._sent = 0
        self._attempts: set[asyncio.Task[None]] = set()
        self._runners: list[asyncio.Task[None]] = []
        self._random = random.Random()  # noqa: S311 - jitter needs no secrets

    # What sessions call

    def start(self) -> None:
        """Begin to let questions out."""
        loop = asyncio.get_running_loop()
        self._runners = [
            loop.create_task(self._run(self._reserving.run), name="judgeflow-reservations"),
            loop.create_task(self._run(self._let_out), name="judgeflow-dispatcher"),
        ]

    def submit(self, order: Order) -> asyncio.Future[Arrival]:
        """Queue a question and return the future of its stored call.

        The future fails with a `JudgeError`, a `StoreError` or `NotAsked`; each has a `status`, or is one.
        """
        future: asyncio.Future[Arrival] = asyncio.get_running_loop().create_future()
        job = Job(order=order, deadline=order.deadline, future=future)
        reason = self.line.closed or self.left_alone
        if reason is not None:
            self.line.drop(job, reason)
        elif self._turned_down(job):
            self.line.drop(job, self.health.error or JudgeError())
        else:
            self.line.enter(job)
        return future

    def halt(self, reason: JudgeflowError) -> None:
        """Send nothing more, ever; what is under way may come back."""
        self.line.closed = reason
        self.line.drop_waiting(reason)
        for runner in self._runners:
            runner.cancel()

    async def drain(self) -> None:
        """Wait until nothing is under way; what the store has not taken is in the backlog.  Call `halt` first."""
        if self._runners:
            await asyncio.wait(self._runners)
        await self._reserving.finished()
        while self._attempts:
            await asyncio.wait(self._attempts)
        while self.books.is_giving_back:
            await self.books.released()

    async def reserved(self) -> None:
        """Wait until what is being reserved is: until then the store may count it already, and the budget still as planned."""
        await self._reserving.finished()

    @property
    def refusal(self) -> JudgeflowError | None:
        """Why nothing is asked of this judge at the moment; None while it answers, or is expected to."""
        return self._standstill.failure or self._backlog.failure or self.left_alone or self.health.refusal

    @property
    def left_alone(self) -> JudgeflowError | None:
        """What the judge said when it wanted to be left alone, until that time is over."""
        return self._standstill.left_alone

    @property
    def halted(self) -> bool:
        """Whether nothing is sent any more, ever."""
        return self.line.closed is not None

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def state(self) -> JudgeState:
        """How it stands with the judge now.  Reads single values only, so that any thread may ask."""
        in_flight = self._in_flight
        return JudgeState(
            judge=self.seat.judge.identity.id,
            seat=self.seat.label,
            in_flight=in_flight,
            max_in_flight=self.concurrency.limit,
            waiting=max(0, len(self.line) - in_flight),
            breaker=self.health.breaker.state,
        )

    @property
    def has_room(self) -> bool:
        """Whether one more question would be let out before any other, as far as places in flight decide it."""
        return len(self.line) < self.concurrency.limit

    # The two coroutines

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Gates and stores are foreign code: if one breaks, nobody may wait for it."""
        try:
            await work()
        except asyncio.CancelledError:
            if self.line.closed is None:
                self._break("was cancelled by what it called")
            raise
        except Exception as error:  # the docstring says why
            self._break(f"failed: {error!r}")

    def _break(self, what: str) -> None:
        failure = JudgeError(f"the gate {what}; nothing more is asked")
        self._standstill.note(failure, sent=self._sent)
        self.halt(failure)
        self._notice("judge_stopped", error=str(failure))

    def _places(self) -> int:
        """For how many of those that are queued a reservation would be of use now: as many as may be in flight, and a few more.

        For a judge that is down it is one, the probe: what waits for it keeps no budget from others.
        """
        line = self.line
        is_up, waiting = self.health.breaker.state == "closed", len(line.ready) + (line.at_gate is not None)
        places = self.concurrency.limit + self._ahead() - self._in_flight if is_up else 1
        room = min(len(line.queue), max(0, places - waiting))
        if room + waiting > AT_THE_GATE:  # what the rate limit holds back has no use for it yet, and would be lost if the process died
            room = min(room, max(0, AT_THE_GATE + self._admitted_now() - waiting))
        return room

    def _admitted_now(self) -> int:
        """How many of those that are queued the rate limits admit at this moment."""
        queue = self.line.queue
        if self.line.at_gate is not None:
            return 0
        admitted = self.gate.capacity(self.clock.now())
        bounds = [len(queue) if admitted.requests is None else admitted.requests]
        if admitted.tokens is not None and queue:
            bounds.append(admitted.tokens // max(1, queue[0].order.cost.tokens))
        return min(bounds)

    def _ahead(self) -> int:
        """How many reservations to make before there is a place for them: as many replies as come back while one is committed."""
        limit, latency_s = self.concurrency.limit, self.experience.mean_latency_s
        return 0 if latency_s is None else int(limit * COMMIT_S / max(latency_s, COMMIT_S))

    async def _let_out(self) -> None:
        line = self.line
        while line.closed is None:  # a gate is foreign code, and may swallow that this coroutine is cancelled
            while not line.ready or self._in_flight >= self.concurrency.limit or self.health.wait_s > 0:
                await self._rest()
            job = line.at_gate = line.ready.popleft()
            if line.still_wants(job):
                await self._pass_gate(job)
            line.at_gate = None
            line.stir()

    async def _rest(self) -> None:
        """Wait until something changes, or a judge that is down may be probed."""
        wait_s = self.health.wait_s
        await self.line.ready_move(max(wait_s, MOMENT_S) if 0 < wait_s < math.inf else None)

    async def _pass_gate(self, job: Job) -> None:
        try:
            permit = await self.gate.admit(job.order.cost.tokens)
        except ValueError:
            self.line.drop(job, NotAsked("too_long"))
            return
        except BaseException:  # the job in hand is in no queue any more
            self.line.drop(job, self.line.closed or JudgeError("the gate failed"))
            raise
        if not self.line.still_wants(job):
            permit.cancel()
        elif self.health.wait_s > 0:  # the judge went down meanwhile
            permit.cancel()
            self.line.ready.appendleft(job)
        else:
            self._in_flight += 1
            self._sent += 1
            job.under_way, job.sent = True, self._sent
            self.books.recount(job)
            self.health.sent(self._sent)
            task = asyncio.get_running_loop().create_task(self._attempt(job, permit))
            self._attempts.add(task)
            task.add_done_callback(self._attempts.discard)

    # One attempt

    async def _attempt(self, job: Job, permit: Permit) -> None:
        attempt = Attempt(permit, self.clock)
        try:
            await self._ask(job, attempt)
        except Exception as error:  # only a store's: without a working store nothing may be paid for
            self._store_failed(job, error)
        except BaseException:  # the loop ends: what is under way stays reserved, as after a crash
            job.reservation = None
            raise
        finally:
            attempt.ended()
            job.under_way = False
            self.books.recount(job)
            self.line.stir()

    async def _ask(self, job: Job, attempt: Attempt) -> None:
        job.first_attempt_at = self.clock.now() if job.first_attempt_at is None else job.first_attempt_at
        DEPARTURE.set(attempt)  # this task asks nothing else
        attempt.sent()
        try:
            reply = await self._answer(job)
        except JudgeError as error:
            self._note(job, attempt, error)
            self._hear(job, attempt, error)
            await self._failed(job, error)
        else:
            self._note(job, attempt)
            attempt.answered(reply.usage)
            self.health.answered(job, reply.rates, attempt.permit, under_way=self._in_flight + 1)
            await self._succeeded(job, reply)

    async def _answer(self, job: Job) -> Reply:
        try:
            return await self._asker.ask(job.question, job.attempts + 1, job.order.step)
        finally:
            self._in_flight -= 1
            self.line.stir()

    def _note(self, job: Job, attempt: Attempt, error: JudgeError | None = None) -> None:
        """Note when the question was sent, if it was: limits are kept across restarts."""
        if job.reservation is not None and not isinstance(error, JudgeUnreachable):
            job.reservation = attempt.noted(job.reservation)
        if error is not None:
            attempt.failed(error)

    def _hear(self, job: Job, attempt: Attempt, error: JudgeError) -> None:
        """Take note of a failed attempt.  Where the judge is down, answer whoever does not wait for the next probe."""
        job.limited += isinstance(error, RateLimited)
        job.failures += not isinstance(error, RateLimited)
        if not self.health.failed(job, error, attempt.permit, sent=self._sent):
            return
        if self.health.breaker.gave_up:
            self.line.drop_waiting(error)
        for waiting in self.line.waiting():
            if self._turned_down(waiting):
                self.line.drop(waiting, error)

    def _turned_down(self, job: Job) -> bool:
        """Whether the judge is down and it is no use to wait for the next probe: it was given up, or the reply would come too late."""
        wait_s = self.health.wait_s
        if not 0 < wait_s < math.inf:
            return False
        ready_at = self.clock.now() + wait_s + (self.experience.mean_latency_s or 0.0)
        return self.health.breaker.gave_up or (job.deadline is not None and ready_at > job.deadline)

    async def _succeeded(self, job: Job, reply: Reply) -> None:
        self._standstill.answered()
        call = self._asker.call(job.question, reply, job.attempts + 1, job.order.step)
        actual = Cost(requests=1, tokens=reply.usage.total, usd=reply.usd)
        self.experience.learn(now=self.clock.now(), number=job.sent, latency_s=reply.latency_s, reserved=job.order.cost, actual=actual)
        reservation, job.reservation = job.reservation, None
        if reservation is not None:  # there always is one: nothing is sent without
            await self.accounts.settle(reservation, job.question, call)
        self._standstill.stored(job)
        self.line.land(job, Arrival(call=call, paid=True))

    async def _failed(self, job: Job, error: JudgeError) -> None:
        if error.maybe_paid and job.reservation is not None:
            reservation, job.reservation = job.reservation, None
            await self.accounts.charge(reservation)
        elapsed = self.clock.now() - (job.first_attempt_at or 0.0)
        delay = self.seat.retry.delay_s(error, failures=job.failures, limited=job.limited, elapsed_s=elapsed, jitter=self._random.random())
        is_down = self.health.breaker.gave_up or self.left_alone is not None or self._turned_down(job)
        if delay is None or is_down or self.line.closed is not None or job.waiters <= 0:
            self.line.drop(job, self.line.closed or error)
            if isinstance(error, JudgeOverloaded) and (error.retry_after_s or 0.0) > self.seat.retry.for_s:
                self.line.drop_waiting(self._standstill.leave_alone(error, self.seat.retry.for_s))
            elif delay is None and self._standstill.is_turning_everybody_away(job, error):
                self._give_up(error, "judge_stopped")
            return
        if isinstance(error, JudgeOverloaded) and (error.retry_after_s is not None or isinstance(error, RateLimited)):
            self.gate.pause(delay)
        self.line.rest(job, delay)

    # Where nobody would fare better

    def _store_failed(self, job: Job, error: BaseException) -> None:
        """A store that cannot be used stops the asking; one that refuses a single reply, only if it refuses every one."""
        failure = as_store_error(error)
        refuses_all = self._standstill.refused_by_store()
        self.line.drop(job, failure)
        if isinstance(failure, StoreUnavailable):
            self._backlog.failed(failure)
            self.line.drop_waiting(failure)
        elif refuses_all:
            self._give_up(failure, "store_failed")
        else:
            self._notice("reply_not_stored", error=str(failure))

    def _give_up(self, failure: JudgeflowError, event: str) -> None:
        """Answer everybody who waits.  A later step tries again."""
        self._standstill.begin(failure, event, sent=self._sent)
        self.line.drop_waiting(failure)
