"""What judging is worth, and how sure that is: accuracy along a policy's ranking, against random, with intervals clustered by prompt.

Everything is an expectation over ties: where the last place is shared by pairs of equal acquisition, each gets its part of it.  A policy
that ranks nobody is therefore exactly as good as random.  Random's own curve is its expectation, never one draw: with a share x judged it
has accuracy a0 + x (a1 - a0), where a0 is the scorer's and a1 that of judging everybody.

Resamples are rows of counts (see `prompt_counts`).  Inverse-propensity weights multiply them: every figure is then that of the whole
recorded population (Hajek's ratio estimator).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from judgeflow.estimates import Estimate
from judgeflow.store.upkeep import Tell

Floats = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95
CELLS = 4_000_000
"""Numbers of a block of resamples: what is held at a time stays in the tens of megabytes."""


def credit(logits: ArrayLike, preferred_a: ArrayLike) -> Floats:
    """Return what each logit earns against a label: 1 if right, 0 if wrong, 0.5 if it is exactly 0."""
    s, truth = np.asarray(logits, dtype=np.float64), np.asarray(preferred_a, dtype=bool)
    return np.where(s == 0, 0.5, (s > 0) == truth).astype(np.float64)


def agreement(sides: ArrayLike, reference: ArrayLike) -> Floats:
    """Return how far sides (any numbers, by their signs) agree with a reference's: 1 if equal, 0 if opposite, 0.5 if one of them is 0."""
    distance: Floats = np.abs(np.sign(np.asarray(sides, dtype=np.float64)) - np.sign(np.asarray(reference, dtype=np.float64)))
    return 1 - distance / 2


def prompt_counts(prompts: Sequence[Hashable] | NDArray[np.intp], seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return how often each pair stands in each resample, (1 + resamples) x n; the first row is the data themselves.

    A resample draws as many prompts as there are, with replacement, and each with all its pairs (cluster bootstrap: Davison & Hinkley
    1997, section 3.8).
    """
    return np.vstack(list(count_blocks(prompts, seed, resamples)))


def count_blocks(prompts: Sequence[Hashable] | NDArray[np.intp], seed: int, resamples: int = RESAMPLES) -> Iterator[Floats]:
    """Yield the rows of `prompt_counts` in blocks that fit into memory; the first block is the data themselves."""
    places: dict[Hashable, int] = {}
    cluster = np.array([places.setdefault(prompt, len(places)) for prompt in prompts], dtype=np.intp)
    yield np.ones((1, len(cluster)))
    dice, rows = np.random.default_rng(seed), max(1, CELLS // max(1, len(cluster)))
    for start in range(0, resamples, rows):
        drawn = dice.multinomial(len(places), np.full(len(places), 1 / len(places)), size=min(rows, resamples - start))
        yield drawn[:, cluster].astype(np.float64)


def told(blocks: Iterable[Floats], what: str, resamples: int, tell: Tell) -> Iterator[Floats]:
    """Yield blocks of resamples, telling under the name of `what` how many are done."""
    done = -1  # the first are the data themselves
    for block in blocks:
        tell(what, max(0, done), resamples)
        yield block
        done += len(block)
    tell(what, resamples, resamples)


def accuracy(right: ArrayLike, counts: Floats) -> Floats:
    """Return the mean credit in every resample."""
    mean: Floats = counts @ np.asarray(right, dtype=np.float64) / counts.sum(1)
    return mean


def gains(right: ArrayLike, judged: ArrayLike, acquisition: ArrayLike, shares: Sequence[float], counts: Floats) -> list[Floats]:
    """Return, for each share and in every resample, the accuracy once the judge has answered the top share, minus random's expectation.

    `right` and `judged` are the credits of the scorer and of the judge, `acquisition` what the policy ranks by (larger: ask); all n.
    Every resample is ranked anew, and a share is one of its own number of pairs.
    """
    path = walk(np.asarray(right, dtype=np.float64), np.asarray(judged, dtype=np.float64), acquisition, {}, counts)
    return list(path.gained(shares).T)


@dataclass(frozen=True, slots=True)
class Path:
    """What is reached as a policy asks about more and more pairs; rows are resamples, columns ranks, from nobody to everybody.

    `pairs` is the number asked about so far, `change` how much credit that has changed, `costs` what it took; `start` is the scorer's
    credit (one a row).
    """

    pairs: Floats
    change: Floats
    costs: Mapping[str, Floats]
    start: Floats

    def accuracy(self, shares: ArrayLike) -> Floats:
        """Accuracy with each share of its pairs asked about; resamples x shares."""
        return (self.start[:, None] + self._at(self.change, shares)) / self.pairs[:, -1:]

    def gained(self, shares: ArrayLike) -> Floats:
        """That minus random's expectation at as many pairs; resamples x shares."""
        return (self._at(self.change, shares) - np.asarray(shares) * self.change[:, -1:]) / self.pairs[:, -1:]

    def cost(self, name: str, shares: ArrayLike) -> Floats:
        """What asking takes, per pair of the data; resamples x shares."""
        return self._at(self.costs[name], shares) / self.pairs[:, -1:]

    def accuracy_for(self, name: str, cost: Floats) -> Floats:
        """Accuracy for a cost per pair of the data, one a resample; that of everybody where so much cannot be spent."""
        change = _along(self.costs[name], self.change, cost[:, None] * self.pairs[:, -1:])[:, 0]
        return (self.start + change) / self.pairs[:, -1]

    def _at(self, values: Floats, shares: ArrayLike) -> Floats:
        return _along(self.pairs, values, np.asarray(shares, dtype=np.float64) * self.pairs[:, -1:])

    def saved(self, name: str, share: float) -> Floats:
        """Share of random's cost that is saved in reaching, for the first time, the accuracy that random has with `share` judged.

        NaN where judging everybody is no better than the scorer: there is nothing to reach.
        """
        wanted = share * self.change[:, -1]
        spent = np.array([_first_cost(c, x, w) for c, x, w in zip(self.costs[name], self.change, wanted, strict=True)])
        random = share * self.costs[name][:, -1]
        good = (wanted > 0) & (random > 0)
        return np.where(good, 1 - np.divide(spent, random, out=np.zeros(len(random)), where=good), np.nan)


def walk(right: Floats, judged: Floats, acquisition: ArrayLike, costs: Mapping[str, Floats], counts: Floats) -> Path:
    """Return the path of a policy: `right` and `judged` are credits, `acquisition` what it ranks by, `costs` what asking takes; all n."""
    ranks = np.unique(-np.asarray(acquisition, dtype=np.float64), return_inverse=True)[1]
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))

    def so_far(values: Floats) -> Floats:
        sums = np.add.reduceat((counts * values)[:, order], starts, axis=1)
        return np.concatenate([np.zeros((len(counts), 1)), np.cumsum(sums, axis=1)], axis=1)

    spent = {name: so_far(cost) for name, cost in costs.items()}
    return Path(pairs=so_far(np.ones(len(right))), change=so_far(judged - right), costs=spent, start=counts @ right)


