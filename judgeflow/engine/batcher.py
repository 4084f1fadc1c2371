"""Scoring off the loop: one thread, one piece of a step after the other."""

from __future__ import annotations

import asyncio
import bisect
import heapq
import itertools
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from judgeflow.errors import ScorerError
from judgeflow.plurals import plural
from judgeflow.ports import Scorer
from judgeflow.types import Pair, Preference

FIRST_PIECE = 16
LARGEST_PIECE = 256
SMALLEST_PIECE = 64
FAILURES_IN_A_ROW = 3


class ScoringThread:
    """Runs a scorer on a thread of its own, one piece at a time.

    The scorer is handed up to 256 pairs a call and cuts them as it likes.  The first piece of a step has about 16, each further one twice
    as many: a step that is given up at its deadline has its first preferences early, and holds the thread for little longer than it
    had it.  Pieces end with a prompt where they can, since a scorer reads the responses of a group anew in every call.  A piece that fails
    is tried again in halves, down to 64 pairs, so that one bad pair does not cost a step its preferences.  Three that fail then, in a row,
    and the rest of the step goes without: the scorer is broken, not a pair.

    Of several steps, the one with the fewest pairs left has the next turn, and of equal ones the first: taking turns would make all of
    them wait for the last.  `_busy` and `_waiting` change between awaits, on one loop.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judgeflow-scorer")
        self._busy = False
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # pairs left, order of arrival, its turn
        self._arrivals = itertools.count()

    async def score(self, pairs: Sequence[Pair]) -> AsyncIterator[tuple[range, list[Preference] | ScorerError]]:
        """Yield the preferences of each piece as soon as they are there, or what could not be mended; the last pieces may be missing.

        No further piece is begun for a caller that is cancelled meanwhile.
        """
        failures, arrival = 0, next(self._arrivals)
        pieces = _pieces(pairs)
        pieces.reverse()  # the next one is at the end
        while pieces and failures < FAILURES_IN_A_ROW:
            piece = pieces.pop()
            try:
                preferences = await self._in_turn(pairs[piece.start : piece.stop], left=len(pairs) - piece.start, arrival=arrival)
            except ScorerError as error:
                if len(piece) > SMALLEST_PIECE:
                    middle = len(piece) // 2
                    pieces += [piece[middle:], piece[:middle]]
                else:
                    failures += 1
                    yield piece, error
            else:
                failures = 0
                yield piece, preferences

    async def _in_turn(self, batch: Sequence[Pair], *, left: int, arrival: int) -> list[Preference]:
        if self._busy:
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (left, arrival, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                raise
        self._busy = True
        try:
            return await self._on_thread(batch)
        finally:
            asyncio.get_running_loop().call_soon(self._pass_on)  # later, so that whoever goes on with the same step stands in line again

    def _pass_on(self) -> None:
        """Give the turn to the next one who still wants it; `_busy` stays True if there is one."""
        while self._waiting:
            turn = heapq.heappop(self._waiting)[-1]
            if not turn.done():
                turn.set_result(None)
                return
        self._busy = False

    async def _on_thread(self, batch: Sequence[Pair]) -> list[Preference]:
        try:
            scoring = asyncio.get_running_loop().run_in_executor(self._executor, self._score, batch)
        except RuntimeError as error:  # the executor takes no more
            raise ScorerError("the scheduler was closed before these pairs were scored") from error
        return await scoring

    def _score(self, batch: Sequence[Pair]) -> list[Preference]:
        try:
            scored: list[object] = list(self._scorer.score(batch))
        except Exception as error:  # a scorer is foreign code: whatever it raises becomes a labelled outcome
            raise ScorerError(f"the scorer failed on {plural(len(batch), 'pair')}: {error!r}") from error
        if len(scored) != len(batch):
            raise ScorerError(f"the scorer returned {plural(len(scored), 'preference')} for {plural(len(batch), 'pair')}")
        preferences = [item for item in scored if isinstance(item, Preference)]
        if len(preferences) != len(scored):
            raise ScorerError("the scorer returned something else than a Preference")
        return preferences

    def close(self) -> None:
        """Wait for the piece under way and end the thread."""
        self._executor.shutdown()


def _pieces(pairs: Sequence[Pair]) -> list[range]:
    ends = [index for index in range(1, len(pairs)) if pairs[index].prompt != pairs[index - 1].prompt] + [len(pairs)]
    pieces: list[range] = []
    start, size = 0, FIRST_PIECE
    while start < len(pairs):
        pieces.append(range(start, _end(ends, start, size)))
        start, size = pieces[-1].stop, min(2 * size, LARGEST_PIECE)
    return pieces


def _end(ends: Sequence[int], start: int, size: int) -> int:
    """Return where a piece of about `size` pairs ends: with the last prompt that it holds whole, else with its first if that is short."""
    beyond = bisect.bisect_right(ends, start + size)
    if beyond and ends[beyond - 1] > start:
        return ends[beyond - 1]
    return ends[beyond] if ends[beyond] <= start + min(2 * size, LARGEST_PIECE) else start + size
