"""The charts of a run: what to draw, one sentence that says what is seen, and the same numbers as a table.

`charts_of(figures)` computes nothing that `RunFigures` does not say.  A `Chart.figure` is {"data", "layout"} for plotly.js, with CSS
variables for colours (see `judgeflow.report.drawing`); `assets/charts.js` draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from judgeflow.report import drawing
from judgeflow.report.drawing import line, moments, panels
from judgeflow.report.figures import JudgeFigures, RunFigures, Share, StepFigures
from judgeflow.report.safe import label
from judgeflow.report.thinning import thinned_minutes, thinned_steps
from judgeflow.report.wording import count, duration, interval, money, number, percent, plural
from judgeflow.types import IDENTICAL, OK, ONE_ORDER

Cell = str | float | None

KINDS = ("requests", "tokens", "usd")
_SAYING = {"requests": count, "tokens": count, "usd": money}
_SETTLED = {OK, ONE_ORDER, IDENTICAL, "inconsistent"}
"""Statuses that are no fallback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The numbers of a chart; None is what is not known, shares are between 0 and 1, durations seconds."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart: `text` says what is seen, `figure` is JSON for plotly.js, `table` holds the same numbers; `id` is fit for an HTML id."""

    id: str
    title: str
    text: str
    figure: dict[str, Any]
    table: Table


def charts_of(figures: RunFigures) -> tuple[Chart, ...]:
    """Return the charts for which this run has anything to show, in reading order."""
    steps = thinned_steps(figures.steps)
    drawn = [draw(figures, steps) for draw in _BY_STEP] if steps else []
    drawn += [draw(figures) for draw in _BY_JUDGE]
    return tuple(chart for chart in drawn if chart is not None)


def _budget(figures: RunFigures, steps: Sequence[StepFigures]) -> Chart | None:
    limits = {kind: getattr(figures.stock, kind) for kind in KINDS}
    kinds = [kind for kind in KINDS if limits[kind] and any(kind in step.remaining for step in steps)]
    if not kinds:
        return _spending(figures, steps)
    x = [step.step for step in steps]
    left = {kind: [_part(step.remaining.get(kind), limits[kind]) for step in steps] for kind in kinds}
    data = [line(kind, x, left[kind], style=KINDS.index(kind)) for kind in kinds] + _forecast_line(figures, x, left)
    now = "; ".join(f"{percent(left[kind][-1])} of {_SAYING[kind](limits[kind])} {_named(kind)}" for kind in kinds)
    return Chart(
        id="budget",
        title="Budget left",
        text=f"After step {x[-1]}, {now} {'is' if len(kinds) == 1 else 'are'} left. {_forecast_text(figures)}{_thinned(figures, steps)}",
        figure={
            "data": data,
            "layout": panels("share of the budget that is left", x="step", yaxis={"tickformat": ".0%", "range": [0, 1.03]}),
        },
        table=Table(columns=("step", *(f"{kind} left" for kind in kinds)), rows=_rows(x, *left.values())),
    )


def _forecast_line(figures: RunFigures, x: Sequence[int], left: dict[str, list[float | None]]) -> list[dict[str, Any]]:
    """From the last step to the one at which the first kind is spent, but never so far that the past is squeezed to nothing."""
    forecast = figures.forecast
    now = left[forecast.kind][-1] if forecast is not None and forecast.kind in left else None
    if forecast is None or now is None or forecast.steps_left <= 0:
        return []
    shown = min(forecast.steps_left, 2.0 * max(1, x[-1] - x[0] + 1))
    ends = [now, now * (1 - shown / forecast.steps_left)]
    drawn = line(f"forecast, {forecast.kind}", [x[-1], x[-1] + shown], ends, style=KINDS.index(forecast.kind))
    return [drawn | {"mode": "lines", "line": drawn["line"] | {"dash": "dot", "width": 1.5}}]


def _forecast_text(figures: RunFigures) -> str:
    forecast = figures.forecast
    if forecast is None:
        return ""
    hours = f", {duration(forecast.seconds_left)}" if forecast.seconds_left is not None else ""
    return f"At the pace of the last steps the {_named(forecast.kind)} last for {plural(forecast.steps_left, 'step')} more{hours}. "


