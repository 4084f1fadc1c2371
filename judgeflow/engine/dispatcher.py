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
from dataclasses import replace
from typing import Any

from judgeflow.engine.accounts import Accounts
from judgeflow.engine.events import Observers
from judgeflow.engine.inflight import Arrival
from judgeflow.engine.jobs import Attempt, Job, NotAsked, Order
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import (
    JudgeBusy,
    JudgeError,
    JudgeflowError,
    JudgeOverloaded,
    JudgeRefusesService,
    JudgeUnreachable,
    PermanentJudgeError,
    RateLimited,
    StoreError,
    StoreUnavailable,
)
from judgeflow.ports import DEPARTURE, Clock, Gate, Judge, Permit, Store
from judgeflow.routing.budget import Budget
from judgeflow.routing.concurrency import Concurrency
from judgeflow.routing.learned import LONGEST_HOLD_S
from judgeflow.routing.threshold import Experience
from judgeflow.types import Call, CallEvent, Cost, Question, RateHeaders, Reading, ReadingStatus, Reply, Reservation, Usage

UNREACHABLE_ATTEMPTS = 3
"""A judge that has never answered and cannot be reached so often is not there: nobody waits for it any longer."""

COMMIT_S = 0.01
"""About how long the store takes to put budget aside, with what else waits to be written."""

UNSTORABLE_REPLIES = 3
"""So many replies in a row that the store refuses are no accident of one reply: asking stops before more is paid for."""


