"""Charts of what changes from step to step: budget, sources, threshold, uncertainty, waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from judgeflow.plurals import plural
from judgeflow.report.chart import Chart, Table, part, rows, sentences
from judgeflow.report.drawing import FEW, band, by_minute, layer, line, moments, panels, solid, thin
from judgeflow.report.figures import Forecast, MinuteFigures, RunFigures, StepFigures
from judgeflow.report.safe import label, shortened
from judgeflow.report.thinning import thinned_minutes
from judgeflow.report.wording import count, duration, money, number, percent
from judgeflow.types import IDENTICAL, OK, ONE_ORDER

Steps = Sequence[StepFigures]

KINDS = ("requests", "tokens", "usd")
SETTLED = {OK, ONE_ORDER, IDENTICAL}
"""Statuses that are not the reason of a fallback."""

MOST_AHEAD = 2.0
"""A forecast is drawn for so many times the length of the past: more would squeeze the past to nothing."""

PERCENT = {"tickformat": ".0%"}


def budget(figures: RunFigures, steps: Steps) -> Chart:
    """What is left of every limited kind, and where the first of them ends; what was paid for where nothing is limited."""
    limits = {kind: getattr(figures.stock, kind) for kind in KINDS}
    kinds = [kind for kind in KINDS if limits[kind] and any(kind in step.remaining for step in steps)]
    if not kinds:
        return _paid(figures, steps)
    x = _numbers(steps)
    left = {kind: [part(step.remaining.get(kind), limits[kind]) for step in steps] for kind in kinds}
    lines = [line(_dollars(kind), x, left[kind], style=KINDS.index(kind)) for kind in kinds]
    now = " and ".join(f"{percent(left[kind][-1])} of {_amount(kind, limits[kind])}" for kind in kinds)
    layout = panels("share of the budget that is left", x="step", yaxis=PERCENT | {"range": [0, 1.03]})
    return Chart(
        id="budget",
        title="Budget left",
        text=sentences(f"After step {x[-1]}, {now} are left.", _ahead_text(figures.forecast), _thinned(figures, steps)),
        figure={"data": lines + _ahead(figures.forecast, x, left), "layout": layout},
        table=Table(columns=("step", *(f"{_dollars(kind)} left" for kind in kinds)), rows=rows(x, *left.values())),
    )


def _ahead(forecast: Forecast | None, x: Sequence[int], left: dict[str, list[float | None]]) -> list[dict[str, Any]]:
    now = left[forecast.kind][-1] if forecast is not None and forecast.kind in left else None
    if forecast is None or now is None or forecast.steps_left <= 0:
        return []
    shown = min(forecast.steps_left, MOST_AHEAD * (x[-1] - x[0] + 1))
    end = now * (1 - shown / forecast.steps_left)
    drawn = line(f"{_dollars(forecast.kind)}, forecast", [x[-1], x[-1] + shown], [now, end], style=KINDS.index(forecast.kind))
    return [thin(drawn)]


def _ahead_text(forecast: Forecast | None) -> str:
    if forecast is None:
        return ""
    if forecast.steps_left < 1:
        return f"No {_dollars(forecast.kind)} are left for another step."
    time = f" ({duration(forecast.seconds_left)})" if forecast.seconds_left is not None else ""
    wanted = f", {plural(forecast.steps_wanted, 'step is', 'steps are')} still wanted" if forecast.steps_wanted is not None else ""
    lasting = f"{_dollars(forecast.kind)} last for {plural(int(forecast.steps_left), 'more step')}"
    return f"At the pace of the last steps, {lasting}{time}{wanted}."


def _paid(figures: RunFigures, steps: Steps) -> Chart:
    x, paid = _numbers(steps), [step.spent.requests for step in steps]
    total = plural(sum(paid), "reply was", "replies were")
    return Chart(
        id="budget",
        title="Paid replies",
        text=sentences(f"No budget is set. {total} paid for in {plural(len(figures.steps), 'step')}.", _thinned(figures, steps)),
        figure={"data": [line("paid replies", x, paid)], "layout": panels("paid replies", x="step", xaxis=_whole_steps(steps))},
        table=Table(columns=("step", "paid replies"), rows=rows(x, paid)),
    )


def sources(figures: RunFigures, steps: Steps) -> Chart:
    """Where decisions come from, a fallback by the status that says why."""
    x, series = _numbers(steps), _by_source(steps)
    totals = [sum(values) for values in zip(*series.values(), strict=True)]
    shares = {name: [part(value, total) for value, total in zip(values, totals, strict=True)] for name, values in series.items()}
    bars = [layer(label(name), x, y, style=style) for style, (name, y) in enumerate(shares.items())]
    said = ", ".join(f"{percent(part(sum(values), sum(totals)))} {name}" for name, values in series.items())
    layout = panels(
        "share of decisions",
        x="step",
        xaxis=_whole_steps(steps),
        yaxis=PERCENT | {"range": [0, 1]},
        barmode="stack",
        bargap=0.08 if len(x) <= FEW else 0,
    )
    return Chart(
        id="sources",
        title="Where decisions come from",
        text=sentences(f"Over all steps: {said or 'nothing'}.", _thinned(figures, steps)),
        figure={"data": bars, "layout": layout | {"legend": layout["legend"] | {"traceorder": "normal"}}},
        table=Table(columns=("step", *series), rows=rows(x, *series.values())),
    )


def _by_source(steps: Steps) -> dict[str, list[int]]:
    counted = [_sources_of(step) for step in steps]
    total: Counter[str] = Counter()
    for each in counted:
        total.update(each)
    order = ("scorer", "judge", "store")
    names = [*order, *sorted(set(total) - set(order), key=lambda name: -total[name])]
    return {name: [each.get(name, 0) for each in counted] for name in names if total[name]}


def _sources_of(step: StepFigures) -> dict[str, int]:
    """Counts by source; of the fallbacks, those that a status explains stand under its name."""
    found = {shortened(name): n for name, n in step.sources.items() if name != "fallback"}
    reasons = (
        {f"fallback ({shortened(name)})": n for name, n in step.statuses.items() if name not in SETTLED}
        if step.sources.get("fallback")
        else {}
    )
    return {**found, **reasons, "fallback": max(0, step.sources.get("fallback", 0) - sum(reasons.values()))}


def share(figures: RunFigures, steps: Steps) -> Chart:
    """How many pairs are asked about, and the threshold that decides it within what it is compared with."""
    x, asked, audits = _numbers(steps), _shares("asked", steps), _shares("audits", steps)
    thresholds = [step.threshold for step in steps]
    known = [value for value in thresholds if value is not None]
    lines = [line("asked about", x, asked)] + ([line("of these, audit", x, audits, style=1)] if any(audits) else [])
    titles = ("share of pairs asked about", "threshold, and what it cuts") if known else ("share of pairs asked about",)
    moved = f"The threshold went from {number(known[0])} to {number(known[-1])}." if known else "No threshold decided."
    all_asked = part(figures.asked, figures.pairs)
    said = "" if all_asked is None else f"{percent(all_asked)} of {plural(figures.pairs, 'pair')} were to be asked about."
    columns = ("step", "pairs", "share asked about", "share audited", "threshold")
    return Chart(
        id="share",
        title="How much is judged",
        text=sentences(said, moved, _thinned(figures, steps)),
        figure={
            "data": lines + (_threshold(steps, x, thresholds) if known else []),
            "layout": panels(*titles, x="step", xaxis=_whole_steps(steps), yaxis=PERCENT),
        },
        table=Table(columns=columns, rows=rows(x, [step.pairs for step in steps], asked, audits, thresholds)),
    )


def _threshold(steps: Steps, x: Sequence[int], thresholds: Sequence[float | None]) -> list[dict[str, Any]]:
    known = [(step.step, step.acquisition.quantiles) for step in steps if step.acquisition is not None]
    behind = band(
        "acquisition, 25 to 95%", [at for at, _ in known], [q[1] for _, q in known], [q[4] for _, q in known], strength=0.22, axis=2
    )
    return (behind if known else []) + [solid(line("threshold", x, thresholds, style=2, axis=2, steps=True))]


def _shares(name: str, steps: Steps) -> list[float | None]:
    return [part(getattr(step, name), step.pairs) for step in steps]


def uncertainty(figures: RunFigures, steps: Steps) -> Chart | None:
    """How the scorer's uncertainty drifts, as bands."""
    known = [(step.step, step.uncertainty) for step in steps if step.uncertainty is not None]
    if not known:
        return None
    x = [at for at, _ in known]
    low, lower, middle, upper, high = zip(*(spread.quantiles for _, spread in known), strict=True)
    bands = band("5 to 95%", x, low, high, strength=0.16) + band("25 to 75%", x, lower, upper, strength=0.3)
    said = f"The median went from {number(middle[0])} to {number(middle[-1])}."
    ends = f"In step {x[-1]}, nine in ten pairs lie between {number(low[-1])} and {number(high[-1])}."
    return Chart(
        id="uncertainty",
        title="Uncertainty of the scorer",
        text=sentences(said, ends, _thinned(figures, steps)),
        figure={
            "data": [*bands, line("median", x, middle)],
            "layout": panels("uncertainty of pairs", x="step", xaxis=_whole_steps(steps), yaxis={"rangemode": "normal"}),
        },
        table=Table(columns=("step", "5%", "25%", "median", "75%", "95%"), rows=rows(x, low, lower, middle, upper, high)),
    )


