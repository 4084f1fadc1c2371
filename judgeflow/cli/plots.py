"""What a scorer is worth, as a figure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeflow.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from judgeflow.model.quality import JudgedCurves, Quality, ReliabilityBin

SUFFIXES = (".svg", ".png")
GREY = "#595959"
# Okabe and Ito's palette, told apart by the colour-blind, and dashes of their own: curves may lie on each other.
LINES = (("#0072B2", "-"), ("#D55E00", (0, (5, 2))), ("#009E73", (0, (1, 1.5))), ("#CC79A7", (0, (6, 2, 1, 2))))
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "svg.fonttype": "none",  # text stays text: searchable, and read aloud
    "svg.hashsalt": "judgeflow",  # the same figure is the same file
}
_BELOW: dict[str, Any] = {
    "xytext": (0, -13),
    "textcoords": "offset points",
    "ha": "center",
    "va": "top",
    "fontsize": 10,
    "bbox": {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
}


def check_plots(path: Path) -> None:
    """Raise `UsageError` for a suffix that is neither .svg nor .png, `ConfigurationError` without matplotlib."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: a plot is written as {' or '.join(SUFFIXES)}; name it so")
    if find_spec("matplotlib") is None:
        raise ConfigurationError('plots need matplotlib, which is not installed: pip install "judgeflow[plots]"')


def write_plots(quality: Quality, path: Path) -> None:
    """Draw reliability, and accuracy against the share that is judged, side by side; the suffix, .svg or .png, says how.

    The same quality gives the same bytes.  Raises what `check_plots` raises, and `UsageError` where the file cannot be written.
    """
    with saved_figure(path, width=12, height=5.4) as figure:
        figure.suptitle(f"The scorer on {quality.pairs:,} labelled pairs", fontsize=14, fontweight="bold")
        left, right = figure.subplots(1, 2)
        _draw_reliability(left, quality.reliability, f"expected calibration error {quality.ece:.3f}, Brier score {quality.brier:.3f}")
        _draw_curves(right, quality.curves)


@contextmanager
def saved_figure(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of so many inches in our style, and write it where the block ends.  Raises as `write_plots`."""
    check_plots(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        try:
            figure.savefig(path, format=path.suffix.lower()[1:], dpi=150, metadata=_metadata(path))
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _metadata(path: Path) -> dict[str, Any]:
    """Nothing that changes from day to day."""
    return {"Date": None} if path.suffix.lower() == ".svg" else {}


def _draw_reliability(axes: Axes, bins: tuple[ReliabilityBin, ...], subtitle: str) -> None:
    most = max(each.pairs for each in bins)
    axes.set_title(f"Reliability: {subtitle}", fontsize=11)
    axes.plot([0.5, 1], [0.5, 1], color=GREY, linestyle="--", linewidth=1.2, label="as often right as sure")
    x, y = [each.confidence for each in bins], [each.accuracy for each in bins]
    axes.plot(x, y, color=LINES[0][0], linewidth=1.5)
    axes.scatter(x, y, s=[30 + 270 * each.pairs / most for each in bins], color=LINES[0][0], label="scorer, with the number of pairs")
    for each in bins:
        axes.annotate(f"{each.pairs:,}", (each.confidence, each.accuracy), **_BELOW)
    axes.set(xlabel="confidence, max(p, 1 - p)", ylabel="accuracy", xlim=(0.48, 1.02), ylim=(min(0.5, *y) - 0.1, 1.04))
    legend_below(axes)


def _draw_curves(axes: Axes, curves: JudgedCurves) -> None:
    axes.set_title("Accuracy when a perfect judge answers the highest first", fontsize=11)
    shares = [100 * share for share in curves.shares]
    axes.plot(shares, curves.random, color=GREY, linestyle="--", linewidth=1.2, label="random")
    for (name, accuracy), (colour, dashes) in zip(curves.acquisitions.items(), cycle(LINES), strict=False):
        axes.plot(shares, accuracy, color=colour, linestyle=dashes, linewidth=2.2, label=name)
    axes.set(xlabel="pairs judged, %", ylabel="accuracy", xlim=(0, 100))
    legend_below(axes)


def legend_below(axes: Axes) -> None:
    """Under the axes, where no point can lie."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=4, frameon=False, handlelength=2.6, columnspacing=1.6)
