"""What a report reads of one run: a few rows at once, decisions and replies page by page, as columns.

Every page is one statement that is over in milliseconds, so that a run which writes meanwhile never waits for a report.  The next page
begins where the last one ended.  Keys are cut to their first eight bytes, as whole numbers that sort as the keys do: a million pairs share
such a beginning with a chance of 3e-8.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Integer, Select, cast, func, select, tuple_, type_coerce
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.types import NullType

from judgeflow.keys import KEY_BYTES
from judgeflow.store import migrate, schema
from judgeflow.store.engines import database_at
from judgeflow.store.failures import store_errors
from judgeflow.store.ledger import ReservationState
from judgeflow.types import Cost, JudgeIdentity

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]
Keys = NDArray[np.uint64]

PAGE = 16_384
"""Rows of a page: about 30 ms."""

JUDGED = ("judge", "store")
"""Sources of decisions that stand on a verdict."""

OPEN, SETTLED, CHARGED = (state.value for state in (ReservationState.OPEN, ReservationState.SETTLED, ReservationState.CHARGED))


class Readable:
    """An up-to-date database that is read and never changed; made by `readable`."""

    def __init__(self, engine: AsyncEngine, where: str) -> None:
        self._engine = engine
        self.where = where

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Connect for a few statements.  Raises `StoreUnavailable` where the database cannot be read."""
        with store_errors(self.where):
            async with self._engine.connect() as connection:
                yield connection


@asynccontextmanager
async def readable(url: str) -> AsyncIterator[Readable]:
    """Open a database for reading; several may connect at once.

    Raises `StoreUnavailable` if it cannot be read, `SchemaMismatch` if it is missing or has another schema.
    """
    database = database_at(url)
    state = await migrate.inspect(url)
    if state.kind != "current":
        raise migrate.mismatch(url, state)
    engine = database.readers()
    try:
        yield Readable(engine, database.name)
    finally:
        await engine.dispose()


class RunRow(NamedTuple):
    """One run."""

    id: int
    name: str
    config: Mapping[str, Any]
    spent: Cost
    reserved: Cost
    created_at: float


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


class RunBrief(NamedTuple):
    """One run and how far it is: its distinct steps, the pairs of all their ends, and when the last one came."""

    run: RunRow
    steps: int
    pairs: int
    ended_at: float | None


async def run_named(connection: AsyncConnection, name: str) -> RunRow | None:
    """Return a run; None if there is none of this name."""
    row = (await connection.execute(select(schema.run).where(schema.run.c.name == name))).mappings().first()
    return None if row is None else _run(row)


async def runs(connection: AsyncConnection) -> list[RunBrief]:
    """Return every run; the one in which something happened last comes last."""
    step = schema.step.c
    sums = select(
        step.run_id,
        func.count(step.step.distinct()).label("steps"),
        func.sum(step.pairs).label("pairs"),
        func.max(step.created_at).label("ended_at"),
    )
    told = sums.group_by(step.run_id).subquery()
    statement = select(schema.run, told.c.steps, told.c.pairs, told.c.ended_at).outerjoin(told, told.c.run_id == schema.run.c.id)
    rows = (await connection.execute(statement)).mappings().all()
    found = [RunBrief(_run(row), row["steps"] or 0, int(row["pairs"] or 0), row["ended_at"]) for row in rows]
    return sorted(found, key=lambda brief: (brief.ended_at or brief.run.created_at, brief.run.id))


def _run(row: Mapping[Any, Any]) -> RunRow:
    spent, reserved = (
        Cost(requests=row[f"{kind}_requests"], tokens=row[f"{kind}_tokens"], usd=row[f"{kind}_usd"]) for kind in ("spent", "reserved")
    )
    return RunRow(row["id"], row["name"], row["config"] or {}, spent, reserved, row["created_at"])


async def steps(connection: AsyncConnection, run_id: int, after: int) -> list[StepRow]:
    """Return the ends of steps with a larger id than `after`, in the order in which they came."""
    columns = [schema.step.c[name] for name in StepRow._fields]
    statement = select(*columns).where(schema.step.c.run_id == run_id, schema.step.c.id > after).order_by(schema.step.c.id)
    return [StepRow(*row) for row in await connection.execute(statement)]


async def judges(connection: AsyncConnection) -> dict[bytes, JudgeIdentity]:
    """Return every judge of the database by its fingerprint, oldest first."""
    rows = await connection.execute(select(schema.judge).order_by(schema.judge.c.created_at, schema.judge.c.id))
    return {
        row["fingerprint"]: JudgeIdentity(id=row["id"], model=row["model"], fingerprint=row["fingerprint"], parameters=row["parameters"])
        for row in rows.mappings()
    }


