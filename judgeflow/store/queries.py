"""Read-only figures about a verdict database, as plain values."""

from __future__ import annotations

import bisect
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Table, Text, case, cast, func, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.store import migrate, schema
from judgeflow.store.engines import database_at
from judgeflow.store.failures import store_errors
from judgeflow.store.ledger import ReservationState
from judgeflow.store.runs import Pace, pace_of, runs
from judgeflow.types import Cost, ReadingStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSummary:
    """One judge: `statuses` counts its replies by reading, `pairs` those asked in both orders and understood.

    `agreement` is the share of `pairs` whose two orders chose the same response, `first_shown` how often the response shown first is
    preferred where one is (0.5 without position bias); both None without any.  `latency_s` holds quantiles to a millisecond; `since`
    and `until` are when the first and the last reply came.
    """

    id: str
    model: str
    fingerprint: str
    calls: int
    statuses: dict[str, int]
    tokens: int
    usd: float
    pairs: int
    agreement: float | None
    first_shown: float | None
    prompt_tokens_mean: float | None
    completion_tokens_mean: float | None
    latency_s: dict[str, float]
    since: float | None
    until: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run: whether it is at work, what it has spent and put aside, its finished steps, and its reservations that are open.

    `active_at` is when it was last seen at work.
    """

    name: str
    pace: Pace
    created_at: float
    active_at: float
    spent: Cost
    reserved: Cost
    open_reservations: int
    steps: int
    last_step: int | None
    decisions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A whole database: `path` names it, `size` in bytes counts a file's write-ahead log, `rows` counts by table.

    `table_bytes` are bytes by table with its indexes, or of its texts alone where the database cannot tell (`sized_by` says which:
    "pages" or "texts").  `scorers` counts scored pairs by scorer, `labels` labelled pairs by source.
    """

    path: str
    revision: str
    size: int
    rows: dict[str, int]
    table_bytes: dict[str, int]
    sized_by: str
    judges: tuple[JudgeSummary, ...]
    runs: tuple[RunSummary, ...]
    scorers: dict[str, int]
    labels: dict[str, int]


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[AsyncConnection]:
    """Connect to an up-to-date database without being able to change it.

    Raises `StoreUnavailable` if it cannot be read, `SchemaMismatch` if it is missing or has another schema.
    """
    database = database_at(url)
    await migrate.require_current(url)
    engine = database.reporting()
    try:
        with store_errors(database.name):
            async with engine.connect() as connection:
                yield connection
    finally:
        await engine.dispose()


async def summary(url: str, *, wall: Callable[[], float] = time.time) -> Summary:
    """Return the figures of the database at `url`; `wall` returns Unix time in seconds.  Raises as `reading`."""
    database = database_at(url)
    async with reading(url) as connection:
        table_bytes, sized_by = await sizes(connection)
        return Summary(
            path=database.name,
            revision=schema.REVISIONS[-1],
            size=await database.size(connection),
            rows={table.name: await count(connection, table) for table in schema.metadata.tables.values()},
            table_bytes=table_bytes,
            sized_by=sized_by,
            judges=await judges(connection),
            runs=await run_summaries(connection, wall()),
            scorers=await _counts(connection, schema.score.c.scorer),
            labels=await _counts(connection, schema.label.c.source),
        )


async def size_of(url: str) -> int:
    """Return the bytes that a database takes; a file's write-ahead log counts.  Raises as `reading`."""
    async with reading(url) as connection:
        return await database_at(url).size(connection)


async def _counts(connection: AsyncConnection, column: Any) -> dict[Any, int]:
    rows = await connection.execute(select(column, func.count()).group_by(column).order_by(column))
    return {name: number for name, number in rows}  # noqa: C416 - rows are not pairs to a type checker


async def sizes(connection: AsyncConnection) -> tuple[dict[str, int], str]:
    """Return bytes by table, and whether they were counted by pages or by texts."""
    tables = schema.metadata.tables
    if connection.dialect.name != "sqlite":
        return {name: int((await connection.execute(select(func.pg_total_relation_size(name)))).scalar_one()) for name in tables}, "pages"
    try:
        rows = (await connection.execute(text(_PAGES))).all()
    except DatabaseError:  # a database without dbstat
        return {name: await _text_bytes(connection, table) for name, table in tables.items()}, "texts"
    found = {name: int(size) for name, size in rows}
    return {name: found.get(name, 0) for name in tables}, "pages"


_PAGES = """
    SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name) WHERE aggregate = TRUE GROUP BY tbl_name
"""


async def _text_bytes(connection: AsyncConnection, table: Table) -> int:
    texts = [func.coalesce(func.sum(func.length(column)), 0) for column in table.c if isinstance(column.type, Text)]
    return sum((await connection.execute(select(*texts))).one()) if texts else 0


