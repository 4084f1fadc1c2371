"""Lets go of what is no longer needed, and gives the space back.

    always            texts that no pair refers to, and pairs that no reply, score or label refers to
    keep_days         of runs that ended before: decisions, all steps but the last, closed reservations
    drop_scored_only  scores of pairs that only a scorer has seen
    drop_replies_days replies that are older: what was paid for goes only with this

A run's counters stay as they are.  Its closed reservations become one row of state `compacted` with their sum, so the counters still
equal the reservations, and the run goes on counting what it has spent.  Open reservations are never touched.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Connection, Index, MetaData, Table, delete, except_, func, insert, select, union_all

from judgeflow.errors import StoreUnavailable
from judgeflow.keys import KEY_BYTES
from judgeflow.ports import OPEN_FOR_S
from judgeflow.store import schema
from judgeflow.store.engines import database_at
from judgeflow.store.ledger import ReservationState
from judgeflow.store.queries import size_of
from judgeflow.store.upkeep import writing

DAY_S = 86_400.0
COMPACTED = ReservationState.COMPACTED.value
_OPEN = ReservationState.OPEN.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What may go; moments in Unix time, None: nothing of the kind."""

    runs_before: float | None = None
    replies_before: float | None = None
    scored_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What went, or would go: rows by table, the names of runs that shrank, and the file's bytes before and after."""

    rows: dict[str, int]
    runs: tuple[str, ...]
    size_before: int
    size_after: int


def retention(now: float, *, keep_days: int | None, drop_replies_days: int | None, scored_only: bool) -> Retention:
    """Return what may go at `now`."""
    return Retention(
        runs_before=None if keep_days is None else now - keep_days * DAY_S,
        replies_before=None if drop_replies_days is None else now - drop_replies_days * DAY_S,
        scored_only=scored_only,
    )


Stage = Literal["deleted", "rewritten"]


async def compact(
    url: str,
    allowed: Retention,
    *,
    vacuum: bool = True,
    dry_run: bool = False,
    wall: Callable[[], float] = time.time,
    tell: Callable[[Stage], None] = lambda _stage: None,
) -> Compacted:
    """Delete what `allowed` says in one transaction, then rewrite the file without its gaps, unless `vacuum` is False.

    `tell` is told, on another thread, which of the two is done for good.  Cancelled, it ends what it is at, which then has changed
    nothing.  Raises `StoreUnavailable` while a run is asking (rewriting would hold up its writes) or if another process keeps the
    database locked; else as `upkeep.writing`.
    """
    where, before = database_at(url).name, await size_of(url)
    stop = threading.Event()
    async with writing(url) as store:
        try:
            if vacuum and not dry_run:
                await store.visit(_require_idle, where, wall())
            rows, runs = await store.visit(_delete, allowed, stop, keep=None if dry_run else tell)
            if vacuum and not dry_run:
                await store.visit(_rewrite, stop, tell)
        except asyncio.CancelledError:
            stop.set()
            store.interrupt()
            raise
    return Compacted(rows=rows, runs=runs, size_before=before, size_after=await size_of(url))


class _Stopped(Exception):
    """Ends work that was cancelled, between two statements."""


def _require_idle(connection: Connection, where: str, now: float) -> None:
    """Refuse while reservations are open that a running process may hold."""
    entry = schema.reservation.c
    asking = select(schema.run.c.name, func.max(entry.created_at)).join_from(schema.reservation, schema.run)
    found = connection.execute(asking.where(entry.state == _OPEN, entry.created_at > now - OPEN_FOR_S).group_by(schema.run.c.name)).first()
    connection.rollback()
    if found is not None:
        advice = f"let it end, or shrink only the rows with --no-vacuum; if it died, it counts as gone after {OPEN_FOR_S / 60:.0f} minutes"
        raise StoreUnavailable(f"{where}: run {found[0]} put budget aside {now - found[1]:.0f} s ago and may be asking; {advice}")


def _delete(
    connection: Connection, allowed: Retention, stop: threading.Event, *, keep: Callable[[Stage], None] | None
) -> tuple[dict[str, int], tuple[str, ...]]:
    transaction = connection.begin()
    try:
        runs = _old_runs(connection, allowed.runs_before)
        shrunk = {table: sum(_shrink(connection, run, table, stop) for run in runs) for table in ("decision", "step", "reservation")}
        with _references_by_index(connection):
            rows = {table.name: _drop(connection, table, gone, stop) for table, gone in _gone(allowed)}
    except BaseException:
        transaction.rollback()
        raise
    if keep is None or stop.is_set():
        transaction.rollback()
    else:
        transaction.commit()
        keep("deleted")
    return shrunk | rows, tuple(runs.values())


