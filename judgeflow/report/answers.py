"""The three things that a reader wants to know first: is judging healthy, what does it cost, does it help?

Every answer is the worst of what its rules find, and says that one thing; docs/report.md states the thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from judgeflow.plurals import plural
from judgeflow.report.figures import Answer, Forecast, JudgeFigures, Lift, Mood, StepFigures
from judgeflow.report.pace import KINDS, LAST
from judgeflow.report.pressure import felt, told_shortly
from judgeflow.routing.agreement import ENOUGH
from judgeflow.types import Cost, Stock

FAILED = ("judge_stopped", "unreachable", "overloaded", "rate_limited", "reply_lost", "judge_error", "store_error", "scorer_failed")
"""Statuses of pairs that the judge, the way to it, the database or the scorer failed."""

LATE = ("deadline",)

FAILED_UNSURE, FAILED_BAD = 0.01, 0.1
"""Shares of the asked pairs that failed, in the last steps."""

LATE_UNSURE, LATE_BAD = 0.1, 0.5
"""Shares of the asked pairs whose reply had not come by the deadline, in the last steps."""

UNREAD_UNSURE, UNREAD_BAD = 0.05, 0.2
"""Shares of a judge's replies that hold no verdict."""

AGREE_UNSURE, AGREE_BAD = 0.7, 0.55
"""Shares of pairs on which a judge's two orders agree; a coin reaches a half."""

BIAS_UNSURE, BIAS_BAD = 0.1, 0.25
"""How far from a half the share of replies lies that prefer what was shown first, at the nearer end of its interval."""

LOWERED_UNSURE = 0.25
"""Which part of the last steps' time a judge was asked less at a time, since it had turned requests away."""

SHORT_UNSURE, SHORT_BAD = 1.0, 0.5
"""Which share of the steps that are wanted the budget reaches, below which it is too short."""

Finding = tuple[Mood, str]
_WORST: Mapping[Mood, int] = {"bad": 0, "unsure": 1, "good": 2}


def healthy(steps: Sequence[StepFigures], judges: Sequence[JudgeFigures]) -> Answer:
    """Is judging healthy?  Looks at the last steps, and at each judge's replies."""
    found = [*_failures(steps[-LAST:]), *(finding for judge in judges for finding in _judge(judge)), *_lowered(steps[-LAST:])]
    if not found:
        return Answer(title="healthy", mood="unsure", text="Nothing has been asked yet, so nobody can tell.")
    return _worst("healthy", found, _all_well(judges))


def _worst(title: str, found: Sequence[Finding], well: str) -> Answer:
    mood, text = min(found, key=lambda finding: _WORST[finding[0]])
    return Answer(title=title, mood=mood, text=well if mood == "good" else text)


def _graded(value: float, unsure: float, bad: float) -> Mood:
    """How bad it is, where more is worse."""
    return "bad" if value > bad else "unsure" if value > unsure else "good"


def _failures(steps: Sequence[StepFigures]) -> Iterator[Finding]:
    """What became of the pairs that were to be asked about; where that number is unknown, of all that had a verdict or a fallback."""
    wanted = sum(_wanted(step) for step in steps)
    if not wanted:
        return
    for names, what, unsure, bad in ((FAILED, "failed", FAILED_UNSURE, FAILED_BAD), (LATE, "came too late", LATE_UNSURE, LATE_BAD)):
        counts = {name: number for name in names if (number := sum(step.statuses.get(name, 0) for step in steps))}
        share = sum(counts.values()) / wanted
        reasons = "" if names is LATE else f" ({', '.join(f'{name} {number:,}' for name, number in counts.items())})"
        told = f"{sum(counts.values()):,} of {plural(wanted, 'asked pair')} {what} in {_last(steps)}{reasons}."
        yield _graded(share, unsure, bad), told


def _last(steps: Sequence[StepFigures]) -> str:
    return "the last step" if len(steps) == 1 else f"the last {len(steps)} steps"


def _wanted(step: StepFigures) -> int:
    spoken = sum(step.sources.get(source, 0) for source in ("judge", "fallback"))
    return spoken if step.asked is None else max(step.asked, spoken)


def _judge(judge: JudgeFigures) -> Iterator[Finding]:
    if judge.calls:
        understood = judge.statuses.get("ok", 0)
        worst = ", ".join(f"{name} {number:,}" for name, number in judge.statuses.items() if name != "ok")
        told = f"{judge.id}: {1 - understood / judge.calls:.0%} of its replies hold no verdict ({worst})."
        yield _graded(1 - understood / judge.calls, UNREAD_UNSURE, UNREAD_BAD), told
    if judge.agree is not None and judge.agree.of >= ENOUGH:
        told = f"{judge.id}: its two orders agree on only {judge.agree.value:.0%} of {judge.agree.of:,} pairs."
        yield _graded(-judge.agree.high, -AGREE_UNSURE, -AGREE_BAD), told
    if judge.first is not None and judge.first.of >= ENOUGH:
        side = "first" if judge.first.value > 0.5 else "second"
        away = max(judge.first.low - 0.5, 0.5 - judge.first.high, 0.0)
        told = f"{judge.id} prefers what is shown {side} in {max(judge.first.value, 1 - judge.first.value):.0%} of its replies."
        yield _graded(away, BIAS_UNSURE, BIAS_BAD), told


