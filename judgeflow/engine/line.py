"""Where one judge's questions wait, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence

from judgeflow.engine.books import Books
from judgeflow.engine.inflight import Arrival
from judgeflow.engine.jobs import Job, NotAsked
from judgeflow.errors import JudgeflowError
from judgeflow.ports import Clock


class Line:
    """The questions that a judge has not answered, from the moment they are ordered until their futures resolve.

    One that is not under way waits in one of five places: in the `queue`, not reserved yet; `reserving`, where the store is deciding about
    it; `ready`, reserved, for the gate; `at_gate`; or it rests before another attempt.  `closed` says why nobody is let out any more, and
    `freed` has who is called whenever a question is done with.  `short_since` is how many reservations were closed before the first in the
    queue did not fit the budget (None: it may fit).  Changed between awaits by the methods below, and by `Reserving` and the dispatcher,
    which move questions on.
    """

    def __init__(self, books: Books, clock: Clock) -> None:
        self.queue: deque[Job] = deque()
        self.reserving: Sequence[Job] = ()
        self.ready: deque[Job] = deque()
        self.at_gate: Job | None = None
        self.closed: JudgeflowError | None = None
        self.short_since: int | None = None
        self.freed: set[Callable[[], None]] = set()
        self._books = books
        self._clock = clock
        self._resting: dict[Job, asyncio.TimerHandle] = {}
        self._jobs: dict[bytes, Job] = {}
        self._lots: dict[object, dict[Job, None]] = {}  # the same by step, each in the order in which it was asked
        self._queue_moved, self._ready_moved = asyncio.Event(), asyncio.Event()

    def __len__(self) -> int:
        """Questions that are under way or wait."""
        return len(self._jobs)

    # Who waits

    def enter(self, job: Job) -> None:
        """Let a new question stand in the queue."""
        self._jobs[job.question.call_key] = job
        self._lots.setdefault(job.order.lot, {})[job] = None
        job.future.add_done_callback(lambda _: self._forget(job))
        self.queue.append(job)
        self.stir()

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
            self.drop(job, reason)

    def is_queued(self, call_key: bytes) -> bool:
        """Whether this question is still to be sent."""
        job = self._jobs.get(call_key)
        return job is not None and not job.under_way and not job.future.done()

    def still_wants(self, job: Job) -> bool:
        """Whether to go on with a job; one that is not wanted any more is dropped."""
        late = job.deadline is not None and self._clock.now() >= job.deadline
        if late or self.closed is not None or job.future.done():
            self.drop(job, self.closed or NotAsked("deadline"))
            return False
        return True

    # Moving on

    def make_ready(self, job: Job) -> None:
        """A job has its reservation: it waits for the gate."""
        self.ready.append(job)
        self._ready_moved.set()

    def rest(self, job: Job, seconds: float) -> None:
        """Let a job that failed wait before another attempt."""
        self._resting[job] = asyncio.get_running_loop().call_later(seconds, self._return, job)

    def _return(self, job: Job) -> None:
        """A job that failed and has rested goes first: it is older than everything that waits."""
        del self._resting[job]
        (self.queue if job.reservation is None else self.ready).appendleft(job)
        self.stir()

    def stir(self) -> None:
        """Something has changed: wake whoever may move a question on."""
        if self.queue:
            self._queue_moved.set()
        if self.ready:
            self._ready_moved.set()

    async def queue_moves(self) -> None:
        """Wait until something changes for those in the queue."""
        self._queue_moved.clear()
        await self._queue_moved.wait()

    async def ready_move(self, timeout_s: float | None) -> None:
        """Wait until something changes for those that are ready, for `timeout_s` seconds at most."""
        self._ready_moved.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ready_moved.wait()

    # Endings

    def land(self, job: Job, arrival: Arrival) -> None:
        """Answer a job with its stored reply."""
        if not job.future.done():
            job.future.set_result(arrival)
        self._books.recount(job)

    def drop(self, job: Job, reason: JudgeflowError) -> None:
        """Answer a job with a failure, unless it has its answer, and give back what was put aside for it."""
        self._books.let_go(job)
        if not job.future.done():
            job.future.set_exception(reason)
        self._books.recount(job)

    def decline(self, lot: object) -> None:
        """The budget admits no more of this step."""
        for job in list(self._lots.get(lot, ())):
            if job.reservation is None and not job.under_way and job not in self._resting:
                self.drop(job, NotAsked("budget"))

    def drop_waiting(self, reason: JudgeflowError) -> None:
        """Answer everybody who is not under way with a failure."""
        for timer in self._resting.values():
            timer.cancel()
        waiting = self.waiting()
        self._resting.clear()
        self.queue.clear()
        self.ready.clear()
        self.short_since = None
        for job in waiting:
            self.drop(job, reason)

    def waiting(self) -> list[Job]:
        """Return all that are not under way, wherever they wait."""
        at_gate = [self.at_gate] if self.at_gate is not None and not self.at_gate.under_way else []
        return [*self._resting, *at_gate, *self.ready, *self.reserving, *self.queue]

    def _forget(self, job: Job) -> None:
        if self._jobs.get(job.question.call_key) is job:
            del self._jobs[job.question.call_key]
        lot = self._lots.get(job.order.lot, {})
        lot.pop(job, None)
        if not lot:
            self._lots.pop(job.order.lot, None)
        for tell in tuple(self.freed):
            tell()
