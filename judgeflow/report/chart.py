"""What a chart is: a figure, a sentence and a table of the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Cell = str | float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The numbers of a chart; None is what is not known, shares are between 0 and 1, durations seconds."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One chart: `text` says what is seen, `figure` is {"data", "layout"} for plotly.js, `table` holds the same numbers.

    `id` is fit for an element's id; names of judges in `text` and `table` are as they came, and must be escaped where they are shown.
    """

    id: str
    title: str
    text: str
    figure: dict[str, Any]
    table: Table


def rows(*columns: Sequence[Cell]) -> tuple[tuple[Cell, ...], ...]:
    """The rows of columns of one length."""
    return tuple(zip(*columns, strict=True))


def part(value: float | None, whole: float | None) -> float | None:
    """`value` as a share of `whole`; None where either is not known or there is nothing to share."""
    return value / whole if value is not None and whole else None


def sentences(*texts: str) -> str:
    """What there is to say, with a blank between."""
    return " ".join(text for text in texts if text)
