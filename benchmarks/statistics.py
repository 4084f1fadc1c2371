"""What routing gains, and how sure that is: gains over random at equal numbers of judged pairs, with intervals clustered by prompt.

Everything is an expectation over ties: where the last place is shared by pairs of equal acquisition, each gets its part of it.  A policy
that ranks nobody is therefore exactly as good as random.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
_LOW, _HIGH = 2.5, 97.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def credit(logits: ArrayLike, preferred_a: ArrayLike) -> Floats:
    """Return what each logit earns against a label: 1 if right, 0 if wrong, 0.5 if it is exactly 0."""
    s, truth = np.asarray(logits, dtype=np.float64), np.asarray(preferred_a, dtype=bool)
    return np.where(s == 0, 0.5, (s > 0) == truth).astype(np.float64)


def prompt_counts(prompts: Sequence[Hashable], seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return how often each pair stands in each resample, (1 + resamples) x n; the first row is the data themselves.

    A resample draws as many prompts as there are, with replacement, and each with all its pairs (cluster bootstrap: Davison & Hinkley
    1997, section 3.8).
    """
    places: dict[Hashable, int] = {}
    cluster = np.array([places.setdefault(prompt, len(places)) for prompt in prompts])
    dice = np.random.default_rng(seed)
    drawn = dice.multinomial(len(places), np.full(len(places), 1 / len(places)), size=resamples)
    counts: Floats = np.vstack([np.ones(len(cluster)), drawn[:, cluster]])
    return counts


def accuracy(right: ArrayLike, counts: Floats) -> Floats:
    """Return the mean credit in every resample."""
    mean: Floats = counts @ np.asarray(right, dtype=np.float64) / counts.sum(1)
    return mean


def gains(right: ArrayLike, judged: ArrayLike, acquisition: ArrayLike, shares: Sequence[float], counts: Floats) -> list[Floats]:
    """Return, for each share and in every resample, the accuracy once the judge has answered the top share, minus random's expectation.

    `right` and `judged` are the credits of the scorer and of the judge, `acquisition` what the policy ranks by (larger: ask); all n.
    Every resample is ranked anew, and a share is one of its own number of pairs.
    """
    difference = np.asarray(judged, dtype=np.float64) - np.asarray(right, dtype=np.float64)
    rank = np.unique(-np.asarray(acquisition, dtype=np.float64), return_inverse=True)[1]
    number, total = _by_rank(counts, rank), _by_rank(counts * difference, rank)
    return [_gain(number, total, share) for share in shares]


def _gain(number: Floats, total: Floats, share: float) -> Floats:
    """Number and total difference in credit of the pairs of each rank, both resamples x ranks, to the gain of each resample."""
    pairs = number.sum(1, keepdims=True)
    asked = np.clip(share * pairs - (np.cumsum(number, axis=1) - number), 0.0, number)
    part = np.divide(asked, number, out=np.zeros(number.shape), where=number > 0)
    gained: Floats = ((part * total).sum(1) - share * total.sum(1)) / pairs[:, 0]
    return gained


def _by_rank(values: Floats, rank: NDArray[np.intp]) -> Floats:
    """Sum the columns of `values` that share a rank."""
    order = np.argsort(rank, kind="stable")
    starts = np.flatnonzero(np.diff(rank[order], prepend=-1))
    sums: Floats = np.add.reduceat(values[:, order], starts, axis=1)
    return sums


def estimate(resampled: Floats) -> Estimate:
    """Return the figure of the data (the first) with the percentile interval of the resamples (the rest)."""
    low, high = np.percentile(resampled[1:], [_LOW, _HIGH])
    return Estimate(float(resampled[0]), float(low), float(high))


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over seeds, of the figure and of both ends of its interval."""
    value, low, high = np.mean([(each.value, each.low, each.high) for each in estimates], axis=0)
    return Estimate(float(value), float(low), float(high))


def overlap(one: str, other: str) -> float:
    """Return how much two texts share: twice their common words over all their words (Dice 1945); 1 for two without words."""
    from collections import Counter

    mine, theirs = Counter(one.split()), Counter(other.split())
    words = mine.total() + theirs.total()
    return 2 * (mine & theirs).total() / words if words else 1.0


def rate_by_decile(happens: Sequence[bool], acquisition: ArrayLike) -> list[float]:
    """Return how often something happens in each tenth of the pairs, least acquisition first; equal ones in the order given."""
    order: Any = np.argsort(np.asarray(acquisition, dtype=np.float64), kind="stable")
    return [float(part.mean()) if len(part) else float("nan") for part in np.array_split(np.asarray(happens, dtype=np.float64)[order], 10)]