def _spending(figures: RunFigures, steps: Sequence[StepFigures]) -> Chart:
    """What a run without a budget has spent."""
    x, spent = [step.step for step in steps], [step.spent.requests for step in steps]
    return Chart(
        id="budget",
        title="Paid replies",
        text=f"No budget is set. {plural(sum(spent), 'reply was', 'replies were')} paid for in {plural(len(figures.steps), 'step')}, "
        f"{count(max(spent))} at most in one. {_thinned(figures, steps)}",
        figure={"data": [line("replies", x, spent)], "layout": panels("paid replies", x="step")},
        table=Table(columns=("step", "paid replies"), rows=_rows(x, spent)),
    )


def _share(figures: RunFigures, steps: Sequence[StepFigures]) -> Chart:
    x = [step.step for step in steps]
    thresholds, shares = [step.threshold for step in steps], [_part(step.asked, step.pairs) for step in steps]
    known = [value for value in thresholds if value is not None]
    moved = f"The threshold went from {number(known[0])} to {number(known[-1])}. " if known else "No threshold decided. "
    audits = [_part(step.audits, step.pairs) for step in steps]
    data = [line("asked about", x, shares), line("of these, audit", x, audits, style=1)]
    threshold = [line("threshold", x, thresholds, style=2, axis=2, steps=True)] if known else []
    names = ("share of pairs asked about", "threshold") if known else ("share of pairs asked about",)
    return Chart(
        id="share",
        title="How much is judged",
        text=f"{percent(_part(figures.asked, figures.pairs))} of {plural(figures.pairs, 'pair')} were to be asked about; "
        f"{percent(shares[-1])} in the last step. {moved}{_thinned(figures, steps)}",
        figure={"data": data + threshold, "layout": panels(*names, x="step", yaxis={"tickformat": ".0%"})},
        table=Table(
            columns=("step", "pairs", "share asked about", "audit", "threshold"),
            rows=_rows(x, [s.pairs for s in steps], shares, audits, thresholds),
        ),
    )


def _uncertainty(figures: RunFigures, steps: Sequence[StepFigures]) -> Chart | None:
    known = [(step, step.uncertainty) for step in steps if step.uncertainty is not None]
    if not known:
        return None
    x = [step.step for step, _ in known]
    low, lower, middle, upper, high = zip(*(spread.quantiles for _, spread in known), strict=True)
    bands = drawing.band("5 to 95 %", x, low, high, strength=0.16) + drawing.band("25 to 75 %", x, lower, upper, strength=0.3)
    return Chart(
        id="uncertainty",
        title="Uncertainty of the scorer",
        text=f"The median went from {number(middle[0])} to {number(middle[-1])}; in the last step nine in ten pairs lie between "
        f"{number(low[-1])} and {number(high[-1])}. {_thinned(figures, steps)}",
        figure={"data": [*bands, line("median", x, middle)], "layout": panels("uncertainty", x="step", yaxis={"rangemode": "normal"})},
        table=Table(columns=("step", "5 %", "25 %", "median", "75 %", "95 %"), rows=_rows(x, low, lower, middle, upper, high)),
    )


def _sources(figures: RunFigures, steps: Sequence[StepFigures]) -> Chart:
    x, series = [step.step for step in steps], _source_series(steps)
    totals = [sum(values[place] for values in series.values()) for place in range(len(steps))]
    shares = {name: [_part(value, total) for value, total in zip(values, totals, strict=True)] for name, values in series.items()}
    data = [drawing.layers(label(name), x, y, style=style) for style, (name, y) in enumerate(shares.items())]
    said = ", ".join(f"{percent(_part(sum(values), sum(totals)))} {name}" for name, values in series.items())
    return Chart(
        id="sources",
        title="Where decisions come from",
        text=f"Over all steps: {said}. {_thinned(figures, steps)}",
        figure={
            "data": data,
            "layout": panels(
                "share of decisions",
                x="step",
                yaxis={"tickformat": ".0%", "range": [0, 1]},
                barmode="stack",
                bargap=0.06 if len(x) <= 40 else 0,
            ),
        },
        table=Table(columns=("step", *series), rows=_rows(x, *series.values())),
    )


