"""Scoring off the loop: one thread, batches in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from judgeflow.errors import ScorerError
from judgeflow.ports import Scorer
from judgeflow.types import Pair, Preference


class ScoringThread:
    """Runs a scorer on a thread of its own, one batch at a time.

    A pair whose batch failed gets None: its step goes on without a preference for it.
    """

    def __init__(self, scorer: Scorer, batch_pairs: int = 256) -> None:
        self._scorer = scorer
        self._batch_pairs = batch_pairs
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judgeflow-scorer")

    async def score(self, pairs: Sequence[Pair]) -> tuple[list[Preference | None], list[ScorerError]]:
        """Return one preference per pair, in order, and what went wrong."""
        preferences: list[Preference | None] = []
        errors: list[ScorerError] = []
        loop = asyncio.get_running_loop()
        for start in range(0, len(pairs), self._batch_pairs):
            batch = pairs[start : start + self._batch_pairs]
            try:
                preferences += await loop.run_in_executor(self._executor, self._score, batch)
            except ScorerError as error:
                errors.append(error)
                preferences += [None] * len(batch)
        return preferences, errors

    def _score(self, batch: Sequence[Pair]) -> list[Preference | None]:
        try:
            scored = list(self._scorer.score(batch))
        except Exception as error:  # a scorer is foreign code: whatever it raises becomes a labelled outcome
            raise ScorerError(f"the scorer failed on {len(batch)} pairs: {error!r}") from error
        if len(scored) != len(batch):
            raise ScorerError(f"the scorer returned {len(scored)} preferences for {len(batch)} pairs")
        return [*scored]

    def close(self) -> None:
        """Wait for the batch under way and end the thread."""
        self._executor.shutdown()
