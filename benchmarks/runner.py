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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
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
    """Run a case and return its report."""
    case = load(name)
    size = case.SIZE if size is None else size
    figures = case.measure(size, seed)
    return {
        "case": name,
        "figures": figures,
        "goals": {figure: {"op": goal.op, "value": goal.value} for figure, goal in case.GOALS.items()},
        "rounds": size,
        "size": size,
        "seed": seed,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
    }


def as_text(result: Mapping[str, Any]) -> str:
    """Return a report for people: one line per figure, with its goal."""
    lines = [f"{result['case']}  (size {result['size']}, seed {result['seed']}, {result['machine']})"]
    for name, figure in result["figures"].items():
        goal = result["goals"].get(name)
        verdict = "" if goal is None else f"   goal {goal['op']} {goal['value']:g}: {_verdict(Goal(**goal), figure)}"
        lines.append(f"  {name:32} {figure:10.4f}{verdict}")
    return "\n".join(lines)


def _verdict(goal: Goal, figure: float) -> str:
    return "reached" if goal.holds(figure) else "MISSED"


def as_json(result: Mapping[str, Any]) -> str:
    """Return a report as one line of JSON."""
    return json.dumps(result)