def _along(x: Floats, y: Floats, at: Floats) -> Floats:
    """Interpolate every row of y over its row of x at its row of places."""
    return np.array([np.interp(places, row, values) for row, values, places in zip(x, y, at, strict=True)])


def _first_cost(cost: Floats, change: Floats, wanted: float) -> float:
    """Cost at which a row of changes first reaches `wanted`, linear between ranks."""
    place = int(np.argmax(change >= wanted))
    if place == 0:
        return 0.0 if change[0] >= wanted else float(cost[-1])
    low, high = change[place - 1], change[place]
    return float(cost[place - 1] + (cost[place] - cost[place - 1]) * (wanted - low) / (high - low))


def estimate(resampled: Floats, level: float = LEVEL) -> Estimate:
    """Return the figure of the data (the first) with the percentile interval of the resamples (the rest).

    Resamples that do not define it are left out; if they are so many that they decide an end of the interval, it has none (NaN).
    """
    tail = round((1 - level) / 2, 12)
    defined = resampled[1:][~np.isnan(resampled[1:])]
    if len(defined) < (1 - tail) * (len(resampled) - 1) or not len(defined):
        return Estimate(value=float(resampled[0]), low=float("nan"), high=float("nan"))
    low, high = np.percentile(defined, [100 * tail, 100 * (1 - tail)])
    return Estimate(value=float(resampled[0]), low=float(low), high=float(high))


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean over seeds, of the figure and of both ends of its interval."""
    value, low, high = np.mean([(each.value, each.low, each.high) for each in estimates], axis=0)
    return Estimate(value=float(value), low=float(low), high=float(high))


def threshold_at(acquisition: Floats, weights: Floats, share: float) -> float:
    """Return the acquisition above which, at most, this share of the weight lies: a threshold in the policy's own units."""
    order = np.argsort(-acquisition, kind="stable")
    within = np.cumsum(weights[order]) <= share * weights.sum() * (1 + 1e-12)
    taken = int(within.sum())
    return float(acquisition[order[min(taken, len(order) - 1)]])


def rate_by_decile(happens: Sequence[bool] | ArrayLike, acquisition: ArrayLike) -> list[float]:
    """Return how often something happens in each tenth of the pairs, least acquisition first; equal ones in the order given."""
    order: NDArray[np.intp] = np.argsort(np.asarray(acquisition, dtype=np.float64), kind="stable")
    parts = np.array_split(np.asarray(happens, dtype=np.float64)[order], 10)
    return [float(part.mean()) if len(part) else float("nan") for part in parts]
