"""What an audit tells: how often scorer and judge agree where the router asks, and where it would not have asked.

Pairs count with weight 1 / propensity (Horvitz and Thompson 1952), so `agreed` and `weight` are unbiased for the totals over all pairs
that could have been drawn, and their ratio estimates the share in agreement among those.  Its interval linearises the ratio, over
prompts as clusters, and turns the variance into the number of independent observations that would have it, for Wilson's formula: that
keeps it in [0, 1], and wide where few observations happen to agree all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from judgeflow.types import Agreement, Choice

Z_95 = 1.959964
"""Quantile of the normal distribution that leaves 2.5 % above it."""

ENOUGH = 20
"""Compared pairs from which on a share is worth telling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One pair that was asked about: its prompt's hash, the probability of that, and 1, 0.5 or 0 for agreement (None: not comparable)."""

    prompt: bytes
    propensity: float
    agree: float | None


def agreement(logit: float | None, choice: Choice | None) -> float | None:
    """Return 1 if the scorer's logit and the judge's choice prefer the same response, 0 if not, 0.5 if the scorer is undecided.

    None where the judge prefers neither (a tie, a contradiction, no verdict) or the scorer did not speak.
    """
    if logit is None or choice not in {"a", "b"}:
        return None
    return 0.5 if logit == 0 else float((logit > 0) == (choice == "a"))


def tally(votes: Iterable[Vote]) -> Agreement:
    """Add up the votes of one step.  All pairs of a prompt must be among them: across tallies they count as different prompts."""
    asked = compared = 0
    prompts: dict[bytes, tuple[float, float]] = {}
    for vote in votes:
        asked += 1
        if vote.agree is not None:
            compared += 1
            weight, agreed = prompts.get(vote.prompt, (0.0, 0.0))
            prompts[vote.prompt] = weight + 1.0 / vote.propensity, agreed + vote.agree / vote.propensity
    return Agreement(
        asked=asked,
        compared=compared,
        prompts=len(prompts),
        weight=sum(weight for weight, _ in prompts.values()),
        agreed=sum(agreed for _, agreed in prompts.values()),
        weight_squared=sum(weight * weight for weight, _ in prompts.values()),
        weight_agreed=sum(weight * agreed for weight, agreed in prompts.values()),
        agreed_squared=sum(agreed * agreed for _, agreed in prompts.values()),
    )


def share(sums: Agreement) -> float | None:
    """Return the estimated share of pairs on which both agree; None where none was compared."""
    return min(1.0, sums.agreed / sums.weight) if sums.compared else None


def interval(sums: Agreement) -> tuple[float, float] | None:
    """Return the 95 % interval of `share`; None where none was compared."""
    estimate = share(sums)
    if estimate is None:
        return None
    number = _independent(sums, estimate)
    spread = Z_95 * Z_95 / number
    centre = (estimate + spread / 2) / (1 + spread)
    half = math.sqrt(spread * estimate * (1 - estimate) + spread * spread / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def _independent(sums: Agreement, estimate: float) -> float:
    """How many independent pairs say as much: by the variance over prompts, or where they all say the same by their weights (Kish)."""
    most = sums.weight * sums.weight / sums.weight_squared
    residuals = sums.agreed_squared - 2 * estimate * sums.weight_agreed + estimate * estimate * sums.weight_squared
    if sums.prompts < 2 or residuals <= 0:
        return most
    variance = residuals / (sums.weight * sums.weight) * sums.prompts / (sums.prompts - 1)
    return max(1.0, min(float(sums.compared), estimate * (1 - estimate) / variance))


def shares_by_decile(groups: Mapping[int, tuple[float, int]]) -> list[float | None]:
    """Return the share of hits in each tenth of a population, from the smallest values to the largest; None of nobody.

    `groups` has (hits, of how many) by value.  Equal values share alike what they have, on whichever side of a border they stand.
    """
    tenth = sum(of for _, of in groups.values()) / 10
    hits, below = [0.0] * 10, 0.0
    for value in sorted(groups):
        hit, of = groups[value]
        for decile in range(10):
            common = min(below + of, (decile + 1) * tenth) - max(below, decile * tenth)
            hits[decile] += max(0.0, common) * hit / of if of else 0.0
        below += of
    return [min(1.0, total / tenth) if tenth else None for total in hits]
