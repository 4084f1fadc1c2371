"""Errors of drivers and of the file system, told as what happened to which file and what to do next."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from judgeflow.errors import StoreError, StoreUnavailable

BUSY_SECONDS = 30
NOTHING_LEFT = 65536
"""A disk with fewer bytes than this is full for a database that begins to be written."""

_ELSEWHERE = "or choose another [store] url"
_CAUSES = (
    ("locked", f"another process has kept it locked for {BUSY_SECONDS} s; stop that process or wait for it, then run this again"),
    ("readonly", f"it cannot be written; make the file and its folder writable, {_ELSEWHERE}"),
    ("disk is full", f"the disk is full; free some space, {_ELSEWHERE}; everything acknowledged so far is kept"),
    ("not a database", f"it is damaged or no SQLite database; restore a backup, {_ELSEWHERE}"),
    ("malformed", f"it is damaged; save a copy and restore a backup (`judgeflow db check` lists what it finds), {_ELSEWHERE}"),
    ("unable to open", f"it cannot be opened; check that its folder exists and that both may be read and written, {_ELSEWHERE}"),
    ("disk i/o error", f"the disk reports an error; check it and its free space, {_ELSEWHERE}"),
)


@contextmanager
def store_errors(where: str) -> Iterator[None]:
    """Turn driver and file-system errors inside the block into `StoreUnavailable` or `StoreError` about the database `where`.

    A plain `StoreError` concerns one write alone: its values are not acceptable, and would not be next time either.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, OverflowError) as error:
        raise explain(where, error) from error


def explain(where: str, error: Exception) -> StoreError:
    """Return the error to raise for a driver's `error` about the database `where`."""
    original = getattr(error, "orig", None) or error
    said = str(original).lower()
    if "disk i/o error" in said and _is_full(where):  # SQLite says so of its log's index, which it maps into memory
        said = "disk is full"
    if isinstance(error, IntegrityError | sqlite3.IntegrityError) and "foreign key" in said:
        return StoreError(f"{where} refuses this write ({original}); open_run registers the run and its judge before anything else")
    if _is_about_values(error, said):
        return StoreError(f"{where} cannot hold a value of this write ({original}); nothing else is wrong with it")
    for sign, advice in _CAUSES:
        if sign in said:
            return StoreUnavailable(f"{where}: {advice} ({original})")
    return StoreUnavailable(f"{where}: the verdict database failed: {original}; `judgeflow db check` tells whether it is sound")


def _is_full(where: str) -> bool:
    try:
        return shutil.disk_usage(Path(where).absolute().parent).free < NOTHING_LEFT
    except OSError:
        return False


def _is_about_values(error: Exception, said: str) -> bool:
    """Whether the values of a write are to blame: a type without a column, a number that is too large, a missing one."""
    if isinstance(error, OverflowError | DataError | sqlite3.DataError):
        return True
    if isinstance(error, IntegrityError | sqlite3.IntegrityError) or "binding parameter" in said:
        return True
    return isinstance(error, StatementError) and not isinstance(error, DBAPIError)
