"""Scoring off the loop: one thread, batches in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from judgeflow.errors import ScorerError
from judgeflow.ports import Scorer
from judgeflow.types import Pair, Preference

LARGEST_BATCH = 2048
SMALLEST_PIECE = 64
FAILURES_IN_A_ROW = 3


class ScoringThread:
    """Runs a scorer on a thread of its own, one batch at a time.

    The scorer is handed up to 2048 pairs a call and cuts them as it likes.  A batch that fails is tried again in halves, down to
    64 pairs, so that one bad pair does not cost a step its preferences; what fails then gets None.  Three such pieces in a row, and
    the rest of the step goes without preferences: the scorer is broken, not a pair.
    """

    def __init__(self, scorer: Scorer, batch_pairs: int = LARGEST_BATCH) -> None:
        self._scorer = scorer
        self._batch_pairs = batch_pairs
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judgeflow-scorer")

    async def score(self, pairs: Sequence[Pair]) -> tuple[list[Preference | None], list[ScorerError]]:
        """Return one preference per pair, in order, and what could not be mended."""
        preferences: list[Preference | None] = [None] * len(pairs)
        errors: list[ScorerError] = []
        failures = 0
        pieces = [range(start, min(start + self._batch_pairs, len(pairs))) for start in range(0, len(pairs), self._batch_pairs)]
        pieces.reverse()  # the next one is at the end
        while pieces and failures < FAILURES_IN_A_ROW:
            piece = pieces.pop()
            try:
                preferences[piece.start : piece.stop] = await self._on_thread(pairs[piece.start : piece.stop])
                failures = 0
            except ScorerError as error:
                if len(piece) > SMALLEST_PIECE:
                    middle = len(piece) // 2
                    pieces += [piece[middle:], piece[:middle]]
                else:
                    failures += 1
                    errors.append(error)
        return preferences, errors

    async def _on_thread(self, batch: Sequence[Pair]) -> list[Preference]:
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._score, batch)

    def _score(self, batch: Sequence[Pair]) -> list[Preference]:
        try:
            scored: list[object] = list(self._scorer.score(batch))
        except Exception as error:  # a scorer is foreign code: whatever it raises becomes a labelled outcome
            raise ScorerError(f"the scorer failed on {len(batch)} pairs: {error!r}") from error
        if len(scored) != len(batch):
            raise ScorerError(f"the scorer returned {len(scored)} preferences for {len(batch)} pairs")
        preferences = [item for item in scored if isinstance(item, Preference)]
        if len(preferences) != len(scored):
            raise ScorerError("the scorer returned something else than a Preference")
        return preferences

    def close(self) -> None:
        """Wait for the batch under way and end the thread."""
        self._executor.shutdown()
