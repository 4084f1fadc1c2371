"""The charts of a run, in reading order.

`charts_of(figures)` computes nothing that `RunFigures` does not say.  Each `Chart` has a figure for plotly.js, with CSS variables for
colours (see `judgeflow.report.drawing`; `assets/charts.js` draws it), one sentence or two that say what is seen, and a table.
"""

from __future__ import annotations

from judgeflow.report.chart import Chart, Table
from judgeflow.report.figures import RunFigures
from judgeflow.report.judge_charts import consistency, lift, load
from judgeflow.report.step_charts import budget, share, sources, uncertainty, waiting
from judgeflow.report.thinning import thinned_steps

__all__ = ["Chart", "Table", "charts_of"]


def charts_of(figures: RunFigures) -> tuple[Chart, ...]:
    """Return the charts for which this run has anything to show.

    Ids, in order: budget, sources, share, uncertainty, load, waiting, consistency, lift.  Of more than 200 steps or minutes neighbours
    are drawn as one, and the text says so.
    """
    steps = thinned_steps(figures.steps)
    by_step = [draw(figures, steps) if steps else None for draw in (budget, sources, share, uncertainty)]
    drawn = [*by_step, load(figures), waiting(figures, steps), consistency(figures), lift(figures)]
    return tuple(chart for chart in drawn if chart is not None)
