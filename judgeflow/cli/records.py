"""How the verbs read pairs: bad records stop the verb, or are left out with a word about each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli.options import Format, OnBadRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from judgeflow.adapters.sources import Reading
    from judgeflow.types import Pair

PairsFormat = Annotated[Format, typer.Option("--format", help="What the records are; auto: by the keys of the first one.")]
PairsSplit = Annotated[str | None, typer.Option("--split", help="Which split of a folder or of a set of the hub.")]
PairsSubset = Annotated[str | None, typer.Option("--subset", help="Which configuration or folder of a set of the hub.")]
PairsColumns = Annotated[
    str | None,
    typer.Option("--columns", metavar="KEY=COLUMN,...", help="What records call otherwise: prompt=instruction,chosen=better."),
]


def reading_of(kind: Format, split: str | None, subset: str | None, columns: str | None) -> Reading:
    """Return how these options say that a source is to be read.  Raises `UsageError` for columns that cannot be understood."""
    from judgeflow.adapters.sources import Reading

    return Reading(format=kind, split=split, subset=subset, columns=_columns(columns or ""))


def read_records(source: Path, on_bad_record: OnBadRecord, reading: Reading) -> list[Pair]:
    """Return the pairs of a file, a folder or a set of the hub in any format of `judgeflow.adapters.formats`.

    Raises `RecordError` and `UsageError`.
    """
    return read_usable(source, on_bad_record, reading)[0]


def read_usable(source: Path, on_bad_record: OnBadRecord, reading: Reading) -> tuple[list[Pair], int]:
    """Return the pairs as `read_records` does, and how many bad records were left out."""
    from judgeflow.adapters.datasets import scan_dataset
    from judgeflow.records import refusal

    scan = scan_dataset(source, reading)
    if scan.bad and on_bad_record == "fatal":
        raise refusal(scan.bad)
    for record in scan.bad:
        tell_skipped(record.place, record.reason)
    tell_doubt(source, scan.doubt)
    return list(scan.pairs), len(scan.bad)


def tell_skipped(where: str, reason: str) -> None:
    """Say on stderr that a record was left out, and why."""
    typer.echo(f"{where}: skipped: {reason}", err=True)


def tell_doubt(source: Path, doubt: str | None) -> None:
    """Say on stderr, once for a source, what should be known of its labels."""
    if doubt is not None:
        typer.echo(f"{source}: {doubt}", err=True)


def content_digest(source: Path, pairs: Sequence[Pair], reading: Reading) -> bytes:
    """Return a hash of a file, or of the pairs where they are from no single file; it differs with what they are read as."""
    import hashlib

    import orjson

    read_as = str(pairs[0].metadata.get("benchmark", "")).encode()
    if reading.split is not None or reading.columns:
        read_as += orjson.dumps([reading.split, dict(reading.columns)], option=orjson.OPT_SORT_KEYS)
    if source.is_file():
        with source.open("rb") as stream:
            return hashlib.file_digest(stream, "blake2b").digest() + read_as
    digest = hashlib.blake2b()
    for pair in pairs:
        digest.update(orjson.dumps([pair.prompt, pair.response_a, pair.response_b]))
    return digest.digest() + read_as


def _columns(told: str) -> dict[str, str]:
    from judgeflow.errors import UsageError

    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, told.split(","))):
        key, separator, column = (each.strip() for each in part.partition("="))
        if not (separator and key and column):
            raise UsageError(f"--columns {part}: expected KEY=COLUMN, for instance prompt=instruction")
        if key in found:
            raise UsageError(f"--columns: {key} is given twice, as {found[key]} and as {column}")
        found[key] = column
    return found
