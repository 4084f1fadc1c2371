"""The file that `judgeflow route` writes: outcomes grow in OUT.partial, which becomes OUT when the last one is written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self

from judgeflow.errors import JudgeflowError, UsageError


class OutcomesFile:
    """OUT.partial, open and locked; the context closes it, and removes it if it is empty.

    Where `out` is a symbolic link, the file that it leads to is written.  What an earlier run left in OUT.partial stays until the
    first outcome is written.  Raises `UsageError`, before anything is asked, if `out` cannot be written, is one of `inputs` (what
    they are, by path), or is being written by another process.
    """

    def __init__(self, out: Path, inputs: Mapping[Path, str]) -> None:
        require_file(f"--out {out}", out)
        target = Path(os.path.realpath(out)) if out.is_symlink() else out
        self.partial = target.with_name(f"{target.name}.partial")
        require_file(f"--out {out}", self.partial)
        require_other(f"--out {out}", (target, self.partial), inputs)
        self._target = target
        self._stream = _open_locked(out, self.partial)
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._is_empty() and _is_at(self._stream, self.partial):
            self.partial.unlink()
        with contextlib.suppress(OSError):  # what could not be written was told by `write`
            self._stream.close()

    def _is_empty(self) -> bool:
        return os.fstat(self._stream.fileno()).st_size == 0

    def write(self, lines: Iterable[bytes]) -> None:
        """Append lines.  Raises `JudgeflowError` if the disk does not take them."""
        with self._told():
            if not self._begun:
                self._stream.truncate(0)
                self._begun = True
            self._stream.writelines(lines)
            self._stream.flush()

    def complete(self) -> None:
        """Let the file take its name.  Raises `JudgeflowError` if it cannot."""
        with self._told():
            self.partial.replace(self._target)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "mend that, and run the same command again: every reply is stored, and none is asked for twice"
            raise JudgeflowError(f"{self.partial} cannot be written: {error.strerror or error}; {remedy}") from None


def require_file(option: str, path: Path) -> None:
    """Refuse what exists and is no regular file: a device or a pipe would be replaced, a folder cannot be.

    Messages begin with the `option`, as it was given.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        _require_folder(option, path.parent)
    except OSError as error:
        raise _unwritable(option, path, error) from None
    else:
        if stat.S_ISDIR(mode):
            raise UsageError(f"{option}: {path} is a folder; name a file in it")
        if not stat.S_ISREG(mode):
            raise UsageError(f"{option}: {path} is a device or a pipe, which cannot be replaced by a file; name a file")


def _require_folder(option: str, folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{option}: the folder {folder} does not exist; create it, or name a file elsewhere")


def require_other(option: str, written: Iterable[Path], inputs: Mapping[Path, str]) -> None:
    """Refuse to write to what is read: `inputs` says by path what that is.  Messages begin with the `option`, as it was given."""
    for path in written:
        for source, what in inputs.items():
            if path.exists() and source.exists() and path.samefile(source):
                raise UsageError(f"{option} would overwrite {source}, {what}; name another file")


def _open_locked(out: Path, partial: Path) -> BinaryIO:
    """Open `partial` as its only writer.  A lock ends with its process, so what a killed run left behind is in nobody's way."""
    while True:
        try:
            stream = os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666), "wb")
        except OSError as error:
            raise _unwritable(f"--out {out}", partial, error) from None
        _lock(stream, out, partial)
        if _is_at(stream, partial):
            return stream
        stream.close()  # in the meantime another run has completed or removed it


def _lock(stream: BinaryIO, out: Path, partial: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise UsageError(f"--out {out}: another judgeflow is writing {partial}; wait for it, or name another file") from None
    except OSError:
        return  # a file system without locks: two runs of one file are then the user's to keep apart


def _is_at(stream: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _unwritable(option: str, path: Path, error: OSError) -> UsageError:
    return UsageError(f"{option}: {path} cannot be written: {error.strerror or error}; name a file that can be")
