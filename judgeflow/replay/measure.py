"""The figures of a replay: curves of every policy, what they save, what a second order is worth, and how biased judges are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from judgeflow.estimates import Estimate
from judgeflow.replay.evidence import ORACLE, ORDERS, RANDOM, SCORED, Evidence, Orders, available_orders, evidence
from judgeflow.replay.statistics import (
    LEVEL,
    RESAMPLES,
    Floats,
    Path,
    accuracy,
    count_blocks,
    estimate,
    rate_by_decile,
    threshold_at,
    told,
    walk,
)
from judgeflow.replay.trace import CANONICAL, NO_REPLY, SWAPPED, Trace
from judgeflow.store.upkeep import Tell, untold

GRID = tuple(round(0.05 * step, 2) for step in range(21))
SHARES = (0.1, 0.2, 0.4)
TARGET = 0.4
"""Savings are measured in reaching the accuracy that random has with this share judged."""

COSTS = ("calls", "tokens", "seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A policy with a share of the pairs judged; `gain` is over random at as many pairs, `threshold` in the policy's units.

    `calls`, `tokens` and judge `seconds` are of all recorded pairs together; the threshold is None where nothing is ranked.
    """

    share: float
    accuracy: Estimate
    gain: Estimate
    calls: float
    tokens: float
    seconds: float
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A policy from nobody to everybody judged.

    `saved` is the share of random's calls, tokens and judge seconds that it saves in reaching the accuracy random has with `TARGET`
    judged; `over_error` its gain minus the default policy's, by share, and `wary_*` the same with intervals widened for the number of
    policies that are looked at (Bonferroni).
    """

    policy: str
    points: tuple[Point, ...]
    saved: Mapping[str, Estimate]
    wary_gains: Mapping[float, Estimate]
    wary_over_error: Mapping[float, Estimate]

    def at(self, share: float) -> Point:
        """The point with this share judged, which has to be one of those measured."""
        return next(point for point in self.points if point.share == share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything about one judge, one scorer and one way of asking; `bound` is 2 acc - 1, the most that a calibrated scorer can save."""

    evidence: Evidence
    scorer_accuracy: Estimate
    judge_accuracy: Estimate
    judge_gain: Estimate
    curves: Mapping[str, Curve]
    deciles: Mapping[str, Mapping[str, list[float]]]

    @property
    def bound(self) -> float:
        """The largest share of random's calls that a calibrated scorer with a perfect judge can save."""
        return 2 * self.scorer_accuracy.value - 1


def measure(
    found: Evidence, shares: Sequence[float] = SHARES, *, seed: int = 0, resamples: int = RESAMPLES, tell: Tell = untold
) -> Measured:
    """Return the figures, by a bootstrap over prompts: the same seed, the same figures.  `tell` is told how many resamples are done."""
    grid = tuple(sorted({*GRID, *shares, TARGET}))
    flat = np.zeros(len(found))
    ranked = {**found.acquisitions, RANDOM: flat}
    drawn = {name: _Draws.empty() for name in ranked}
    own, judge = [], []
    for counts in told(count_blocks(found.prompts, seed, resamples), "resampling policies", resamples, tell):
        weighted = counts * found.weights
        own.append(accuracy(found.right, weighted))
        judge.append(accuracy(found.judged, weighted))
        for name, acquisition in ranked.items():
            drawn[name].add(walk(found.right, found.judged, acquisition, found.costs, weighted), grid)
    scorer, whole = np.concatenate(own), np.concatenate(judge)
    return Measured(
        evidence=found,
        scorer_accuracy=estimate(scorer),
        judge_accuracy=estimate(whole),
        judge_gain=estimate(whole - scorer),
        curves={name: _curve(name, draws, drawn, grid, found) for name, draws in drawn.items()},
        deciles={name: _deciles(found, q) for name, q in {**found.acquisitions, "length": found.lengths}.items() if name != ORACLE},
    )


@dataclass(frozen=True, slots=True)
class _Draws:
    """One policy over all resamples, block by block."""

    accuracy: list[Floats]
    gain: list[Floats]
    cost: dict[str, Floats]
    saved: dict[str, list[Floats]]

    @classmethod
    def empty(cls) -> _Draws:
        return cls([], [], {}, {name: [] for name in COSTS})

    def add(self, path: Path, grid: Sequence[float]) -> None:
        self.accuracy.append(path.accuracy(grid))
        self.gain.append(path.gained(grid))
        for name in COSTS:
            self.cost.setdefault(name, path.cost(name, grid)[0])  # of the data themselves, which come first
            self.saved[name].append(path.saved(name, TARGET))


def _curve(name: str, draws: _Draws, all_draws: Mapping[str, _Draws], grid: Sequence[float], found: Evidence) -> Curve:
    right, gain = np.concatenate(draws.accuracy), np.concatenate(draws.gain)
    usual = np.concatenate(all_draws["error"].gain) if "error" in all_draws else gain
    looked_at = max(1, sum(policy in all_draws for policy in SCORED))
    level = 1 - (1 - LEVEL) / looked_at
    total = {cost: per_pair * found.recorded for cost, per_pair in draws.cost.items()}
    points = tuple(
        Point(
            share=share,
            accuracy=estimate(right[:, place]),
            gain=estimate(gain[:, place]),
            threshold=_threshold(name, found, share),
            **{cost: float(amounts[place]) for cost, amounts in total.items()},
        )
        for place, share in enumerate(grid)
    )
    return Curve(
        policy=name,
        points=points,
        saved={cost: estimate(np.concatenate(parts)) for cost, parts in draws.saved.items()},
        wary_gains={share: estimate(gain[:, place], level) for place, share in enumerate(grid)},
        wary_over_error={share: estimate(gain[:, place] - usual[:, place], level) for place, share in enumerate(grid)},
    )


