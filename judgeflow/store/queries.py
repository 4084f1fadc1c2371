"""Read-only figures about a verdict database, as plain values."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.store import migrate, schema
from judgeflow.store.engines import database_at
from judgeflow.store.failures import store_errors
from judgeflow.store.ledger import ReservationState
from judgeflow.types import Cost, ReadingStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSummary:
    """One judge: `statuses` counts its replies by reading, `pairs` those asked in both orders and understood.

    `agreement` is the share of `pairs` whose two orders chose the same response; None without any.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One run: what it has spent and put aside, its finished steps, and its reservations that are open."""

    name: str
    created_at: float
    spent: Cost
    reserved: Cost
    open_reservations: int
    steps: int
    last_step: int | None
    decisions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A whole database: `path` names it, `size` in bytes counts a file's write-ahead log, `rows` counts by table."""

    path: str
    revision: str
    size: int
    rows: dict[str, int]
    judges: tuple[JudgeSummary, ...]
    runs: tuple[RunSummary, ...]


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[AsyncConnection]:
    """Connect to an up-to-date database without being able to change it.

    Raises `StoreUnavailable` if it cannot be read, `SchemaMismatch` if it is missing or has another schema.
    """
    database = database_at(url)
    state = await migrate.inspect(url)
    if state.kind != "current":
        raise migrate.mismatch(url, state)
    engine = database.reporting()
    try:
        with store_errors(database.name):
            async with engine.connect() as connection:
                yield connection
    finally:
        await engine.dispose()


async def summary(url: str) -> Summary:
    """Return the figures of the database at `url`.  Raises as `reading`."""
    database = database_at(url)
    async with reading(url) as connection:
        return Summary(
            path=database.name,
            revision=schema.REVISIONS[-1],
            size=await database.size(connection),
            rows={table.name: await count(connection, table) for table in schema.metadata.tables.values()},
            judges=await judges(connection),
            runs=await runs(connection),
        )


async def count(connection: AsyncConnection, table: Any) -> int:
    """Return the number of rows of one table."""
    return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def judges(connection: AsyncConnection) -> tuple[JudgeSummary, ...]:
    """Return every judge, oldest first."""
    statuses: dict[bytes, dict[str, int]] = {}
    totals: dict[bytes, tuple[int, float]] = {}
    call = schema.call.c
    tokens = cast(func.sum(call.prompt_tokens + call.completion_tokens), BigInteger)  # PostgreSQL's sum is a decimal number
    grouped = select(call.judge, call.status, func.count(), tokens, func.sum(call.usd)).group_by(call.judge, call.status)
    for judge, status, number, used, usd in await connection.execute(grouped):
        statuses.setdefault(judge, {})[status] = number
        before = totals.get(judge, (0, 0.0))
        totals[judge] = (before[0] + used, before[1] + usd)
    both = await agreement(connection)
    rows = await connection.execute(select(schema.judge).order_by(schema.judge.c.created_at))
    return tuple(
        JudgeSummary(
            id=row["id"],
            model=row["model"],
            fingerprint=row["fingerprint"].hex(),
            calls=sum(statuses.get(row["fingerprint"], {}).values()),
            statuses=statuses.get(row["fingerprint"], {}),
            tokens=totals.get(row["fingerprint"], (0, 0.0))[0],
            usd=totals.get(row["fingerprint"], (0, 0.0))[1],
            pairs=both.get(row["fingerprint"], (0, None))[0],
            agreement=both.get(row["fingerprint"], (0, None))[1],
        )
        for row in rows.mappings()
    )


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


async def runs(connection: AsyncConnection) -> tuple[RunSummary, ...]:
    """Return every run, oldest first."""
    run, step, decision, reservation = schema.run, schema.step.c, schema.decision.c, schema.reservation.c
    is_open = (reservation.run_id == run.c.id) & (reservation.state == ReservationState.OPEN.value)
    statement = select(
        run,
        select(func.count()).where(is_open).scalar_subquery().label("open"),
        select(func.count(step.step.distinct())).where(step.run_id == run.c.id).scalar_subquery().label("steps"),
        select(func.max(step.step)).where(step.run_id == run.c.id).scalar_subquery().label("last"),
        select(func.count()).where(decision.run_id == run.c.id).scalar_subquery().label("decisions"),
    ).order_by(run.c.created_at, run.c.id)
    rows = (await connection.execute(statement)).mappings()
    return tuple(
        RunSummary(
            name=row["name"],
            created_at=row["created_at"],
            spent=Cost(requests=row["spent_requests"], tokens=row["spent_tokens"], usd=row["spent_usd"]),
            reserved=Cost(requests=row["reserved_requests"], tokens=row["reserved_tokens"], usd=row["reserved_usd"]),
            open_reservations=row["open"],
            steps=row["steps"],
            last_step=row["last"],
            decisions=row["decisions"],
        )
        for row in rows
    )
