"""What a replay works on: pairs with what a scorer believes of them, what judges said, and which response is known to be better.

Everything is in a pair's canonical order (`judgeflow.keys`), so a logit above 0 prefers the response with the smaller hash.  Columns are
arrays, so that a million pairs fit; texts are not kept.  Arrays of calls are n x 2: `CANONICAL`, where the canonical order was shown, and
`SWAPPED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from judgeflow.replay.selection import Chances, Log
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
class Repetitions:
    """Every reply of a judge, also those that came when it was asked again; `pairs` says about which pair each of m rows is.

    `statuses` and `preferred` are as in `Testimony`, m x 2: the k-th reply in one order stands beside the k-th in the other.
    """

    pairs: NDArray[np.intp]
    statuses: Bytes
    preferred: Bytes

    def rows(self, kept: NDArray[np.intp], pairs: int) -> Repetitions:
        """Return those about the `kept` of so many pairs, which are numbered anew."""
        places = np.full(pairs, -1, dtype=np.intp)
        places[kept] = np.arange(len(kept))
        there = places[self.pairs] >= 0
        return Repetitions(pairs=places[self.pairs[there]], statuses=self.statuses[there], preferred=self.preferred[there])


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What one judge said about each of n pairs in either order; arrays are n x 2, but for those of `chances`, which are n.

    `statuses` index `STATUSES`, or are `NO_REPLY`; `preferred` is 1 for the first response of the canonical order, -1 for the second and 0
    for a tie or where nothing was understood.  0 tokens and 0 seconds mean that nobody knows.  `repetitions` has every reply where a
    question was asked more than once; of these one stands in the columns.
    """

    judge: JudgeIdentity
    statuses: Bytes
    preferred: Bytes
    strong: Bools
    prompt_tokens: Wholes
    completion_tokens: Wholes
    usd: Floats
    latency_s: Floats
    chances: Chances
    repetitions: Repetitions | None = None

    def __len__(self) -> int:
        return len(self.statuses)

    def rows(self, kept: NDArray[np.intp]) -> Testimony:
        """Return what was said about these pairs alone."""
        return replace(
            self,
            chances=self.chances.rows(kept),
            repetitions=None if self.repetitions is None else self.repetitions.rows(kept, len(self)),
            **{name: getattr(self, name)[kept] for name in COLUMNS},
        )

    @property
    def every(self) -> Repetitions:
        """Every reply that there is."""
        if self.repetitions is not None:
            return self.repetitions
        return Repetitions(pairs=np.arange(len(self)), statuses=self.statuses, preferred=self.preferred)

    @property
    def replied(self) -> Bools:
        """Which questions have a reply, understood or not; n x 2."""
        return np.not_equal(self.statuses, NO_REPLY)


COLUMNS = ("statuses", "preferred", "strong", "prompt_tokens", "completion_tokens", "usd", "latency_s")
"""The columns of a `Testimony`, n x 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """n recorded pairs, in the order in which they came.

    `prompts` numbers the prompts from 0: pairs of one prompt are no independent observations.  `logits` and `uncertainties` are what the
    scorer believes, NaN where there is none.  `truth` is 1 where the first response of the canonical order is known to be better, 0 where
    the second is, 0.5 for a tie and NaN where nobody knows.  `swapped` is true where the pair came with its canonical order exchanged, as
    far as it is `placed`: of others nobody recorded which response was given first.  `steps` has the recorded step, -1 where there was
    none.  `testimonies` are by the judge's name, `log` has what runs have decided.  `source` names where all this was read, and `scorer`
    whose beliefs they are.
    """

    source: str
    scorer: str | None
    keys: tuple[bytes, ...]
    prompts: NDArray[np.intp]
    logits: Floats
    uncertainties: Floats
    truth: Floats
    swapped: Bools
    placed: Bools
    steps: Wholes
    testimonies: Mapping[str, Testimony]
    categories: tuple[str | None, ...] | None = None
    log: Log = field(default_factory=Log)

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, kept: NDArray[np.intp]) -> Trace:
        """Return the trace of these pairs alone."""
        columns = ("prompts", "logits", "uncertainties", "truth", "swapped", "placed", "steps")
        return replace(
            self,
            keys=tuple(self.keys[row] for row in kept),
            log=self.log.rows(kept),
            testimonies={name: testimony.rows(kept) for name, testimony in self.testimonies.items()},
            categories=None if self.categories is None else tuple(self.categories[row] for row in kept),
            **{name: getattr(self, name)[kept] for name in columns},
        )
