"""Where the budget went, and where it goes at the pace of the last steps."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence

from judgeflow.report.figures import Forecast, StepFigures
from judgeflow.store.survey import StepRow
from judgeflow.types import Cost, Stock

LAST = 10
"""How many steps make the pace."""

PAUSE_S, PAUSE = 60.0, 3.0
"""Between two steps so many seconds pass at least, and so many times as many as usual, where a run stands still."""

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
    """Return what is spent first, and when.  None where nothing is limited, or nothing is being spent.

    `taken` is paid or put aside, `steps_wanted` says how many steps are still to come, where somebody knows.
    A step takes what the last `LAST` steps took on average, and as long as from one end to the next without pauses.  What is left is what
    the last step has left, since a run may go on with another budget than it began with; else what `stock` leaves.
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
    seconds_left = None if seconds is None else lasting[kind] * seconds
    return Forecast(kind=kind, steps_left=lasting[kind], seconds_left=seconds_left, steps_wanted=steps_wanted)


def seconds_a_step(steps: Sequence[StepFigures]) -> float | None:
    """Return how long a step takes from one end to the next, on average; None of fewer than two, or where a pause hides it.

    Between two steps a trainer works.  Where that took more than a minute and more than `PAUSE` times as long as it usually does, the run
    stood still, and it counts as usual.  Of two steps nobody knows what is usual: there the steps themselves are the measure.
    """
    in_time = sorted(steps, key=lambda step: step.ended_at)
    between = [after.ended_at - after.seconds - before.ended_at for before, after in itertools.pairwise(in_time)]
    if not between:
        return None
    usual = statistics.median_low(between)
    if len(between) == 1 and usual > _longest(max(step.seconds for step in steps)):
        return None
    worked = [usual if each > _longest(usual) else each for each in between]
    return statistics.fmean(step.seconds for step in in_time[1:]) + statistics.fmean(worked)


def _longest(usual: float) -> float:
    """What may pass without being a pause."""
    return max(PAUSE_S, PAUSE * usual)
