"""Several judges over the same trace, each its own what-if, side by side."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from judgeflow.errors import ReplayError
from judgeflow.estimates import Estimate
from judgeflow.replay.findings import Found, find, plain
from judgeflow.replay.panel import configured, panel, title
from judgeflow.replay.statistics import accuracy, count_blocks, estimate
from judgeflow.replay.trace import Trace
from judgeflow.replay.whatif import WhatIf
from judgeflow.store.upkeep import Tell, untold


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """By how much a judge is more often right than the first one, on the `pairs` that both have judged; NaN where nobody knows."""

    judge: str
    pairs: int
    accuracy: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was found about each judge, in the order in which they were named; `leads` over the first; why others were `refused`."""

    found: tuple[Found, ...]
    leads: tuple[Lead, ...] = ()
    refused: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """Return everything as JSON values; of one judge its findings alone."""
        if len(self.found) == 1 and not self.refused:
            return self.found[0].as_record()
        records = [found.as_record() for found in self.found]
        return {"judges": records, "leads": plain(self.leads), "refused": list(self.refused)}


def compare(
    trace: Trace,
    judges: Sequence[str],
    base: WhatIf,
    grid: Sequence[WhatIf],
    shares: Sequence[float],
    *,
    chosen_orders: bool = False,
    resamples: int,
    tell: Tell = untold,
) -> Compared:
    """Return what `find` says about each of the `judges`, written as in `judgeflow.replay.panel.panel`; none: those of `base`.

    `tell` is told how much is done of what; of several judges, also about which.  Where something can be said of some of them only, the
    others are refused; else it raises as `find` does.
    """
    panels = [panel(trace, wanted) for wanted in judges] or [configured(trace, base)]
    found, refused = [], []
    for names, weights in dict.fromkeys(panels):
        try:
            own = dataclasses.replace(base, judges=names, weights=weights)
            whose = f", {title(own)}" if len(panels) > 1 else ""
            telling = functools.partial(_tell_of, tell, whose)
            found.append(find(trace, own, grid, shares, chosen_orders=chosen_orders, resamples=resamples, tell=telling))
        except ReplayError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    leads = tuple(_lead(found[0], other, base.seed, resamples) for other in found[1:])
    return Compared(found=tuple(found), leads=leads, refused=tuple(map(str, refused)))


def _tell_of(tell: Tell, whose: str, what: str, done: int, total: int) -> None:
    tell(what + whose, done, total)


def _lead(first: Found, other: Found, seed: int, resamples: int) -> Lead:
    """Compare two judges pair by pair.

    Verdicts of different judges were obtained independently given the pair, so their weights multiply.  Of a judge and a panel that it
    sits on the rarer verdict brings the other with it, so the larger weight counts.
    """
    one, two = first.measured.evidence, other.measured.evidence
    places = {first.trace.keys[row]: place for place, row in enumerate(one.rows)}
    common = [(places[key], place) for place, row in enumerate(two.rows) if (key := other.trace.keys[row]) in places]
    if not common or {one.reference, two.reference} != {"labels"}:
        return Lead(judge=other.judge, pairs=len(common), accuracy=Estimate(value=np.nan, low=np.nan, high=np.nan))
    ours, theirs = np.array(common).T
    both = np.maximum if set(first.judges) & set(other.judges) else np.multiply
    weights = both(one.weights[ours], two.weights[theirs])
    ahead = two.judged[theirs] - one.judged[ours]
    blocks = [accuracy(ahead, counts * weights) for counts in count_blocks(one.prompts[ours], seed, resamples)]
    return Lead(judge=other.judge, pairs=len(common), accuracy=estimate(np.concatenate(blocks)))