# Decisions


class Span(NamedTuple):
    """The steps from `first` to `last`; what stands up to `after`, a step and a pair's key, was read before."""

    first: int
    last: int
    after: tuple[int, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Decisions:
    """One page of decisions; all columns have a value for each.  What is not known is NaN; `rest` is None on the last page."""

    steps: Numbers
    keys: Keys
    asked: Flags
    audit: Flags
    judged: Flags
    logits: Floats
    uncertainties: Floats
    acquisitions: Floats
    propensities: Floats
    rest: Span | None


async def decisions(connection: AsyncConnection, run_id: int, span: Span, page: int = PAGE) -> Decisions:
    """Return a page of what a run decided, in the order of steps and keys; decisions of steps under way stand among them."""
    at = schema.decision.c
    judged = cast(func.coalesce(at.source, "").in_(JUDGED), Integer)
    flags = (type_coerce(at.asked, NullType()), type_coerce(at.audit, NullType()), judged)
    columns = (at.step, at.pair_key, *flags, at.logit, at.uncertainty, at.acquisition, at.propensity)
    beyond = at.step >= span.first if span.after is None else tuple_(at.step, at.pair_key) > tuple_(*span.after)
    statement = select(*columns).where(at.run_id == run_id, at.step <= span.last, beyond)
    rows = (await connection.execute(statement.order_by(at.step, at.pair_key).limit(page))).all()
    steps_, keys, *others = _columns(rows, len(columns))
    asked, audit, judged_ = (np.array(column, dtype=np.bool_) for column in others[:3])
    logits, uncertainties, acquisitions, propensities = (np.array(column, dtype=np.float64) for column in others[3:])
    rest = span._replace(after=(steps_[-1], keys[-1])) if len(rows) == page else None
    return Decisions(
        np.array(steps_, dtype=np.int64), cut(keys), asked, audit, judged_, logits, uncertainties, acquisitions, propensities, rest
    )


def _columns(rows: Sequence[Any], width: int) -> list[Any]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def cut(keys: Sequence[bytes]) -> Keys:
    """Return the first eight bytes of each key as a whole number."""
    whole = np.frombuffer(b"".join(keys), dtype=">u8").reshape(len(keys), KEY_BYTES // 8)
    return whole[:, 0].astype(np.uint64)


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


_NOBODY = bytes(KEY_BYTES)


async def _replies(connection: AsyncConnection, chosen: Callable[[Select[Any]], Select[Any]]) -> Replies:
    at, call, pair = schema.reservation, schema.call, schema.pair
    of_reservation = (at.c.id, at.c.state, func.coalesce(call.c.judge, at.c.judge), at.c.requests, at.c.tokens, at.c.usd, at.c.created_at)
    of_sending = (at.c.sends, at.c.sent_at)
    of_call = (call.c.pair_key, pair.c.prompt, type_coerce(call.c.canonical, NullType()), call.c.sample, call.c.status)
    of_reading = (call.c.preferred, type_coerce(call.c.strong, NullType()), call.c.latency_s, call.c.created_at)
    columns = (*of_reservation, *of_sending, *of_call, *of_reading)
    joined = at.outerjoin(call, (call.c.key == at.c.call_key) & (at.c.state == SETTLED)).outerjoin(pair, pair.c.key == call.c.pair_key)
    rows = (await connection.execute(chosen(select(*columns).select_from(joined)))).all()
    return _as_replies(_columns(rows, len(columns)))


def _as_replies(columns: Sequence[Any]) -> Replies:
    ids, states, judges_, requests, tokens, usd, created, sends, sent, keys, prompts, *of_call = columns
    canonical, samples, statuses, preferred, strong, latencies, replied_at = of_call
    moments, asked_at, last_sent = (np.array(column, dtype=np.float64) for column in (replied_at, created, sent))
    return Replies(
        ids,
        states,
        [judge or b"" for judge in judges_],
        np.array(requests, dtype=np.int64),
        np.array(tokens, dtype=np.int64),
        np.array(usd, dtype=np.float64),
        asked_at,
        np.array(sends, dtype=np.int64),
        last_sent,
        np.array([key is not None for key in keys], dtype=np.bool_),
        cut([key or _NOBODY for key in keys]),
        cut([key or _NOBODY for key in prompts]),
        np.array([bool(each) for each in canonical], dtype=np.bool_),
        np.array([each or 0 for each in samples], dtype=np.int64),
        statuses,
        np.array([each or 0 for each in preferred], dtype=np.int64),
        np.array([bool(each) for each in strong], dtype=np.bool_),
        np.array(latencies, dtype=np.float64),
        np.fmax(np.where(np.isnan(moments), last_sent, moments), asked_at),
    )