def _source_series(steps: Sequence[StepFigures]) -> dict[str, list[int]]:
    """Counts by source; a fallback by the status that says why."""
    reasons = sorted({status for step in steps for status in step.statuses if status not in _SETTLED})
    series = {source: [step.sources.get(source, 0) for step in steps] for source in ("scorer", "judge", "store")}
    fallbacks = {f"fallback: {reason}": [step.statuses.get(reason, 0) for step in steps] for reason in reasons}
    unexplained = [max(0, step.sources.get("fallback", 0) - sum(step.statuses.get(reason, 0) for reason in reasons)) for step in steps]
    return {name: values for name, values in {**series, **fallbacks, "fallback": unexplained}.items() if any(values)}


def _waiting(figures: RunFigures, steps: Sequence[StepFigures]) -> Chart | None:
    known = [step for step in steps if step.waited_s]
    minutes = thinned_minutes([minute for judge in figures.judges for minute in judge.minutes])
    if not known:
        return None
    x = moments([step.ended_at for step in known])
    waits = {name: [step.waited_s.get(key) for step in known] for name, key in (("median", "p50"), ("90 %", "p90"), ("slowest", "max"))}
    data = [line(name, x, y, style=style) for style, (name, y) in enumerate(waits.items())]
    backlog = (
        [line("backlog", moments([m.start for m in minutes]), [m.backlog for m in minutes], style=3, axis=2, steps=True)] if minutes else []
    )
    titles = ("wait for a reply, seconds", "questions under way or waiting") if minutes else ("wait for a reply, seconds",)
    slowest = max(step.waited_s.get("max", 0.0) for step in known)
    most = f" At most {plural(max(m.backlog for m in minutes), 'question')} were under way or waiting at once." if minutes else ""
    return Chart(
        id="waiting",
        title="Waiting for replies",
        text=f"In the last step half of the replies came within {duration(known[-1].waited_s.get('p50'))}; the slowest of the run took "
        f"{duration(slowest)}.{most} {_thinned(figures, steps)}",
        figure={"data": data + backlog, "layout": panels(*titles, x="time, UTC")},
        table=Table(
            columns=("step", "ended, UTC", *(f"{name}, s" for name in waits)), rows=_rows([s.step for s in known], x, *waits.values())
        ),
    )


def _rates(figures: RunFigures) -> Chart | None:
    judges = [judge for judge in figures.judges if judge.minutes]
    if not judges:
        return None
    data: list[dict[str, Any]] = []
    rows: list[tuple[Cell, ...]] = []
    for style, judge in enumerate(judges):
        minutes = thinned_minutes(judge.minutes)
        x, name = moments([minute.start for minute in minutes]), label(judge.id)
        for axis, (values, most) in enumerate(_rate_panels(judge, minutes), start=1):
            data.append(line(name, x, values, style=style, axis=axis, steps=True, legendgroup=name, showlegend=axis == 1))
            data += [drawing.limit(f"{name}, limit", x, most, style=style, axis=axis) | {"showlegend": axis == 1}] if most else []
        rows += [(judge.id, at, m.requests, m.tokens, m.backlog) for at, m in zip(x, minutes, strict=True)]
    return Chart(
        id="rates",
        title="Load and limits",
        text=" ".join(_rate_text(judge) for judge in judges) + _thinned_minutes(judges),
        figure={"data": data, "layout": panels("requests per minute", "tokens per minute", x="time, UTC")},
        table=Table(columns=("judge", "minute, UTC", "requests", "tokens", "backlog"), rows=tuple(rows)),
    )


def _rate_panels(judge: JudgeFigures, minutes: Sequence[Any]) -> list[tuple[list[int], float | None]]:
    return [
        ([minute.requests for minute in minutes], judge.requests_per_minute),
        ([minute.tokens for minute in minutes], judge.tokens_per_minute),
    ]


def _rate_text(judge: JudgeFigures) -> str:
    """The fullest minute against the limits."""
    said = []
    for unit, values, most in (
        ("requests", [minute.requests for minute in judge.minutes], judge.requests_per_minute),
        ("tokens", [minute.tokens for minute in judge.minutes], judge.tokens_per_minute),
    ):
        said.append(f"{count(max(values))} {unit}" + (f" ({percent(max(values) / most)} of the limit)" if most else " (no limit set)"))
    return f"{judge.id}: at most {' and '.join(said)} in one minute."


