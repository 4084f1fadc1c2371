"""Lines, bands and points for plotly: figures as JSON, with colours that the page's style sheet knows.

A colour is the name of a CSS variable (`--chart-1`, or `--chart-1/0.3` where it shines through); `charts.js` puts in what it stands for,
in light, in dark and on paper.  Series differ by dashes and symbols too, since colours do not reach everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

INK, SOFT, FAINT = "--ink", "--ink-soft", "--chart-grid"
COLOURS = ("--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
PATTERNS = ("", "", "", "/", "x", ".")

FEW = 40
"""So many points are marked one by one."""

HEIGHT = 380
GAP = 0.16
"""Between panels, as a share of the height: room for the title of the lower one."""

FONT_SIZE = 13

Values = Sequence[float | str | None]


def rounded(values: Values) -> list[float | str | None]:
    """Five significant digits: more than a chart can show, and a third of the bytes.  What is no number is a gap."""
    return [_rounded(value) if isinstance(value, float) else value for value in values]


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if isfinite(value) else None


def moments(unix_s: Sequence[float]) -> list[str]:
    """Unix times as plotly reads them, UTC, to a tenth of a second."""
    return [datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-5].removesuffix(".0") for each in unix_s]


def line(name: str, x: Values, y: Values, *, style: int = 0, axis: int = 1, steps: bool = False, **more: Any) -> dict[str, Any]:
    """One series; `axis` is the number of its panel, `steps` keeps a value until the next one, `more` goes to plotly."""
    colour = _nth(COLOURS, style)
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) <= FEW and not steps else "lines",
        "name": name,
        "x": rounded(x),
        "y": rounded(y),
        "yaxis": _axis("y", axis),
        "marker": {"symbol": _nth(SYMBOLS, style), "size": 5, "color": colour},
        "line": {"color": colour, "dash": _nth(DASHES, style), "width": 2, "shape": "hv" if steps else "linear"},
        **more,
    }


def by_minute(name: str, starts: Sequence[float], values: Sequence[float], **more: Any) -> dict[str, Any]:
    """What happened minute by minute: every minute is a level, the last one too."""
    return line(name, moments([*starts, starts[-1] + 60.0]), [*values, values[-1]], steps=True, **more)


def thin(drawn: dict[str, Any]) -> dict[str, Any]:
    """The same series without marks, finely dotted: a limit, a forecast."""
    return drawn | {"mode": "lines", "line": drawn["line"] | {"dash": "2px,3px", "width": 1.5}}


def solid(drawn: dict[str, Any]) -> dict[str, Any]:
    """The same series as an unbroken line: it is alone in its panel."""
    return drawn | {"line": drawn["line"] | {"dash": "solid"}}


def band(name: str, x: Values, low: Values, high: Values, *, strength: float, axis: int = 1) -> list[dict[str, Any]]:
    """What lies between two curves, filled; two series of which the legend names one."""
    edge = {"type": "scatter", "mode": "lines", "x": rounded(x), "yaxis": _axis("y", axis), "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        edge | {"y": rounded(low), "showlegend": False, "name": name, "legendgroup": name},
        edge | {"y": rounded(high), "name": name, "legendgroup": name, "fill": "tonexty", "fillcolor": f"{COLOURS[0]}/{strength}"},
    ]


def layer(name: str, x: Values, y: Values, *, style: int) -> dict[str, Any]:
    """One layer of bars that stand on each other."""
    pattern = {"shape": _nth(PATTERNS, style), "fgcolor": "--paper", "fillmode": "overlay", "size": 5, "solidity": 0.3}
    marker = {"color": _nth(COLOURS, style), "line": {"width": 0}, "pattern": pattern}
    return {"type": "bar", "name": name, "x": rounded(x), "y": rounded(y), "marker": marker, "opacity": 0.85}


def points(name: str, x: Sequence[float], y: Values, low: Sequence[float], high: Sequence[float], *, style: int) -> dict[str, Any]:
    """Points with their intervals, lying down: names on the left."""
    colour = _nth(COLOURS, style)
    above = [top - value for top, value in zip(high, x, strict=True)]
    below = [value - bottom for bottom, value in zip(low, x, strict=True)]
    interval = {"type": "data", "symmetric": False, "array": rounded(above), "arrayminus": rounded(below)}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": rounded(x),
        "y": list(y),
        "marker": {"symbol": _nth(SYMBOLS, style), "size": 11, "color": colour},
        "error_x": interval | {"color": colour, "thickness": 2, "width": 5},
    }


def panels(*titles: str, x: str, height: int = HEIGHT, **more: Any) -> dict[str, Any]:
    """The layout of one panel, or of several above each other that share the x-axis.

    A panel's title stands above it in place of a name along its y-axis: read without turning one's head, also on a phone.  `more` are
    plotly's own settings; those of axes ("xaxis", "yaxis2", ...) are added to ours.
    """
    tall = (1 - GAP * (len(titles) - 1)) / len(titles)
    tops = [1 - number * (tall + GAP) for number in range(len(titles))]
    layout: dict[str, Any] = {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 28, "b": 8},
        "font": {"size": FONT_SIZE, "color": SOFT},
        "paper_bgcolor": "transparent",
        "plot_bgcolor": "transparent",
        "hovermode": "x unified",
        "dragmode": False,
        "hoverlabel": {"bgcolor": "--raised", "bordercolor": FAINT, "font": {"color": INK, "size": FONT_SIZE}},
        "legend": _legend(),
        "annotations": [_heading(title, top) for title, top in zip(titles, tops, strict=True)],
        "xaxis": _settings(title=_title(x), anchor=_axis("y", len(titles)), showgrid=False, tickangle=0, nticks=6),
    }
    for number, top in enumerate(tops, start=1):
        layout[_axis("yaxis", number)] = _settings(domain=[round(top - tall, 4), round(top, 4)], rangemode="tozero", nticks=5)
    for name, value in more.items():
        layout[name] = layout[name] | value if name in layout and isinstance(value, dict) else value
    return layout


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 6, "font": {"size": FONT_SIZE}}


def _legend() -> dict[str, Any]:
    """Below everything, where no point can lie."""
    place = {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"}
    return {**place, "font": {"color": INK, "size": FONT_SIZE}, "bgcolor": "transparent", "itemwidth": 34}


def _heading(text: str, top: float) -> dict[str, Any]:
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": round(top, 4), "yanchor": "bottom", "yshift": 5}
    return {"text": text, "showarrow": False, "font": {"color": SOFT, "size": FONT_SIZE}, **place}


def _settings(**more: Any) -> dict[str, Any]:
    lines = {"gridcolor": FAINT, "linecolor": FAINT, "zeroline": False}
    return {"automargin": True, "fixedrange": True, "tickfont": {"color": SOFT}, **lines, **more}


def _axis(letter: str, number: int) -> str:
    return letter if number == 1 else f"{letter}{number}"


def _nth(values: Sequence[str], number: int) -> str:
    return values[number % len(values)]
