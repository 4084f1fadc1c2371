"""The Grafana dashboard of the metrics: `python -m judgeflow.observe.grafana > dashboard.json`, and import that file."""

from __future__ import annotations

import sys
from importlib.resources import files


def dashboard() -> str:
    """Return the dashboard as Grafana imports it: JSON, with a variable for the Prometheus data source."""
    return files("judgeflow.observe").joinpath("grafana.json").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(dashboard())
