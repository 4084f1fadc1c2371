"""A private event loop on a thread, for callers that have none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from judgeflow.errors import UsageError

T = TypeVar("T")


class LoopThread:
    """Runs coroutines on a loop of its own; the calling thread waits for the result."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judgeflow-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end and return its result, or raise its error.  Raises `UsageError` if the loop is stopped meanwhile."""
        try:
            return self.submit(work).result()
        except CancelledError:
            raise UsageError("this call was given up: what it was made on has been closed") from None

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin `work`; cancelling the future cancels it.  Raises `UsageError` in a process that was forked since."""
        if self._process != os.getpid():
            work.close()
            raise UsageError(
                f"this was opened in process {self._process}, and this is {os.getpid()}, forked from it: open one here, or start processes "
                'with "spawn"'
            )
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        """End the loop and the thread; what still runs on it is cancelled, so that nobody waits for it without end.

        In a process that was forked since, they are another's, and left alone.
        """
        if self._process != os.getpid():
            return
        asyncio.run_coroutine_threadsafe(_cancel_the_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_the_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def in_running_loop() -> bool:
    """Whether the calling thread is inside an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
