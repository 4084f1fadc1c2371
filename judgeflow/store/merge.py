"""Brings what other verdict databases hold into one.

Content keys are the same on every machine, so rows meet by their keys and the first write wins.  A source is read as it was at one
moment, page by page on the event loop, and written in one transaction on a thread: all of it comes in, or nothing.  Whoever is cancelled
waits until that thread has taken everything back: it needs the loop, and the source, to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import JSON, Connection, Row, RowMapping, Select, Table, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncResult

from judgeflow.errors import ConfigurationError, StoreError, UsageError
from judgeflow.store import bulk, migrate, schema
from judgeflow.store.engines import database_at, file_of, normalise_url
from judgeflow.store.failures import store_errors
from judgeflow.store.ledger import ReservationState
from judgeflow.store.queries import count, reading
from judgeflow.store.upkeep import one_moment, writing

PAGE = 1000
MOST_NAMED = 5

_REPLY = ("text", "reasoning", "refusal", "finish_reason")
_READING = ("status", "preferred", "strong")
_COUNTERS = tuple(f"{kind}_{unit}" for kind in ("spent", "reserved") for unit in ("requests", "tokens", "usd"))
_OF_RUNS = (schema.pacing, schema.step, schema.decision, schema.reservation)

Result = TypeVar("Result")
Page = list[dict[str, Any]]


@dataclass(slots=True)
class Merged:
    """What one source has brought.  Filled by `merge` alone.

    `added` and `known` count rows by table: new ones, and those that were there already.  Of what is there with another content,
    nothing is taken: `other_replies` counts calls with another reply (`named` are the first keys), `other_readings` those whose same
    reply is read otherwise, `other_values` scores and labels.  `runs` maps the names of runs that came in to their names here,
    `known_runs` were merged before, `refused_runs` have a name that another run has.
    """

    source: str
    added: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    other_replies: int = 0
    named: list[str] = field(default_factory=list)
    other_readings: int = 0
    other_values: int = 0
    runs: dict[str, str] = field(default_factory=dict)
    known_runs: list[str] = field(default_factory=list)
    refused_runs: list[str] = field(default_factory=list)
    open_reservations: int = 0

    def count(self, table: Table, added: int, known: int = 0) -> None:
        """Count rows of a table."""
        self.added[table.name] = self.added.get(table.name, 0) + added
        self.known[table.name] = self.known.get(table.name, 0) + known


async def merge(
    source: str, into: str, *, rename_runs: str = "", dry_run: bool = False, tell: Callable[[int, int], None] = lambda _done, _total: None
) -> Merged:
    """Bring everything in the database `source` into the one at `into`, which is created if it is missing.

    A run comes in under its name; where another run has that, under the name with `rename_runs` behind it, or not at all if that is
    empty or taken too.  With `dry_run` all of it is taken back at the end.  `tell` is told how many rows are done and how many there
    are, on another thread.  Raises as `require_mergeable` and `upkeep.writing`, and `StoreError` if rows of the source refer to missing
    ones.  Cancelled, it takes everything back; in the moment of the commit that is too late, and it returns.
    """
    await require_mergeable([source], into)
    if not dry_run:
        await migrate.prepare(into)
    found = Merged(source=database_at(source).name)
    async with writing(into) as target, reading(source) as connection, one_moment(connection):
        tables = (*_SHARED, *_OF_RUNS)
        total = sum([await count(connection, table) for table in tables])
        pages = _Source(connection, asyncio.get_running_loop(), found.source, lambda done: tell(done, total))
        work = target.visit(_merge, pages, found, rename_runs, keep=not dry_run)
        await _to_the_end(asyncio.ensure_future(work), pages)
    return found


async def require_mergeable(sources: Sequence[str], into: str) -> None:
    """Raise before anything is created: `UsageError` if a source is missing or the target itself, else as `migrate.require_current`."""
    for source in sources:
        _require_two(source, into)
        if not database_at(source).exists():
            raise UsageError(f"{database_at(source).name}: no such file; name a verdict database that is there")
        await migrate.require_current(source)


async def _to_the_end(merging: asyncio.Future[None], source: _Source) -> None:
    """Wait for the thread that merges.  Whoever is cancelled waits all the same, until it has taken everything back."""
    try:
        await asyncio.shield(merging)
    except asyncio.CancelledError:
        source.stop()
        while not merging.done():
            with contextlib.suppress(asyncio.CancelledError):  # whoever asks twice
                await asyncio.wait([merging])
        if isinstance(merging.exception(), _Stopped):
            raise
        merging.result()


def _require_two(source: str, into: str) -> None:
    if _place(source) == _place(into):
        raise ConfigurationError(f"{database_at(source).name} cannot be merged into itself; give another database with --into")


def _place(url: str) -> str:
    path = file_of(normalise_url(url))
    return database_at(url).name if path is None else str(path.resolve())


class _Stopped(Exception):
    """Ends the transaction of a merge that was cancelled."""


class _Source:
    """Rows of the source for the thread that writes, a page at a time; they are read on the loop that holds the connection."""

    def __init__(self, connection: AsyncConnection, loop: asyncio.AbstractEventLoop, where: str, tell: Callable[[int], None]) -> None:
        self._connection = connection
        self._loop = loop
        self._where = where
        self._tell = tell
        self._done = 0
        self._stopped = False  # set by `stop` on the loop, read on the thread

    def stop(self) -> None:
        """Let the thread end its transaction before the next page, and at the latest before it would commit."""
        self._stopped = True

    def heed(self) -> None:
        """Raise `_Stopped` if it is to end."""
        if self._stopped:
            raise _Stopped

    def pages(self, statement: Select[Any]) -> Iterator[Page]:
        stream = self._wait(_start(self._connection, statement))
        try:
            while page := self._wait(_fetch(stream)):
                self.heed()
                yield page
                self._done += len(page)
                self._tell(self._done)
        finally:
            self._wait(stream.close())

    def _wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        with store_errors(self._where):
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


async def _start(connection: AsyncConnection, statement: Select[Any]) -> AsyncResult[Any]:
    stream: AsyncResult[Any] = await connection.stream(statement)
    return stream


async def _fetch(stream: AsyncResult[Any]) -> Page:
    return [dict(row) for row in await stream.mappings().fetchmany(PAGE)]


def _merge(connection: Connection, source: _Source, found: Merged, rename_runs: str, *, keep: bool) -> None:
    transaction = connection.begin()
    try:
        for table, compare in _SHARED.items():
            for page in source.pages(_rows_of(table)):
                _add(connection, table, page, compare, found)
        for page in source.pages(select(schema.run).order_by(schema.run.c.id)):
            for run in page:
                _add_run(connection, source, run, rename_runs, found)
        source.heed()
    except IntegrityError as error:
        transaction.rollback()
        advice = f"nothing of it was taken; `judgeflow db check --url {found.source}` tells what is wrong with it"
        raise StoreError(f"{found.source}: {error.orig}; {advice}") from error
    except BaseException:
        transaction.rollback()
        raise
    if keep:
        transaction.commit()
    else:
        transaction.rollback()


def _rows_of(table: Table) -> Select[Any]:
    """Rows to read from a source: superseded readings come with the reply they are about."""
    if table is not schema.reading:
        return select(table)
    return select(table, *(schema.call.c[name] for name in _REPLY)).join_from(table, schema.call)


Compare = Callable[[Mapping[str, Any], RowMapping, Merged], None]


def _compare_calls(row: Mapping[str, Any], there: RowMapping, found: Merged) -> None:
    if _differ(row, there, _REPLY):
        found.other_replies += 1
        if len(found.named) < MOST_NAMED:
            found.named.append(row["key"].hex())
    else:
        found.other_readings += _differ(row, there, _READING)


def _compare_values(row: Mapping[str, Any], there: RowMapping, found: Merged) -> None:
    found.other_values += _differ(row, there, [name for name in ("logit", "uncertainty", "preferred", "category") if name in row])


def _alike(_row: Mapping[str, Any], _there: RowMapping, _found: Merged) -> None:
    """What the key names is the content."""


def _differ(row: Mapping[str, Any], there: RowMapping, names: Sequence[str]) -> bool:
    return any(row[name] != there[name] for name in names)


_SHARED: dict[Table, Compare] = {
    schema.text: _alike,
    schema.pair: _alike,
    schema.judge: _alike,
    schema.call: _compare_calls,
    schema.reading: _alike,
    schema.score: _compare_values,
    schema.label: _compare_values,
}
"""What is no run's, parents before children, and how a row is compared with the one that is there."""


