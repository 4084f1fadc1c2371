"""A replay on one screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from judgeflow.estimates import Estimate
from judgeflow.plurals import plural
from judgeflow.replay.advice import Advice, duration
from judgeflow.replay.compare import Compared
from judgeflow.replay.findings import CURVES, Arm, Found, arm_record
from judgeflow.replay.measure import SHARES, TARGET, OrderValue, PositionBias
from judgeflow.replay.panel import title
from judgeflow.types import Stock

SAMPLE = 0.8
"""Where fewer of the pairs are measured or explained, it is said that nobody knows how they were chosen."""


def print_screen(compared: Compared, *, aside: bool = False) -> None:
    """Print what was read, every policy beside random, what-ifs in time, and what to do; of several judges also how they compare.

    With `aside`, on stderr.
    """
    console, several = Console(stderr=aside), len(compared.found) + len(compared.refused) > 1
    for found in compared.found:
        for line in _head(found):
            console.print(Text(line))
        _print(console, _title(found), _policy_columns(), _policy_rows(found))
    if several:
        _print(console, "judges compared", _JUDGE_COLUMNS, _judge_rows(compared))
    arms = [arm for found in compared.found for arm in found.arms]
    _print(console, "played in time", _ARM_COLUMNS[not several :], (row[not several :] for row in _arm_rows(arms)))
    for sentence in _told(compared, several=several):
        console.print(Text(sentence))


def _told(compared: Compared, *, several: bool) -> Iterator[str]:
    """Everything that is said in sentences."""
    first = compared.found[0]
    yield from _saved(first)
    for found in compared.found:
        yield from _of(found, _worth(found.orders_worth), several=several)
    yield from map(_bias, first.biases)
    for found in compared.found:
        yield from _of(found, [arm.refused for arm in found.arms if arm.refused][:1], several=several)
    yield from _unpaced(first.arms)
    for found in compared.found:
        advice = [sentence for each in found.advice for sentence in (*each.sentences, _blocking(found, each))]
        yield from _of(found, advice, several=several)
    yield from (f"Not compared: {reason}" for reason in compared.refused)


def _of(found: Found, sentences: Iterable[str], *, several: bool) -> Iterator[str]:
    """What is said of one judge, with its name where there are several; what holds for several shares is said once."""
    return (f"{found.judge}: {sentence}" if several else sentence for sentence in dict.fromkeys(sentences))


_JUDGE_COLUMNS = ["judge", "pairs", "accuracy", "over the first", "policy", "gain", "calls saved"]


def _judge_rows(compared: Compared) -> Iterator[list[str]]:
    """One row for each judge and share: how often it is right, and what routing to it as advised is worth."""
    leads = {lead.judge: lead.accuracy for lead in compared.leads if not math.isnan(lead.accuracy.value)}
    for found in compared.found:
        known = found.measured.evidence.reference == "labels"
        for advice in found.advice:
            saved = found.measured.curves[advice.policy].saved["calls"].value if advice.policy else math.nan
            yield [
                found.judge,
                f"{len(found.measured.evidence):,}",
                f"{found.measured.judge_accuracy.value:.3f}" if known else "-",
                _points(leads[found.judge]) if found.judge in leads else "-",
                f"{advice.policy or 'random'} {advice.share:.0%}",
                _points(advice.point.gain) if advice.policy else "-",
                "-" if math.isnan(saved) else f"{100 * saved:.0f} %",
            ]


def _head(found: Found) -> Iterator[str]:
    measured, evidence = found.measured, found.measured.evidence
    weights = ", weighted by inverse propensity" if evidence.weighted else ""
    prompts = plural(len(np.unique(evidence.prompts)), "prompt")
    yield f"{found.trace.source}: {plural(len(found.trace), 'pair')}, {len(evidence):,} of them of {prompts} measured{weights}"
    yield f"judge {found.judge} (orders: {found.orders}), scorer {found.trace.scorer or 'none'}"
    yield from _reservations(found)
    scorer = "" if found.trace.scorer is None else f" of the scorer {_share(measured.scorer_accuracy)},"
    if evidence.reference == "labels":
        yield f"accuracy{scorer} of the judge {_share(measured.judge_accuracy)}, against labels"
    else:
        yield f"no labels: measured is agreement with the full judge,{scorer}".rstrip(",")
    if found.trace.scorer is None:
        yield "There are no scores: only random, never and always can be played."


def _reservations(found: Found) -> Iterator[str]:
    """What to keep in mind about the pairs that were measured."""
    if found.unexplained > (1 - SAMPLE) * len(found.trace):
        yield "Nothing recorded says how the measured pairs were chosen: if not at random, the figures hold for pairs like them alone."
    if found.chanceless:
        yield f"Left out: {plural(found.chanceless, 'pair')} that had no chance of a verdict."
    if found.unscored:
        yield (
            f"Left out: {plural(found.unscored, 'pair')} without a score of {found.trace.scorer}. A run does not score what is judged "
            "before, so nobody knows what its scorer thinks of them. Import the scores, and name the scorer with --scorer."
        )
    if found.unplaced:
        yield (
            f"Of {plural(found.unplaced, 'pair')} nobody recorded which response was given first: there it is the only one that was shown "
            "first, or else the first of the canonical order. Name the file that was routed with --pairs."
        )


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


_ARM_COLUMNS = ["judge", "policy", "share", "req/min", "calls", "tokens", "USD", "blocked in all", "a step", "accuracy"]


def _arm_rows(arms: Sequence[Arm]) -> Iterator[list[str]]:
    for arm in arms:
        if arm.played is None:
            yield [title(arm.what_if), arm.what_if.policy, f"{arm.what_if.max_share or 1:.0%}", "", "not covered", "", "", "", "", ""]
            continue
        told = arm_record(arm)
        yield [
            title(arm.what_if),
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


def _unpaced(arms: Sequence[Arm]) -> Iterator[str]:
    """How a budget was divided where nothing says over how many steps."""
    for arm in arms:
        asked, stock = arm.what_if, arm.what_if.budget(1).stock
        if arm.played is not None and stock != Stock() and asked.steps is None and len(arm.played.steps) > 1:
            yield (
                "The budget is taken as it comes, as in a run whose [budget] has no steps. To spread it over the run, set [budget] steps = "
                f"{len(arm.played.steps)} in --config."
            )
            return


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
    repeated = f", asked {plural(bias.twice, 'time')}" if bias.twice > bias.pairs else ""
    return (
        f"{bias.judge}: both orders agree on {_share(bias.agreement)} of {plural(bias.pairs, 'pair')}{repeated}; {bias.first:.1%} first "
        f"shown both times, {bias.second:.1%} second; {bias.unread:,} of {plural(bias.calls, 'reply', 'replies')} not understood."
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
