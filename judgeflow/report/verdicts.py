"""From replies to verdicts, and from verdicts to what they say about judge and scorer: columns in, sums out.

A pair has one verdict: of the judge that answered it in most orders, of several the one that the database has known longest.  Its two
orders are combined as in `judgeflow.verdicts.combine`; only the side counts here, not how strongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from judgeflow.report.reading import StepDecisions, Testimony
from judgeflow.store.columns import Flags, Floats, Keys
from judgeflow.store.decided import Cases
from judgeflow.types import Agreement

Sides = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """One verdict a pair, keys ascending: `sides` is 1 for the first response of the canonical order, -1 for the second, else 0."""

    keys: Keys
    prompts: Keys
    sides: Sides


@dataclass(frozen=True, slots=True)
class Spoken:
    """What judges say of pairs: in how many orders, on which side, whether two orders say the `same`, or `contradict` each other.

    `strong` tells that no reply was a slight preference, `ended` when the last one came.
    """

    keys: Keys
    prompts: Keys
    judges: NDArray[np.int16]
    orders: NDArray[np.intp]
    sides: Sides
    same: Flags
    contradict: Flags
    strong: Flags
    ended: Floats


def spoken(said: Testimony) -> Spoken:
    """Gather replies that were understood by judge and pair, rows in the order of keys and judges; of several samples the first counts."""
    order = np.lexsort((said.samples, said.canonical, said.judges, said.keys))
    order = order[said.understood[order]]
    if not len(order):
        return Spoken(*(np.empty(0, dtype=kind) for kind in _KINDS))
    keys, judges, canonical = said.keys[order], said.judges[order], said.canonical[order]
    new_pair = _changes(keys, judges)
    order = order[new_pair | _changes(canonical)]  # the first sample of each order
    keys, judges = said.keys[order], said.judges[order]
    starts = np.flatnonzero(_changes(keys, judges))
    sides = np.where(said.canonical[order], said.preferred[order], -said.preferred[order]).astype(np.int64)
    orders = np.diff([*starts, len(order)])
    sums, sizes = np.add.reduceat(sides, starts), np.add.reduceat(np.abs(sides), starts)
    return Spoken(
        keys=keys[starts],
        prompts=said.prompts[order][starts],
        judges=judges[starts],
        orders=orders,
        sides=np.sign(sums).astype(np.int8),
        same=(orders == 2) & (np.abs(sums) != 1) & (np.abs(sums) == sizes),
        contradict=(sizes == 2) & (sums == 0),
        strong=np.logical_and.reduceat(said.strong[order], starts),
        ended=np.maximum.reduceat(said.ended[order], starts),
    )


_KINDS: tuple[Any, ...] = (np.uint64, np.uint64, np.int16, np.intp, np.int8, np.bool_, np.bool_, np.bool_, np.float64)


def _changes(*columns: NDArray[Any]) -> Flags:
    """Where a row differs from the one before it; the first one does."""
    differ = np.zeros(len(columns[0]), dtype=np.bool_)
    differ[:1] = True
    for column in columns:
        differ[1:] |= column[1:] != column[:-1]
    return differ


def verdicts(of: Spoken) -> Verdicts:
    """Return the verdict of each pair."""
    order = np.lexsort((of.judges, -of.orders, of.keys))
    first = order[_changes(of.keys[order])] if len(order) else order
    return Verdicts(of.keys[first], of.prompts[first], of.sides[first])


def orders_agree(of: Spoken, judge: int) -> Agreement:
    """Tally one judge's pairs with both orders understood: whether they chose the same, each pair with weight 1."""
    both = (of.judges == judge) & (of.orders == 2)
    return tally(of.prompts[both], np.ones(int(both.sum())), of.same[both].astype(np.float64))


def first_preferred(said: Testimony, judge: int) -> Agreement:
    """Tally one judge's replies that prefer a response: whether it is what was shown first."""
    chosen = (said.judges == judge) & said.understood & (said.preferred != 0)
    return tally(said.prompts[chosen], np.ones(int(chosen.sum())), (said.preferred[chosen] > 0).astype(np.float64))


def tally(clusters: NDArray[Any], weights: Floats, agree: Floats, *, asked: int | None = None) -> Agreement:
    """Add up as `routing.agreement.tally` does: `agree` is 1, 0.5 or 0, with weights; what one cluster has counts as one observation."""
    if not len(clusters):
        return Agreement(asked=asked or 0)
    _, where = np.unique(clusters, return_inverse=True)
    weight, agreed = np.bincount(where, weights=weights), np.bincount(where, weights=weights * agree)
    return Agreement(
        asked=len(clusters) if asked is None else asked,
        compared=len(clusters),
        prompts=len(weight),
        weight=float(weight.sum()),
        agreed=float(agreed.sum()),
        weight_squared=float(weight @ weight),
        weight_agreed=float(weight @ agreed),
        agreed_squared=float(agreed @ agreed),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Scorer against judge over a run: pairs judged, of these compared and contradicted, and the tallies by rank and by lot.

    `missing` are keys of pairs that have a verdict, and a belief, whose replies are not at hand.
    """

    judged: int
    compared: int
    changed: int
    routed: Agreement
    audited: Agreement
    missing: Keys


def compare(steps: Mapping[int, StepDecisions], found: Verdicts) -> Comparison:
    """Compare every decision that has a verdict with what the scorer believed of the pair, in canonical order."""
    steps = dict(sorted(steps.items()))  # sums of fractions depend on their order
    cases = Cases.joined(step.cases for step in steps.values())
    number = np.repeat(np.arange(len(steps), dtype=np.uint64), [len(step.cases) for step in steps.values()])
    known, sides, prompts = _look_up(found, cases.keys)
    sides = np.where(cases.judged & cases.believed, sides, 0)
    compared = sides != 0
    agree = np.where(cases.logits == 0, 0.5, ((cases.logits > 0) == (sides > 0)).astype(np.float64))

    def votes(drawn: Flags) -> Agreement:
        chosen = cases.asked & (cases.propensities > 0) & drawn
        these = chosen & compared
        clusters = np.unique(np.stack([number[these], prompts[these]]), axis=1, return_inverse=True)[1].ravel()
        return tally(clusters, 1.0 / cases.propensities[these], agree[these], asked=int(chosen.sum()))

    return Comparison(
        judged=int(cases.judged.sum()),
        compared=int(compared.sum()),
        changed=int((compared & (agree == 0)).sum()),
        routed=votes(~cases.audit),
        audited=votes(cases.audit),
        missing=np.unique(cases.keys[cases.judged & cases.believed & ~known]),
    )


def _look_up(found: Verdicts, keys: Keys) -> tuple[Flags, Sides, Keys]:
    """Return whether each key has a verdict, its side (0 without one) and its prompt."""
    if not len(found.keys):
        nothing = np.zeros(len(keys), dtype=np.uint64)
        return nothing.astype(np.bool_), nothing.astype(np.int8), nothing
    at = np.minimum(np.searchsorted(found.keys, keys), len(found.keys) - 1)
    known = found.keys[at] == keys
    return known, np.where(known, found.sides[at], 0).astype(np.int8), found.prompts[at]
