"""A report for programs: one JSON object, or one row for each step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from judgeflow.cli.csv_file import write_rows
from judgeflow.report.figures import QUANTILES, RunFigures, Spread, StepFigures


def as_record(figures: RunFigures) -> dict[str, Any]:
    """Return everything as JSON values."""
    derived = {"usd_per_change": figures.usd_per_change, "calls_per_change": figures.calls_per_change}
    return dataclasses.asdict(figures) | derived


def print_record(record: Mapping[str, Any]) -> None:
    """Print one JSON object on a line."""
    print(orjson.dumps(record).decode())


def write_csv(figures: RunFigures, path: Path) -> None:
    """Write one row for each step.  Raises `UsageError` where the file cannot be written."""
    columns = list(dict.fromkeys(name for step in figures.steps for name in step_row(step)))
    write_rows(path, columns or ["step"], map(step_row, figures.steps), missing=0)


def step_row(step: StepFigures) -> dict[str, Any]:
    """Return one step as a row; what is not known is empty, and what a step does not have in common with others comes last."""
    plain = ("step", "ended_at", "seconds", "pairs", "asked", "audits", "threshold")
    return {
        **{name: getattr(step, name) for name in plain},
        "calls": step.spent.requests,
        "tokens": step.spent.tokens,
        "usd": step.spent.usd,
        "prompt_tokens": step.prompt_tokens,
        "completion_tokens": step.completion_tokens,
        "agreement": step.agreement,
        **{f"waited_{name}_s": step.waited_s.get(name) for name in ("p50", "p90", "max")},
        **{f"left_{kind}": step.remaining.get(kind) for kind in ("requests", "tokens", "usd")},
        "turned_away": step.turned_away,
        "lowered_s": None if step.pressure is None else max((each.lowered_s for each in step.pressure.values()), default=0.0),
        **dict(_quantiles("uncertainty", step.uncertainty)),
        **dict(_quantiles("acquisition", step.acquisition)),
        **{f"source_{name}": number for name, number in step.sources.items()},
        **{f"status_{name}": number for name, number in step.statuses.items()},
    }


def _quantiles(name: str, spread: Spread | None) -> Iterator[tuple[str, float | None]]:
    for place, quantile in enumerate(QUANTILES):
        yield f"{name}_p{round(100 * quantile):02}", None if spread is None else spread.quantiles[place]
