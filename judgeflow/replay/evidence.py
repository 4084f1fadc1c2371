"""A trace as credits: what the scorer earns on each pair, what the judge would earn and cost, and what every policy ranks by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from judgeflow.errors import NotCovered, ReplayError
from judgeflow.plurals import plural
from judgeflow.replay.coverage import LEAST, untold
from judgeflow.replay.selection import inverse_weights
from judgeflow.replay.statistics import Floats, agreement
from judgeflow.replay.trace import CANONICAL, SWAPPED, Bools, Testimony, Trace

Orders = Literal["both", "adaptive", "random", "first"]
ORDERS: tuple[Orders, ...] = ("both", "adaptive", "random", "first")
SCORED = ("error", "uncertainty", "margin")
RANDOM, ORACLE = "random", "oracle"
Reference = Literal["labels", "judge"]

LEAST_ANSWERED = 0.8
"""A run's judge has answered at least this share of what it was to be asked about; else somebody else was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What n pairs say about routing; every array is n.

    `right` and `judged` are the credits of the scorer's word and of the judge's (see `statistics.credit`); against `labels`, or, where
    nobody knows better, as agreement with the judge in all the orders it was asked (`reference`).  `costs` are the expected `calls`,
    `tokens` and `seconds` of asking.  `weights` are inverse propensities, mean 1.  `undecided` tells where the judge tied or contradicted
    itself; `lengths` are prompt tokens.  `rows` are the places of the pairs in the trace.
    """

    reference: Reference
    judge: str
    orders: Orders
    prompts: NDArray[np.intp]
    right: Floats
    judged: Floats
    costs: Mapping[str, Floats]
    acquisitions: Mapping[str, Floats]
    weights: Floats
    tied: Bools
    inconsistent: Bools
    lengths: Floats
    rows: NDArray[np.intp]
    recorded: int

    def __len__(self) -> int:
        return len(self.right)

    @property
    def weighted(self) -> bool:
        """Whether some pairs stand for others that were not judged."""
        return bool(np.ptp(self.weights) > 0)


@dataclass(frozen=True, slots=True)
class _Heard:
    """The judge's side of each pair in expectation over the order that is drawn: k x n alternatives of equal probability."""

    sides: Floats
    calls: Floats
    tokens: Floats
    seconds: Floats


def evidence(trace: Trace, judge: str, orders: Orders, *, on_inconsistent: str = "scorer") -> Evidence:
    """Return what a judge's verdicts say about the pairs it has spoken about in these orders.

    Pairs that the scorer said nothing of are left out, where it said something of others.  Raises `ReplayError` where nothing is
    left, `NotCovered` where what is left is a choice that no weight undoes.
    """
    testimony = trace.testimonies[judge]
    answered = _answered(trace, testimony, orders, judge)
    rows = _usable(trace, testimony, answered, judge)
    logits = np.nan_to_num(trace.logits[rows])
    said = testimony.rows(rows)
    both = _combined(said, logits, zero=on_inconsistent == "zero")
    # Where a contradiction counts for nothing, the second order can always change the outcome.
    asked: Orders = "both" if orders == "adaptive" and on_inconsistent == "zero" else orders
    heard = _hear(said, logits, trace.swapped[rows], asked, both)
    truth = trace.truth[rows]
    known = ~np.isnan(truth) & (truth != 0.5)
    reference: Reference = "labels" if known.any() else "judge"
    sides = np.sign(truth - 0.5) if known.any() else both
    kept = known if known.any() else np.ones(len(rows), dtype=bool)
    found = Evidence(
        reference=reference,
        judge=judge,
        orders=orders,
        prompts=trace.prompts[rows],
        right=agreement(logits, sides),
        judged=np.mean([agreement(one, sides) for one in heard.sides], axis=0),
        costs={"calls": heard.calls, "tokens": heard.tokens, "seconds": heard.seconds},
        acquisitions=_acquisitions(trace, rows),
        weights=np.ones(len(rows)) if answered.all() else _weights(testimony, rows),
        tied=(said.preferred == 0).all(1) & (said.statuses == 0).any(1),
        inconsistent=_contradict(said),
        lengths=_mean(said.prompt_tokens, said.replied),
        rows=rows,
        recorded=len(trace),
    )
    oracle = {ORACLE: found.judged - found.right}
    return _keep(dataclasses.replace(found, acquisitions={**found.acquisitions, **oracle}), kept)


def available_orders(testimony: Testimony) -> tuple[Orders, ...]:
    """Return the orders that can be played with what was asked: all of them, or one where pairs were shown in one order only."""
    return ORDERS if testimony.replied.all(1).any() else ("first",)


def _answered(trace: Trace, testimony: Testimony, orders: Orders, judge: str) -> Bools:
    """Which pairs the judge has answered in these orders.  Raises as `evidence`."""
    answered: Bools = np.asarray(testimony.replied.all(1) if orders != "first" else testimony.replied.any(1))
    if not answered.any():
        asked = "in both orders" if orders != "first" else "about any pair"
        raise ReplayError(f"{trace.source}: {judge} has not answered {asked}; try --orders first, or judge some pairs with judgeflow route")
    wrong = _choice(testimony, answered)
    if wrong:
        raise NotCovered(f"{trace.source}: {judge} has judged {answered.sum():,} of {plural(len(trace), 'pair')}, and {wrong}")
    return answered


def _usable(trace: Trace, testimony: Testimony, answered: Bools, judge: str) -> NDArray[np.intp]:
    """Return the places of the pairs that count."""
    believed = ~np.isnan(trace.logits)
    if not believed.any():
        believed[:] = True  # without a scorer nobody is left out for the lack of its word
    counts = answered & believed & (answered.all() | (testimony.chances.as_far_as_known > 0))
    rows: NDArray[np.intp] = np.flatnonzero(counts)
    if not len(rows):
        raise ReplayError(f"{trace.source}: no pair has both a verdict of {judge} and a score of {trace.scorer}; choose another of them")
    return rows


