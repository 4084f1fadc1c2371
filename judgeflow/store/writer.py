"""Group commit: writes that wait at the same moment share one transaction.

A commit costs the same for one write as for hundreds, so under load the store is as fast as its batches are large, and an idle
store answers at once: nothing waits for a batch to fill.  A batch is as heavy as about 50 ms of writing at most, so that whoever waits
for the next one, here or in another process, does not wait long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from judgeflow.errors import StoreClosed, StoreUnavailable

HEAVIEST_BATCH = 4096
"""Rows of one transaction: about 50 ms of writing.  A single operation may be heavier; it then has a transaction to itself."""

MOST_WAITING = 8192
"""So many operations may wait.  Many times what one process has under way: a store that is so far behind does not come back by waiting."""

Operation = TypeVar("Operation")


class GroupWriter(Generic[Operation]):
    """Runs operations in the order they were submitted, many per call of `commit`.

    `commit` applies all operations it is given in one transaction and returns their results, or raises and has changed nothing.
    `weigh` tells about how many rows an operation writes.  The queue is bounded: callers wait for their own operation, but one that
    stops waiting leaves it here.
    """

    def __init__(
        self, commit: Callable[[Sequence[Operation]], Awaitable[Sequence[object]]], weigh: Callable[[Operation], int] = lambda _: 1
    ) -> None:
        self._commit = commit
        self._weigh = weigh
        # Appended to by submit(), emptied by the one task; both run on the same loop.
        self._queue: deque[tuple[Operation, asyncio.Future[object]]] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def submit(self, operation: Operation) -> asyncio.Future[object]:
        """Accept an operation, and return what has its result once it is committed.

        Cancelling who waits for it does not take the operation back.  Raises `StoreUnavailable`, and
        has not accepted it, if `MOST_WAITING` wait already.
        """
        if self._closed:
            raise StoreClosed
        if len(self._queue) >= MOST_WAITING:
            raise StoreUnavailable(f"the verdict database is too far behind: {len(self._queue):,} writes wait for it already")
        if self._task is not None and self._task.done():
            raise StoreClosed("the store's loop has ended")  # nobody would answer any more
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._queue.append((operation, future))
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="judgeflow store writer")
        return future

    async def aclose(self) -> None:
        """Commit what was accepted, then stop.  Idempotent."""
        self._closed = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task})  # unlike awaiting the task, this leaves it running if we are cancelled

    async def _run(self) -> None:
        try:
            while self._queue or not self._closed:
                await self._next_batch()
        finally:
            # Only when the loop itself is being torn down is anything left here.
            self._answer([future for _, future in self._queue], [StoreClosed("the store's loop has ended")] * len(self._queue))

    async def _next_batch(self) -> None:
        if not self._queue:
            self._wake.clear()
            await self._wake.wait()
        batch = self._take_batch()
        futures = [future for _, future in batch]
        results: Sequence[object] = [StoreClosed("the store's loop has ended during a write")] * len(batch)
        try:
            results = await self._results([operation for operation, _ in batch])
        finally:
            self._answer(futures, results)

    def _take_batch(self) -> list[tuple[Operation, asyncio.Future[object]]]:
        """Take what has waited longest, until the next operation would make the batch too heavy."""
        batch: list[tuple[Operation, asyncio.Future[object]]] = []
        weight = 0
        while self._queue:
            weight += self._weigh(self._queue[0][0])
            if batch and weight > HEAVIEST_BATCH:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _results(self, operations: Sequence[Operation]) -> Sequence[object]:
        """Commit all; if that fails for another reason than the database itself, each alone, so that only the bad one fails."""
        try:
            return await self._commit(operations) if operations else ()
        except StoreUnavailable as error:
            return [error] * len(operations)
        except Exception as error:  # whatever it is belongs to the caller of the operation, not to this task
            if len(operations) == 1:
                return [error]
            return [(await self._results([operation]))[0] for operation in operations]

    @staticmethod
    def _answer(futures: Sequence[asyncio.Future[object]], results: Sequence[object]) -> None:
        for future, result in zip(futures, results, strict=True):
            if future.done():  # its caller was cancelled
                continue
            if isinstance(result, StoreUnavailable):
                future.set_exception(_own(result))
            elif isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _own(error: StoreUnavailable) -> StoreUnavailable:
    """Return a copy, so that callers who share a failure do not share a traceback."""
    copy = type(error)(str(error))
    copy.__cause__ = error.__cause__
    return copy
