"""Whether asking where the router asks finds more of the scorer's mistakes than asking at random, as far as the audit can tell.

The two shares of mistakes and their intervals are those of `judgeflow.routing.agreement`: routed pairs, and pairs drawn at random below
the threshold, each with weight 1 / propensity.  Difference and ratio take their intervals from these two (Newcombe 1998, method 10;
Donner & Zou 2012, section 2): both shares are taken as independent.

Asking at random would find what is in all pairs that could be asked about: routed ones, with their part w of all weight, and the others.
With shares r and a of mistakes that is w r + (1 - w) a, so asking where the router asks finds r / (w r + (1 - w) a) times as many.
"""

from __future__ import annotations

import math

from judgeflow.plurals import plural
from judgeflow.report.figures import Lift, Share
from judgeflow.report.verdicts import Comparison
from judgeflow.routing.agreement import ENOUGH, Z_95, interval, share
from judgeflow.types import Agreement

MOST_AUDITS = 20_000
"""Where more audits than this would be needed to tell, the difference is too small to matter."""

Estimate = tuple[float, float, float]


def lift(compared: Comparison) -> Lift:
    """Return what the audit says."""
    routed, audited = mistakes(compared.routed), mistakes(compared.audited)
    per_hundred = None if routed is None else 100 * routed.value
    if routed is None or audited is None:
        return Lift(routed=routed, audited=audited, per_hundred=per_hundred, verdict=_without_audit(compared))
    part = compared.routed.weight / (compared.routed.weight + compared.audited.weight)
    ratio, gap = ratio_to_random(routed, audited, part), difference(routed, audited)
    return Lift(
        routed=routed,
        audited=audited,
        difference=gap,
        per_hundred=per_hundred,
        per_hundred_at_random=100 * (part * routed.value + (1 - part) * audited.value),
        ratio=ratio,
        verdict=verdict_of(routed, audited, gap, ratio),
    )


def mistakes(sums: Agreement) -> Share | None:
    """Return the share of compared pairs on which the judge contradicts the scorer; None where none was compared."""
    agree, ends = share(sums), interval(sums)
    if agree is None or ends is None:
        return None
    return Share(value=1 - agree, low=1 - ends[1], high=1 - ends[0], of=sums.compared)


def difference(first: Share, second: Share) -> Estimate:
    """Return first less second with its 95 % interval."""
    value = first.value - second.value
    down = math.hypot(first.value - first.low, second.high - second.value)
    up = math.hypot(first.high - first.value, second.value - second.low)
    return value, value - down, value + up


def ratio_of(first: Share, second: Share) -> Estimate:
    """Return first over second with its 95 % interval; infinite where the second may be 0."""
    value = first.value / second.value if second.value else math.inf
    low = _end_of_ratio(first.value, first.low, second.value, second.high, -1)
    high = _end_of_ratio(first.value, first.high, second.value, second.low, 1)
    return value, low, high


def _end_of_ratio(x: float, x_end: float, y: float, y_end: float, side: int) -> float:
    """One end of the interval of x / y, from the ends of both intervals that pull it there."""
    below, above = y_end * (2 * y - y_end), x_end * (2 * x - x_end)
    if below == 0:
        return math.inf if side > 0 else above / (2 * x * y) if x * y else 0.0
    root = math.sqrt(max(0.0, (x * y) ** 2 - above * below))
    return max(0.0, (x * y + side * root) / below)


def ratio_to_random(routed: Share, audited: Share, part: float) -> Estimate | None:
    """Return how many times as many mistakes asking by rank finds as asking at random, `part` being the routed pairs' part of all."""
    if not routed.value and not audited.value:
        return None
    value, low, high = (_to_random(each, part) for each in ratio_of(routed, audited))
    return value, low, high


def _to_random(ratio: float, part: float) -> float:
    """Return r / (w r + (1 - w) a) as a function of r / a, which it grows with."""
    return 1 / part if math.isinf(ratio) else ratio / (part * ratio + 1 - part)


def audits_needed(routed: Share, audited: float) -> int | None:
    """Return how many independent audited pairs, at today's shares, would have the interval of the difference leave out 0.

    None where even `MOST_AUDITS` would not, for the shares are too close or the routed pairs too few.
    """
    candidates = (round(ENOUGH * 1.1**exponent) for exponent in range(80))
    for number in (each for each in candidates if each <= MOST_AUDITS):
        low, high = _wilson(audited, number)
        _, least, most = difference(routed, Share(value=audited, low=low, high=high, of=number))
        if least > 0 or most < 0:
            return number
    return None


def _wilson(value: float, number: int) -> tuple[float, float]:
    spread = Z_95 * Z_95 / number
    centre = (value + spread / 2) / (1 + spread)
    half = math.sqrt(spread * value * (1 - value) + spread * spread / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def verdict_of(routed: Share, audited: Share, gap: Estimate, ratio: Estimate | None) -> str:
    """Return the verdict as a sentence."""
    if audited.of < ENOUGH:
        needed = max(ENOUGH, audits_needed(routed, audited.value) or ENOUGH)
        return f"cannot be told yet: {plural(audited.of, 'audited pair')}, {needed:,} would do"
    shares = f"the judge contradicts the scorer on {routed.value:.1%} of routed and {audited.value:.1%} of audited pairs"
    if gap[1] > 0 and ratio is not None:
        times = f"{ratio[0]:.1f} times as many of the scorer's mistakes as asking at random"
        return f"asking where the router asks finds {times} (95 %: {ratio[1]:.1f} to {ratio[2]:.1f})"
    if gap[2] < 0:
        return f"no: asking at random would find more of the scorer's mistakes ({shares})"
    needed_ = audits_needed(routed, audited.value)
    if needed_ is not None and needed_ > audited.of:
        return f"cannot be told yet: {shares}; {plural(audited.of, 'audited pair')}, {needed_:,} would do"
    return f"no difference seen: {shares}, which is {100 * gap[1]:+.1f} to {100 * gap[2]:+.1f} points more (95 %)"


def _without_audit(compared: Comparison) -> str:
    if not compared.routed.compared and not compared.audited.compared:
        return "cannot be told: no pair has both a scorer's belief and a judge's preference"
    if compared.audited.asked:
        return f"cannot be told yet: {plural(compared.audited.compared, 'audited pair')}, {ENOUGH} would do"
    return "cannot be told: nothing was drawn at random; set [routing] audit_fraction, for instance to 0.1"
