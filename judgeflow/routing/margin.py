"""How much a clear verdict counts, beside the scorer's own words.

A judge says who is better, not by how much.  `[routing] verdict_margin` gives its word a logit, the same in a whole run, or "matched": then
it is the median |s| of pairs that were left to the scorer because it was certain, so that judged pairs neither dominate the advantages
of a group nor drown among the others.  (Xu et al. 2025 use a fixed margin of 2.)
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from typing import Literal

UNMATCHED = 2.0
"""The margin while nothing is known of the scorer: sigmoid(2) = 0.88."""

REMEMBERED = 1024
"""Pairs that count: the latest ones."""

LEAST = 16
"""So many pairs make a median that is worth matching."""


class Margin:
    """The logit of a clear verdict.  Changed only by `learn`, which does not await."""

    def __init__(self, setting: float | Literal["matched"]) -> None:
        self.matched = setting == "matched"
        self.value = UNMATCHED if setting == "matched" else float(setting)
        self._sizes: deque[float] = deque(maxlen=REMEMBERED)

    def learn(self, logits: Iterable[float]) -> None:
        """Take in the scorer's logits about pairs that were left to it.  A logit of 0 says nothing and does not count."""
        if not self.matched:
            return
        self._sizes.extend(abs(logit) for logit in logits if logit)
        if len(self._sizes) >= LEAST:
            self.value = statistics.median(self._sizes)