def _judges(figures: RunFigures) -> Chart | None:
    series = [
        ("orders agree", [(j, j.agree) for j in figures.judges]),
        ("prefers what is shown first", [(j, j.first) for j in figures.judges]),
    ]
    data = []
    for style, (name, found) in enumerate(series):
        known = [(judge, share) for judge, share in found if share is not None]
        if known:
            data.append(_share_points(name, known, style))
    if not data:
        return None
    half = {
        "type": "line",
        "xref": "x",
        "x0": 0.5,
        "x1": 0.5,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": drawing.SOFT, "width": 1, "dash": "dot"},
    }
    text = " ".join(
        f"{j.id}: both orders agree on {interval(j.agree)}, what is shown first is preferred in {interval(j.first)}."
        for j in figures.judges
    )
    layout = _lying("share, with its 95 % interval; half is where position does not matter", len(figures.judges), shapes=[half])
    return Chart(
        id="judges",
        title="Consistency of the judges",
        text=text,
        figure={"data": data, "layout": layout},
        table=Table(
            columns=("judge", *_share_columns("agree"), *_share_columns("first")),
            rows=tuple((j.id, *_cells(j.agree), *_cells(j.first)) for j in figures.judges),
        ),
    )


def _share_points(name: str, known: Sequence[tuple[JudgeFigures, Share]], style: int) -> dict[str, Any]:
    return drawing.points(
        name,
        [share.value for _, share in known],
        [label(judge.id) for judge, _ in known],
        [share.low for _, share in known],
        [share.high for _, share in known],
        style=style,
    )


def _lift(figures: RunFigures) -> Chart | None:
    named = {"routed": figures.lift.routed, "drawn at random": figures.lift.audited}
    known = {name: share for name, share in named.items() if share is not None}
    if not known:
        return None
    data = [drawing.points(name, [s.value], [name], [s.low], [s.high], style=style) for style, (name, s) in enumerate(known.items())]
    said = ", ".join(f"{interval(share)} of the pairs {name}" for name, share in known.items())
    difference = figures.lift.difference
    more = (
        ""
        if difference is None
        else f" The difference is {_points(difference[0])}, from {_points(difference[1])} to {_points(difference[2])}."
    )
    return Chart(
        id="lift",
        title="Does routing help?",
        text=f"The judge contradicts the scorer on {said}.{more}",
        figure={
            "data": data,
            "layout": _lying("share of judged pairs on which the judge contradicts the scorer", len(known), showlegend=False),
        },
        table=Table(
            columns=("pairs", *_share_columns("contradicted")), rows=tuple((name, *_cells(share)) for name, share in named.items())
        ),
    )


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"


def _lying(title: str, names: int, **more: Any) -> dict[str, Any]:
    """The layout of names on the left with shares beside them."""
    upright = {"type": "category", "autorange": "reversed", "gridcolor": "transparent", "tickfont": {"color": drawing.INK}}
    return panels(
        title,
        x="",
        height=130 + 52 * names,
        hovermode="closest",
        xaxis={"tickformat": ".0%", "range": [0, 1], "showgrid": True},
        yaxis=upright,
        **more,
    )


def _share_columns(name: str) -> tuple[str, ...]:
    return (name, f"{name}, low", f"{name}, high", f"{name}, of")


def _cells(share: Share | None) -> tuple[Cell, ...]:
    return (None,) * 4 if share is None else (share.value, share.low, share.high, share.of)


def _rows(*columns: Sequence[Cell]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(zip(*columns, strict=True))


def _part(value: float | None, whole: float | None) -> float | None:
    return value / whole if value is not None and whole else None


def _named(kind: str) -> str:
    return "dollars" if kind == "usd" else kind


def _thinned(figures: RunFigures, steps: Sequence[StepFigures]) -> str:
    """What a point stands for, where it is not one step."""
    size = -(-len(figures.steps) // len(steps))
    return f"Each point stands for {size} steps." if size > 1 else ""


def _thinned_minutes(judges: Sequence[JudgeFigures]) -> str:
    return (
        " Points are the fullest of neighbouring minutes." if any(len(thinned_minutes(j.minutes)) < len(j.minutes) for j in judges) else ""
    )


_BY_STEP: tuple[Callable[[RunFigures, Sequence[StepFigures]], Chart | None], ...] = (_budget, _share, _uncertainty, _sources, _waiting)
_BY_JUDGE: tuple[Callable[[RunFigures], Chart | None], ...] = (_rates, _judges, _lift)
