"""Where the records of a training run go: a file of JSON lines, TensorBoard.

Both are context managers of an `Observe`.  A run that goes on after a kill adds to what is there; a new one begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

from judgeflow.errors import ConfigurationError
from judgeflow.model.watch import Observe


@contextmanager
def json_lines(path: Path) -> Iterator[Observe]:
    """Write one JSON object a line to `path`, as things happen.

    Steps between the last state that was kept and the kill stand there twice, the second time after a "resume" record.  Numbers that
    JSON has no word for are null.  Raises `ConfigurationError` for a file that cannot be written, or holds something else.
    """
    try:
        if path.is_file() and not _is_ours(path):
            raise ConfigurationError(f"--metrics {path}: holds something else than metrics; name another file, so that nothing is lost")
        stream = path.open("ab")
    except OSError as error:
        raise ConfigurationError(f"--metrics {path}: cannot be written: {error.strerror or error}") from None
    with stream:
        yield _Lines(stream).write


def _is_ours(path: Path) -> bool:
    """Whether a file is empty, or begins with a record of a training run."""
    with path.open("rb") as stream:
        first = stream.readline()
    try:
        return not first or "event" in orjson.loads(first)
    except (ValueError, TypeError):
        return False


class _Lines:
    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._begun = False

    def write(self, record: Mapping[str, Any]) -> None:
        goes_on = record["event"] == "resume" or record.get("again", False)
        if not self._begun and not goes_on and self._stream.seekable():  # a pipe has no lines of an older run
            self._stream.truncate(0)
        self._begun = True
        self._stream.write(orjson.dumps(dict(record), option=orjson.OPT_APPEND_NEWLINE))
        self._stream.flush()


@contextmanager
def tensorboard(folder: Path) -> Iterator[Observe]:
    """Write the numbers of records to TensorBoard files in `folder`, as "step/loss", "evaluation/loss", "final/accuracy" and so on.

    Members of an ensemble after the first have their number behind: "step-1/loss".  Raises `ConfigurationError` without the package.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigurationError(f"--tensorboard needs the extra: pip install 'judgeflow[tensorboard]' ({error})") from None
    try:
        writer = SummaryWriter(folder)
    except OSError as error:
        raise ConfigurationError(f"--tensorboard {folder}: cannot be written: {error.strerror or error}") from None

    def write(record: Mapping[str, Any]) -> None:
        member, step = record.get("member", 0), record.get("step", 0)
        kind = f"{record['event']}-{member}" if member else record["event"]
        for name, value in record.items():
            if name not in {"step", "member"} and _is_number(value):
                writer.add_scalar(f"{kind}/{name}", value, step)

    try:
        yield write
    finally:
        writer.close()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