class Dispatcher:
    """Lets questions out in FIFO order, as fast as limits and budget allow and no faster.

    Everything happens on one loop.  The queues, `_in_flight`, `_short_since` and `_halted` change only between awaits, in the
    methods below.  No more reservations are open than `concurrency` admits requests, but for a few made ahead, replies that are being
    stored, questions that rest before another attempt, and those that were open when it fell.
    """

    def __init__(
        self,
        *,
        judge: Judge,
        store: Store,
        gate: Gate,
        budget: Budget,
        run: str,
        clock: Clock,
        retry: RetryPolicy,
        observers: Observers,
        max_in_flight: int,
    ) -> None:
        self.judge = judge
        self.gate = gate
        self.budget = budget
        self.run = run
        self.clock = clock
        self.retry = retry
        self.observers = observers
        self.concurrency = Concurrency(max_in_flight)
        self.experience = Experience()
        self.accounts = Accounts(store, run, judge.identity.fingerprint, observers, self._stir)
        self.refusal: JudgeflowError | None = None
        self.answered = False
        self._jobs: dict[bytes, Job] = {}
        self._queue: deque[Job] = deque()  # not reserved yet
        self._reserving: Sequence[Job] = ()
        self._ready: deque[Job] = deque()  # reserved, waiting for the gate
        self._at_gate: Job | None = None
        self._resting: dict[Job, asyncio.TimerHandle] = {}
        self._in_flight = 0
        self._sent = 0
        self._sent_at_refusal = 0
        self._resting_until = -math.inf  # by the judge's own word
        self._unstorable = 0
        self._told_stricter: set[str] = set()
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
        reason = self._halted or (self.refusal if self.clock.now() < self._resting_until else None)
        if reason is not None:
            self._drop(job, reason)
        else:
            self._jobs[order.question.call_key] = job
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
        """Wait until nothing is under way and everything is written.  Call `halt` first."""
        for runner in self._runners:
            with contextlib.suppress(asyncio.CancelledError):
                await runner
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self.accounts.aclose()

    async def released(self) -> None:
        """Wait until budget of questions that are not sent after all is given back."""
        if self._releases:
            await asyncio.wait(self._releases)

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    @property
    def queued(self) -> Cost:
        """Worst case of everything that is reserved and waits to be sent; the budget counts what is not reserved yet as planned."""
        return sum((job.order.cost for job in self._waiting() if not job.planned and not job.future.done()), Cost())

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
        self.refusal = JudgeError(f"the gate {what}; nothing more is asked")
        self._sent_at_refusal = self._sent
        self.halt(self.refusal)
        self.observers.notice("judge_stopped", error=str(self.refusal))

    async def _put_aside(self) -> None:
        """Reserve what is queued, as many at a time as may be in flight: they share a commit."""
        while True:
            while not (room := self._room()):
                self._wake_queue.clear()
                await self._wake_queue.wait()
            self._reserving = [self._queue.popleft() for _ in range(room)]
            # A batch of its own task: a reservation that the store has accepted must not be forgotten when this coroutine ends.
            await asyncio.wait([self._spawn(self._reserve(self._reserving))])

    def _room(self) -> int:
        """How many queued questions may be reserved now.  While the first does not fit the budget, it is tried alone."""
        held = self._in_flight + len(self._ready) + (self._at_gate is not None)
        room = min(len(self._queue), max(0, self.concurrency.limit + self._ahead() - held))
        if self._short_since is None:
            return room
        nothing_changed = self.accounts.open > 0 and self.accounts.closed == self._short_since
        return 0 if nothing_changed else min(1, room)

    def _ahead(self) -> int:
        """How many reservations to make before there is a place for them: as many replies as come back while one is committed."""
        limit, latency_s = self.concurrency.limit, self.experience.mean_latency_s
        return 0 if latency_s is None else min(limit, int(limit * COMMIT_S / max(latency_s, COMMIT_S)))

    async def _reserve(self, batch: Sequence[Job]) -> None:
        jobs = [job for job in batch if self._still_wanted(job)]
        closed = self.accounts.closed  # what closes from here on, a refusal may not know of
        try:
            await self.accounts.save_again()
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
        if self._still_wanted(job):
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
        if behind and (self.accounts.open > 0 or self.accounts.closed != closed):
            self._short_since = closed
        elif behind:
            self._decline(behind[0].order.lot)

    def _decline(self, lot: object) -> None:
        """The budget admits no more of this step."""
        for job in [job for job in self._queue if job.order.lot is lot]:
            self._drop(job, NotAsked("budget"))

    async def _let_out(self) -> None:
        while True:
            while not self._ready or self._in_flight >= self.concurrency.limit:
                self._wake_gate.clear()
                await self._wake_gate.wait()
            job = self._at_gate = self._ready.popleft()
            if self._still_wanted(job):
                await self._pass_gate(job)
            self._at_gate = None
            self._stir()

    async def _pass_gate(self, job: Job) -> None:
        try:
            permit = await self.gate.admit(job.order.cost.tokens)
        except ValueError:
            self._drop(job, NotAsked("too_long"))
            return
        except BaseException:  # the job in hand is in no queue any more
            self._drop(job, self._halted or JudgeError("the gate failed"))
            raise
        if self._still_wanted(job):
            self._in_flight += 1
            self._sent += 1
            job.under_way, job.sent = True, self._sent
            self._spawn(self._attempt(job, permit))
        else:
            permit.cancel()

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
            self._stir()

    async def _ask(self, job: Job, attempt: Attempt) -> None:
        started = self.clock.now()
        job.first_attempt_at = started if job.first_attempt_at is None else job.first_attempt_at
        DEPARTURE.set(attempt)  # this task asks nothing else
        attempt.sent()
        try:
            reply = await self._answer(job.question)
        except JudgeError as error:
            self._tell(job, error.status, self.clock.now() - started, error=error)
            self._note(job, attempt, error)
            self._heed(error.rates, attempt)
            if isinstance(error, JudgeBusy):
                self._slow_down(job, error)
            await self._failed(job, error)
        except Exception as error:  # a judge is foreign code: its surprises concern one question
            surprise = PermanentJudgeError(f"the judge raised {error!r}")
            surprise.maybe_paid = True
            self._tell(job, surprise.status, self.clock.now() - started, error=surprise)
            self._note(job, attempt, surprise)
            await self._failed(job, surprise)
        else:
            self._note(job, attempt)
            attempt.answered(reply.usage)
            self._heed(reply.rates, attempt)
            self._speed_up(job)
            await self._succeeded(job, reply)

    async def _answer(self, question: Question) -> Reply:
        try:
            reply = await self.judge.ask(question)
        finally:
            self._in_flight -= 1
            self._stir()
        _require_reply(reply)
        return reply

    def _note(self, job: Job, attempt: Attempt, error: JudgeError | None = None) -> None:
        """Note when the question was sent, if it was: limits are kept across restarts."""
        if job.reservation is not None and not isinstance(error, JudgeUnreachable):
            job.reservation = attempt.noted(job.reservation)
        if error is not None:
            attempt.failed(error)

    def _heed(self, rates: RateHeaders | None, attempt: Attempt) -> None:
        """Let the gate know what the judge says about its limits, and say once what is stricter for it."""
        stricter = self.gate.heed(rates, attempt.permit) if rates is not None else {}
        news = {name: value for name, value in stricter.items() if name not in self._told_stricter}
        if news:
            self._told_stricter |= news.keys()
            self.observers.notice("limits_tightened", **news)

    def _slow_down(self, job: Job, error: JudgeBusy) -> None:
        if self.concurrency.turned_away(self.clock.now(), number=job.sent, sent=self._sent):
            limit, most = self.concurrency.limit, self.concurrency.most
            self.observers.notice("in_flight_lowered", in_flight=limit, max_in_flight=most, error=str(error))

    def _speed_up(self, job: Job) -> None:
        low_for_s = self.concurrency.answered(self.clock.now(), number=job.sent, under_way=self._in_flight + 1)
        if low_for_s is not None:
            self.observers.notice("in_flight_recovered", max_in_flight=self.concurrency.most, seconds=round(low_for_s, 1))

    async def _succeeded(self, job: Job, reply: Reply) -> None:
        self.answered = True
        question = job.question
        call = Call(
            key=question.call_key,
            pair_key=question.pair_key,
            judge=self.judge.identity.fingerprint,
            canonical=question.canonical,
            reply=reply if reply.rates is None and not job.attempts else replace(reply, attempts=job.attempts + 1, rates=None),
            reading=self._read(reply),
            created_at=self.clock.wall(),
            sample=question.sample,
        )
        self._tell(job, call.reading.status.value, reply.latency_s, reply=reply)
        actual = Cost(requests=1, tokens=reply.usage.total, usd=reply.usd)
        self.experience.learn(now=self.clock.now(), number=job.sent, latency_s=reply.latency_s, reserved=job.order.cost, actual=actual)
        reservation, job.reservation = job.reservation, None
        if reservation is not None:  # there always is one: nothing is sent without
            await self.accounts.settle(reservation, question, call)
        self._unstorable = 0
        if job.sent > self._sent_at_refusal:
            self.refusal = None
        self._land(job, Arrival(call=call, paid=True))

    def _read(self, reply: Reply) -> Reading:
        """Read a reply.  One that the judge's own reader chokes on is kept all the same: it was paid for."""
        try:
            return self.judge.read(reply)
        except Exception as error:  # a judge is foreign code
            self.observers.notice("reply_unreadable", error=repr(error))
            return Reading(status=ReadingStatus.UNPARSEABLE)

    async def _failed(self, job: Job, error: JudgeError) -> None:
        job.limited += isinstance(error, RateLimited)
        job.failures += not isinstance(error, RateLimited)
        if error.maybe_paid and job.reservation is not None:
            reservation, job.reservation = job.reservation, None
            await self.accounts.charge(reservation)
        if self._is_absent(job, error):
            self._drop(job, error)
            self._refuse(error, "judge_stopped")
            return
        elapsed = self.clock.now() - (job.first_attempt_at or 0.0)
        delay = self.retry.delay_s(error, failures=job.failures, limited=job.limited, elapsed_s=elapsed, jitter=self._random.random())
        if delay is None or self._halted is not None or job.waiters <= 0:
            self._drop(job, self._halted or error)
            if isinstance(error, JudgeOverloaded) and (error.retry_after_s or 0.0) > self.retry.for_s:
                self._let_rest(error)
            return
        if isinstance(error, JudgeOverloaded) and (error.retry_after_s is not None or isinstance(error, RateLimited)):
            self.gate.pause(delay)
        self._resting[job] = asyncio.get_running_loop().call_later(delay, self._requeue, job)

    def _let_rest(self, error: JudgeOverloaded) -> None:
        """The judge wants to be left alone for longer than any question waits: decline them all, and ask none meanwhile."""
        seconds = error.retry_after_s or 0.0
        self._resting_until = self.clock.now() + min(seconds, LONGEST_HOLD_S)
        longer = f"it wants to be left alone for {seconds:g} s, and a question is tried for {self.retry.for_s:g} s at most"
        self._refuse(type(error)(f"{error}; {longer}", retry_after_s=seconds), "judge_stopped")

    def _is_absent(self, job: Job, error: JudgeError) -> bool:
        never_there = isinstance(error, JudgeUnreachable) and not self.answered and job.failures >= UNREACHABLE_ATTEMPTS
        return never_there or isinstance(error, JudgeRefusesService)

    def _requeue(self, job: Job) -> None:
        """A job that failed and has rested goes first: it is older than everything that waits."""
        del self._resting[job]
        (self._queue if job.reservation is None else self._ready).appendleft(job)
        self._stir()

    # Endings

    def _store_failed(self, job: Job, error: BaseException) -> None:
        """A store that cannot be used stops the asking; one that refuses a single reply, only if it refuses every one."""
        failure = error if isinstance(error, StoreError) else StoreUnavailable(f"the store raised {error!r}")
        self._unstorable += 1
        self._drop(job, failure)
        if isinstance(failure, StoreUnavailable) or self._unstorable >= UNSTORABLE_REPLIES:
            self._refuse(failure, "store_failed")
        else:
            self.observers.notice("reply_not_stored", error=str(failure))

    def _refuse(self, error: JudgeflowError, event: str) -> None:
        """No question would fare better now: answer everything that waits.  A later step tries again."""
        if self.refusal is None:
            self.observers.notice(event, error=str(error))
        self.refusal = error
        self._sent_at_refusal = self._sent
        self._drop_waiting(error)

    def _land(self, job: Job, arrival: Arrival) -> None:
        if not job.future.done():
            job.future.set_result(arrival)

    def _drop(self, job: Job, reason: JudgeflowError) -> None:
        """Answer a job with a failure, unless it has its answer, and give back what was put aside for it."""
        self._unplan(job)
        if job.reservation is not None:
            reservation, job.reservation = job.reservation, None
            self._give_back(reservation)
        if not job.future.done():
            job.future.set_exception(reason)

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

    def _give_back(self, reservation: Reservation) -> None:
        task = self._spawn(self.accounts.release(reservation))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    def _unplan(self, job: Job) -> None:
        if job.planned:
            job.planned = False
            self.budget.unplan(job.order.planned)

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

    def _tell(self, job: Job, outcome: str, latency_s: float, *, reply: Reply | None = None, error: JudgeError | None = None) -> None:
        event = CallEvent(
            run=self.run,
            call_key=job.question.call_key,
            pair_key=job.question.pair_key,
            order="canonical" if job.question.canonical else "swapped",
            outcome=outcome,
            attempt=job.attempts + 1,
            latency_s=latency_s,
            usage=reply.usage if reply else Usage(),
            usd=reply.usd if reply else 0.0,
            error=str(error) if error else None,
        )
        self.observers.call(event)


def _require_reply(reply: object) -> None:
    """Raise for a judge that returns something else: the attempt may have cost something all the same."""
    if not isinstance(reply, Reply):
        error = PermanentJudgeError(f"the judge returned {type(reply).__name__} instead of a Reply")
        error.maybe_paid = True
        raise error