def waiting(figures: RunFigures, steps: Steps) -> Chart | None:
    """How long replies take, and how many questions are under way or waiting."""
    known = [step for step in steps if step.waited_s]
    if not known:
        return None
    x, minutes = moments([step.ended_at for step in known]), _all_judges(figures)
    waits = {name: [step.waited_s.get(key) for step in known] for name, key in (("median", "p50"), ("90%", "p90"), ("slowest", "max"))}
    lines = [line(name, x, y, style=style) for style, (name, y) in enumerate(waits.items())]
    titles = ("wait for a reply, seconds", "questions under way or waiting")[: 2 if minutes else 1]
    middle, slowest = duration(known[-1].waited_s.get("p50")), duration(max(step.waited_s.get("max", 0.0) for step in known))
    said = f"In step {known[-1].step} half of the replies came within {middle}; the slowest of the run took {slowest}."
    most = f"At most {plural(max(m.backlog for m in minutes), 'question was', 'questions were')} open at once." if minutes else ""
    return Chart(
        id="waiting",
        title="Waiting for replies",
        text=sentences(said, most, _thinned(figures, steps)),
        figure={"data": lines + _backlog(minutes), "layout": panels(*titles, x="time, UTC")},
        table=Table(columns=("step", "ended, UTC", *(f"{name}, s" for name in waits)), rows=rows(_numbers(known), x, *waits.values())),
    )


