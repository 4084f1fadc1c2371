"""Parquet files as rows.  pyarrow reads and writes them: an optional dependency that only such a file needs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from judgeflow.errors import RecordError, UsageError
from judgeflow.guises import HEAD, guise_of, text_of

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["text", "integer", "number", "flag", "messages"]
"""What a column holds; "messages" are lists of `{"role", "content"}`.  Every value may be null."""

ROWS_AT_A_TIME = 256


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its name."""
    return path.suffix == ".parquet"


def parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a file, numbered from 1, a few hundred in memory at a time.

    Raises `RecordError` for a file that cannot be read, `UsageError` without pyarrow.
    """
    pa = _pyarrow(path)
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise RecordError(f"{path}: {_guise(path) or f'cannot be read as Parquet after row {number}: {error}'}") from None


def _guise(path: Path) -> str | None:
    """What a file is that is called Parquet, and is none; None where it may be some."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if head.startswith(b"PAR1"):
        return None
    return "holds JSON: give it a name that ends in .jsonl" if head.startswith(b"{") else guise_of(head) or text_of(head)


class ParquetWriter:
    """Writes rows with fixed columns to a stream.  The file is whole once it is closed."""

    def __init__(self, stream: io.RawIOBase, columns: Mapping[str, Kind]) -> None:
        pa = _pyarrow("a .parquet file")
        from pyarrow import parquet

        self._schema = pa.schema([pa.field(name, _arrow_type(kind)) for name, kind in columns.items()])
        self._writer = parquet.ParquetWriter(stream, self._schema)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows, which have every column, as one row group."""
        from pyarrow import Table

        self._writer.write_table(Table.from_pylist([dict(row) for row in rows], schema=self._schema))

    def close(self) -> None:
        """Write what belongs at the end."""
        self._writer.close()


def _arrow_type(kind: Kind) -> pa.DataType:
    import pyarrow as pa

    if kind == "messages":
        return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    return {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}[kind]


def _pyarrow(needed_for: object) -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise UsageError(f'{needed_for} needs pyarrow: pip install "judgeflow[parquet]", or use JSONL') from None
    return pa