def _add(connection: Connection, table: Table, page: Page, compare: Compare, found: Merged) -> None:
    """Insert the rows of a page that are not there; compare the others."""
    if table is schema.reading:
        page = _of_same_replies(connection, page)
    there = _present(connection, table, page, keys_only=compare is _alike)
    fresh: Page = []
    for row in page:
        known = there.get(_key_of(table, row))
        if known is None:
            fresh.append(row)
        else:
            compare(row, known, found)
    _insert(connection, table, fresh)
    found.count(table, len(fresh), len(page) - len(fresh))


def _of_same_replies(connection: Connection, page: Page) -> Page:
    """Keep superseded readings of replies that the target holds too, not those of replies that came second."""
    keys = [{"key": row["call_key"]} for row in page]
    there = _present(connection, schema.call, keys, keys_only=False)
    kept = [row for row in page if not _differ(row, there[(row["call_key"],)], _REPLY)]
    return [{name: value for name, value in row.items() if name not in _REPLY} for row in kept]


def _present(connection: Connection, table: Table, page: Page, *, keys_only: bool) -> dict[tuple[Any, ...], RowMapping]:
    columns = list(table.primary_key)
    wanted = [_key_of(table, row) for row in page]
    one_of = columns[0].in_([key[0] for key in wanted]) if len(columns) == 1 else tuple_(*columns).in_(wanted)
    rows = connection.execute(select(*(columns if keys_only else table.c)).where(one_of)).mappings()
    return {_key_of(table, row): row for row in rows}


