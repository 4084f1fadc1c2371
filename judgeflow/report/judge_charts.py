"""Charts of what judges do: their load within their limits, their consistency, and whether asking where the router asks pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from judgeflow.plurals import plural
from judgeflow.report.chart import Cell, Chart, Table, sentences
from judgeflow.report.drawing import INK, SOFT, by_minute, line, moments, panels, points, thin
from judgeflow.report.figures import JudgeFigures, Lift, MinuteFigures, RunFigures, Share
from judgeflow.report.safe import label, shortened
from judgeflow.report.thinning import thinned_minutes
from judgeflow.report.wording import interval, percent, sentence


def load(figures: RunFigures) -> Chart | None:
    """Requests and tokens per minute against the limits of every judge."""
    judges = [(judge, thinned_minutes(judge.minutes)) for judge in figures.judges if judge.minutes]
    if not judges:
        return None
    data = [each for style, (judge, minutes) in enumerate(judges) for each in _load_lines(judge, minutes, style)]
    thinned = any(len(minutes) < len(judge.minutes) for judge, minutes in judges)
    return Chart(
        id="load",
        title="Load and limits",
        text=sentences(*(_load_text(judge) for judge, _ in judges), "A point is the fullest of several minutes." if thinned else ""),
        figure={"data": data, "layout": panels("requests per minute", "tokens per minute", x="time, UTC")},
        table=Table(columns=("judge", "minute, UTC", "requests", "tokens", "open questions"), rows=_load_rows(judges)),
    )


def _load_lines(judge: JudgeFigures, minutes: Sequence[MinuteFigures], style: int) -> list[dict[str, Any]]:
    starts, name = [minute.start for minute in minutes], label(judge.id)
    data: list[dict[str, Any]] = []
    for axis, (_, values, most) in enumerate(_per_minute(judge, minutes), start=1):
        first: dict[str, Any] = {"legendgroup": name, "showlegend": axis == 1}
        data.append(by_minute(name, starts, values, style=style, axis=axis, **first))
        if most:
            ends = moments([starts[0], starts[-1] + 60.0])
            data.append(thin(line(f"{name}, limit", ends, [most, most], style=style, axis=axis, hoverinfo="skip", **first)))
    return data


def _per_minute(judge: JudgeFigures, minutes: Sequence[MinuteFigures]) -> tuple[tuple[str, list[int], float | None], ...]:
    return (
        ("requests", [minute.requests for minute in minutes], judge.requests_per_minute),
        ("tokens", [minute.tokens for minute in minutes], judge.tokens_per_minute),
    )


def _load_text(judge: JudgeFigures) -> str:
    """The fullest minute against the limits."""
    said = [
        f"{plural(max(values), unit.removesuffix('s'))} ({f'{percent(max(values) / most)} of the limit' if most else 'no limit set'})"
        for unit, values, most in _per_minute(judge, judge.minutes)
    ]
    return f"{shortened(judge.id)}: at most {' and '.join(said)} in a minute."


def _load_rows(judges: Sequence[tuple[JudgeFigures, Sequence[MinuteFigures]]]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (judge.id, *moments([minute.start]), minute.requests, minute.tokens, minute.backlog)
        for judge, minutes in judges
        for minute in minutes
    )


def consistency(figures: RunFigures) -> Chart | None:
    """How often both orders agree, and how far each judge leans to what is shown first."""
    agree = [(judge.id, judge.agree) for judge in figures.judges if judge.agree is not None]
    first = [(judge.id, judge.first) for judge in figures.judges if judge.first is not None]
    if not agree and not first:
        return None
    series = (("both orders agree", agree), ("prefers what is shown first", first))
    said = (
        f"{shortened(j.id)}: both orders agree on {interval(j.agree)}; what is shown first is preferred in {interval(j.first)}."
        for j in figures.judges
    )
    title = "share, with its 95% interval"
    cells = tuple((judge.id, *_cells(judge.agree), *_cells(judge.first)) for judge in figures.judges)
    return Chart(
        id="consistency",
        title="Consistency of the judges",
        text=sentences(*said),
        figure={
            "data": [_share_points(name, known, style) for style, (name, known) in enumerate(series) if known],
            "layout": _lying(title, len(figures.judges), shapes=[_half()]),
        },
        table=Table(columns=("judge", *_share_columns("orders agree"), *_share_columns("first preferred")), rows=cells),
    )


def _half() -> dict[str, Any]:
    place = {"xref": "x", "x0": 0.5, "x1": 0.5, "yref": "paper", "y0": 0, "y1": 1}
    return {"type": "line", "layer": "below", "line": {"color": SOFT, "width": 1, "dash": "2px,3px"}, **place}


def lift(figures: RunFigures) -> Chart | None:
    """How often the judge contradicts the scorer: where the router asks, and where chance does."""
    named = (("where routed", figures.lift.routed), ("at random", figures.lift.audited))
    known = [(name, share) for name, share in named if share is not None]
    if not known:
        return None
    said = ", ".join(f"{interval(share)} of pairs asked about {name}" for name, share in known)
    layout = _lying("share contradicted, 95% interval", len(known), showlegend=False)
    return Chart(
        id="lift",
        title="Does routing find the mistakes of the scorer?",
        text=sentences(f"The judge contradicts the scorer on {said}.", _difference(figures.lift), _verdict(figures.lift)),
        figure={"data": [_share_points(name, [(name, share)], style) for style, (name, share) in enumerate(known)], "layout": layout},
        table=Table(columns=("asked about", *_share_columns("contradicted")), rows=tuple((name, *_cells(share)) for name, share in named)),
    )


def _difference(lift: Lift) -> str:
    if lift.difference is None:
        return ""
    middle, low, high = (f"{100 * value:+.1f}" for value in lift.difference)
    return f"The difference is {middle} points ({low} to {high})."


def _verdict(lift: Lift) -> str:
    return sentence(lift.verdict) if lift.verdict and lift.difference is not None else ""


def _share_points(name: str, known: Sequence[tuple[str, Share]], style: int) -> dict[str, Any]:
    shares = [share for _, share in known]
    values, low, high = ([getattr(share, end) for share in shares] for end in ("value", "low", "high"))
    return points(name, values, [label(judge) for judge, _ in known], low, high, style=style)


def _lying(title: str, names: int, **more: Any) -> dict[str, Any]:
    """The layout of names on the left with shares beside them."""
    across = {"tickformat": ".0%", "range": [0, 1], "showgrid": True, "title": {"text": ""}}
    down = {"type": "category", "autorange": "reversed", "gridcolor": "transparent", "tickfont": {"color": INK}}
    return panels(title, x="", height=130 + 36 * names, hovermode="closest", xaxis=across, yaxis=down, **more)


def _share_columns(name: str) -> tuple[str, ...]:
    return (name, f"{name}, low", f"{name}, high", f"{name}, of")


def _cells(share: Share | None) -> tuple[Cell, ...]:
    return (None,) * 4 if share is None else (share.value, share.low, share.high, share.of)
