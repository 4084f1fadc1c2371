"""With what chance a judge's verdict on a pair was obtained, by everything that runs have decided about the pair.

A run's decision has a propensity: the chance that somebody was asked, given all that was stored before.  It is a judge's own chance where
the run asked that judge.  Several runs that share a database are one sequence of draws, each conditional on the earlier ones: a pair that
is judged is not drawn again, so nobody knows what chance it would have had, and 1 - product(1 - propensity) cannot be had.  It is not
needed.  One decision is chosen to speak for the pair, by what is known of its step and not by how it ended.  What was judged before that
one counts once, what it has judged counts 1 / its propensity, what was judged later not at all.  With d of n pairs judged before, and a
propensity q above 0 for every other one, the expectation of d + sum(1 / q) over the judged ones is d + (n - d): the estimate is unbiased
whatever the earlier draws were, and without any independence.

The chosen decision is that of the step in which everybody still open had the largest least chance, of equals the last; where every such
step left somebody without a chance, it is the first that gave this pair one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from judgeflow.store.identities import judges_named

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
NAN = float("nan")


class Draw(NamedTuple):
    """One decision about a pair: whether somebody was `asked`, how it ended, and the chance of being asked."""

    run: str
    step: int
    asked: bool
    source: str | None
    propensity: float

    @property
    def recalled(self) -> bool:
        """Whether nothing was drawn, since a verdict was stored already."""
        return not self.asked and self.source == "store"


@dataclass(frozen=True, slots=True)
class Lot:
    """By what judges share pairs: the seed, and each one's part by fingerprint; the same lot gives a pair to the same judge."""

    seed: int
    parts: frozenset[tuple[bytes, float]]

    @classmethod
    def of(cls, seed: int, weights: Mapping[bytes, float]) -> Lot:
        """Return the lot of these weights, whatever they add up to."""
        total = sum(weights.values())
        return cls(seed, frozenset((judge, round(weight / total, 9)) for judge, weight in weights.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Whom a run has asked: by fingerprint each judge's part in what was asked about, NaN where nobody knows by what choice.

    With `shares` None it is not known whom.  `lot` is what judges shared the pairs by, where they did.  `lost`: decisions were deleted.
    """

    shares: Mapping[bytes, float] | None = None
    lot: Lot | None = None
    lost: bool = False

    def share(self, judges: Collection[bytes], lot: Lot | None) -> float:
        """Return these judges' part together, 0 where the run asked none of them; of pairs that the same `lot` gives to them, all."""
        if self.shares is None:
            return 1.0
        parts = [self.shares[judge] for judge in judges if judge in self.shares]
        if parts and lot is not None and lot == self.lot:
            return 1.0
        known = [part for part in parts if not math.isnan(part)]
        return min(1.0, sum(known)) if known or not parts else NAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """Of n pairs the `propensities` by whose inverse a judge's verdicts count: 0 for none, NaN where nobody knows.

    `drawn` are the pairs that a run which asks this judge has decided about; of others nothing is known, and they count 1.  `untold`
    says in words why propensities are not known; empty where all are.
    """

    propensities: Floats
    drawn: Bools
    untold: str = ""

    @classmethod
    def certain(cls, pairs: int) -> Chances:
        """Every pair counts 1, and no run has drawn any: what a file of verdicts says, or an import."""
        return cls(propensities=np.ones(pairs), drawn=np.zeros(pairs, dtype=bool))

    @property
    def as_far_as_known(self) -> Floats:
        """The propensities, with 1 where nobody knows them."""
        return np.where(np.isnan(self.propensities), 1.0, self.propensities)

    def where(self, others: Bools, other: Chances) -> Chances:
        """Return these, with the other's for `others`."""
        return Chances(
            propensities=np.where(others, other.propensities, self.propensities),
            drawn=np.where(others, other.drawn, self.drawn),
            untold=_both(self.untold, other.untold),
        )

    def rows(self, kept: NDArray[np.intp]) -> Chances:
        """Return those of these pairs alone."""
        return replace(self, propensities=self.propensities[kept], drawn=self.drawn[kept])


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What runs have decided about n pairs: `draws` by pair, the earliest first; `designs` by run."""

    draws: Mapping[int, Sequence[Draw]] = field(default_factory=dict)
    designs: Mapping[str, Design] = field(default_factory=dict)

    def rows(self, kept: NDArray[np.intp]) -> Log:
        """Return it for these pairs alone, which are numbered anew."""
        return replace(self, draws={place: self.draws[row] for place, row in enumerate(kept.tolist()) if row in self.draws})

    def chances(self, judges: Collection[bytes], judged: Bools, lot: Lot | None = None) -> Chances:
        """Return the chances of judges of whom one has `judged` some of n pairs; with a `lot`, for the pairs that it gives to them."""
        shares = {run: design.share(judges, lot) for run, design in self.designs.items()}
        own = {place: asking for place, each in self.draws.items() if (asking := [draw for draw in each if shares.get(draw.run, 1.0)])}
        least = _least(own.values(), shares)
        lost = [run for run, design in self.designs.items() if design.lost and shares[run]]
        usual = NAN if lost else 1.0
        propensities, drawn = np.full(len(judged), usual), np.zeros(len(judged), dtype=bool)
        for place, each in own.items():
            drawn[place] = True
            propensities[place] = _propensity(each, least, shares, usual, judged=bool(judged[place]))
        return Chances(propensities=propensities, drawn=drawn, untold=_untold(lost, shares) if np.isnan(propensities).any() else "")


def _least(draws: Collection[Sequence[Draw]], shares: Mapping[str, float]) -> dict[tuple[str, int], float]:
    """Return, by step, the least chance of those that were not judged yet."""
    least: dict[tuple[str, int], float] = {}
    for draw in (draw for each in draws for draw in each if not draw.recalled):
        step = draw.run, draw.step
        chance = draw.propensity * shares.get(draw.run, 1.0)
        least[step] = min(least.get(step, math.inf), 0.0 if math.isnan(chance) else chance)
    return least


def _propensity(
    draws: Sequence[Draw], least: Mapping[tuple[str, int], float], shares: Mapping[str, float], unknown: float, *, judged: bool
) -> float:
    """Return by whose inverse a pair counts.  `unknown` is what is known of a verdict that no draw explains."""
    chosen = _chosen(draws, least, shares)
    if chosen is None:
        return unknown if judged else 0.0
    own = draws[chosen].propensity * shares.get(draws[chosen].run, 1.0)
    if not judged:
        return own
    won = _won(draws)
    return own if won == chosen else 1.0 if won < chosen else 0.0


def _chosen(draws: Sequence[Draw], least: Mapping[tuple[str, int], float], shares: Mapping[str, float]) -> int | None:
    """Return the place of the decision that speaks for the pair; None where none gave it a chance."""
    covering = [(least.get((draw.run, draw.step), 0.0), place) for place, draw in enumerate(draws)]
    best = max(covering, default=(0.0, 0))
    if best[0] > 0:
        return best[1]
    return next((place for place, draw in enumerate(draws) if draw.propensity * shares.get(draw.run, 1.0) != 0), None)


def _won(draws: Sequence[Draw]) -> float:
    """Return the place of the decision that the verdict came from; between two places, or beyond them, where it came from elsewhere.

    It was there before it was recalled, whatever the order in which runs on the same pairs were created.
    """
    asked = [place for place, draw in enumerate(draws) if draw.asked]
    answered = [place for place in asked if draws[place].source == "judge"]
    recalled = next((place for place, draw in enumerate(draws) if draw.recalled), len(draws)) - 0.5
    return min(next(iter(answered or asked), recalled), recalled)


def _untold(lost: Sequence[str], shares: Mapping[str, float]) -> str:
    if lost:
        return f"judgeflow db compact has removed the decisions of run {', '.join(lost)}"
    return f"in run {', '.join(run for run, share in shares.items() if math.isnan(share))} it stood in for another judge"


def _both(one: str, other: str) -> str:
    return "; ".join(dict.fromkeys(filter(None, (one, other))))


def design_of(asked: Mapping[bytes, int], ids: Mapping[bytes, str], settings: Mapping[str, Any], *, lost: bool = False) -> Design:
    """Return the design of a run: `asked` counts the questions that each judge got, `ids` are those of all judges there are,
    and `settings` the run's configuration.

    By `panel = "weights"` a pair's judge is drawn in proportion to its weight.  Else judges stand in for the first one, by no lot: its
    part is 1, and what did not come from it is missing; nobody knows the others' parts.  Of a run without settings the first is the one
    that was asked most.
    """
    weights, routing = judges_named(settings), settings.get("routing", {})
    for judges in (asked, ids):
        known = {judge: weights[ids[judge]] for judge in judges if ids.get(judge) in weights}
        if routing.get("panel") == "weights" and len(known) == len(weights):
            lot = Lot.of(routing.get("seed", 0), known)
            return Design(shares=dict(lot.parts), lot=lot, lost=lost)
    if len(asked) <= 1:
        return Design(shares=dict.fromkeys(asked, 1.0), lost=lost)
    by_name = {ids.get(judge): judge for judge in asked}
    first = next((by_name[name] for name in weights if name in by_name), max(asked, key=lambda judge: asked[judge]))
    return Design(shares={judge: 1.0 if judge == first else NAN for judge in asked}, lost=lost)


def inverse_weights(propensities: Floats, known: Bools, total: float) -> Floats:
    """Return 1 / propensity where a verdict is `known` and 0 elsewhere, scaled so that they add up to `total`.

    (Horvitz and Thompson, 1952; normalised as by Hajek, 1971, which also makes up for verdicts that are missing at random.)
    """
    raw = np.divide(1.0, propensities, out=np.zeros(len(propensities)), where=known & (propensities > 0))
    amount = raw.sum()
    return raw * (total / amount) if amount > 0 else raw