def _key_of(table: Table, row: Any) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in table.primary_key)


def _insert(connection: Connection, table: Table, rows: Page) -> None:
    if any(isinstance(column.type, JSON) for column in table.c):
        if rows:
            connection.execute(table.insert(), rows)
    else:
        bulk.insert(connection, table, rows)


def _add_run(connection: Connection, source: _Source, run: dict[str, Any], suffix: str, found: Merged) -> None:
    """Bring in a run with all that is its own, under a name that is free; one that was merged before stays as it is."""
    name, before = run["name"], run["id"]
    names = [name, name + suffix] if suffix else [name]
    there = [connection.execute(select(schema.run).where(schema.run.c.name == each)).first() for each in names]
    if any(_same_run(run, row) for row in there):
        found.known_runs.append(name)
        return
    if None not in there:
        found.refused_runs.append(name)
        return
    found.runs[name] = names[there.index(None)]
    row = {key: value for key, value in run.items() if key != "id"} | {"name": found.runs[name]}
    after = connection.execute(schema.run.insert().values(row).returning(schema.run.c.id)).scalar_one()
    found.count(schema.run, 1)
    for table in _OF_RUNS:
        _add_rows_of_run(connection, source, table, (before, after), found)


def _same_run(run: Mapping[str, Any], there: Row[Any] | None) -> bool:
    return there is not None and not _differ(run, there._mapping, ("config", "created_at", *_COUNTERS))  # noqa: SLF001 - SQLAlchemy's name


def _add_rows_of_run(connection: Connection, source: _Source, table: Table, ids: tuple[int, int], found: Merged) -> None:
    before, after = ids
    columns = [column for column in table.c if column is not schema.step.c.id]
    for page in source.pages(select(*columns).where(table.c.run_id == before)):
        _insert(connection, table, [row | {"run_id": after} for row in page])
        found.count(table, len(page))
        if table is schema.reservation:
            found.open_reservations += sum(row["state"] == ReservationState.OPEN.value for row in page)
