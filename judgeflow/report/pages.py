"""Templates, style sheet and scripts that the HTML file and the live page share.

How a page is made of them: `environment().get_template(...)` with templates of your own in `more`, which extend "base.html" or "run.html"
and import the macros of "parts.html" (answers, numbers, charts, judges, pairs, pair_inside, settings, notes).  They want `run`, a
`RunFigures`, and `charts`, what `charts_of(run)` gives.  Serve or inline `asset("style.css")`, `library()` (plotly.js) and
`asset("charts.js")`; then `judgeflow.draw({chart id: figure})` draws `chart_figures(charts)` into the elements that "parts.html" made,
and draws them anew when it is called again.  Nothing needs eval, inline event handlers or style attributes of ours; plotly writes
styles of its own, so a policy says "style-src 'self' 'unsafe-inline'".
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeflow.errors import ConfigurationError
from judgeflow.plurals import plural
from judgeflow.report import safe, wording
from judgeflow.report.charts import Chart
from judgeflow.report.figures import PairFigures

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = files("judgeflow.report")
_OPENING = 160
_CHOICES = {"a": "A", "b": "B", "tie": "tie", None: "?"}


def asset(name: str) -> str:
    """Return a style sheet or script that comes with the package: "style.css", "charts.js", "report.js"."""
    return (_HERE / "assets" / name).read_text(encoding="utf-8")


def library() -> bytes:
    """Return plotly.js, minified, from the plotly package.  Raises `ConfigurationError` where that is not whole."""
    spec = find_spec("plotly")  # where it lies, without importing it
    path = Path(next(iter(spec.submodule_search_locations or ())), "package_data", "plotly.min.js") if spec else None
    if path is None or not path.is_file():
        raise ConfigurationError("charts need plotly with its plotly.min.js, which is not installed: pip install plotly")
    return path.read_bytes()


def chart_figures(charts: Iterable[Chart]) -> dict[str, dict[str, Any]]:
    """Return {chart id: {"data", "layout"}}: what `judgeflow.draw` of charts.js takes, as JSON."""
    return {chart.id: chart.figure for chart in charts}


@functools.cache
def environment(more: tuple[Path, ...] = ()) -> Environment:
    """Return jinja's environment with our templates, and before them those in the folders `more`.

    Everything is escaped unless it is marked safe; a name that is not there is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [*more, Path(str(_HERE / "templates"))]
    made = Environment(loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "cell": cell,
        "count": wording.count,
        "duration": wording.duration,
        "excerpt": safe.excerpt,
        "moment": wording.moment,
        "money": wording.money,
        "number": wording.number,
        "opening": opening,
        "percent": wording.percent,
        "plural": plural,
        "preferences": preferences,
        "sentence": wording.sentence,
        "settings": safe.plain_config,
        "share": wording.interval,
        "short": safe.shortened,
        "slowest_reply": lambda pair: max((reply.latency_s for reply in pair.replies), default=None),
        "visible": lambda text: safe.excerpt(text).text,
    }
    return made


def cell(value: str | float | None) -> str:
    """A table's value as text."""
    if value is None or isinstance(value, str):
        return wording.UNKNOWN if value is None else safe.shortened(value)
    return wording.count(value) if value % 1 == 0 else wording.number(value)


def opening(pair: PairFigures) -> str:
    """The first words of a pair's prompt, or of the last message of its conversation, on one line."""
    text = pair.prompt if isinstance(pair.prompt, str) else _last_content(pair.prompt)
    return " ".join(safe.visible(text[:_OPENING]).split()) or "(empty prompt)"


def _last_content(messages: Sequence[Any]) -> str:
    return str(messages[-1].get("content", "")) if messages else ""


def preferences(pair: PairFigures) -> str:
    """What the replies prefer, in the order they stand in: A, then B."""
    return wording.by_judge(pair, lambda reply: _CHOICES[reply.preferred], ", then ") or "no reply"
