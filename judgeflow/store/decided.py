"""What a report reads of a run's decisions, page by page, as columns.  Keys are cut as in `survey`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.store import schema
from judgeflow.store.columns import Flags, Floats, Keys, Numbers, columns, cut, flags, floats, joined, numbers
from judgeflow.store.survey import PAGE

JUDGED = ("judge", "store")
"""Sources of decisions that stand on a verdict."""


class Span(NamedTuple):
    """The decisions of the steps from `first` to `last`: one page.

    A step too large for a page has several spans; of these each has the pairs from the key `low` to `high` (None: to the last).
    """

    first: int
    last: int
    low: bytes = b""
    high: bytes | None = None


def spans(steps: Mapping[int, int], page: int = PAGE) -> list[Span]:
    """Return what to read for these steps, by number of pairs each, in order; steps that are not among them are left out."""
    found: list[Span] = []
    room = 0
    for step in sorted(steps):
        pairs = steps[step]
        if pairs > page:
            found += _parts(step, -(-pairs // page))
            room = 0
        elif found and found[-1].last == step - 1 and pairs <= room:
            found[-1] = found[-1]._replace(last=step)
            room -= pairs
        else:
            found.append(Span(step, step))
            room = page - pairs
    return found


def _parts(step: int, number: int) -> list[Span]:
    """One step in parts of about the same size: keys are spread evenly."""
    borders = [(part * 2**64 // number).to_bytes(8, "big") for part in range(1, number)]
    return [Span(step, step, low, high) for low, high in zip([b"", *borders], [*borders, None], strict=True)]


@dataclass(frozen=True, slots=True)
class Cases:
    """The decisions that a judge was asked about, or that have a verdict, as columns.  `believed` tells that the logit says something."""

    keys: Keys
    asked: Flags
    audit: Flags
    judged: Flags
    logits: Floats
    believed: Flags
    propensities: Floats

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, rows: slice) -> Cases:
        """Return some of them, which keep nothing of the others alive."""
        return Cases(*(getattr(self, column.name)[rows].copy() for column in fields(Cases)))

    @staticmethod
    def joined(parts: Iterable[Cases]) -> Cases:
        """Return all of them, one part after the other."""
        return joined(Cases, [_NO_CASES, *parts])


_NO_CASES = Cases(
    keys=np.empty(0, np.uint64),
    asked=np.empty(0, np.bool_),
    audit=np.empty(0, np.bool_),
    judged=np.empty(0, np.bool_),
    logits=np.empty(0, np.float64),
    believed=np.empty(0, np.bool_),
    propensities=np.empty(0, np.float64),
)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the decisions of a span say, in the order of steps; NaN where something is not known.

    `steps`, `uncertainties` and `acquisitions` are of all decisions, `of_steps` has the steps of the `cases`.
    """

    steps: Numbers
    uncertainties: Floats
    acquisitions: Floats
    of_steps: Numbers
    cases: Cases

    @staticmethod
    def joined(parts: Sequence[Decisions]) -> Decisions:
        """Return all of them, one part after the other."""
        return Decisions(
            steps=np.concatenate([part.steps for part in parts]),
            uncertainties=np.concatenate([part.uncertainties for part in parts]),
            acquisitions=np.concatenate([part.acquisitions for part in parts]),
            of_steps=np.concatenate([part.of_steps for part in parts]),
            cases=Cases.joined(part.cases for part in parts),
        )


async def decisions(connection: AsyncConnection, run_id: int, span: Span) -> Decisions:
    """Return the decisions of a span.  Two statements: most decisions are only counted, and need few columns."""
    at = schema.decision.c
    within = [at.run_id == run_id, at.step >= span.first, at.step <= span.last]
    if span.high is not None or span.low:
        within += [at.pair_key >= span.low, *([at.pair_key < span.high] if span.high is not None else [])]
    every = await columns(connection, select(at.step, at.uncertainty, at.acquisition).where(*within).order_by(at.step))
    judged = func.coalesce(at.source, "").in_(JUDGED)
    chosen = select(at.step, at.pair_key, at.asked, at.audit, judged, at.logit, at.uncertainty, at.propensity).where(*within)
    kept = await columns(connection, chosen.where(at.asked | judged).order_by(at.step, at.pair_key))
    logits, uncertainties = floats(kept[5]), floats(kept[6])
    cases = Cases(
        keys=cut(kept[1]),
        asked=flags(kept[2]),
        audit=flags(kept[3]),
        judged=flags(kept[4]),
        logits=logits,
        # What was known already is not scored: a logit of 0 without an uncertainty says nothing.
        believed=(logits != 0) | ~np.isnan(uncertainties),
        propensities=floats(kept[7]),
    )
    return Decisions(
        steps=numbers(every[0]),
        uncertainties=floats(every[1]),
        acquisitions=floats(every[2]),
        of_steps=numbers(kept[0]),
        cases=cases,
    )
