"""What a trace can tell about a policy, and how much its pairs have to count for it.

A routed database is no random sample: confident pairs lack verdicts because they were confident.  A pair that was asked about with
probability pi and has its verdict stands for 1 / pi pairs (Horvitz and Thompson, 1952); weights are normalised by their sum (Hajek, 1971),
which also makes up for verdicts that are missing for reasons of their own: the budget, the deadline, a reply that nobody understood.
Where pi is 0 there is nothing to stand for anybody: a fixed threshold without audits tells nothing about pairs below it, but
everything about a policy that asks a part of what was asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judgeflow.errors import NotCovered
from judgeflow.plurals import plural
from judgeflow.replay.panel import spoken_for
from judgeflow.replay.played import Played
from judgeflow.replay.selection import inverse_weights
from judgeflow.replay.trace import Bools, Floats, Testimony, Trace

LEAST = 0.95
"""The share of what a policy asks about that has to be covered."""

DECILES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Decile:
    """A tenth of the pairs by acquisition, from the lowest: how many, those that could have been judged, and those that were."""

    low: float
    high: float
    pairs: int
    supported: int
    judged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much is known about what a policy asks about.

    `asked` pairs would be asked about; a share `supported` of them could have been judged when the trace was recorded, a share `judged`
    was.  `effective` is how many equally weighted pairs are as good as those judged ones with their weights (Kish, 1965).
    """

    asked: int
    supported: float
    judged: float
    effective: float
    deciles: tuple[Decile, ...]


def outcome_weights(testimony: Testimony, played: Played) -> Floats:
    """Return weights for figures about a policy's outcomes, where labels are the measure: mean 1 over all pairs.

    The scorer's word is known of every pair, so those that the policy does not ask about count 1 each.  Those that it asks about count
    through the ones whose verdict is known, and together as many as they are; where all are known, each for itself.
    """
    known = played.asked & ~played.unrecorded
    if known.sum() == played.asked.sum():
        return np.ones(len(played))
    weights = inverse_weights(testimony.chances.as_far_as_known, known, float(played.asked.sum()))
    return np.where(played.asked, weights, 1.0)


def effective_size(weights: Floats) -> float:
    """Return (sum w)^2 / sum w^2 (Kish, 1965): the number of equally weighted pairs that tell as much."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0 else 0.0


def coverage(testimony: Testimony, played: Played) -> Coverage:
    """Return what a testimony has about what a policy asks about."""
    propensities = testimony.chances.propensities
    asked, known = played.asked, played.asked & ~played.unrecorded
    supported = known | (asked & (propensities > 0))
    count = int(asked.sum())
    return Coverage(
        asked=count,
        supported=float(supported.sum()) / count if count else 1.0,
        judged=float(known.sum()) / count if count else 1.0,
        effective=effective_size(inverse_weights(testimony.chances.as_far_as_known, known, 1.0)),
        deciles=_deciles(testimony, played),
    )


def _deciles(testimony: Testimony, played: Played) -> tuple[Decile, ...]:
    ranked = np.flatnonzero(~np.isnan(played.acquisitions))
    order = ranked[np.argsort(played.acquisitions[ranked], kind="stable")]
    judged: Bools = np.asarray(testimony.replied.any(axis=1))
    return tuple(
        Decile(
            low=float(played.acquisitions[part[0]]),
            high=float(played.acquisitions[part[-1]]),
            pairs=len(part),
            supported=int(((testimony.chances.propensities > 0) | judged)[part].sum()),
            judged=int(judged[part].sum()),
        )
        for part in np.array_split(order, DECILES)
        if len(part)
    )


def require(trace: Trace, played: Played, least: float = LEAST, *, testimony: Testimony | None = None) -> Coverage:
    """Return the coverage of a policy.  Raises `NotCovered` where too little of what it asks about could have been judged at all.

    Also where a verdict is known of none of it.  `testimony` is what counts, where that is known already.
    """
    if testimony is None:
        testimony = spoken_for(trace, played.what_if)
    found = coverage(testimony, played)
    if found.asked and (found.supported < least or found.judged == 0.0):
        raise NotCovered(f"{trace.source}: policy {played.what_if.policy} {_refusal(testimony, found, least)}")
    return found


def _refusal(testimony: Testimony, found: Coverage, least: float) -> str:
    if testimony.chances.untold:
        return f"asks about {plural(found.asked, 'pair')}, of which {found.judged:.0%} are judged, and {untold(testimony)}"
    without = [decile for decile in found.deciles if decile.supported < decile.pairs]
    where = f", most of them with an acquisition up to {without[-1].high:.3g}" if without else ""
    return (
        f"asks about {plural(found.asked, 'pair')}, of which {1 - found.supported:.0%} had no chance of a verdict when this was "
        f"recorded{where}; {least:.0%} have to be covered. A policy that asks a part of what was asked can be replayed; for others record "
        "a run with policy always, or one with [routing] audit_fraction, which draws some of the confident pairs"
    )


def untold(testimony: Testimony) -> str:
    """Return why verdicts cannot be weighed by inverse propensities, and what to do."""
    return (
        f"nobody knows by what choice: {testimony.chances.untold}. Replay a copy of the database from before, or have the same pairs "
        "judged by a run of policy always, or of one with [routing] audit_fraction: then its draws count"
    )
