"""How the verbs read pairs: bad records stop the verb, or are left out with a word about each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli.options import Format, OnBadRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from judgeflow.types import Pair

PairsFormat = Annotated[Format, typer.Option("--format", help="What the records are; auto: by the keys of the first one.")]
PairsSplit = Annotated[str | None, typer.Option("--split", help="Which split of a folder or of a set of the hub.")]


def read_records(path: Path, on_bad_record: OnBadRecord, kind: Format = "auto", split: str | None = None) -> list[Pair]:
    """Return the pairs of a file, a folder or a set of the hub in any format of `judgeflow.adapters.formats`.

    Raises `RecordError` and `UsageError`.
    """
    return read_usable(path, on_bad_record, kind, split)[0]


def read_usable(path: Path, on_bad_record: OnBadRecord, kind: Format = "auto", split: str | None = None) -> tuple[list[Pair], int]:
    """Return the pairs as `read_records` does, and how many bad records were left out."""
    from judgeflow.adapters.datasets import AUTO, bad_records, holds_pair_records, scan_dataset

    if kind == AUTO and split is None and holds_pair_records(path):
        return _read_pair_records(path, on_bad_record)
    scan = scan_dataset(path, format=kind, split=split)
    if scan.bad and on_bad_record == "fatal":
        raise bad_records(scan.bad)
    for record in scan.bad:
        _tell_skipped(record.place, record.reason)
    return list(scan.pairs), len(scan.bad)


def content_digest(source: Path, pairs: Sequence[Pair]) -> bytes:
    """Return a hash of a file, or of the pairs where they are from no single file; it differs with the benchmark that they are read as."""
    import hashlib

    import orjson

    read_as = str(pairs[0].metadata.get("benchmark", "")).encode()
    if source.is_file():
        with source.open("rb") as stream:
            return hashlib.file_digest(stream, "blake2b").digest() + read_as
    digest = hashlib.blake2b()
    for pair in pairs:
        digest.update(orjson.dumps([pair.prompt, pair.response_a, pair.response_b]))
    return digest.digest() + read_as


def _read_pair_records(path: Path, on_bad_record: OnBadRecord) -> tuple[list[Pair], int]:
    from judgeflow.records import place, read_pairs

    pairs, bad = read_pairs(path, on_bad_record=on_bad_record)
    for record in bad:
        _tell_skipped(place(path, record.line), record.reason)
    return pairs, len(bad)


def _tell_skipped(where: str, reason: str) -> None:
    typer.echo(f"{where}: skipped: {reason}", err=True)
