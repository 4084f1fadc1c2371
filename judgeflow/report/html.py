"""One self-contained HTML file about a run: opened from disk, without a network, years later."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from pathlib import Path

from judgeflow.errors import UsageError
from judgeflow.report.charts import charts_of
from judgeflow.report.figures import RunFigures
from judgeflow.report.pages import asset, chart_figures, environment, library
from judgeflow.report.safe import json_for_script


def write_report(figures: RunFigures, path: Path) -> None:
    """Write the page about a run to `path`, whole or not at all.  Raises `UsageError` where it cannot be written."""
    page = report_page(figures)
    target = path.resolve()  # a link stays a link
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        beside.write_text(page, encoding="utf-8", newline="\n")
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def report_page(figures: RunFigures) -> str:
    """Return the page about a run.

    plotly.js is compressed inside, at two fifths of its size; the policy lets nothing be fetched and no script run but those whose
    hashes it names.
    """
    from markupsafe import Markup

    charts = charts_of(figures)
    scripts = {"charts_script": asset("charts.js"), "report_script": asset("report.js")}
    source = library()
    return (
        environment()
        .get_template("report.html")
        .render(
            run=figures,
            charts=charts,
            chart_figures=Markup(json_for_script(chart_figures(charts))),  # noqa: S704 - cannot leave its script element
            library=Markup(base64.b64encode(gzip.compress(source, mtime=0)).decode()),  # noqa: S704 - letters and digits
            policy=policy(*map(str.encode, scripts.values()), source),
            style=Markup(asset("style.css")),  # noqa: S704 - the package's own file
            **{name: Markup(text) for name, text in scripts.items()},  # noqa: S704 - the same
        )
    )


def policy(*scripts: bytes) -> str:
    """Return a content security policy under which these scripts run, nothing else does, and nothing is fetched or sent.

    Styles are free: plotly writes some of its own, they can fetch nothing, and texts of others never become elements.
    """
    sources = " ".join(map(_digest, scripts))
    return f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def _digest(text: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
