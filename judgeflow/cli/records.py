"""How the verbs read pair records: bad ones stop the verb, or are left out with a word about each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from judgeflow.types import Pair


def read_records(path: Path, on_bad_record: str) -> list[Pair]:
    """Return the pairs of a file.  Raises `RecordError`, and typer's error for an `on_bad_record` that is neither fatal nor skip."""
    from judgeflow.records import place, read_pairs

    if on_bad_record not in {"fatal", "skip"}:
        raise typer.BadParameter("accepted are fatal and skip", param_hint="--on-bad-record")
    pairs, bad = read_pairs(path, on_bad_record="skip" if on_bad_record == "skip" else "fatal")
    for record in bad:
        typer.echo(f"{place(path, record.line)}: skipped: {record.reason}", err=True)
    return pairs
