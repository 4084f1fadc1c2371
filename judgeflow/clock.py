"""Time as an argument: the running loop's clock, and a loop whose hours pass in microseconds.

`LoopClock` reads whatever event loop is running, so the engine has one notion of time: the one that its timeouts and sleeps
obey.  `VirtualClock.run` runs a coroutine on a loop that jumps to the next timer instead of waiting for it.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOMENT_S = 1e-6
"""The shortest wait, in seconds: a loop takes a timer that is due within its clock's resolution for due, and would come back at once."""


class LoopClock:
    """Monotonic seconds of the running event loop, and wall-clock time for records."""

    def now(self) -> float:
        """Return the running loop's time in seconds; only differences mean anything."""
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        """Return Unix time in seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass on the running loop."""
        await asyncio.sleep(seconds)


class VirtualClock(LoopClock):
    """A clock that only moves when everybody waits, then jumps to the next timer.

    >>> clock = VirtualClock()
    >>> clock.run(clock.sleep(3600))        # returns at once
    >>> clock.now()
    3600.0

    While worker threads are busy, time stands still: the loop first waits (in real time) for what they bring back.  Network
    traffic is not seen as work under way: use in-memory components.
    """

    def __init__(self, start: float = 0.0, *, epoch: float = 1_700_000_000.0) -> None:
        self._time = start
        self._epoch = epoch - start

    def now(self) -> float:
        """Return virtual seconds."""
        return self._time

    def wall(self) -> float:
        """Return the virtual Unix time in seconds."""
        return self._epoch + self._time

    def advance(self, seconds: float) -> None:
        """Move the clock by hand.  Raises `ValueError` for a step back."""
        if seconds < 0:
            raise ValueError(f"time does not go back by {-seconds} s")
        self._time += seconds

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end in virtual time and return its result."""
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a `VirtualClock`."""

    def __init__(self, clock: VirtualClock) -> None:
        self._busy_threads = 0
        super().__init__(_JumpingSelector(clock, self))
        self._virtual_clock = clock
        self.set_default_executor(ThreadPoolExecutor(max_workers=1))  # work ends in the order in which it began: runs repeat

    def time(self) -> float:
        return self._virtual_clock.now()

    def run_in_executor(self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._busy_threads += 1
        future.add_done_callback(self._thread_is_free)
        return future

    def _thread_is_free(self, _future: asyncio.Future[Any]) -> None:
        self._busy_threads -= 1

    @property
    def threads_are_busy(self) -> bool:
        return self._busy_threads > 0


class _JumpingSelector(selectors.DefaultSelector):
    """Looks for ready files without waiting; where there are none, moves the clock by the timeout."""

    def __init__(self, clock: VirtualClock, loop: _VirtualLoop) -> None:
        super().__init__()
        self._virtual_clock = clock
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or self._loop.threads_are_busy:
            return super().select(timeout if timeout is None or timeout <= 0 else None)
        ready = super().select(0)
        if not ready and timeout > 0:
            self._virtual_clock.advance(timeout)
        return ready
