"""What to do, in plain sentences: which policy and threshold, what that costs, and whether routing beats random at all.

Picking the best of several noisy curves would promise the luck of the winner.  So the default policy, `error`, is what is recommended
unless another one beats it with an interval that excludes 0 and is widened for the number of policies looked at (Bonferroni).  Where
`error` is not above random, another policy has to be above random with such a widened interval, or nothing is recommended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from judgeflow.estimates import Estimate
from judgeflow.plurals import plural
from judgeflow.replay.evidence import SCORED
from judgeflow.replay.measure import Curve, Measured, Point

DEFAULT = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a replay recommends for one share of judged pairs.

    `policy` is None where nothing is certainly better than random; `point` is then random's.  `better` says how the policy (else the
    best-looking one) compares with random, `sentences` say everything for people.
    """

    policy: str | None
    share: float
    point: Point
    better: Estimate | None
    sentences: tuple[str, ...]


def advise(measured: Measured, share: float) -> Advice:
    """Return what to do with this share of the pairs judged; the share has to be one of those measured."""
    curves = {name: measured.curves[name] for name in SCORED if name in measured.curves}
    chosen = choose(curves, share)
    shown = chosen or _best(curves, share)
    point = measured.curves[chosen or "random"].at(share)
    better = curves[shown].at(share).gain if shown else None
    told = (*_whether(measured, curves, chosen, share), _which(chosen, point), _cost(point))
    return Advice(policy=chosen, share=share, point=point, better=better, sentences=told)


def choose(curves: dict[str, Curve], share: float) -> str | None:
    """Return the policy to use, or None if none is certainly better than random."""
    others = [name for name in curves if name != DEFAULT]
    beaten = [name for name in others if curves[name].wary_over_error[share].above and curves[name].wary_gains[share].above]
    if not beaten and DEFAULT in curves and curves[DEFAULT].at(share).gain.above:
        return DEFAULT
    certain = beaten or [name for name in others if curves[name].wary_gains[share].above]
    return max(certain, key=lambda name: curves[name].at(share).gain.value, default=None)


def _best(curves: dict[str, Curve], share: float) -> str | None:
    return max(curves, key=lambda name: curves[name].at(share).gain.value, default=None)


def _whether(measured: Measured, curves: dict[str, Curve], chosen: str | None, share: float) -> Iterator[str]:
    found = measured.evidence
    pairs = "On this 1 pair" if len(found) == 1 else f"On these {len(found):,} pairs"
    what = "accuracy" if found.reference == "labels" else "agreement with the judge"
    if not curves:
        yield f"{pairs} no policy but random can rank: there are no beliefs of a scorer. Give scores (rm_scores, or judgeflow import)."
        return
    if found.reference == "labels" and not measured.judge_gain.above:
        yield f"{pairs} the judge is not certainly more often right than the scorer: {points(measured.judge_gain)}."
    if chosen is not None:
        yield f"{pairs} policy {chosen} is better than random at {share:.0%}: {points(curves[chosen].at(share).gain)} of {what}."
        yield from _beats_default(curves, chosen, share)
        return
    best = _best(curves, share) or DEFAULT
    gain = points(curves[best].at(share).gain)
    yield f"{pairs} no policy is certainly better than random at {share:.0%}; the best looking, {best}: {gain}."
    worse = [name for name, curve in curves.items() if curve.wary_gains[share].below]
    if worse:
        yield f"Worse than random: {', '.join(worse)}. The scorer may be below chance here: do not route by it."


def _beats_default(curves: dict[str, Curve], chosen: str, share: float) -> Iterator[str]:
    if chosen == DEFAULT:
        others = [name for name in curves if name != DEFAULT]
        if others:
            yield f"No other policy is certainly better than it ({', '.join(others)})."
    elif DEFAULT in curves:
        yield f"Against the default, error, that is {points(curves[chosen].wary_over_error[share])}."


def _which(chosen: str | None, point: Point) -> str:
    if chosen is None:
        return f'Keep policy random (or always), and judge more pairs before routing: policy = "random", max_share = {point.share:g}.'
    return f'Use policy = "{chosen}" with max_share = {point.share:g}, or threshold = {point.threshold:.4g}: it judges {point.share:.0%}.'


def _cost(point: Point) -> str:
    parts = [plural(point.calls, "call")]
    if point.tokens:
        parts.append(plural(point.tokens, "token"))
    if point.seconds:
        parts.append(f"{duration(point.seconds)} of judge time")
    return f"For as many pairs as recorded that takes {', '.join(parts)}."


def points(found: Estimate) -> str:
    """Return a difference in points with its interval."""
    if np.isnan(found.low):
        return f"{100 * found.value:+.1f} points (no interval)"
    return f"{100 * found.value:+.1f} points, 95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}"


def duration(seconds: float) -> str:
    """Return seconds for people: seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
