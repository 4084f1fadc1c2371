"""What a scorer is worth, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from judgeflow.model.calibration import Quality


def quality_rows(quality: Quality, *, of: str) -> list[tuple[str, str]]:
    """Return (name, value) of accuracy, calibration, and how well each acquisition finds the scorer's errors."""
    found = quality.error_auroc.items()
    auroc = ", ".join(f"{name} {'-' if value is None else format(value, '.3f')}" for name, value in found)
    return [
        (f"accuracy on {of}", f"{quality.accuracy:.3f} of {quality.pairs:,}"),
        ("expected calibration error", f"{quality.ece:.3f}"),
        ("AUROC against errors", auroc),
    ]


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
