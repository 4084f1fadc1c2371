"""What a report reads of one run: its steps at once, replies page by page, as columns; `decided` reads its decisions so.

A page is read in milliseconds, so that nobody waits for a report.  Keys are cut to their first eight bytes, as whole numbers that sort as
the keys do: among a million pairs two share such a beginning with a chance of 3e-8.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from judgeflow.store import migrate, schema
from judgeflow.store.columns import Flags, Floats, Keys, Numbers, columns, cut, flags, floats, numbers
from judgeflow.store.engines import database_at
from judgeflow.store.failures import BUSY_SECONDS, store_errors
from judgeflow.store.ledger import ReservationState
from judgeflow.types import Pressure

PAGE = 16_384
"""Rows of a page: about 30 ms."""

OPEN, SETTLED, CHARGED = (state.value for state in (ReservationState.OPEN, ReservationState.SETTLED, ReservationState.CHARGED))


class Readable:
    """An up-to-date database that is read and never changed; made by `readable`."""

    def __init__(self, engine: AsyncEngine, where: str, *, patience_s: float = BUSY_SECONDS) -> None:
        self._engine = engine
        self._patience_s = patience_s  # how long a connection waits for a lock
        self.where = where

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Connect for a few statements.  Raises `StoreUnavailable` where the database cannot be read."""
        with store_errors(self.where, self._patience_s):
            async with self._engine.connect() as connection:
                yield connection


@asynccontextmanager
async def readable(url: str) -> AsyncIterator[Readable]:
    """Open a database for reading; several may connect at once.

    Raises `StoreUnavailable` if it cannot be read, `SchemaMismatch` if it is missing or has another schema.
    """
    database = database_at(url)
    await migrate.require_current(url)
    engine = database.readers()
    try:
        yield Readable(engine, database.name)
    finally:
        await engine.dispose()


class StepRow(NamedTuple):
    """One end of one step: a row of `step`."""

    id: int
    step: int
    pairs: int
    threshold: float | None
    sources: Mapping[str, int]
    statuses: Mapping[str, int]
    calls: int
    spent_requests: int
    spent_tokens: int
    spent_usd: float
    prompt_tokens: int
    completion_tokens: int
    agreement: float | None
    latency_s: Mapping[str, float]
    remaining: Mapping[str, float | None]
    seconds: float
    created_at: float
    pressure: Mapping[str, Pressure] | None


async def steps(connection: AsyncConnection, run_id: int, after: int) -> list[StepRow]:
    """Return the ends of steps with a larger id than `after`, in the order in which they came."""
    wanted = [schema.step.c[name] for name in StepRow._fields]
    statement = select(*wanted).where(schema.step.c.run_id == run_id, schema.step.c.id > after).order_by(schema.step.c.id)
    return [_as_step(StepRow(*row)) for row in await connection.execute(statement)]


def _as_step(row: StepRow) -> StepRow:
    """A row whose pressure is values."""
    stored: Mapping[str, Any] | None = row.pressure
    return row if stored is None else row._replace(pressure={judge: Pressure(**noted) for judge, noted in stored.items()})


# Reservations, and the replies that settled them


@dataclass(frozen=True, slots=True)
class Replies:
    """Reservations with the replies that settled them; all columns have a value for each, NaN where a moment is not known.

    `replied` tells that there is a reply: `keys` and `prompts` are of its pair, `statuses`, `canonical`, `samples`, `preferred`, `strong`
    and `latencies` its own, and `ended` when it came.  Without one, `ended` is when the question was last sent, as far as that is known.
    `judges` has fingerprints, empty where nobody knows.
    """

    ids: Sequence[str]
    states: Sequence[str]
    judges: Sequence[bytes]
    requests: Numbers
    tokens: Numbers
    usd: Floats
    created: Floats
    sends: Numbers
    sent: Floats
    replied: Flags
    keys: Keys
    prompts: Keys
    canonical: Flags
    samples: Numbers
    statuses: Sequence[str]
    preferred: Numbers
    strong: Flags
    latencies: Floats
    ended: Floats


async def newest_reservation(connection: AsyncConnection) -> float | None:
    """Return when the newest reservation of any run was made; None without any."""
    newest: float | None = (await connection.execute(select(func.max(schema.reservation.c.created_at)))).scalar()
    return newest


async def all_replies(connection: AsyncConnection, run_id: int, after: str, page: int = PAGE) -> Replies:
    """Return a page of a run's reservations, in the order of their ids, from behind `after` ("": from the first)."""
    at = schema.reservation.c
    return await _replies(connection, lambda statement: statement.where(at.run_id == run_id, at.id > after).order_by(at.id).limit(page))


async def new_replies(connection: AsyncConnection, run_id: int, since: float) -> Replies:
    """Return a run's reservations that were made since `since` (Unix time in seconds)."""
    at = schema.reservation.c
    # With the run's id as it stands, SQLite would go through all reservations of the run instead of the newest of all runs.
    return await _replies(connection, lambda statement: statement.where(at.created_at >= since, at.run_id + 0 == run_id))


async def these_replies(connection: AsyncConnection, run_id: int, ids: Sequence[str]) -> Replies:
    """Return some hundred of a run's reservations by their ids."""
    at = schema.reservation.c
    return await _replies(connection, lambda statement: statement.where(at.run_id == run_id, at.id.in_(ids)))


async def _replies(connection: AsyncConnection, chosen: Callable[[Select[Any]], Select[Any]]) -> Replies:
    at, call, pair = schema.reservation, schema.call, schema.pair
    joined = at.outerjoin(call, (call.c.key == at.c.call_key) & (at.c.state == SETTLED)).outerjoin(pair, pair.c.key == call.c.pair_key)
    of_reservation = ("id", "state", "requests", "tokens", "usd", "created_at", "sends", "sent_at")
    of_call = ("pair_key", "canonical", "sample", "status", "preferred", "strong", "latency_s", "created_at")
    wanted = (*(at.c[name] for name in of_reservation), *(call.c[name] for name in of_call))
    statement = select(*wanted, func.coalesce(call.c.judge, at.c.judge), pair.c.prompt).select_from(joined)
    ids, states, requests, tokens, usd, created, sends, sent, *others = await columns(connection, chosen(statement))
    keys, canonical, samples, statuses, preferred, strong, latencies, replied, judges_, prompts = others
    asked_at, last_sent, replied_at = floats(created), floats(sent), floats(replied)
    return Replies(
        ids=ids,
        states=states,
        judges=[judge or b"" for judge in judges_],
        requests=numbers(requests),
        tokens=numbers(tokens),
        usd=floats(usd),
        created=asked_at,
        sends=numbers(sends),
        sent=last_sent,
        replied=~np.isnan(replied_at),
        keys=cut(keys),
        prompts=cut(prompts),
        canonical=flags(canonical),
        samples=numbers(samples),
        statuses=statuses,
        preferred=numbers(preferred),
        strong=flags(strong),
        latencies=floats(latencies),
        ended=np.fmax(np.where(np.isnan(replied_at), last_sent, replied_at), asked_at),
    )