async def count(connection: AsyncConnection, table: Any) -> int:
    """Return the number of rows of one table."""
    return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def judges(connection: AsyncConnection) -> tuple[JudgeSummary, ...]:
    """Return every judge, oldest first."""
    groups: dict[bytes, list[Any]] = {}
    for group in await connection.execute(_CALL_GROUPS):
        groups.setdefault(group.judge, []).append(group)
    both, latencies = await agreement(connection), await _latencies(connection)
    rows = await connection.execute(select(schema.judge).order_by(schema.judge.c.created_at))
    return tuple(
        _judge_summary(row, groups.get(row.fingerprint, []), both.get(row.fingerprint, (0, None)), latencies.get(row.fingerprint, {}))
        for row in rows
    )


_CALL = schema.call.c
_CALL_GROUPS = select(
    _CALL.judge,
    _CALL.status,
    _CALL.preferred,
    func.count().label("number"),
    func.sum(_CALL.prompt_tokens).label("prompt"),
    func.sum(_CALL.completion_tokens).label("completion"),
    func.sum(_CALL.usd).label("usd"),
    func.min(_CALL.created_at).label("since"),
    func.max(_CALL.created_at).label("until"),
).group_by(_CALL.judge, _CALL.status, _CALL.preferred)


def _judge_summary(judge: Any, groups: Sequence[Any], both: tuple[int, float | None], latency_s: dict[str, float]) -> JudgeSummary:
    statuses, sides = Counter[str](), Counter[int]()
    for group in groups:
        statuses[group.status] += group.number
        sides[group.preferred or 0] += group.number
    calls, decided = statuses.total(), sides[1] + sides[-1]
    prompt, completion = (int(sum(getattr(group, name) for group in groups)) for name in ("prompt", "completion"))
    return JudgeSummary(
        id=judge.id,
        model=judge.model,
        fingerprint=judge.fingerprint.hex(),
        calls=calls,
        statuses=dict(statuses),
        tokens=prompt + completion,
        usd=sum(group.usd for group in groups),
        pairs=both[0],
        agreement=both[1],
        first_shown=sides[1] / decided if decided else None,
        prompt_tokens_mean=prompt / calls if calls else None,
        completion_tokens_mean=completion / calls if calls else None,
        latency_s=latency_s,
        since=min((group.since for group in groups), default=None),
        until=max((group.until for group in groups), default=None),
    )


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


async def _latencies(connection: AsyncConnection) -> dict[bytes, dict[str, float]]:
    """Return quantiles of latency by judge, to a millisecond: counting milliseconds is quicker than sorting every call."""
    milliseconds = cast(_CALL.latency_s * 1000, BigInteger).label("milliseconds")
    counted = select(_CALL.judge, milliseconds, func.count()).group_by(_CALL.judge, milliseconds).order_by(_CALL.judge, milliseconds)
    by_judge: dict[bytes, list[tuple[int, int]]] = {}
    for judge, value, number in await connection.execute(counted):
        by_judge.setdefault(judge, []).append((value, number))
    return {judge: _quantiles(values) for judge, values in by_judge.items()}


def _quantiles(counted: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Return the smallest value at or below which the share of each quantile lies, in seconds; values are in order."""
    upto = list(itertools.accumulate(number for _, number in counted))
    return {name: counted[bisect.bisect_left(upto, share * upto[-1])][0] / 1000 for name, share in QUANTILES.items()}


async def agreement(connection: AsyncConnection) -> dict[bytes, tuple[int, float | None]]:
    """Return, by judge, how many pairs were understood in both orders, and the share of them where the orders agree."""
    call = schema.call.c
    # `preferred` counts from what was shown first, so two orders that agree on a response have opposite signs.
    asked = (
        select(call.judge, func.sum(call.preferred).label("total"))
        .where(call.status == ReadingStatus.OK.value)
        .group_by(call.judge, call.pair_key, call.sample)
        .having(func.count() == 2)
        .subquery()
    )
    agree = func.avg(case((asked.c.total == 0, 1.0), else_=0.0))
    rows = await connection.execute(select(asked.c.judge, func.count(), agree).group_by(asked.c.judge))
    return {judge: (pairs, share) for judge, pairs, share in rows}


async def run_summaries(connection: AsyncConnection, now: float) -> tuple[RunSummary, ...]:
    """Return every run, oldest first, as it is at `now` (Unix time in seconds)."""
    held, decided = await open_reservations(connection), await _counts(connection, schema.decision.c.run_id)
    return tuple(
        RunSummary(
            name=state.run.name,
            pace=pace_of(state, now),
            created_at=state.run.created_at,
            active_at=state.active_at,
            spent=state.run.spent,
            reserved=state.run.reserved,
            open_reservations=held[state.run.id],
            steps=state.steps,
            last_step=state.last_step,
            decisions=decided.get(state.run.id, 0),
        )
        for state in sorted(await runs(connection), key=lambda state: (state.run.created_at, state.run.id))
    )


async def open_reservations(connection: AsyncConnection) -> Counter[int]:
    """Return how many reservations of each run are open, by its id."""
    at = schema.reservation.c
    # They are few: one pass over the table finds them sooner than an index of all leads to each.
    return Counter((await connection.execute(select(at.run_id).where(at.state == ReservationState.OPEN.value))).scalars())
