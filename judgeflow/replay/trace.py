"""What a replay works on: pairs with what a scorer believes of them, what judges said, and which response is known to be better.

Everything is in a pair's canonical order (`judgeflow.keys`), so a logit above 0 prefers the response with the smaller hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judgeflow.types import Call, JudgeIdentity, Preference

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What one judge said: for each of n pairs its reply in canonical order and in swapped order, None where it has given none.

    Replies come without their texts; their readings, tokens, USD and latencies are those recorded.
    """

    judge: JudgeIdentity
    canonical: tuple[Call | None, ...]
    swapped: tuple[Call | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """n recorded pairs, in the order in which they came.

    `prompts` numbers the prompts from 0: pairs of one prompt are no independent observations.  `truth` is 1 where the first response of
    the canonical order is known to be better, 0 where the second is, 0.5 for a tie and NaN where nobody knows.  `steps` is the step of the
    run that a pair was decided in, None where it was not recorded; `propensities` the probability with which the run asked about the pair
    (1 for pairs that were judged whatever a scorer thought).  `source` names where all this was read, and `scorer` whose beliefs they are.
    """

    source: str
    scorer: str | None
    keys: tuple[bytes, ...]
    prompts: NDArray[np.intp]
    preferences: tuple[Preference | None, ...]
    truth: Floats
    propensities: Floats
    testimonies: Mapping[str, Testimony]
    steps: tuple[int, ...] | None = None
    categories: tuple[str | None, ...] | None = None

    def __len__(self) -> int:
        return len(self.keys)
