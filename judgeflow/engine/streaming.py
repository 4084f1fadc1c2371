"""A stream of pairs as overlapping steps: bounded memory, and no idle judge between two chunks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from judgeflow.engine.session import Session
from judgeflow.types import Outcome, Pair

STEPS_AT_ONCE = 2


async def stream_steps(session: Session, pairs: Iterable[Pair] | AsyncIterable[Pair], chunk: int) -> AsyncIterator[Outcome]:
    """Yield the outcome of every pair as it becomes final.

    The next chunk is taken when fewer than two are under way and the reader has caught up to one chunk.  Leaving the loop early
    stops taking pairs; what is in flight is still stored.
    """
    feeder = _Feeder(session, chunk)
    task = asyncio.get_running_loop().create_task(feeder.run(pairs))
    try:
        while (outcome := await feeder.next()) is not None:
            yield outcome
        await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])


class _Feeder:
    """Takes chunks from the source, routes them, and queues outcomes for the reader."""

    def __init__(self, session: Session, chunk: int) -> None:
        self._session = session
        self._chunk = chunk
        self._queue: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._caught_up = asyncio.Event()
        self._caught_up.set()

    async def next(self) -> Outcome | None:
        """Return the next outcome; None after the last."""
        outcome = await self._queue.get()
        if self._queue.qsize() <= self._chunk:
            self._caught_up.set()
        return outcome

    async def run(self, pairs: Iterable[Pair] | AsyncIterable[Pair]) -> None:
        """Route everything; the first error ends the stream."""
        running: set[asyncio.Task[None]] = set()
        try:
            async for batch in _chunks(pairs, self._chunk):
                running.add(asyncio.get_running_loop().create_task(self._route(batch)))
                if len(running) >= STEPS_AT_ONCE:
                    running = await _first_done(running)
                await self._caught_up.wait()
            while running:
                running = await _first_done(running)
        finally:
            for task in running:
                task.cancel()
            self._queue.put_nowait(None)

    async def _route(self, batch: list[Pair]) -> None:
        await self._session.run_step(batch, None, emit=self._emit)

    def _emit(self, _index: int, outcome: Outcome) -> None:
        self._queue.put_nowait(outcome)
        if self._queue.qsize() > self._chunk:
            self._caught_up.clear()


async def _first_done(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait for one of the tasks, raise its error if it failed, and return the others."""
    done, rest = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return rest


async def _chunks(pairs: Iterable[Pair] | AsyncIterable[Pair], size: int) -> AsyncIterator[list[Pair]]:
    batch: list[Pair] = []
    async for pair in _each(pairs):
        batch.append(pair)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def _each(pairs: Iterable[Pair] | AsyncIterable[Pair]) -> AsyncIterator[Pair]:
    if isinstance(pairs, AsyncIterable):
        async for pair in pairs:
            yield pair
    else:
        for pair in pairs:
            yield pair
