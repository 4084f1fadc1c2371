"""A benchmark's own score, as rows of a table and as a JSON value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from judgeflow.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from judgeflow.adapters.scores import BenchmarkScore
    from judgeflow.estimates import Estimate
    from judgeflow.types import Pair


def benchmark_of(judged: Sequence[tuple[Pair, float]]) -> BenchmarkScore | None:
    """Return the score of the benchmark that these pairs with their logits are from, if any; what prevents it is told on stderr."""
    if not judged or "benchmark" not in judged[0][0].metadata:
        return None
    from judgeflow.adapters.scores import benchmark_score

    try:
        return benchmark_score(judged)
    except RecordError as error:
        typer.echo(f"no benchmark score: {error}", err=True)
        return None


def benchmark_rows(score: BenchmarkScore | None) -> list[tuple[str, str]]:
    """Return (name, value) of every part of a benchmark, and of what the pairs lack of it; nothing without a score."""
    if score is None:
        return []
    rows = [(f"{score.benchmark}, {name}", _figures(part)) for name, part in score.parts.items()]
    return rows + ([(f"{score.benchmark}, not among the pairs", ", ".join(score.missing))] if score.missing else [])


def benchmark_record(score: BenchmarkScore | None) -> dict[str, Any] | None:
    """Return a score as JSON values."""
    return None if score is None else dataclasses.asdict(score)


def _figures(part: Mapping[str, Estimate]) -> str:
    return ", ".join(f"{name} {each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for name, each in part.items())
