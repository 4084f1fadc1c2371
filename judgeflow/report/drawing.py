"""Lines, bands and points for plotly: figures as JSON, with colours that the page's style sheet knows.

A colour is the name of a CSS variable (`--chart-1`); `charts.js` puts in what it stands for, in light, in dark and on paper.  Series differ
by dashes and symbols too, since colours do not reach everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

INK, SOFT, FAINT = "--ink", "--ink-soft", "--chart-grid"
COLOURS = ("--chart-1", "--chart-2", "--chart-3", "--chart-4", "--chart-5", "--chart-6")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
PATTERNS = ("", "/", ".", "x", "\\", "-")

Values = Sequence[float | str | None]


def rounded(values: Values) -> list[float | str | None]:
    """Five significant digits: more than a chart can show, and a third of the bytes."""
    return [float(f"{value:.5g}") if isinstance(value, float) else value for value in values]


def moments(unix_s: Sequence[float]) -> list[str]:
    """Unix times as plotly reads them; UTC."""
    return [datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%d %H:%M:%S") for each in unix_s]


def line(name: str, x: Values, y: Values, *, style: int = 0, axis: int = 1, steps: bool = False, **more: Any) -> dict[str, Any]:
    """One series; the few points of a short run are marked.  `more` goes to plotly."""
    mark = {"symbol": SYMBOLS[style % len(SYMBOLS)], "size": 6}
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) <= 40 else "lines",
        "name": name,
        "x": rounded(x),
        "y": rounded(y),
        "yaxis": _axis("y", axis),
        "marker": mark | {"color": COLOURS[style % len(COLOURS)]},
        "line": {
            "color": COLOURS[style % len(COLOURS)],
            "dash": DASHES[style % len(DASHES)],
            "width": 2,
            "shape": "hv" if steps else "linear",
        },
        **more,
    }


def limit(name: str, x: Values, value: float, *, style: int = 0, axis: int = 1) -> dict[str, Any]:
    """A level that is not to be passed, from one end of `x` to the other."""
    ends = [x[0], x[-1]] if x else []
    drawn = line(name, ends, [value] * len(ends), style=style, axis=axis, hoverinfo="name+y")
    return drawn | {"mode": "lines", "line": drawn["line"] | {"dash": "dot", "width": 1.5}}


def band(name: str, x: Values, low: Values, high: Values, *, strength: float) -> list[dict[str, Any]]:
    """What lies between two curves, filled; two series of which the legend names one."""
    edge = {"type": "scatter", "mode": "lines", "x": rounded(x), "line": {"width": 0}, "hoverinfo": "skip"}
    return [
        edge | {"y": rounded(low), "showlegend": False, "name": name, "legendgroup": name},
        edge | {"y": rounded(high), "name": name, "legendgroup": name, "fill": "tonexty", "fillcolor": f"{COLOURS[0]}/{strength}"},
    ]


def layers(name: str, x: Values, y: Values, *, style: int) -> dict[str, Any]:
    """One layer of bars that stand on each other without gaps."""
    fill = {"color": COLOURS[style % len(COLOURS)], "line": {"width": 0}}
    pattern = {"shape": PATTERNS[style % len(PATTERNS)], "fgcolor": "--paper", "fillmode": "overlay", "size": 6, "solidity": 0.2}
    return {"type": "bar", "name": name, "x": rounded(x), "y": rounded(y), "marker": fill | {"pattern": pattern}}


def points(name: str, x: Sequence[float], y: Values, low: Sequence[float], high: Sequence[float], *, style: int) -> dict[str, Any]:
    """Points with their intervals, lying down: names on the left."""
    colour = COLOURS[style % len(COLOURS)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": rounded(x),
        "y": list(y),
        "marker": {"symbol": SYMBOLS[style % len(SYMBOLS)], "size": 11, "color": colour},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": rounded([top - value for top, value in zip(high, x, strict=True)]),
            "arrayminus": rounded([value - bottom for bottom, value in zip(low, x, strict=True)]),
            "color": colour,
            "thickness": 2,
            "width": 5,
        },
    }


def panels(*titles: str, x: str, height: int | None = None, **axes: Any) -> dict[str, Any]:
    """The layout of one panel or of several above each other that share the x-axis.

    A panel's title stands above it in place of a name along its y-axis: read without turning one's head, also on a phone.  `axes` are
    plotly's settings for "xaxis", "yaxis", "yaxis2", ... and whatever else a layout knows.
    """
    share = 1 / len(titles)
    gap = 0.11 if len(titles) > 1 else 0.0
    layout: dict[str, Any] = {
        "height": height or (300 if len(titles) == 1 else 230 * len(titles)),
        "margin": {"l": 8, "r": 12, "t": 30, "b": 8},
        "font": {"size": 13, "color": SOFT},
        "paper_bgcolor": "transparent",
        "plot_bgcolor": "transparent",
        "hovermode": "x unified",
        "hoverlabel": {"bgcolor": "--raised", "bordercolor": FAINT, "font": {"color": INK, "size": 13}},
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom", "font": {"color": INK, "size": 13}},
        "xaxis": _settings({"title": {"text": x, "standoff": 8}, "anchor": _axis("y", len(titles)), "showgrid": False}),
        "annotations": [],
    }
    for number, title in enumerate(titles, start=1):
        top = 1 - (number - 1) * share
        name = "yaxis" if number == 1 else f"yaxis{number}"
        layout[name] = _settings({"domain": [max(0.0, top - share + (gap if number < len(titles) else 0)), top], "rangemode": "tozero"})
        layout["annotations"].append(_heading(title, top))
    return _with(layout, axes)


def _heading(text: str, top: float) -> dict[str, Any]:
    place = {"xref": "paper", "x": 0, "xanchor": "left", "yref": "paper", "y": top, "yanchor": "bottom", "yshift": 6}
    return {"text": text, "showarrow": False, "font": {"color": SOFT, "size": 13}, **place}


def _settings(more: dict[str, Any]) -> dict[str, Any]:
    common = {
        "automargin": True,
        "gridcolor": FAINT,
        "linecolor": FAINT,
        "zeroline": False,
        "fixedrange": True,
        "tickfont": {"color": SOFT},
    }
    return common | more


def _axis(letter: str, number: int) -> str:
    return letter if number == 1 else f"{letter}{number}"


def _with(layout: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Settings over settings, one level deep."""
    for name, value in more.items():
        layout[name] = {**layout.get(name, {}), **value} if isinstance(value, dict) else value
    return layout
