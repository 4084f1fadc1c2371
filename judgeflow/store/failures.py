"""Errors of drivers, servers and the file system, told as what happened to which database and what to do next."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError, StatementError

from judgeflow.errors import ReadTooLong, StoreError, StoreUnavailable

BUSY_SECONDS = 30
NOTHING_LEFT = 65536
"""A disk with fewer bytes than this is full for a database that begins to be written."""

_ELSEWHERE = "or choose another [store] url"
SAVE = (
    "or save what can be read: `sqlite3 COPY .recover | sqlite3 NEW.db`, then `judgeflow db check --url NEW.db`; verdicts that are in an "
    "outcomes file come back by `judgeflow import`"
)
"""What else to do about a damaged SQLite file than to restore a backup."""
_LOCKED = "another process has kept it locked for PATIENCE s; stop that process or wait for it, then run this again"
_CAUSES = (
    ("locked", _LOCKED),
    ("readonly", f"it cannot be written; make the file and its folder writable, {_ELSEWHERE}"),
    ("disk is full", f"the disk is full; free some space, {_ELSEWHERE}; everything acknowledged so far is kept"),
    ("not a database", f"it is damaged or no SQLite database; restore a backup, {_ELSEWHERE}"),
    ("malformed", f"it is damaged; save a copy and restore a backup, {SAVE}; {_ELSEWHERE}"),
    ("unable to open", f"it cannot be opened; check that its folder exists and that both may be read and written, {_ELSEWHERE}"),
    ("disk i/o error", f"the disk reports an error; check it and its free space, {_ELSEWHERE}"),
)

_ELSE = "everything acknowledged so far is kept"
_CAUSES_BY_STATE = (
    (
        "28",
        "the server does not let this user in; check user and password of [store] url (or PGPASSWORD, ~/.pgpass), and pg_hba.conf",
    ),
    ("3D000", "the server has no such database; create it (createdb NAME), or choose another [store] url"),
    ("42501", "this user may not do that; let the owner run: ALTER DATABASE name OWNER TO user, or choose another [store] url"),
    ("25006", "it can only be read; a standby server takes no verdicts, so choose the primary as [store] url"),
    ("53100", f"the server's disk is full; free some space there; {_ELSE}"),
    (
        "53300",
        "the server has no connection left; let fewer processes run at a time (each takes up to five), or raise max_connections there",
    ),
    ("55P03", _LOCKED),
    ("57P", f"the server is shutting down, starting, or ended this connection; see that it runs; {_ELSE}"),
    ("08", f"the connection to the server was lost; see that it runs; {_ELSE}"),
    ("XX001", "it is damaged; restore a backup"),
    ("XX002", "an index is damaged; let the owner run: REINDEX DATABASE name"),
)
"""SQLSTATE codes of PostgreSQL, or how they begin, and what to do."""

_OUT_OF_TIME = "57014"
"""SQLSTATE of a statement that the server ended: by its time limit."""

_VALUE_STATES = ("22", "23", "54")
"""Classes of SQLSTATE that concern the values of one write: data exceptions, constraints, sizes."""


@contextmanager
def store_errors(where: str, patience_s: float = BUSY_SECONDS) -> Iterator[None]:
    """Turn driver and file-system errors inside the block into `StoreUnavailable` or `StoreError` about the database `where`.

    `patience_s` is how long the connections of the block wait for a lock.

    A plain `StoreError` concerns one write alone: its values are not acceptable, and would not be next time either.
    """
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, OverflowError) as error:
        raise explain(where, error, patience_s) from error
    except Exception as error:
        if not _is_of_asyncpg(error):
            raise
        raise explain(where, error, patience_s) from error  # SQLAlchemy passes on as it is what the driver raises while it connects


def explain(where: str, error: Exception, patience_s: float = BUSY_SECONDS) -> StoreError:
    """Return the error to raise for a driver's `error` about the database `where`, on a connection that waits so long for a lock."""
    original = _original(error)
    # Only the first line: the others may quote values.
    problem = str(original).partition("\n")[0]
    said = problem.lower()
    if "disk i/o error" in said and _is_full(where):  # SQLite says so of its log's index, which it maps into memory
        said = "disk is full"
    if isinstance(error, IntegrityError | sqlite3.IntegrityError) and "foreign key" in said:
        return StoreError(f"{where} refuses this write ({problem}); open_run registers the run and its judge before anything else")
    if _is_about_values(error, original, said):
        return StoreError(f"{where} cannot hold a value of this write ({problem}); nothing else is wrong with it")
    if said == "interrupted" or _state(original) == _OUT_OF_TIME:
        return ReadTooLong(f"{where}: a read took longer than it may, and was ended")
    advice = _advice(original, said)
    if advice is not None:
        return StoreUnavailable(f"{where}: {advice.replace('PATIENCE', f'{patience_s:g}')} ({problem})")
    return StoreUnavailable(f"{where}: the verdict database failed: {problem}; `judgeflow db check` tells whether it is sound")


def _is_full(where: str) -> bool:
    try:
        return shutil.disk_usage(Path(where).absolute().parent).free < NOTHING_LEFT
    except OSError:
        return False


def _advice(original: BaseException, said: str) -> str | None:
    """What to do about an error whose cause is known."""
    if _is_of_asyncpg(original):
        # The driver's own complaints about a connection that is gone bear no code of the server's.
        state = _state(original) or ("08" if "connection" in said else "")
        return next((advice for sign, advice in _CAUSES_BY_STATE if state.startswith(sign)), None)
    if isinstance(original, TimeoutError):
        return f"it did not answer in time; see that the server runs and can be reached; {_ELSE}"
    return next((advice for sign, advice in _CAUSES if sign in said), None)


def _is_of_asyncpg(error: BaseException | None) -> bool:
    return type(error).__module__.startswith("asyncpg")


def _original(error: Exception) -> BaseException:
    """The driver's own error, out of what SQLAlchemy wraps around it."""
    wrapped = getattr(error, "orig", None) or error
    cause: BaseException | None = wrapped.__cause__
    return cause if cause is not None and _is_of_asyncpg(cause) else wrapped


def _state(original: BaseException) -> str:
    """PostgreSQL's code for what happened; empty if there is none."""
    return getattr(original, "sqlstate", None) or ""


def _is_about_values(error: Exception, original: BaseException, said: str) -> bool:
    """Whether the values of a write are to blame: a type without a column, a number that is too large, a missing one."""
    if _is_of_asyncpg(original):
        return _state(original).startswith(_VALUE_STATES) or isinstance(original, ValueError)
    if isinstance(error, OverflowError | DataError | sqlite3.DataError):
        return True
    if isinstance(error, IntegrityError | sqlite3.IntegrityError) or "binding parameter" in said:
        return True
    return isinstance(error, StatementError) and not isinstance(error, DBAPIError)
