"""What a replay works on: pairs with what a scorer believes of them, what judges said, and which response is known to be better.

Everything is in a pair's canonical order (`judgeflow.keys`), so a logit above 0 prefers the response with the smaller hash.  Columns are
arrays, so that a million pairs fit; texts are not kept.  Arrays of calls are n x 2: `CANONICAL`, where the canonical order was shown, and
`SWAPPED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from judgeflow.types import JudgeIdentity, ReadingStatus

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.int8]
Wholes = NDArray[np.int64]

CANONICAL, SWAPPED = 0, 1

NO_REPLY = -1
"""The status of a question that was never answered."""

STATUSES = tuple(ReadingStatus)
"""What the other statuses of a `Testimony` count in: 0 is `ok`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What one judge said about each of n pairs in either order; every array is n x 2.

    `statuses` index `STATUSES`, or are `NO_REPLY`; `preferred` is 1 for the first response of the canonical order, -1 for the second and 0
    for a tie or where nothing was understood.  0 tokens and 0 seconds mean that nobody knows.
    """

    judge: JudgeIdentity
    statuses: Bytes
    preferred: Bytes
    strong: Bools
    prompt_tokens: Wholes
    completion_tokens: Wholes
    usd: Floats
    latency_s: Floats

    def rows(self, kept: NDArray[np.intp]) -> Testimony:
        """Return what was said about these pairs alone."""
        return replace(self, **{field.name: getattr(self, field.name)[kept] for field in fields(self) if field.name != "judge"})

    @property
    def replied(self) -> Bools:
        """Which questions have a reply, understood or not; n x 2."""
        return np.not_equal(self.statuses, NO_REPLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """n recorded pairs, in the order in which they came.

    `prompts` numbers the prompts from 0: pairs of one prompt are no independent observations.  `logits` and `uncertainties` are what the
    scorer believes, NaN where there is none.  `truth` is 1 where the first response of the canonical order is known to be better, 0 where
    the second is, 0.5 for a tie and NaN where nobody knows.  `propensities` is the probability with which what was recorded asked about
    the pair: 1 for pairs that were judged whatever a scorer thought, 0 for those that were never going to be asked about.  `swapped` is
    true where the pair came with its canonical order exchanged; `steps` has the recorded step, -1 where there was none.  `source` names
    where all this was read, and `scorer` whose beliefs they are.
    """

    source: str
    scorer: str | None
    keys: tuple[bytes, ...]
    prompts: NDArray[np.intp]
    logits: Floats
    uncertainties: Floats
    truth: Floats
    propensities: Floats
    swapped: Bools
    steps: Wholes
    testimonies: Mapping[str, Testimony]
    categories: tuple[str | None, ...] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, kept: NDArray[np.intp]) -> Trace:
        """Return the trace of these pairs alone."""
        columns = ("prompts", "logits", "uncertainties", "truth", "propensities", "swapped", "steps")
        return replace(
            self,
            keys=tuple(self.keys[row] for row in kept),
            testimonies={name: testimony.rows(kept) for name, testimony in self.testimonies.items()},
            categories=None if self.categories is None else tuple(self.categories[row] for row in kept),
            **{name: getattr(self, name)[kept] for name in columns},
        )
