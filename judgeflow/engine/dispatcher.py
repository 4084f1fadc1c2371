"""One queue, one coroutine that lets questions out, and a task for each attempt under way.

A question's way: queued -> admitted by the gate -> reserved in the store -> asked -> settled in the store -> its future resolves.
Whatever fails on the way ends in the future too; a reply that was paid for is stored even if nobody waits any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from judgeflow.engine.events import Observers
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import (
    JudgeError,
    JudgeflowError,
    JudgeOverloaded,
    JudgeRefusesService,
    JudgeUnreachable,
    PermanentJudgeError,
    RateLimited,
    StoreError,
)
from judgeflow.ports import Clock, Gate, Judge, Settle, Store
from judgeflow.routing.budget import Budget
from judgeflow.types import Call, CallEvent, Cost, Question, Reading, ReadingStatus, Reply, Reservation, Usage

UNREACHABLE_ATTEMPTS = 3
"""A judge that has never answered and cannot be reached so often is not there: nobody waits for it any longer."""


class NotAsked(JudgeflowError):
    """The question was never sent; `status` says why."""

    def __init__(self, status: str) -> None:
        super().__init__(f"not asked: {status}")
        self.status = status


@dataclass(slots=True, eq=False)
class Job:
    """One question on its way.  Only the dispatcher changes it.

    `deadline` is in clock seconds (None: never); `planned` tells that the budget still counts it as planned.
    """

    question: Question
    cost: Cost
    deadline: float | None
    future: asyncio.Future[Call]
    submitted_at: float
    reservation: Reservation | None = None
    planned: bool = True
    failures: int = 0
    limited: int = 0

    @property
    def attempts(self) -> int:
        """Attempts that failed so far."""
        return self.failures + self.limited


@dataclass(slots=True, eq=False)
class Dispatcher:
    """Lets questions out in FIFO order, as fast as limits and budget allow and no faster.

    Everything happens on one loop.  `_queue`, `_jobs`, `_in_flight` and `_halted` change only between awaits, in the methods below.
    """

    judge: Judge
    store: Store
    gate: Gate
    budget: Budget
    run: str
    clock: Clock
    retry: RetryPolicy
    observers: Observers
    max_in_flight: int
    refusal: JudgeflowError | None = None
    answered: bool = False
    _queue: deque[Job] = field(default_factory=deque)
    _jobs: dict[bytes, Job] = field(default_factory=dict)
    _resting: dict[Job, asyncio.TimerHandle] = field(default_factory=dict)
    _in_flight: int = 0
    _halted: JudgeflowError | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _runner: asyncio.Task[None] | None = None
    _random: random.Random = field(default_factory=random.Random)

    def start(self) -> None:
        """Begin to let questions out."""
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="judgeflow-dispatcher")

    def submit(self, question: Question, cost: Cost, deadline: float | None) -> asyncio.Future[Call]:
        """Queue a question and return the future of its stored call.

        The future fails with a `JudgeError`, a `StoreError` or `NotAsked`; each has a `status`, or is one.
        """
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        job = Job(question=question, cost=cost, deadline=deadline, future=future, submitted_at=self.clock.now())
        if self._halted is not None:
            self._drop(job, self._halted)
        else:
            self._jobs[question.call_key] = job
            future.add_done_callback(lambda _: self._jobs.pop(question.call_key))
            self._queue.append(job)
            self._wake.set()
        return future

    def prolong(self, call_key: bytes, deadline: float | None) -> None:
        """Somebody else waits for this question too: keep it wanted until the later of both deadlines."""
        job = self._jobs.get(call_key)
        if job is not None and job.deadline is not None:
            job.deadline = None if deadline is None else max(job.deadline, deadline)

    def halt(self, reason: JudgeflowError) -> None:
        """Send nothing more, ever; what is under way may come back."""
        self._halted = reason
        self._drop_queued(reason)
        if self._runner is not None:
            self._runner.cancel()

    async def drain(self) -> None:
        """Wait until nothing is under way.  Call `halt` first."""
        if self._runner is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        while self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    async def _run(self) -> None:
        try:
            await self._let_out()
        except Exception as error:  # a gate is foreign code: if it breaks, nobody may wait for it
            self.refusal = JudgeError(f"the gate raised {error!r}; nothing more is asked")
            self.halt(self.refusal)
            self.observers.notice("judge_stopped", error=str(self.refusal))

    async def _let_out(self) -> None:
        while True:
            job = await self._next()
            if not self._still_wanted(job):
                continue
            try:
                settle_tokens = await self.gate.admit(job.cost.tokens)
            except ValueError:
                self._drop(job, NotAsked("too_long"))
                continue
            except BaseException:  # the job in hand is not in the queue any more
                self._drop(job, self._halted or JudgeError("the gate failed"))
                raise
            if self._still_wanted(job):
                self._in_flight += 1
                self._spawn(self._attempt(job, settle_tokens))
            else:
                settle_tokens(0)

    async def _next(self) -> Job:
        while not self._queue or self._in_flight >= self.max_in_flight:
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def _still_wanted(self, job: Job) -> bool:
        if job.deadline is not None and self.clock.now() >= job.deadline:
            self._drop(job, NotAsked("deadline"))
        return not job.future.done()

    async def _attempt(self, job: Job, settle_tokens: Settle) -> None:
        try:
            if await self._reserved(job):
                await self._ask(job, settle_tokens)
        except Exception as error:  # without a working store nothing may be paid for, whatever is wrong with it
            self._give_up(job, error if isinstance(error, StoreError) else StoreError(f"the store raised {error!r}"))
        finally:
            self._in_flight -= 1
            self._wake.set()

    def _give_up(self, job: Job, error: StoreError) -> None:
        self.refusal = error
        self._drop(job, error)
        self.halt(error)
        self.observers.notice("store_failed", error=str(error))

    async def _reserved(self, job: Job) -> bool:
        """Put the job's worst case aside in the store, unless an earlier attempt already has."""
        if job.reservation is None:
            reservation = Reservation(id=uuid.uuid4().hex, call_key=job.question.call_key, cost=job.cost)
            granted = await self.store.reserve(self.run, reservation, self.budget.stock)
            self._unplan(job)
            if isinstance(granted, Call):
                self._known(job, granted)
                return False
            if not granted:
                self._drop(job, NotAsked("budget"))
                return False
            job.reservation = reservation
        return True

    @staticmethod
    def _known(job: Job, call: Call) -> None:
        """Another process has paid for the reply since this step read the store."""
        if not job.future.done():
            job.future.set_result(call)

    async def _ask(self, job: Job, settle_tokens: Settle) -> None:
        started = self.clock.now()
        try:
            reply = await self.judge.ask(job.question)
        except JudgeError as error:
            self._tell(job, error.status, self.clock.now() - started, error=error)
            await self._failed(job, error)
        except Exception as error:  # a judge is foreign code: its surprises concern one question
            surprise = PermanentJudgeError(f"the judge raised {error!r}")
            surprise.maybe_paid = True
            self._tell(job, surprise.status, self.clock.now() - started, error=surprise)
            await self._failed(job, surprise)
        else:
            settle_tokens(reply.usage.total)
            await self._succeeded(job, reply)

    async def _succeeded(self, job: Job, reply: Reply) -> None:
        self.answered = True
        if self._halted is None:
            self.refusal = None
        question = job.question
        call = Call(
            key=question.call_key,
            pair_key=question.pair_key,
            judge=self.judge.identity.fingerprint,
            canonical=question.canonical,
            reply=replace(reply, attempts=job.attempts + 1),
            reading=self._read(reply),
            created_at=self.clock.wall(),
            sample=question.sample,
        )
        self._tell(job, call.reading.status.value, reply.latency_s, reply=reply)
        reservation, job.reservation = job.reservation, None
        if reservation is not None:
            await self.store.settle(self.run, reservation, question, call)
        if not job.future.done():
            job.future.set_result(call)

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
            await self.store.charge(self.run, reservation)
        if self._is_absent(job, error):
            self._refuse(job, error)
            return
        elapsed = self.clock.now() - job.submitted_at
        delay = self.retry.delay_s(error, failures=job.failures, limited=job.limited, elapsed_s=elapsed, jitter=self._random.random())
        if delay is None or self._halted is not None:
            self._drop(job, self._halted or error)
            return
        if isinstance(error, JudgeOverloaded) and (error.retry_after_s is not None or isinstance(error, RateLimited)):
            self.gate.pause(delay)
        self._resting[job] = asyncio.get_running_loop().call_later(delay, self._requeue, job)

    def _is_absent(self, job: Job, error: JudgeError) -> bool:
        never_there = isinstance(error, JudgeUnreachable) and not self.answered and job.failures >= UNREACHABLE_ATTEMPTS
        return never_there or isinstance(error, JudgeRefusesService)

    def _refuse(self, job: Job, error: JudgeError) -> None:
        """No question would fare better now: answer everything that waits.  A later step tries again."""
        if self.refusal is None:
            self.observers.notice("judge_stopped", error=str(error))
        self.refusal = error
        self._drop(job, error)
        self._drop_queued(error)

    def _requeue(self, job: Job) -> None:
        """A job that failed and has rested goes first: it is older than everything that waits."""
        del self._resting[job]
        self._queue.appendleft(job)
        self._wake.set()

    def _drop(self, job: Job, reason: JudgeflowError) -> None:
        """Answer a job with a failure and give back what was put aside for it."""
        self._unplan(job)
        if job.reservation is not None:
            reservation, job.reservation = job.reservation, None
            self._spawn(self._release(reservation))
        if not job.future.done():
            job.future.set_exception(reason)

    def _drop_queued(self, reason: JudgeflowError) -> None:
        for timer in self._resting.values():
            timer.cancel()
        waiting = [*self._resting, *self._queue]
        self._resting.clear()
        self._queue.clear()
        for job in waiting:
            self._drop(job, reason)

    async def _release(self, reservation: Reservation) -> None:
        with contextlib.suppress(StoreError):  # an unreleased reservation stays charged, which is the safe side
            await self.store.release(self.run, reservation)

    def _unplan(self, job: Job) -> None:
        if job.planned:
            job.planned = False
            self.budget.unplan(job.cost)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

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