def _threshold(name: str, found: Evidence, share: float) -> float | None:
    if name not in SCORED or not 0 < share < 1:
        return None
    return threshold_at(found.acquisitions[name], found.weights, share)


def _deciles(found: Evidence, ranked: Floats) -> dict[str, list[float]]:
    """Tie and inconsistency rates, and the share that `error` judges of its top fifth, by tenth of the pairs."""
    rates = {"tie": rate_by_decile(found.tied, ranked), "inconsistent": rate_by_decile(found.inconsistent, ranked)}
    if "error" in found.acquisitions:
        cut = threshold_at(found.acquisitions["error"], found.weights, 0.2)
        rates["judged"] = rate_by_decile(found.acquisitions["error"] > cut, ranked)
    return rates


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderValue:
    """What ways of asking are worth at equal calls: those that both orders take for `share` of the pairs, ranked by one policy.

    `accuracy` and the difference `over_both` come with intervals; `agreement` is how far the whole judge, asked in this way about
    everybody, agrees with itself asked in both orders.
    """

    orders: Orders
    share: float
    calls: float
    accuracy: Estimate
    over_both: Estimate
    agreement: float


def second_order(
    trace: Trace,
    judge: str,
    policy: str = "error",
    shares: Sequence[float] = SHARES,
    *,
    on_inconsistent: str = "scorer",
    seed: int = 0,
    resamples: int = RESAMPLES,
    tell: Tell = untold,
) -> tuple[OrderValue, ...]:
    """Return what the second order is worth; nothing where the judge was asked in one order only.  `tell` is as in `measure`."""
    if "both" not in available_orders(trace.testimonies[judge]):
        return ()
    ways = {orders: evidence(trace, judge, orders, on_inconsistent=on_inconsistent) for orders in ORDERS if orders != "first"}
    both = ways["both"]
    reached: dict[str, list[Floats]] = {orders: [] for orders in ways}
    spent: Floats = np.zeros(len(shares))
    for counts in told(count_blocks(both.prompts, seed, resamples), "resampling orders", resamples, tell):
        paths = {
            name: walk(found.right, found.judged, _rank(found, policy), found.costs, counts * found.weights) for name, found in ways.items()
        }
        cost = paths["both"].cost("calls", shares)
        spent = spent if spent.any() else cost[0]
        for name, path in paths.items():
            reached[name].append(np.column_stack([path.accuracy_for("calls", column) for column in cost.T]))
    figures = {name: np.concatenate(parts) for name, parts in reached.items()}
    return tuple(
        OrderValue(
            orders=orders,
            share=share,
            calls=float(spent[place]) * both.recorded,
            accuracy=estimate(figures[orders][:, place]),
            over_both=estimate(figures[orders][:, place] - figures["both"][:, place]),
            agreement=float(1 - np.average(np.abs(found.judged - both.judged), weights=both.weights)),
        )
        for place, share in enumerate(shares)
        for orders, found in ways.items()
    )


def _rank(found: Evidence, policy: str) -> Floats:
    return found.acquisitions.get(policy, np.zeros(len(found)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionBias:
    """How a judge's word depends on what is shown first, over what it has understood in both orders: `pairs`, some of them repeatedly.

    `twice` counts them with their repetitions, and all shares are of these; `calls` and `unread` count every reply.  `agreement` is the
    share on which both orders choose the same (position does not matter); of the others, `first` prefer what is shown first both times and
    `second` what is shown second; `tied` are those on which one order ties and the other does not.
    """

    judge: str
    pairs: int
    twice: int
    agreement: Estimate
    first: float
    second: float
    tied: float
    calls: int
    unread: int


def position_bias(trace: Trace, judge: str, *, seed: int = 0, resamples: int = RESAMPLES) -> PositionBias:
    """Return a judge's position bias; NaN throughout where no pair was understood in both orders."""
    said = trace.testimonies[judge].every
    rows = np.flatnonzero((said.statuses == 0).all(1))
    one, other = said.preferred[rows, CANONICAL].astype(np.float64), said.preferred[rows, SWAPPED].astype(np.float64)
    same, contradict = one == other, one * other < 0
    prompts = trace.prompts[said.pairs[rows]]
    blocks = [accuracy(same, counts) for counts in count_blocks(prompts, seed, resamples)] if len(rows) else [np.full(2, np.nan)]
    return PositionBias(
        judge=judge,
        pairs=len(np.unique(said.pairs[rows])),
        twice=len(rows),
        agreement=estimate(np.concatenate(blocks)),
        first=_share(contradict & (one > 0)),
        second=_share(contradict & (one < 0)),
        tied=_share(~same & ~contradict),
        calls=int((said.statuses != NO_REPLY).sum()),
        unread=int((said.statuses > 0).sum()),
    )


def _share(happens: object) -> float:
    values = np.asarray(happens, dtype=np.float64)
    return float(values.mean()) if len(values) else float("nan")
