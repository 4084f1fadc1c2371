"""A run of thousands of steps in as many points as a page can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import TypeVar

from judgeflow.report.figures import MinuteFigures, Spread, StepFigures
from judgeflow.report.pressure import felt
from judgeflow.types import Cost

T = TypeVar("T")

MOST_POINTS = 200
"""More than twice as many pixels as a point needs on a wide screen, and a table that can still be read."""

_MINUTE_S = 60.0


def bundled(items: Sequence[T], most: int = MOST_POINTS) -> tuple[Sequence[T], ...]:
    """Return `items` in at most `most` bundles of neighbours, all of one size but the last."""
    size = max(1, ceil(len(items) / most))
    return tuple(items[start : start + size] for start in range(0, len(items), size))


def thinned_steps(steps: Sequence[StepFigures], most: int = MOST_POINTS) -> tuple[StepFigures, ...]:
    """Return at most `most` steps: neighbours as one (see `merged`)."""
    return tuple(merged(bundle) for bundle in bundled(steps, most))


def merged(steps: Sequence[StepFigures]) -> StepFigures:
    """Return neighbouring steps as one that bears the last one's number.

    Counts and costs add up; thresholds, agreement and quantiles are averages, weighted by what they are about; the longest wait is the
    longest; what remains is what the last one left.
    """
    last = steps[-1]
    if len(steps) == 1:
        return last
    return StepFigures(
        step=last.step,
        ended_at=last.ended_at,
        seconds=sum(step.seconds for step in steps),
        pairs=sum(step.pairs for step in steps),
        asked=_sum(step.asked for step in steps),
        audits=_sum(step.audits for step in steps),
        threshold=_mean((step.threshold, step.pairs) for step in steps),
        sources=_total(step.sources for step in steps),
        statuses=_total(step.statuses for step in steps),
        spent=sum((step.spent for step in steps), Cost()),
        prompt_tokens=sum(step.prompt_tokens for step in steps),
        completion_tokens=sum(step.completion_tokens for step in steps),
        agreement=_mean((step.agreement, step.spent.requests) for step in steps),
        waited_s=_waited(steps),
        remaining=last.remaining,
        uncertainty=_spread([step.uncertainty for step in steps]),
        acquisition=_spread([step.acquisition for step in steps]),
        pressure=felt(steps).judges,
    )


def thinned_minutes(minutes: Sequence[MinuteFigures], most: int = MOST_POINTS) -> tuple[MinuteFigures, ...]:
    """Return at most `most` minutes in order, each the fullest of its neighbours; what is left out between them is there as a pause."""
    return tuple(_fullest(bundle) for bundle in bundled(_with_pauses(minutes), most))


def _with_pauses(minutes: Sequence[MinuteFigures]) -> tuple[MinuteFigures, ...]:
    """Nothing is sent in a pause, and the backlog stays what it was: its first and its last minute say so."""
    found: list[MinuteFigures] = []
    for minute in sorted(minutes, key=lambda each: each.start):
        if found and minute.start - found[-1].start > 1.5 * _MINUTE_S:
            ends = {found[-1].start + _MINUTE_S, minute.start - _MINUTE_S}
            found += [MinuteFigures(start=start, requests=0, tokens=0, backlog=found[-1].backlog) for start in sorted(ends)]
        found.append(minute)
    return tuple(found)


def _fullest(minutes: Sequence[MinuteFigures]) -> MinuteFigures:
    return MinuteFigures(
        start=minutes[0].start,
        requests=max(minute.requests for minute in minutes),
        tokens=max(minute.tokens for minute in minutes),
        backlog=max(minute.backlog for minute in minutes),
    )


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _sum(counts: Iterable[int | None]) -> int | None:
    """The sum; None where a part of it is not known."""
    known = tuple(counts)
    return None if None in known else sum(count or 0 for count in known)


def _mean(weighted: Iterable[tuple[float | None, float]]) -> float | None:
    """The weighted mean of what is known; equal weights where nothing weighs anything."""
    known = [(value, weight) for value, weight in weighted if value is not None]
    total = sum(weight for _, weight in known)
    if not known:
        return None
    return sum(value * weight for value, weight in known) / total if total else sum(value for value, _ in known) / len(known)


def _waited(steps: Sequence[StepFigures]) -> dict[str, float]:
    found = {name: _mean((step.waited_s.get(name), step.spent.requests) for step in steps) for name in ("p50", "p90")}
    found["max"] = max((step.waited_s["max"] for step in steps if "max" in step.waited_s), default=None)
    return {name: value for name, value in found.items() if value is not None}


def _spread(spreads: Iterable[Spread | None]) -> Spread | None:
    known = [spread for spread in spreads if spread is not None and spread.of]
    if not known:
        return None
    total = sum(spread.of for spread in known)
    columns = zip(*(spread.quantiles for spread in known), strict=True)
    means = (sum(value * spread.of for value, spread in zip(column, known, strict=True)) / total for column in columns)
    return Spread(quantiles=tuple(means), of=total)
