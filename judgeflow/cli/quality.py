"""What a scorer is worth, as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from judgeflow.model.quality import Quality

SHOWN_SHARES = ("0.2", "0.4")


def quality_rows(quality: Quality, *, of: str) -> list[tuple[str, str]]:
    """Return (name, value) of accuracy, calibration, how well each acquisition finds the scorer's errors, and what that gains."""
    half = 1.96 * math.sqrt(quality.accuracy * (1.0 - quality.accuracy) / quality.pairs)
    return [
        (f"accuracy on {of}", f"{quality.accuracy:.3f} ±{half:.3f} of {quality.pairs:,}"),
        ("expected calibration error", f"{quality.ece:.3f}"),
        ("Brier score, log loss", f"{quality.brier:.3f}, {quality.log_loss:.3f}"),
        ("AUROC against errors", _aurocs(quality.error_auroc)),
        *[(f"gain in points, {float(share):.0%} judged", _gains(quality.gain_at, share)) for share in SHOWN_SHARES],
    ]


def _aurocs(found: Mapping[str, float | None]) -> str:
    if None in found.values():
        return "all pairs are right, or all wrong: no order tells them apart"
    return ", ".join(f"{name} {value:.3f}" for name, value in found.items())


def _gains(found: Mapping[str, Mapping[str, float]], share: str) -> str:
    return ", ".join(f"{name} {100 * gains[share]:+.1f}" for name, gains in found.items())


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