def _lowered(steps: Sequence[StepFigures]) -> Iterator[Finding]:
    """Who was asked less at a time in the last steps."""
    noted = felt(steps)
    for judge, pressure in noted.judges.items():
        what = told_shortly(pressure, noted.seconds)
        remedy = "Set [limits] max_in_flight or requests_per_minute to what it bears"
        text = f"{judge} does not bear what is configured: {what} in {_last(steps)}. {remedy}."
        yield _graded(pressure.lowered_s, LOWERED_UNSURE * noted.seconds, math.inf), text


def _all_well(judges: Sequence[JudgeFigures]) -> str:
    calls = sum(judge.calls or 0 for judge in judges)
    parts = []
    if calls:
        parts.append(
            f"{sum(judge.statuses.get('ok', 0) for judge in judges) / calls:.1%} of {plural(calls, 'reply is', 'replies are')} understood"
        )
    both = [judge.agree for judge in judges if judge.agree is not None]
    if both:
        of = sum(share.of for share in both)
        parts.append(f"both orders agree on {sum(share.value * share.of for share in both) / of:.0%} of {plural(of, 'pair')}")
    strained = "".join(f" {judge.id}: {judge.strain}." for judge in judges if judge.strain)
    return f"{', '.join(parts) or 'No pair failed'}.{strained}"


def cost(spent: Cost, reserved: Cost, stock: Stock, ahead: Forecast | None, *, calls_per_change: float | None) -> Answer:
    """What does it cost, and how long does the budget last?"""
    used = [_used(kind, getattr(spent, kind), getattr(stock, kind)) for kind in KINDS if getattr(spent, kind) or getattr(stock, kind)]
    aside = f", {plural(reserved.requests, 'call')} more put aside" if reserved.requests else ""
    told = (", ".join(used) or "nothing spent yet") + aside
    each = f" A changed decision takes {calls_per_change:.1f} calls." if calls_per_change else ""
    mood, lasting = _lasting(ahead)
    return Answer(title="cost", mood=mood, text=f"{told[0].upper()}{told[1:]}{lasting}.{each}")


def _used(kind: str, amount: float, limit: float | None) -> str:
    noun = {"requests": "call", "tokens": "token"}.get(kind)
    if noun is None:
        return f"{amount:,.2f}{'' if limit is None else f' of {limit:,.2f}'} USD"
    return plural(amount, noun) if limit is None else f"{amount:,.0f} of {plural(limit, noun)}"


def _lasting(ahead: Forecast | None) -> tuple[Mood, str]:
    if ahead is None:
        return "good", ""
    what = {"requests": "calls", "usd": "dollars"}.get(ahead.kind, ahead.kind)
    left, wanted = int(ahead.steps_left), ahead.steps_wanted
    if wanted == 0:
        over = f", with {what} left for {plural(left, 'more step')}" if left else ""
        return "good", f"; all steps are done{over}"
    if ahead.steps_left < 1:
        return "bad", f"; the {what} are spent"
    lasts = f"; at this pace the {what} last for {plural(left, 'more step')}{_duration(ahead.seconds_left)}"
    if wanted is None:
        return "good", lasts
    reach = ahead.steps_left / wanted
    mood: Mood = "bad" if reach < SHORT_BAD else "unsure" if reach < SHORT_UNSURE else "good"
    return mood, f"{lasts}, and {wanted:,} {'is' if wanted == 1 else 'are'} wanted"


def _duration(seconds: float | None) -> str:
    if seconds is None or seconds < 1:
        return ""
    for size, name in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f" (about {seconds / size:.1f} {name})"
    return f" (about {seconds:.0f} s)"


def helps(lift: Lift, *, changed: int | None, compared: int | None) -> Answer:
    """Does it help?  Good where asking by rank finds more mistakes than asking at random would, beyond chance."""
    if changed is None or compared is None:
        return Answer(title="helps", mood="unsure", text="Decisions have not been read, so nobody can tell.")
    told = f"The judge changed {changed:,} of {plural(compared, 'decision')}" if compared else "No decision can be compared"
    mood: Mood = "unsure"
    if lift.difference is not None and lift.audited is not None and lift.audited.of >= ENOUGH:
        mood = "good" if lift.difference[1] > 0 else "bad" if lift.difference[2] < 0 else "unsure"
    return Answer(title="helps", mood=mood, text=f"{told}: {lift.verdict}.")
