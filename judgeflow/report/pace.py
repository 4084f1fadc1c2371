"""Where the budget went, and where it goes at the pace of the last steps."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from judgeflow.report.figures import Forecast, StepFigures
from judgeflow.store.survey import StepRow
from judgeflow.types import Cost, Stock

LAST = 10
"""How many steps make the pace."""

KINDS = ("requests", "tokens", "usd")


def left_after(ends: Mapping[int, Sequence[StepRow]]) -> dict[int, dict[str, float]]:
    """Return what was left after each step, of what is limited, as if the steps had come in the order of their numbers.

    An end of a step has recorded what was left in its moment, when later steps may have spent something already, or earlier ones be
    routed again afterwards.  So what all had spent by then is put back, and what the steps up to this one have spent in all is taken
    off instead: the same where steps come in order, so that what was recorded stands.
    """
    left: dict[int, dict[str, float]] = {step: {} for step in ends}
    in_time = sorted((row for rows in ends.values() for row in rows), key=lambda row: row.id)
    in_order = [row for step in sorted(ends) for row in ends[step]]
    for kind in KINDS:
        by_then = dict(zip((row.id for row in in_time), _spent(in_time, kind), strict=True))
        up_to_step = dict(zip((row.step for row in in_order), _spent(in_order, kind), strict=True))
        for row in in_time:
            recorded = row.remaining.get(kind)
            if recorded is not None:
                left[row.step][kind] = max(0, recorded + (by_then[row.id] - up_to_step[row.step]))
    return left


def _spent(rows: Sequence[StepRow], kind: str) -> list[float]:
    """Return what had been spent after each row."""
    return list(itertools.accumulate(getattr(row, f"spent_{kind}") for row in rows))


def forecast(steps: Sequence[StepFigures], stock: Stock, taken: Cost, steps_wanted: int | None) -> Forecast | None:
    """Return what is spent first, and when; `taken` is paid or put aside.  None where nothing is limited, or nothing is being spent.

    A step takes what the last `LAST` steps took on average, and as long as from one end to the next.  What is left is what the last step
    has left, since a run may go on with another budget than it began with; else what `stock` leaves.
    """
    recent = steps[-LAST:]
    if not recent:
        return None
    left = {kind: limit - getattr(taken, kind) for kind in KINDS if (limit := getattr(stock, kind)) is not None} | dict(
        recent[-1].remaining
    )
    pace = {kind: sum(getattr(step.spent, kind) for step in recent) / len(recent) for kind in left}
    lasting = {kind: max(0.0, left[kind]) / pace[kind] if left[kind] > 0 else 0.0 for kind in left if pace[kind] > 0 or left[kind] <= 0}
    if not lasting:
        return None
    kind = min(lasting, key=lambda each: lasting[each])
    seconds = seconds_a_step(recent)
    wanted = None if steps_wanted is None else max(0, steps_wanted - 1 - max(step.step for step in steps))
    return Forecast(
        kind=kind, steps_left=lasting[kind], seconds_left=None if seconds is None else lasting[kind] * seconds, steps_wanted=wanted
    )


def seconds_a_step(steps: Sequence[StepFigures]) -> float | None:
    """Return how long a step takes from one end to the next, on average; None of fewer than two."""
    if len(steps) < 2:
        return None
    ends = [step.ended_at for step in steps]
    return (max(ends) - min(ends)) / (len(ends) - 1)
