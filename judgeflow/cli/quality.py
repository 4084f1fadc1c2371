"""What a scorer is worth, as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from judgeflow.model.quality import Quality
    from judgeflow.model.rivals import Rival

_Z = 1.96
SHOWN_SHARES = ("0.2", "0.4")


def quality_rows(quality: Quality, *, of: str) -> list[tuple[str, str]]:
    """Return (name, value) of accuracy, calibration, how well each acquisition finds the scorer's errors, and what that gains."""
    low, high = wilson_interval(quality.accuracy, quality.pairs)
    return [
        (f"accuracy on {of}", f"{quality.accuracy:.3f} [{low:.3f}, {high:.3f}] of {quality.pairs:,}"),
        ("expected calibration error", f"{quality.ece:.3f}"),
        ("Brier score, log loss", f"{quality.brier:.3f}, {quality.log_loss:.3f}"),
        ("AUROC against errors", _aurocs(quality.error_auroc)),
        *[(f"gain in points, {float(share):.0%} judged", _gains(quality.gain_at, share)) for share in SHOWN_SHARES],
    ]


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share among `count` (Wilson 1927): it is honest where all are right, or few."""
    spread = _Z**2 / count
    centre = share + spread / 2
    half = _Z * math.sqrt(share * (1.0 - share) / count + spread / count / 4)
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def _aurocs(found: Mapping[str, float | None]) -> str:
    if None in found.values():
        return "all pairs are right, or all wrong: no order tells them apart"
    return ", ".join(f"{name} {value:.3f}" for name, value in found.items())


def _gains(found: Mapping[str, Mapping[str, float]], share: str) -> str:
    return ", ".join(f"{name} {100 * gains[share]:+.1f}" for name, gains in found.items())


def print_rivals(rivals: Sequence[Rival], out: Path, *, as_json: bool) -> None:
    """Print what ways of being uncertain found and cost, side by side; costs are beside those of no uncertainty at all."""
    import dataclasses

    import orjson
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if as_json:
        print(orjson.dumps({rival.kind: dataclasses.asdict(rival) for rival in rivals}).decode())
        return
    plain = next((rival for rival in rivals if rival.kind == "none"), rivals[-1])
    pairs = plain.report.validation.pairs
    title = Text(f"scorers in {out}, on {pairs:,} pairs of unseen prompts; AUROC against errors; cost of a pair")
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("accuracy", "ECE", "error", "uncert.", "margin", "MFLOP", "x none", "ms"):
        table.add_column(heading, justify="right")
    for rival in rivals:
        quality = rival.report.validation
        aurocs = ["-" if value is None else f"{value:.3f}" for value in quality.error_auroc.values()]
        costs = (f"{rival.flops / 1e6:,.1f}", f"{rival.flops / plain.flops:.2f}", f"{rival.seconds * 1000:.2f}")
        table.add_row(rival.kind, f"{quality.accuracy:.3f}", f"{quality.ece:.3f}", *aurocs, *costs)
    Console().print(table)


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
