"""A replay as a figure: accuracy against what it costs."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from judgeflow.cli.plots import GREY, LINES, check_plots, legend_below, saved_figure
from judgeflow.replay.evidence import ORACLE, RANDOM

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from judgeflow.replay.findings import Found

_COSTS = {"calls": ("judge calls", 1.0), "tokens": ("judge tokens, millions", 1e-6), "seconds": ("judge time, hours", 1 / 3600)}


def write_plot(found: Found, path: Path) -> None:
    """Draw accuracy against calls, and where they are recorded against tokens and judge time, with 95 % intervals.

    Raises what `check_plots` raises, and `UsageError` where the file cannot be written.
    """
    check_plots(path)
    known = [name for name in _COSTS if getattr(found.measured.curves[RANDOM].points[-1], name)]
    what = "Accuracy" if found.measured.evidence.reference == "labels" else "Agreement with the judge"
    with saved_figure(path, width=6.2 * len(known), height=5.4) as figure:
        figure.suptitle(f"{what} on {len(found.measured.evidence):,} pairs: {found.judge}", fontsize=13, fontweight="bold")
        for axes, name in zip(figure.subplots(1, len(known), squeeze=False)[0], known, strict=True):
            _draw(axes, found, name)
            axes.set(ylabel=what.lower())


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
