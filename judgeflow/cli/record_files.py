"""A file of records, JSONL or Parquet by its name, which takes that name once it is whole; or stdout."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from judgeflow.cli.outcomes_file import OutcomesFile

if TYPE_CHECKING:
    from judgeflow.parquet import Kind, ParquetWriter

ROWS_PER_GROUP = 1024
"""Rows that a Parquet file keeps together: enough to compress well, few enough to hold in memory."""

STDOUT = Path("-")


class RecordFile:
    """Records with fixed columns, in `out`.  What is not completed is removed when the context ends.

    Raises `UsageError` as `OutcomesFile`.
    """

    def __init__(self, out: Path, columns: Mapping[str, Kind], inputs: Mapping[Path, str]) -> None:
        from judgeflow.parquet import ParquetWriter, is_parquet

        self.written = 0
        self.is_complete = False
        self._columns = tuple(columns)
        self._file = None if out == STDOUT else OutcomesFile(out, inputs)
        self._rows: list[Mapping[str, Any]] = []
        self._parquet: ParquetWriter | None = None
        self._stream = _Stream(self._file)
        if is_parquet(out):
            self._parquet = ParquetWriter(self._stream, columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is None:
            return
        if not self.is_complete:
            self._stream.file = None
            if self._parquet is not None:
                self._parquet.close()
            self._file.partial.unlink(missing_ok=True)
        self._file.__exit__(*exc_info)

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records, which have every column."""
        self.written += len(records)
        if self._parquet is None:
            self._write_lines(records)
            return
        self._rows += records
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush(self._parquet)

    def complete(self) -> None:
        """Write what is left, and let the file take its name."""
        if self._parquet is not None:
            self._flush(self._parquet)
            self._parquet.close()
        if self._file is not None:
            self._file.write(())
            self._file.complete()
        self.is_complete = True

    def _flush(self, parquet: ParquetWriter) -> None:
        if self._rows:
            parquet.write(self._rows)
            self._rows = []

    def _write_lines(self, records: Sequence[Mapping[str, Any]]) -> None:
        import sys

        import orjson

        lines = [orjson.dumps({name: record[name] for name in self._columns}, option=orjson.OPT_APPEND_NEWLINE) for record in records]
        if self._file is None:
            sys.stdout.buffer.writelines(lines)
        else:
            self._file.write(lines)


class _Stream(io.RawIOBase):
    """What a writer of binary files takes, in front of an `OutcomesFile`; without one, what is written is dropped."""

    def __init__(self, file: OutcomesFile | None) -> None:
        super().__init__()
        self.file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.file is not None:
            self.file.write((bytes(data),))
        return len(data)