def _backlog(minutes: Sequence[MinuteFigures]) -> list[dict[str, Any]]:
    if not minutes:
        return []
    return [solid(by_minute("open questions", [m.start for m in minutes], [m.backlog for m in minutes], style=3, axis=2))]


def _all_judges(figures: RunFigures) -> tuple[MinuteFigures, ...]:
    """The backlog of all judges together, each of which keeps its own until its next minute; nothing where there never was one."""
    changes = sorted((minute.start, number, minute.backlog) for number, judge in enumerate(figures.judges) for minute in judge.minutes)
    now: dict[int, int] = {}
    total: dict[float, int] = {}
    for start, judge, backlog in changes:
        now[judge] = backlog
        total[start] = sum(now.values())
    minutes = [MinuteFigures(start=start, requests=0, tokens=0, backlog=open_) for start, open_ in total.items()]
    return thinned_minutes(minutes) if any(total.values()) else ()


def _whole_steps(steps: Steps) -> dict[str, Any]:
    """Ticks at whole steps, also of a few."""
    return {"dtick": 1} if steps[-1].step - steps[0].step < 8 else {}


def _numbers(steps: Steps) -> list[int]:
    return [step.step for step in steps]


def _dollars(kind: str) -> str:
    return "dollars" if kind == "usd" else kind


def _amount(kind: str, value: float) -> str:
    return money(value) if kind == "usd" else f"{count(value)} {kind}"


def _thinned(figures: RunFigures, steps: Steps) -> str:
    size = -(-len(figures.steps) // len(steps))
    return f"Each point stands for {size} steps." if size > 1 else ""
