"""What the cases share: goals, interleaved rounds, and the report."""

from __future__ import annotations

import importlib
import json
import operator
import os
import pkgutil
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import cases

PACKAGES = ("aiohttp", "orjson", "pydantic", "sqlalchemy", "torch", "transformers", "typer")


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should reach."""

    op: str
    value: float

    def holds(self, figure: float) -> bool:
        """Whether `figure` reaches it."""
        return bool({"<=": operator.le, ">=": operator.ge}[self.op](figure, self.value))


class Skipped(Exception):
    """A case lacks what it measures; its message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a case found beside its figures: tables for people (Markdown) and the same for programs (what JSON can hold).

    `missing` says of figures that could not be measured here why not.
    """

    figures: Mapping[str, float]
    missing: Mapping[str, str] = field(default_factory=dict)
    tables: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def case_names() -> list[str]:
    """Return the names of all cases."""
    return sorted(module.name for module in pkgutil.iter_modules(cases.__path__))


def load(name: str) -> ModuleType:
    """Return the module of a case."""
    return importlib.import_module(f"benchmarks.cases.{name}")


def interleaved_medians(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return each contender's median seconds over `rounds`, after one round to warm up; rounds alternate between them."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def report(name: str, size: int | None, seed: int) -> dict[str, Any]:
    """Run a case and return its report; one that was skipped has no figures and says why."""
    case = load(name)
    size = case.SIZE if size is None else size
    try:
        found, skipped = case.measure(size, seed), {}
    except Skipped as reason:
        found, skipped = Finding(figures={}), {"skipped": str(reason)}
    finding = found if isinstance(found, Finding) else Finding(figures=found)
    return {
        "case": name,
        "figures": dict(finding.figures),
        "goals": {figure: {"op": goal.op, "value": goal.value} for figure, goal in case.GOALS.items()},
        "rounds": size,
        "size": size,
        "seed": seed,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        **skipped,
        **({"missing": dict(finding.missing)} if finding.missing else {}),
        **({"tables": finding.tables, "details": dict(finding.details)} if finding.tables else {}),
    }


def as_text(result: Mapping[str, Any]) -> str:
    """Return a report for people: one line per figure, with its goal."""
    lines = [f"{result['case']}  (size {result['size']}, seed {result['seed']}, {result['machine']})"]
    if "skipped" in result:
        lines.append(f"  skipped: {result['skipped']}")
    for name, figure in result["figures"].items():
        goal = result["goals"].get(name)
        verdict = "" if goal is None else f"   goal {goal['op']} {goal['value']:g}: {_verdict(Goal(**goal), figure)}"
        lines.append(f"  {name:32} {figure:12.6g}{verdict}")
    lines += [f"  {name:32} skipped: {reason}" for name, reason in result.get("missing", {}).items()]
    return "\n".join(lines)


def _verdict(goal: Goal, figure: float) -> str:
    return "reached" if goal.holds(figure) else "MISSED"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def write(result: Mapping[str, Any], folder: Path, command: str) -> list[Path]:
    """Write a report as Markdown and as JSON, named by date and case, and return the two paths."""
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.now(UTC).date().isoformat()
    paths = [folder / f"{date}-{result['case']}.{ending}" for ending in ("md", "json")]
    paths[0].write_text(_document(result, date, command), encoding="utf-8")
    paths[1].write_text(json.dumps({"date": date, "command": command} | dict(result), indent=1) + "\n", encoding="utf-8")
    return paths


def _document(result: Mapping[str, Any], date: str, command: str) -> str:
    goals = {name: Goal(**goal) for name, goal in result["goals"].items()}
    rows = [
        [name, f"{figure:.4g}", f"{goals[name].op} {goals[name].value:g}: {_verdict(goals[name], figure)}" if name in goals else ""]
        for name, figure in result["figures"].items()
    ]
    rows += [[name, "not measured", reason] for name, reason in result.get("missing", {}).items()]
    versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
    about = f"{date}, `{command}` (seed {result['seed']}), on {result['machine']}; {versions}."
    doc = (load(result["case"]).__doc__ or "").strip()
    parts = [f"# {result['case']}", about, doc, table(["figure", "value", "goal"], rows), result.get("tables", "")]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(result: Mapping[str, Any]) -> str:
    """Return a report as one line of JSON, without its tables."""
    return json.dumps({name: value for name, value in result.items() if name not in {"tables", "details"}})
