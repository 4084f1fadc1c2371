"""What judges turned away, and how much less they were asked at a time for that: from steps to a run, and in words.

The route summary, the report in all its forms and the live page say it with these words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from judgeflow.plurals import plural
from judgeflow.report.figures import StepFigures
from judgeflow.report.wording import count, duration
from judgeflow.types import Pressure

ByJudge = Mapping[str, Pressure]


class Felt(NamedTuple):
    """What was noted in steps: of each judge that had too much to do, by its id, over so many `seconds` of steps."""

    judges: dict[str, Pressure]
    seconds: float


def felt(steps: Iterable[StepFigures]) -> Felt:
    """Return what was noted in these steps; those of which nobody noted anything do not count."""
    noted = [step for step in steps if step.pressure is not None]
    return Felt(together(step.pressure or {} for step in noted), sum(step.seconds for step in noted))


def together(times: Iterable[ByJudge]) -> dict[str, Pressure]:
    """Return what was noted at several times as one."""
    sums: dict[str, Pressure] = {}
    for judges in times:
        for judge, pressure in judges.items():
            sums[judge] = sums[judge].then(pressure) if judge in sums else pressure
    return sums


def told(pressure: Pressure, seconds: float) -> str:
    """Say what a judge turned away, and what came of it in steps that took so many seconds."""
    away = refusals(pressure)
    return _joined(f"turned away {away}" if away else "", _lowered(pressure, seconds), _admitted(pressure.admits))


def told_shortly(pressure: Pressure, seconds: float) -> str:
    """Say the same without what the judge's headers tell."""
    return told(replace(pressure, admits={}), seconds)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def refusals(pressure: Pressure) -> str:
    """How many requests were turned away, and how: `33 requests (28 with 429, 5 with 503 or 529)`."""
    said = {code: number for code, number in (("429", pressure.rate_limited), ("503 or 529", pressure.busy)) if number}
    if len(said) > 1:
        return f"{plural(pressure.turned_away, 'request')} ({', '.join(f'{number:,} with {code}' for code, number in said.items())})"
    return "".join(f"{plural(number, 'request')} with {code}" for code, number in said.items())


def _lowered(pressure: Pressure, seconds: float) -> str:
    if not pressure.lowered_s:
        return ""
    low, whole = duration(pressure.lowered_s), duration(seconds)
    least = f"{pressure.in_flight} of {pressure.max_in_flight}"
    return f"concurrency was lowered, to {least} at the least, for {f'all of {whole}' if low == whole else f'{low} of {whole}'}"


_ADMITTED = {
    "requests_per_minute": "it admits {} requests a minute",
    "tokens_per_minute": "it admits {} tokens a minute",
    "requests_left_by_others": "other users of the account leave {} requests of a window",
    "tokens_left_by_others": "other users of the account leave {} tokens of a window",
}


def _admitted(admits: Mapping[str, float]) -> str:
    said = [words.format(count(admits[name])) for name, words in _ADMITTED.items() if name in admits]
    return f"by its headers {' and '.join(said)}" if said else ""
