"""How a SQLite file is opened that can be read, where it or its folder cannot be written.

A database in WAL mode is read through an index of its log, `-shm`, which SQLite makes where it is missing, and leaves behind with the
rights of a file that nobody may write.  So none is made, and what lies beside the file decides:

| beside it | what that means | how it is opened |
|---|---|---|
| `-wal` and `-shm` | it is in use, or a process died | `mode=ro`: with locks, and with what is in the log |
| neither, or an empty log | the last process has closed it: all of it is in the file | `immutable=1`: without locks, which nobody needs |
| a `-wal` or `-journal` with something in it | copied without its index, or a process died | not at all |

`immutable=1` holds as long as nobody begins to write, so this is decided anew for every connection.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from judgeflow.errors import StoreUnavailable


def can_be_written(path: Path) -> bool:
    """Return whether SQLite may write the file, and others beside it; true of a file that is not there."""
    return not path.exists() or (os.access(path, os.W_OK) and os.access(path.absolute().parent, os.W_OK | os.X_OK))


def address(path: Path) -> str:
    """Return the URI by which to open a file that cannot be written.  Raises `StoreUnavailable` where reading it takes writing."""
    wal, index, journal = (path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))
    file = path.absolute().as_uri() + "?mode=ro"
    if wal.exists() and index.exists():
        return file
    for log in (wal, journal):
        if log.exists() and log.stat().st_size:
            raise StoreUnavailable(_cannot_be_read(path, log))
    return file + "&immutable=1"


def connect_without_writing(engine: Engine, path: Path) -> None:
    """Let every new connection of an engine open the file by its `address`."""

    @event.listens_for(engine, "do_connect")
    def place(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        arguments[0] = address(path)
        options["uri"] = True


def _cannot_be_read(path: Path, log: Path) -> str:
    problem = f"part of it is in {log.name}, which SQLite cannot read without writing, and the file or its folder cannot be written"
    return f"{path}: {problem}; copy {path.name} and {log.name} to where you may write both, and read the copy with --url"
