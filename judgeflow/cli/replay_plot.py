"""A replay as a figure: accuracy against what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from judgeflow.cli.plots import GREY, LINES, check_plots, legend_below, saved_figure
from judgeflow.plurals import plural
from judgeflow.replay.evidence import ORACLE, RANDOM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from judgeflow.replay.findings import Found

_COSTS = {"calls": ("judge calls", 1.0), "tokens": ("judge tokens, millions", 1e-6), "seconds": ("judge time, hours", 1 / 3600)}


def write_plot(found: Sequence[Found], path: Path) -> None:
    """Draw accuracy against calls, and where they are recorded against tokens and judge time, with 95 % intervals; a row for each judge.

    Raises what `check_plots` raises, and `UsageError` where the file cannot be written.
    """
    check_plots(path)
    known = [name for name in _COSTS if any(getattr(each.measured.curves[RANDOM].points[-1], name) for each in found)]
    with saved_figure(path, width=6.2 * len(known), height=5.4 * len(found)) as figure:
        figure.suptitle(_title(found), fontsize=13, fontweight="bold")
        for each, row in zip(found, figure.subplots(len(found), len(known), squeeze=False), strict=True):
            if len(found) > 1:
                row[0].set_title(each.judge, loc="left", fontweight="bold")
            for axes, name in zip(row, known, strict=True):
                _draw(axes, each, name)
                axes.set(ylabel=_measure(each).lower())


def _title(found: Sequence[Found]) -> str:
    """What is measured on how many pairs; with the judge, where several do not stand at the rows."""
    lines = dict.fromkeys(f"{_measure(each)} on {plural(len(each.measured.evidence), 'pair')}" for each in found)
    return "\n".join(lines) if len(found) > 1 else f"{next(iter(lines))}: {found[0].judge}"


def _measure(found: Found) -> str:
    return "Accuracy" if found.measured.evidence.reference == "labels" else "Agreement with the judge"


def _draw(axes: Axes, found: Found, cost: str) -> None:
    label, unit = _COSTS[cost]
    styles = {RANDOM: (GREY, "--"), ORACLE: (GREY, ":")}
    others = cycle(LINES)
    for name, curve in found.measured.curves.items():
        colour, dashes = styles.get(name) or next(others)
        x = [unit * getattr(point, cost) for point in curve.points]
        axes.plot(x, [point.accuracy.value for point in curve.points], color=colour, linestyle=dashes, linewidth=2, label=name)
        if name not in styles:
            low, high = [point.accuracy.low for point in curve.points], [point.accuracy.high for point in curve.points]
            axes.fill_between(x, low, high, color=colour, alpha=0.10, linewidth=0)
    axes.set(xlabel=label, xlim=(0, None))
    legend_below(axes)
