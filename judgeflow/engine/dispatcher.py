"""One queue, two coroutines that let questions out, and a task for each attempt under way.

A question's way: queued -> reserved in the store -> admitted by the gate -> asked -> settled in the store -> its future resolves.
The gate comes last, so that what it admits is sent at once: else a slow commit would move requests into a later window.  Whatever
fails on the way ends in the future too; a reply that was paid for is stored even if nobody waits any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from judgeflow.clock import MOMENT_S
from judgeflow.engine.accounts import Accounts, Purse
from judgeflow.engine.asking import Asker
from judgeflow.engine.backlog import Backlog, as_store_error
from judgeflow.engine.events import Observers
from judgeflow.engine.health import Health
from judgeflow.engine.inflight import Arrival
from judgeflow.engine.jobs import Attempt, Job, NotAsked, Order
from judgeflow.engine.seat import Seat
from judgeflow.errors import JudgeError, JudgeflowError, JudgeOverloaded, JudgeUnreachable, RateLimited, StoreError, StoreUnavailable
from judgeflow.ports import DEPARTURE, Clock, Permit, Store
from judgeflow.routing.budget import Budget
from judgeflow.routing.concurrency import Concurrency
from judgeflow.routing.learned import LONGEST_HOLD_S
from judgeflow.routing.threshold import Experience
from judgeflow.types import Call, Cost, JudgeState, Reply, Reservation

COMMIT_S = 0.01
"""About how long the store takes to put budget aside, with what else waits to be written."""

AT_THE_GATE = 8
"""So many questions wait at a closed gate with their budget put aside.  When it opens, more are put aside in one commit."""

UNSTORABLE_REPLIES = 3
"""So many replies in a row that the store refuses are no accident of one reply: asking stops before more is paid for."""


class Dispatcher:
    """Lets questions to one judge out in FIFO order, as fast as limits and budget allow and no faster.

    Everything happens on one loop.  The queues, `_in_flight`, `_short_since`, `_halted` and `planned` change only between awaits, in the
    methods below.  No more reservations are open than `concurrency` admits requests, but for a few made ahead, replies that are being
    stored, questions that rest before another attempt, and those that were open when it fell.  `has_stand_in` tells that another judge is
    asked where this one fails: nobody waits for it then.  With `named` its notices say which judge they are about.
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
        self.budget = budget
        self.clock = clock
        self.retry = seat.retry
        self.concurrency = Concurrency(seat.max_in_flight)
        self.experience = Experience()
        self.accounts = Accounts(store, run, seat.judge.identity.fingerprint, purse, backlog)
        self._backlog = backlog
        self.planned = Cost()
        self.queued = Cost()
        self.freed: set[Callable[[], None]] = set()  # called whenever a question is done with
        patience = 0 if has_stand_in else seat.retry.attempts
        self._notice = observers.naming(seat.judge.identity.id, seat.label) if named else observers.notice
        self.health = Health(seat, self.concurrency, patience=patience, clock=clock, notice=self._notice)
        self._asker = Asker(seat.judge, run, clock, observers)
        self._purse = purse
        purse.on_close.append(self._stir)
        self._failure: JudgeflowError | None = None  # of the gate, or of a store that refuses every reply
        self._answered_at = -math.inf
        self._jobs: dict[bytes, Job] = {}
        self._lots: dict[object, dict[Job, None]] = {}  # the same by step, each in the order in which it was asked
        self._queue: deque[Job] = deque()  # not reserved yet
        self._reserving: Sequence[Job] = ()
        self._batch: asyncio.Task[None] | None = None
        self._ready: deque[Job] = deque()  # reserved, waiting for the gate
        self._at_gate: Job | None = None
        self._resting: dict[Job, asyncio.TimerHandle] = {}
        self._in_flight = 0
        self._sent = 0
        self._sent_at_failure = 0
        self._left_alone_until = -math.inf  # by the judge's own word
        self._left_alone_by: JudgeflowError | None = None
        self._unstorable = 0
        self._short_since: int | None = None  # reservations closed before the first in the queue did not fit; None: it may fit
        self._halted: JudgeflowError | None = None
        self._wake_queue, self._wake_gate = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._releases: set[asyncio.Task[None]] = set()
        self._runners: list[asyncio.Task[None]] = []
        self._random = random.Random()  # noqa: S311 - jitter needs no secrets

    # What sessions call

    def start(self) -> None:
        """Begin to let questions out."""
        loop = asyncio.get_running_loop()
        self._runners = [
            loop.create_task(self._run(self._put_aside), name="judgeflow-reservations"),
            loop.create_task(self._run(self._let_out), name="judgeflow-dispatcher"),
        ]

    def submit(self, order: Order) -> asyncio.Future[Arrival]:
        """Queue a question and return the future of its stored call.

        The future fails with a `JudgeError`, a `StoreError` or `NotAsked`; each has a `status`, or is one.
        """
        future: asyncio.Future[Arrival] = asyncio.get_running_loop().create_future()
        job = Job(order=order, deadline=order.deadline, future=future)
        reason = self._halted or self.left_alone
        if reason is not None:
            self._drop(job, reason)
        elif self._turned_down(job):
            self._drop(job, self.health.error or JudgeError())
        else:
            self._jobs[order.question.call_key] = job
            self._lots.setdefault(order.lot, {})[job] = None
            future.add_done_callback(lambda _: self._forget(job))
            self._queue.append(job)
            self._stir()
        return future

    def join(self, call_key: bytes, deadline: float | None) -> None:
        """Somebody else waits for this question too: keep it wanted until the later of both deadlines."""
        job = self._jobs.get(call_key)
        if job is None:
            return
        job.waiters += 1
        if job.deadline is not None:
            job.deadline = None if deadline is None else max(job.deadline, deadline)

    def leave(self, call_key: bytes, reason: JudgeflowError) -> None:
        """Somebody does not wait any more.  What nobody waits for is not sent; what is under way is stored when it comes."""
        job = self._jobs.get(call_key)
        if job is None:
            return
        job.waiters -= 1
        if job.waiters <= 0 and not job.under_way:
            self._drop(job, reason)

    def halt(self, reason: JudgeflowError) -> None:
        """Send nothing more, ever; what is under way may come back."""
        self._halted = reason
        self._drop_waiting(reason)
        for runner in self._runners:
            runner.cancel()

    async def drain(self) -> None:
        """Wait until nothing is under way; what the store has not taken is in the backlog.  Call `halt` first."""
        if self._runners:
            await asyncio.wait(self._runners)
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def reserved(self) -> None:
        """Wait until what is being reserved is: until then the store may count it already, and the budget still as planned."""
        if self._batch is not None and not self._batch.done():
            await asyncio.wait([self._batch])

    async def released(self) -> None:
        """Wait until budget of questions that are not sent after all is given back."""
        if self._releases:
            await asyncio.wait(self._releases)

    @property
    def refusal(self) -> JudgeflowError | None:
        """Why nothing is asked of this judge at the moment; None while it answers, or is expected to."""
        return self._failure or self._backlog.failure or self.left_alone or self.health.refusal

    @property
    def left_alone(self) -> JudgeflowError | None:
        """What the judge said when it wanted to be left alone, until that time is over."""
        return self._left_alone_by if self.clock.now() < self._left_alone_until else None

    @property
    def halted(self) -> bool:
        """Whether nothing is sent any more, ever."""
        return self._halted is not None

    def plan(self, cost: Cost) -> None:
        """Count a question that this judge will be asked."""
        self.planned += cost
        self.budget.plan(cost)

    def unplan(self, cost: Cost) -> None:
        """The question is reserved by now, or will not be asked."""
        self.planned -= cost
        self.budget.unplan(cost)

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def questions(self) -> int:
        """Questions that are under way or wait."""
        return len(self._jobs)

    @property
    def state(self) -> JudgeState:
        """How it stands with the judge now.  Reads single values only, so that any thread may ask."""
        in_flight = self._in_flight
        return JudgeState(
            judge=self.seat.judge.identity.id,
            seat=self.seat.label,
            in_flight=in_flight,
            max_in_flight=self.concurrency.limit,
            waiting=max(0, len(self._jobs) - in_flight),
            breaker=self.health.breaker.state,
        )

    @property
    def has_room(self) -> bool:
        """Whether one more question would be let out before any other, as far as places in flight decide it."""
        return len(self._jobs) < self.concurrency.limit

    def is_queued(self, call_key: bytes) -> bool:
        """Whether this question is still to be sent."""
        job = self._jobs.get(call_key)
        return job is not None and not job.under_way and not job.future.done()

    # The two coroutines

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Gates and stores are foreign code: if one breaks, nobody may wait for it."""
        try:
            await work()
        except asyncio.CancelledError:
            if self._halted is None:
                self._break("was cancelled by what it called")
            raise
        except Exception as error:  # the docstring says why
            self._break(f"failed: {error!r}")

    def _break(self, what: str) -> None:
        self._failure = JudgeError(f"the gate {what}; nothing more is asked")
        self._sent_at_failure = self._sent
        self.halt(self._failure)
        self._notice("judge_stopped", error=str(self._failure))

    async def _put_aside(self) -> None:
        """Reserve what is queued, as many at a time as may be in flight: they share a commit."""
        while self._halted is None:
            while not (room := self._room()):
                self._wake_queue.clear()
                await self._wake_queue.wait()
            self._reserving = [self._queue.popleft() for _ in range(room)]
            # A batch of its own task: a reservation that the store has accepted must not be forgotten when this coroutine ends.
            self._batch = self._spawn(self._reserve(self._reserving))
            await asyncio.wait([self._batch])

    def _room(self) -> int:
        """How many queued questions may be reserved now.  While the first does not fit the budget, it is tried alone.

        For a judge that is down it is one, the probe: what waits for it keeps no budget from others.
        """
        is_up, waiting = self.health.breaker.state == "closed", len(self._ready) + (self._at_gate is not None)
        places = self.concurrency.limit + self._ahead() - self._in_flight if is_up else 1
        room = min(len(self._queue), max(0, places - waiting))
        if room + waiting > AT_THE_GATE:  # what the rate limit holds back has no use for it yet, and would be lost if the process died
            room = min(room, max(0, AT_THE_GATE + self._admitted_now() - waiting))
        if self._short_since is None:
            return room
        nothing_changed = self._purse.open > 0 and self._purse.closed == self._short_since
        return 0 if nothing_changed else min(1, room)

    def _admitted_now(self) -> int:
        """How many of those that are queued the rate limits admit at this moment."""
        if self._at_gate is not None:
            return 0
        admitted = self.gate.capacity(self.clock.now())
        bounds = [len(self._queue) if admitted.requests is None else admitted.requests]
        if admitted.tokens is not None and self._queue:
            bounds.append(admitted.tokens // max(1, self._queue[0].order.cost.tokens))
        return min(bounds)

    def _ahead(self) -> int:
        """How many reservations to make before there is a place for them: as many replies as come back while one is committed."""
        limit, latency_s = self.concurrency.limit, self.experience.mean_latency_s
        return 0 if latency_s is None else int(limit * COMMIT_S / max(latency_s, COMMIT_S))

    async def _reserve(self, batch: Sequence[Job]) -> None:
        jobs = [job for job in batch if self._still_wanted(job)]
        closed = self._purse.closed  # what closes from here on, a refusal may not know of
        try:
            await self._backlog.save_again()
        except StoreError as error:
            answers: list[Reservation | Call | BaseException | None] = [error] * len(jobs)
        else:
            orders = [job.order for job in jobs]
            reserving = (self.accounts.reserve(order.question, order.cost, order.stock) for order in orders)
            answers = await asyncio.gather(*reserving, return_exceptions=True)
        self._short_since = None
        refused = answers.index(None) if None in answers else len(answers)
        for job, answer in zip(jobs[:refused], answers[:refused], strict=True):
            self._reserved(job, answer)
        if refused < len(answers):
            self._wait_for_budget(jobs[refused:], answers[refused:], closed)
        self._reserving = ()

    def _reserved(self, job: Job, answer: Reservation | Call | BaseException | None) -> None:
        if isinstance(answer, BaseException):
            self._store_failed(job, answer)
            return
        self._unplan(job)
        if isinstance(answer, Call):  # somebody has paid for the reply since this step read the store
            self._land(job, Arrival(call=answer, paid=False))
            return
        job.reservation = answer
        if self._backlog.failure is not None:  # the store has failed since: what it could not keep is not paid for
            self._drop(job, self._backlog.failure)
        elif self._still_wanted(job):
            self._ready.append(job)
            self._wake_gate.set()

    def _wait_for_budget(self, jobs: Sequence[Job], answers: Sequence[Reservation | Call | BaseException | None], closed: int) -> None:
        """The first of `jobs` does not fit now.  Replies tend to cost less than was put aside for them, so it waits for those under way.

        Nobody behind it is asked instead, however cheap: costs decide what is feasible, never who is preferred.  When nothing is
        under way any more, it is declined with all of its step that stand behind it.  `closed` is how many reservations were closed
        when the store was asked: where more are by now, the refusal is out of date, and the first is tried again at once.
        """
        behind: list[Job] = []
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, Reservation):
                self._give_back(answer)
            if isinstance(answer, Call | BaseException):
                self._reserved(job, answer)
            elif not job.future.done():
                behind.append(job)
        self._queue.extendleft(reversed(behind))
        if behind and (self._purse.open > 0 or self._purse.closed != closed):
            self._short_since = closed
        elif behind:
            self._decline(behind[0].order.lot)

    def _decline(self, lot: object) -> None:
        """The budget admits no more of this step."""
        for job in list(self._lots.get(lot, ())):
            if job.reservation is None and not job.under_way and job not in self._resting:
                self._drop(job, NotAsked("budget"))

    async def _let_out(self) -> None:
        while self._halted is None:  # a gate is foreign code, and may swallow that this coroutine is cancelled
            while not self._ready or self._in_flight >= self.concurrency.limit or self.health.wait_s > 0:
                await self._rest()
            job = self._at_gate = self._ready.popleft()
            if self._still_wanted(job):
                await self._pass_gate(job)
            self._at_gate = None
            self._stir()

    async def _rest(self) -> None:
        """Wait until something changes, or a judge that is down may be probed."""
        wait_s = self.health.wait_s
        self._wake_gate.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(wait_s, MOMENT_S) if 0 < wait_s < math.inf else None):
                await self._wake_gate.wait()

    async def _pass_gate(self, job: Job) -> None:
        try:
            permit = await self.gate.admit(job.order.cost.tokens)
        except ValueError:
            self._drop(job, NotAsked("too_long"))
            return
        except BaseException:  # the job in hand is in no queue any more
            self._drop(job, self._halted or JudgeError("the gate failed"))
            raise
        if not self._still_wanted(job):
            permit.cancel()
        elif self.health.wait_s > 0:  # the judge went down meanwhile
            permit.cancel()
            self._ready.appendleft(job)
        else:
            self._in_flight += 1
            self._sent += 1
            job.under_way, job.sent = True, self._sent
            self._recount(job)
            self.health.sent(self._sent)
            self._spawn(self._attempt(job, permit))

    def _still_wanted(self, job: Job) -> bool:
        """Whether to go on with a job; one that is not wanted any more is dropped."""
        late = job.deadline is not None and self.clock.now() >= job.deadline
        if late or self._halted is not None or job.future.done():
            self._drop(job, self._halted or NotAsked("deadline"))
            return False
        return True

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
            self._recount(job)
            self._stir()

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
            self._stir()

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
            self._drop_waiting(error)
        for waiting in self._waiting():
            if self._turned_down(waiting):
                self._drop(waiting, error)

    def _turned_down(self, job: Job) -> bool:
        """Whether the judge is down and it is no use to wait for the next probe: it was given up, or the reply would come too late."""
        wait_s = self.health.wait_s
        if not 0 < wait_s < math.inf:
            return False
        ready_at = self.clock.now() + wait_s + (self.experience.mean_latency_s or 0.0)
        return self.health.breaker.gave_up or (job.deadline is not None and ready_at > job.deadline)

    async def _succeeded(self, job: Job, reply: Reply) -> None:
        self._answered_at = self.clock.now()
        call = self._asker.call(job.question, reply, job.attempts + 1, job.order.step)
        actual = Cost(requests=1, tokens=reply.usage.total, usd=reply.usd)
        self.experience.learn(now=self.clock.now(), number=job.sent, latency_s=reply.latency_s, reserved=job.order.cost, actual=actual)
        reservation, job.reservation = job.reservation, None
        if reservation is not None:  # there always is one: nothing is sent without
            await self.accounts.settle(reservation, job.question, call)
        self._unstorable = 0
        if job.sent > self._sent_at_failure:
            self._failure = None
        self._land(job, Arrival(call=call, paid=True))

    async def _failed(self, job: Job, error: JudgeError) -> None:
        if error.maybe_paid and job.reservation is not None:
            reservation, job.reservation = job.reservation, None
            await self.accounts.charge(reservation)
        elapsed = self.clock.now() - (job.first_attempt_at or 0.0)
        delay = self.retry.delay_s(error, failures=job.failures, limited=job.limited, elapsed_s=elapsed, jitter=self._random.random())
        is_down = self.health.breaker.gave_up or self.left_alone is not None or self._turned_down(job)
        if delay is None or is_down or self._halted is not None or job.waiters <= 0:
            self._drop(job, self._halted or error)
            if isinstance(error, JudgeOverloaded) and (error.retry_after_s or 0.0) > self.retry.for_s:
                self._let_rest(error)
            elif delay is None and self._is_turning_everybody_away(job, error):
                self._give_up(error, "judge_stopped")
            return
        if isinstance(error, JudgeOverloaded) and (error.retry_after_s is not None or isinstance(error, RateLimited)):
            self.gate.pause(delay)
        self._resting[job] = asyncio.get_running_loop().call_later(delay, self._requeue, job)

    def _let_rest(self, error: JudgeOverloaded) -> None:
        """The judge wants to be left alone for longer than any question waits: decline them all, and ask none meanwhile."""
        seconds = error.retry_after_s or 0.0
        longer = f"it wants to be left alone for {seconds:g} s, and a question is tried for {self.retry.for_s:g} s at most"
        reason = type(error)(f"{error}; {longer}", retry_after_s=seconds)
        if self.left_alone is None:
            self._notice("judge_stopped", error=str(reason))
        self._left_alone_by, self._left_alone_until = reason, self.clock.now() + min(seconds, LONGEST_HOLD_S)
        self._drop_waiting(reason)

    def _is_turning_everybody_away(self, job: Job, error: JudgeError) -> bool:
        """Whether nobody was answered in all the time for which `job` was tried: each of those that wait would take as long."""
        return isinstance(error, RateLimited) and self._answered_at < (job.first_attempt_at or 0.0)

    def _requeue(self, job: Job) -> None:
        """A job that failed and has rested goes first: it is older than everything that waits."""
        del self._resting[job]
        (self._queue if job.reservation is None else self._ready).appendleft(job)
        self._stir()

    # Endings

    def _store_failed(self, job: Job, error: BaseException) -> None:
        """A store that cannot be used stops the asking; one that refuses a single reply, only if it refuses every one."""
        failure = as_store_error(error)
        self._unstorable += 1
        self._drop(job, failure)
        if isinstance(failure, StoreUnavailable):
            self._backlog.failed(failure)
            self._drop_waiting(failure)
        elif self._unstorable < UNSTORABLE_REPLIES:
            self._notice("reply_not_stored", error=str(failure))
        else:
            self._give_up(failure, "store_failed")

    def _give_up(self, failure: JudgeflowError, event: str) -> None:
        """Nobody would fare better now: answer everybody who waits.  A later step tries again."""
        if self._failure is None:
            self._notice(event, error=str(failure))
        self._failure = failure
        self._sent_at_failure = self._sent
        self._drop_waiting(failure)

    def _land(self, job: Job, arrival: Arrival) -> None:
        if not job.future.done():
            job.future.set_result(arrival)
        self._recount(job)

    def _drop(self, job: Job, reason: JudgeflowError) -> None:
        """Answer a job with a failure, unless it has its answer, and give back what was put aside for it."""
        self._unplan(job)
        if job.reservation is not None:
            reservation, job.reservation = job.reservation, None
            self._give_back(reservation)
        if not job.future.done():
            job.future.set_exception(reason)
        self._recount(job)

    def _drop_waiting(self, reason: JudgeflowError) -> None:
        for timer in self._resting.values():
            timer.cancel()
        waiting = self._waiting()
        self._resting.clear()
        self._queue.clear()
        self._ready.clear()
        self._short_since = None
        for job in waiting:
            self._drop(job, reason)

    def _waiting(self) -> list[Job]:
        at_gate = [self._at_gate] if self._at_gate is not None and not self._at_gate.under_way else []
        return [*self._resting, *at_gate, *self._ready, *self._reserving, *self._queue]

    def _forget(self, job: Job) -> None:
        if self._jobs.get(job.question.call_key) is job:
            del self._jobs[job.question.call_key]
        lot = self._lots.get(job.order.lot, {})
        lot.pop(job, None)
        if not lot:
            self._lots.pop(job.order.lot, None)
        for tell in tuple(self.freed):
            tell()

    def _give_back(self, reservation: Reservation) -> None:
        task = self._spawn(self.accounts.release(reservation))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    def _unplan(self, job: Job) -> None:
        if job.planned:
            job.planned = False
            self.unplan(job.order.planned)
            self._recount(job)

    def _recount(self, job: Job) -> None:
        """Keep `queued` right after a change to a job: the worst case of everything that is reserved and waits to be sent.

        What is not reserved yet the budget counts as planned.  A sum over everything that waits would be as long as the queue.
        """
        queued = not job.planned and not job.under_way and not job.future.done()
        if queued is not job.queued:
            job.queued = queued
            self.queued = self.queued + job.order.cost if queued else self.queued - job.order.cost

    def _stir(self) -> None:
        if self._queue:
            self._wake_queue.set()
        if self._ready:
            self._wake_gate.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