def _drop(connection: Connection, table: Table, gone: ColumnElement[bool], stop: threading.Event) -> int:
    if stop.is_set():
        raise _Stopped
    return connection.execute(delete(table).where(gone)).rowcount


def _gone(allowed: Retention) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """What goes by table, children before parents: each condition holds once those before it are carried out."""
    call, pair, score, label = schema.call.c, schema.pair.c, schema.score.c, schema.label.c
    if allowed.replies_before is not None:
        old = call.created_at < allowed.replies_before
        yield schema.reading, schema.reading.c.call_key.in_(select(call.key).where(old))
        yield schema.call, old
    if allowed.scored_only:
        yield schema.score, score.pair_key.in_(except_(select(score.pair_key), select(call.pair_key), select(label.pair_key)))
    used = (select(call.pair_key), select(score.pair_key), select(label.pair_key))
    yield schema.pair, pair.key.in_(except_(select(pair.key), *used))
    shown = (select(pair.prompt), select(pair.low), select(pair.high))
    yield schema.text, schema.text.c.hash.in_(except_(select(schema.text.c.hash), *shown))


@contextmanager
def _references_by_index(connection: Connection) -> Iterator[None]:
    """Have the database find what refers to a row by an index, which it needs for every row that goes."""
    call, pair, score = schema.call.c, schema.pair.c, schema.score.c
    indexes = [_index_on(column) for column in (call.pair_key, pair.prompt, pair.low, pair.high, score.pair_key)]
    for index in indexes:
        index.create(connection)
    yield
    for index in indexes:
        index.drop(connection)


def _index_on(column: Column[Any]) -> Index:
    copy = column.table.to_metadata(MetaData())  # the tables of the schema do not have it
    return Index(f"compact_{column.table.name}_{column.name}", copy.c[column.name])


def _old_runs(connection: Connection, before: float | None) -> dict[int, str]:
    """Return the runs, by id, in which nothing has happened since `before`."""
    if before is None:
        return {}
    run, step, entry = schema.run.c, schema.step.c, schema.reservation.c
    since = union_all(
        select(step.run_id).where(step.created_at >= before), select(entry.run_id).where(entry.created_at >= before)
    ).subquery()
    statement = select(run.id, run.name).where(run.created_at < before, run.id.not_in(select(since.c.run_id))).order_by(run.id)
    return {row.id: row.name for row in connection.execute(statement)}


def _shrink(connection: Connection, run: int, table: str, stop: threading.Event) -> int:
    return _SHRINK[table](connection, run, stop)


def _drop_decisions(connection: Connection, run: int, stop: threading.Event) -> int:
    return _drop(connection, schema.decision, schema.decision.c.run_id == run, stop)


def _drop_steps(connection: Connection, run: int, stop: threading.Event) -> int:
    """The last step stays: the run's next one is numbered after it."""
    step = schema.step.c
    last = select(func.max(step.id)).where(step.run_id == run, step.step == _last_step(run)).scalar_subquery()
    return _drop(connection, schema.step, (step.run_id == run) & (step.id != last), stop)


def _last_step(run: int) -> Any:
    other = schema.step.alias("other")
    return select(func.max(other.c.step)).where(other.c.run_id == run).scalar_subquery()


def _sum_up_reservations(connection: Connection, run: int, stop: threading.Event) -> int:
    """Put one row in place of all closed ones; return by how many rows that is fewer."""
    entry = schema.reservation.c
    closed = (entry.run_id == run) & (entry.state != _OPEN)
    sums = select(func.count(), *(func.sum(entry[name]) for name in (*_AMOUNTS, "sends")), func.max(entry.created_at)).where(closed)
    number, *amounts, created_at = connection.execute(sums).one()
    if number < 2:
        return 0
    _drop(connection, schema.reservation, closed, stop)
    row = dict(zip((*_AMOUNTS, "sends"), amounts, strict=True)) | {"created_at": created_at}
    fixed = {"run_id": run, "id": COMPACTED, "call_key": bytes(KEY_BYTES), "state": COMPACTED}
    connection.execute(insert(schema.reservation).values(row | fixed))
    return int(number) - 1


_AMOUNTS = ("requests", "tokens", "usd")

_SHRINK: dict[str, Callable[[Connection, int, threading.Event], int]] = {
    "decision": _drop_decisions,
    "step": _drop_steps,
    "reservation": _sum_up_reservations,
}


def _rewrite(connection: Connection, stop: threading.Event, tell: Callable[[Stage], None]) -> None:
    """Give free pages back to the file system, and fold the write-ahead log into the file.  A server does this by itself."""
    if connection.dialect.name == "sqlite" and not stop.is_set():
        bare = connection.connection.cursor()  # SQLAlchemy would begin a transaction
        bare.execute("VACUUM")
        tell("rewritten")
        bare.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        bare.close()
