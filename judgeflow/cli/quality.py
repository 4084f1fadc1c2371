"""What a scorer is worth, as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from judgeflow.model.calibration import Quality


def quality_rows(quality: Quality, *, of: str) -> list[tuple[str, str]]:
    """Return (name, value) of accuracy, calibration, and how well each acquisition finds the scorer's errors."""
    half = 1.96 * math.sqrt(quality.accuracy * (1.0 - quality.accuracy) / quality.pairs)
    return [
        (f"accuracy on {of}", f"{quality.accuracy:.3f} ±{half:.3f} of {quality.pairs:,}"),
        ("expected calibration error", f"{quality.ece:.3f}"),
        ("AUROC against errors", _aurocs(quality.error_auroc)),
    ]


def _aurocs(found: Mapping[str, float | None]) -> str:
    if None in found.values():
        return "all pairs are right, or all wrong: no order tells them apart"
    return ", ".join(f"{name} {value:.3f}" for name, value in found.items())


def print_table(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, Text(value))
    Console().print(table)
