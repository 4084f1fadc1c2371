"""A table as a CSV file, or on stdout."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from judgeflow.cli.record_files import STDOUT
from judgeflow.errors import UsageError


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, missing: object = "") -> None:
    """Write rows with these columns, `missing` where one has none.  Raises `UsageError` where the file cannot be written."""
    if path == STDOUT:
        _write(sys.stdout, columns, rows, missing, end="\n")
        return
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            _write(stream, columns, rows, missing, end="\r\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None


def _write(stream: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], missing: object, *, end: str) -> None:
    writer = csv.DictWriter(stream, fieldnames=columns, restval=missing, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)


def one_on_stdout(written: Mapping[str, Path | None], *, as_json: bool) -> bool:
    """Return whether one of the options with these files takes stdout.  Raises `UsageError` where two do, or one and --json."""
    taken = [f"{option} -" for option, path in written.items() if path == STDOUT]
    everything = [*taken, "--json"] if as_json else taken
    if len(everything) > 1:
        raise UsageError(f"{' and '.join(everything)} all write to stdout; name a file for all but one")
    return bool(taken)
