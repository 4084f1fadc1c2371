"""The audit of a step: pairs that the threshold would not ask about, drawn at random, every one with a known probability.

Without it a router sees verdicts only where it expected the scorer to be wrong, and can never learn that it looks in the wrong place.

`x` audits are wanted on average, seldom a whole number.  So there are one or two `Design`s, floor(x) and floor(x) + 1 audits, and chance
picks one: exactly x in the long run, also in a stream of small steps.  With one audit more the ranking is cut one pair earlier, and that
pair can be drawn as well.  A pair's probability of being asked about is its mean over the designs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from judgeflow.keys import digest
from judgeflow.routing.policy import uniform
from judgeflow.types import Cost

_WHICH_DESIGN = b"which design"
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One way to divide what may be asked, by position: `routed` by rank, and `audits` of `pool`, any of them as likely as any other."""

    routed: tuple[int, ...]
    pool: tuple[int, ...] = ()
    audits: int = 0


Lottery = Sequence[tuple[float, Design]]
"""Designs with their chances, which sum to 1."""


def lot_of(seed: int, run: str, step: int) -> int:
    """Return the lot of one step of one run: the same whenever it is routed again, another for every other step."""
    return int.from_bytes(digest("audit/1", [seed, run, step])[:8], "little")


def lottery(wanted: float, design: Callable[[int], Design]) -> Lottery:
    """Return the designs that have `wanted` audits on average; `design` makes the one with a whole number of them."""
    fewer = math.floor(wanted + _ROUNDING)
    rest = wanted - fewer
    if rest <= _ROUNDING:
        return [(1.0, design(fewer))]
    return [(1.0 - rest, design(fewer)), (rest, design(fewer + 1))]


def chosen(designs: Lottery, lot: int) -> Design:
    """Return the design of this lot."""
    (chance, first), *others = designs
    return first if not others or uniform(lot, _WHICH_DESIGN) < chance else others[0][1]


def drawn(design: Design, keys: Sequence[bytes], lot: int) -> tuple[int, ...]:
    """Return the positions that this lot draws from the pool, in random order; `keys` are the pair keys by position."""
    if not design.audits:
        return ()
    return tuple(sorted(design.pool, key=lambda index: uniform(lot, keys[index]))[: design.audits])


def propensities(designs: Lottery) -> dict[int, float]:
    """Return the probability of being asked about, by position, of every pair that has one."""
    total: dict[int, float] = {}
    for chance, design in designs:
        for index in design.routed:
            total[index] = total.get(index, 0.0) + chance
        for index in design.pool if design.audits else ():
            total[index] = total.get(index, 0.0) + chance * design.audits / len(design.pool)
    return total


def dearest(costs: Sequence[Cost]) -> list[Cost]:
    """Return costs whose first k add up to at least what any k of the given ones do, in requests, in tokens and in dollars."""
    by_kind = zip(
        sorted((cost.requests for cost in costs), reverse=True),
        sorted((cost.tokens for cost in costs), reverse=True),
        sorted((cost.usd for cost in costs), reverse=True),
        strict=True,
    )
    return [Cost(requests=requests, tokens=tokens, usd=usd) for requests, tokens, usd in by_kind]


def spread(routed: Sequence[int], audited: Sequence[int]) -> tuple[int, ...]:
    """Return both in one order, the audits evenly among the others: whichever part of it is reached has its share of them."""
    places = [((place + 0.5) / len(part), index) for part in (routed, audited) for place, index in enumerate(part)]
    return tuple(index for _, index in sorted(places, key=lambda place: place[0]))