def _choice(testimony: Testimony, answered: Bools) -> str:
    """Say why the answered pairs are a choice that no weight undoes; nothing where they are none, or too few are missing to matter."""
    chances, most = testimony.chances, (1 - LEAST) * len(answered)
    if (~answered & np.isnan(chances.propensities)).sum() > most:
        return untold(testimony)
    never = int((~answered & (chances.propensities <= 0)).sum())
    if never > most:
        return (
            f"{never:,} of the others could not have been judged by the policy that ran; no weight makes up for them, which tells nothing "
            "of other policies. Route with [routing] audit_fraction = 0.1, or replay a run of policy always or random"
        )
    expected = float(chances.as_far_as_known[chances.drawn].sum())
    if (answered & chances.drawn).sum() < LEAST_ANSWERED * expected:
        return (
            f"about {expected:,.0f} were to be asked about: most were another judge's, or never reached it, and nobody knows by what "
            "choice; name the judge that the run has asked with --judge"
        )
    return ""


def _weights(testimony: Testimony, rows: NDArray[np.intp]) -> Floats:
    """Return inverse propensities, mean 1."""
    return inverse_weights(testimony.chances.as_far_as_known[rows], np.ones(len(rows), dtype=bool), float(len(rows)))


def _spoken(said: Testimony) -> Floats:
    """Sides of both orders, n x 2; NaN where nothing was understood."""
    return np.where(said.statuses == 0, said.preferred, np.nan).astype(np.float64)


def _contradict(said: Testimony) -> Bools:
    contradict: Bools = said.preferred[:, CANONICAL] * said.preferred[:, SWAPPED] < 0
    return np.asarray(contradict & (said.statuses == 0).all(1))


def _combined(said: Testimony, logits: Floats, *, zero: bool) -> Floats:
    """Side of the final logit once all recorded orders are in; see `verdicts.combine`."""
    spoken = _spoken(said)
    side: Floats = np.sign(np.nansum(spoken, axis=1))
    side = np.where(_contradict(said), 0.0 if zero else np.sign(logits), side)
    return np.where(np.isnan(spoken).all(1), np.sign(logits), side)


def _hear(said: Testimony, logits: Floats, swapped: Bools, orders: Orders, both: Floats) -> _Heard:
    spoken, own = _spoken(said), np.sign(logits)
    one = np.where(np.isnan(spoken), own[:, None], spoken)
    tokens = (said.prompt_tokens + said.completion_tokens).astype(np.float64)
    if orders == "both":
        return _Heard(both[None], np.full(len(own), 2.0), tokens.sum(1), said.latency_s.sum(1))
    if orders == "adaptive":
        second = 1 - np.mean((spoken == own[:, None]) & (own[:, None] != 0), axis=1)  # is asked unless the first agrees with the scorer
        sides, extra = _adaptive(spoken, own, both), 1 + second
        return _Heard(sides, extra, _first_then(tokens, spoken, own), _first_then(said.latency_s, spoken, own))
    if orders == "random":
        return _Heard(one.T, np.ones(len(own)), tokens.mean(1), said.latency_s.mean(1))
    column = np.where(swapped, SWAPPED, CANONICAL)
    asked = np.take_along_axis(said.replied, column[:, None], axis=1)[:, 0]
    column = np.where(asked, column, 1 - column)  # where one order is recorded, that is the one
    rows = np.arange(len(column))
    return _Heard(one[rows, column][None], np.ones(len(own)), tokens[rows, column], said.latency_s[rows, column])


def _adaptive(spoken: Floats, own: Floats, both: Floats) -> Floats:
    """Sides by the order that comes first, 2 x n: a first reply that agrees with the scorer is the last word."""
    return np.where((own == spoken.T) & (own != 0), own, both)


def _first_then(cost: Floats, spoken: Floats, own: Floats) -> Floats:
    """Expected cost of a drawn order, and of the other one unless the first agreed with the scorer."""
    goes_on = ~((spoken == own[:, None]) & (own[:, None] != 0))
    return np.asarray((cost + np.where(goes_on, cost[:, ::-1], 0.0)).sum(1) / 2)


def _mean(values: NDArray[np.int64], there: Bools) -> Floats:
    return np.asarray(np.where(there, values, 0).sum(1) / np.maximum(there.sum(1), 1))


def _acquisitions(trace: Trace, rows: NDArray[np.intp]) -> dict[str, Floats]:
    """By policy; the same as `routing.policy.acquisition`.  Policies that lack what they rank by are left out."""
    logits, u = trace.logits[rows], trace.uncertainties[rows]
    if np.isnan(logits).all():
        return {}
    s = np.abs(np.nan_to_num(logits))
    found: dict[str, Floats] = {"error": np.exp(-s) / (1 + np.exp(-s)), "margin": -s * np.where(np.isnan(u), 1.0, u)}
    if not np.isnan(u).any() and np.ptp(u) > 0:
        found["uncertainty"] = u
    return {name: found[name] for name in SCORED if name in found}


def _keep(found: Evidence, kept: Bools) -> Evidence:
    if kept.all():
        return found
    names = ("prompts", "right", "judged", "weights", "tied", "inconsistent", "lengths", "rows")
    parts: dict[str, object] = {name: getattr(found, name)[kept] for name in names}
    parts["costs"] = {name: cost[kept] for name, cost in found.costs.items()}
    parts["acquisitions"] = {name: q[kept] for name, q in found.acquisitions.items()}
    return dataclasses.replace(found, **parts)  # type: ignore[arg-type]  # the fields are named above
