"""A replay on one screen, and as rows."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from judgeflow.errors import UsageError
from judgeflow.estimates import Estimate
from judgeflow.replay.advice import Advice, duration
from judgeflow.replay.findings import CURVES, Arm, Found, arm_record
from judgeflow.replay.measure import SHARES, TARGET, Curve, OrderValue, PositionBias

SAMPLE = 0.8
"""Where fewer of the pairs are measured, it is said that nobody knows how they were chosen."""


def print_screen(found: Found) -> None:
    """Print what was read, every policy beside random, what-ifs in time, and what to do."""
    console = Console()
    for line in _head(found):
        console.print(Text(line))
    _print(console, _title(found), _policy_columns(), _policy_rows(found))
    _print(console, "played in time", _ARM_COLUMNS, _arm_rows(found.arms))
    refused = next((arm.refused for arm in found.arms if arm.refused), "")
    told = [*_saved(found), *_worth(found.orders_worth), *map(_bias, found.biases), *([refused] if refused else [])]
    advice = [sentence for each in found.advice for sentence in (*each.sentences, _blocking(found, each))]
    for sentence in [*told, *advice]:
        console.print(Text(sentence))


def _head(found: Found) -> Iterator[str]:
    measured, evidence = found.measured, found.measured.evidence
    weights = ", weighted by inverse propensity" if evidence.weighted else ""
    yield (
        f"{found.trace.source}: {len(found.trace):,} pairs, {len(evidence):,} of them of {len(np.unique(evidence.prompts)):,} prompts "
        f"measured{weights}"
    )
    yield f"judge {found.judge} (orders: {found.orders}), scorer {found.trace.scorer or 'none'}"
    if len(evidence) < SAMPLE * len(found.trace) and not evidence.weighted:
        yield "Nothing recorded says how the measured pairs were chosen: if not at random, the figures hold for pairs like them alone."
    if evidence.reference == "labels":
        own, judge = measured.scorer_accuracy, measured.judge_accuracy
        yield f"accuracy of the scorer {_share(own)}, of the judge {_share(judge)}, against labels"
    else:
        yield f"no labels: measured is agreement with the full judge, of the scorer {_share(measured.scorer_accuracy)}"


def _title(found: Found) -> str:
    what = "accuracy" if found.measured.evidence.reference == "labels" else "agreement"
    return f"{what} gained over random at as many judged pairs, in points (95 % interval)"


def _policy_columns() -> list[str]:
    return ["policy", *(f"{share:.0%} judged" for share in SHARES), "calls saved"]


def _policy_rows(found: Found) -> Iterator[list[str]]:
    for name in CURVES:
        curve = found.measured.curves.get(name)
        if curve is None or name == "random":
            continue
        yield [name, *(_points(curve.at(share).gain) for share in SHARES), _percent(curve.saved["calls"])]


_ARM_COLUMNS = ["policy", "share", "req/min", "calls", "tokens", "USD", "blocked in all", "a step", "accuracy"]


def _arm_rows(arms: Sequence[Arm]) -> Iterator[list[str]]:
    for arm in arms:
        if arm.played is None:
            yield [arm.what_if.policy, f"{arm.what_if.max_share or 1:.0%}", "", "not covered", "", "", "", "", ""]
            continue
        told = arm_record(arm)
        yield [
            arm.what_if.policy,
            f"{told['asked'] / max(1, told['pairs']):.0%}",
            _rate(arm),
            f"{told['calls']:,}",
            _number(told["tokens"]),
            f"{told['usd']:.2f}" if told["usd"] else "-",
            "unknown" if told["seconds"] is None else duration(told["seconds"]),
            "-" if told["seconds_per_step"] is None else duration(told["seconds_per_step"]),
            "-" if told["accuracy"] is None else f"{told['accuracy']:.3f}",
        ]


def _saved(found: Found) -> Iterator[str]:
    if found.trace.scorer is not None:
        yield (
            f"Calls saved: against random, in reaching what random has with {TARGET:.0%} judged, taken where the curve first does. "
            f"A calibrated scorer before a perfect judge saves {max(0.0, found.measured.bound):.0%} in expectation (2 accuracy - 1)."
        )


def _blocking(found: Found, advice: Advice) -> str:
    """How long training waits for each step under what is advised."""
    policy = advice.policy or "random"
    arms = [arm for arm in found.arms if arm.what_if.policy == policy and arm.what_if.max_share == advice.share and arm.played]
    if not arms:
        return f"How long training waits under policy {policy} was not played: add --policy {policy}."
    times = [(_rate(arm), arm_record(arm)["seconds_per_step"]) for arm in arms]
    known = [
        f"{duration(seconds)}{f' at {rate} requests a minute' if rate != '-' else ''}" for rate, seconds in times if seconds is not None
    ]
    if known:
        return f"Training waits for each step {', '.join(known)}.{_shortfall(arms, advice.share)}"
    return "How long training waits is unknown: no latencies are recorded; give --latency, for instance lognormal:34.6:0.33."


def _shortfall(arms: Sequence[Arm], share: float) -> str:
    """What to add where limits, a deadline or the budget do not admit the share that is advised."""
    least = min(int(arm.played.judged.sum()) / max(1, len(arm.played)) for arm in arms if arm.played is not None)
    return f" The limits, the deadline or the budget admit verdicts on {least:.1%} of the pairs only." if least < 0.9 * share else ""


def _rate(arm: Arm) -> str:
    """Requests a minute, also where the window is another."""
    rate = arm.what_if.requests_per_minute
    return "-" if rate is None else f"{rate * 60 / arm.what_if.window_s:,.0f}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _worth(values: Sequence[OrderValue]) -> Iterator[str]:
    """What asking in one order, or adaptively, is worth at as many calls as both orders take."""
    for share in dict.fromkeys(value.share for value in values):
        parts = [
            f"{value.orders} {_points(value.over_both)} (agrees with both orders on {value.agreement:.0%})"
            for value in values
            if value.share == share and value.orders != "both"
        ]
        yield f"The second order, at the calls that both orders take for {share:.0%}: {'; '.join(parts)} points."


def _bias(bias: PositionBias) -> str:
    if not bias.pairs:
        return f"{bias.judge}: was asked in one order only, so nobody knows its position bias."
    return (
        f"{bias.judge}: both orders agree on {_share(bias.agreement)} of {bias.pairs:,} pairs; {bias.first:.1%} first shown both times, "
        f"{bias.second:.1%} second; {bias.unread:,} of {bias.calls:,} replies not understood."
    )


def _points(found: Estimate) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f},{100 * found.high:+.1f}]"


def _percent(found: Estimate) -> str:
    if math.isnan(found.value + found.low):
        return "-"
    return f"{100 * found.value + 0.0:.0f} % [{100 * found.low + 0.0:.0f}, {100 * found.high + 0.0:.0f}]"


def _share(found: Estimate) -> str:
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _print(console: Console, title: str, columns: Sequence[str], rows: Iterator[list[str]]) -> None:
    table = Table(title=Text(title), title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def write_csv(found: Found, path: Path) -> None:
    """Write one row for each policy and share.  Raises `UsageError` where the file cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(next(iter(_csv_rows(found)))))
            writer.writeheader()
            writer.writerows(_csv_rows(found))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _csv_rows(found: Found) -> Iterator[dict[str, Any]]:
    for name in CURVES:
        curve: Curve | None = found.measured.curves.get(name)
        for point in curve.points if curve else ():
            yield {
                "policy": name,
                "share": point.share,
                "accuracy": point.accuracy.value,
                "accuracy_low": point.accuracy.low,
                "accuracy_high": point.accuracy.high,
                "gain": point.gain.value,
                "gain_low": point.gain.low,
                "gain_high": point.gain.high,
                "calls": point.calls,
                "tokens": point.tokens or None,
                "judge_seconds": point.seconds or None,
                "threshold": point.threshold,
            }
