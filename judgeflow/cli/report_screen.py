"""A report on one screen: three answers, then the figures behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from judgeflow.cli.sparkline import WIDTH, sparkline
from judgeflow.plurals import plural
from judgeflow.report.compare import Difference
from judgeflow.report.figures import JudgeFigures, PairFigures, RunFigures, Share, StepFigures
from judgeflow.report.wording import by_judge

_STYLES = {"good": "green", "unsure": "yellow", "bad": "bold red"}
_PROMPT = 60
BESIDE = 52
"""Columns that the names and numbers beside a sparkline take."""

FEW = 3
"""Pairs of each kind on the screen; all are in the HTML file and with --json."""


def print_report(figures: RunFigures, *, aside: bool = False) -> None:
    """Print a run; `aside`, on stderr."""
    console = Console(stderr=aside)
    console.print(plain(_head(figures)))
    console.print(plain(figures.news))
    for answer in figures.answers:
        style = _STYLES[answer.mood]
        console.print(Text.assemble((f"{answer.title:8}", style), (f"{answer.mood:7}", style), plain(answer.text)))
    console.print(plain(f"{'':15}{_decided(figures)}"))
    _print(console, ["over the steps", "", "last", "least", "most"], _course(figures.steps, console.width))
    _print(console, ["budget", "spent", "put aside", "of", "left"], _budget(figures))
    _print(console, _JUDGE_COLUMNS, map(_judge, figures.judges))
    for judge in figures.judges:
        if judge.strain:
            console.print(plain(f"{judge.id}: {judge.strain}."))
    _print(console, ["slowest pairs", "step", "seconds", "prompt"], map(_slow, figures.slowest[:FEW]))
    _print(console, ["orders contradict", "step", "prefer", "prompt"], map(_torn, figures.inconsistent[:FEW]))
    for note in figures.notes:
        console.print(plain(f"note: {note}"))


def plain(text: str) -> Text:
    """Return text as it is shown: what comes from users is no markup, and what a terminal would obey is a space."""
    return Text("".join(character if character.isprintable() else " " for character in text))


def _print(console: Console, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, or nothing if it has no rows."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(plain(column), overflow="fold")  # a part of a name would name nobody
    for row in rows:
        table.add_row(*map(plain, row))
    if table.row_count:
        console.print()
        console.print(table)


def _head(figures: RunFigures) -> str:
    began = datetime.fromtimestamp(figures.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    asked = "" if figures.asked is None or not figures.pairs else f", {figures.asked:,} asked about ({figures.asked / figures.pairs:.1%})"
    return f"run {figures.name}, since {began} UTC: {plural(len(figures.steps), 'step')}, {plural(figures.pairs, 'pair')}{asked}"


def _decided(figures: RunFigures) -> str:
    sources = ", ".join(f"{name} {number:,}" for name, number in figures.sources.items())
    others = ", ".join(f"{name} {number:,}" for name, number in figures.statuses.items() if name != "ok")
    decided = f"Decided by {sources}" if sources else "Nothing decided yet"
    return f"{decided}{f'; not ok: {others}' if others else ''}."


def _course(steps: Sequence[StepFigures], width: int) -> Iterator[list[str]]:
    """One line for each figure that changes from step to step, on a screen so wide."""
    lines: Sequence[tuple[str, Callable[[StepFigures], float | None], str]] = (
        ("share asked", lambda step: step.asked / step.pairs if step.asked is not None and step.pairs else None, ".1%"),
        ("threshold", lambda step: step.threshold, ".3f"),
        ("acquisition, median", lambda step: step.acquisition.quantiles[2] if step.acquisition else None, ".3f"),
        ("uncertainty, median", lambda step: step.uncertainty.quantiles[2] if step.uncertainty else None, ".3f"),
        ("orders agree", lambda step: step.agreement, ".1%"),
        ("calls", lambda step: step.spent.requests, ",.0f"),
        ("USD", lambda step: step.spent.usd or None, ",.2f"),
        ("reply, p90 in s", lambda step: step.waited_s.get("p90"), ",.1f"),
        ("seconds", lambda step: step.seconds, ",.1f"),
    )
    for name, value_of, form in lines:
        values = [value_of(step) for step in steps]
        known = [value for value in values if value is not None]
        if known:
            yield [
                name,
                sparkline(values, max(8, min(WIDTH, width - BESIDE))),
                *(format(value, form) for value in (known[-1], min(known), max(known))),
            ]


def _budget(figures: RunFigures) -> Iterator[list[str]]:
    for kind, form in (("requests", ",.0f"), ("tokens", ",.0f"), ("usd", ",.2f")):
        spent, held, stock = (getattr(each, kind) for each in (figures.spent, figures.reserved, figures.stock))
        if spent or held or stock:
            left = "-" if stock is None else format(max(0, stock - spent - held), form)
            yield [kind, format(spent, form), format(held, form), "-" if stock is None else format(stock, form), left]


_JUDGE_COLUMNS = ["judge", "calls", "no verdict", "agree", "first", "p50, p90, p99 s", "a minute", "waiting"]


def _judge(judge: JudgeFigures) -> list[str]:
    if judge.calls is None:
        return [judge.id, *["-"] * 7]
    unread = ", ".join(f"{name} {number:,}" for name, number in judge.statuses.items() if name != "ok")
    latencies = [f"{judge.latency_s[name]:.1f}" for name in ("p50", "p90", "p99") if name in judge.latency_s]
    most = max((minute.requests for minute in judge.minutes), default=0)
    limit = "" if judge.requests_per_minute is None else f" of {judge.requests_per_minute:,.0f}"
    backlog = max((minute.backlog for minute in judge.minutes), default=0)
    told = [unread or "none", _share(judge.agree), _share(judge.first), ", ".join(latencies) or "-", f"{most:,}{limit}", f"{backlog:,}"]
    return [judge.id, f"{judge.calls:,}", *told]


def _share(share: Share | None) -> str:
    return "-" if share is None else f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


def _slow(pair: PairFigures) -> list[str]:
    return [pair.key[:12], _step(pair), by_judge(pair, lambda reply: f"{reply.latency_s:.1f}"), _prompt(pair)]


def _torn(pair: PairFigures) -> list[str]:
    return [
        pair.key[:12],
        _step(pair),
        by_judge(pair, lambda reply: f"{reply.shown}: {reply.preferred or reply.status}"),
        _prompt(pair),
    ]


def _step(pair: PairFigures) -> str:
    return "-" if pair.step is None else f"{pair.step:,}"


def _prompt(pair: PairFigures) -> str:
    text = pair.prompt if isinstance(pair.prompt, str) else " ".join(message["content"] for message in pair.prompt)
    line = " ".join(text[: 4 * _PROMPT].split())
    return line if len(line) <= _PROMPT else f"{line[: _PROMPT - 3]}..."


def print_comparison(first: RunFigures, second: RunFigures, differences: Sequence[Difference]) -> None:
    """Print two runs side by side."""
    console = Console()
    for figures in (first, second):
        console.print(plain(_head(figures)))
        console.print(plain(figures.news))
    _print(console, ["", first.name, second.name, "difference", "95 %", "beyond noise"], map(_difference, differences))
    for figures in (first, second):
        console.print(plain(f"{figures.name}: {figures.lift.verdict}"))


def _difference(each: Difference) -> list[str]:
    interval = (
        ""
        if each.interval is None
        else f"{_value(each.interval[0], each.unit, sign='+')} to {_value(each.interval[1], each.unit, sign='+')}"
    )
    beyond = {True: "yes", False: "no", None: "-"}[each.beyond_noise]
    values = (_value(each.first, each.unit), _value(each.second, each.unit), _value(each.change, each.unit, sign="+"))
    return [each.name, *values, interval, beyond]


def _value(value: float | None, unit: str, *, sign: str = "") -> str:
    if value is None:
        return "-"
    short = ",.1f" if abs(value) >= 10 else ",.2f"
    form = {"share": ".1%", "USD": ",.4f", "s": short}.get(unit, ",.1f" if value % 1 else ",.0f")
    return format(value, f"{sign}z{form}")
