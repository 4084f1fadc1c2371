"""What a verdict database remembers, as plain rows for a replay: no texts, in the order in which they are stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.store import identities, schema
from judgeflow.store.ledger import ReservationState
from judgeflow.types import JudgeIdentity

AT_A_TIME = 4096


class Decided(NamedTuple):
    """One decision of a run; `prompt` is the prompt's hash, None where the pair's texts were never stored."""

    run: str
    step: int
    pair_key: bytes
    asked: bool
    logit: float
    uncertainty: float | None
    propensity: float
    source: str | None
    prompt: bytes | None


class Spoken(NamedTuple):
    """One reply without its text; `preferred` is in the order shown."""

    judge: bytes
    pair_key: bytes
    canonical: bool
    sample: int
    status: str
    preferred: int | None
    strong: bool
    prompt_tokens: int
    completion_tokens: int
    usd: float
    latency_s: float


class Believed(NamedTuple):
    """What a scorer thinks of one pair."""

    scorer: str
    pair_key: bytes
    logit: float
    uncertainty: float | None


class Labelled(NamedTuple):
    """Which response is known to be better: 1 the first of the canonical order, -1 the second, 0 neither."""

    pair_key: bytes
    preferred: int
    category: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What there is to choose from: judges by fingerprint, scorers of the table `score`, and runs, oldest first."""

    judges: dict[bytes, JudgeIdentity]
    scorers: tuple[str, ...]
    runs: tuple[str, ...]


async def contents(connection: AsyncConnection) -> Contents:
    """Return what a database holds."""
    scorers = await connection.execute(select(schema.score.c.scorer).distinct().order_by(schema.score.c.scorer))
    runs = await connection.execute(select(schema.run.c.name).order_by(schema.run.c.created_at, schema.run.c.id))
    return Contents(
        judges=await identities.judges(connection), scorers=tuple(row[0] for row in scorers), runs=tuple(row[0] for row in runs)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whom a run has asked: how many questions each judge got, by fingerprint (None: not known whom), and the run's `settings`.

    `lost`: some of its steps have no decisions any more.
    """

    judges: Mapping[bytes | None, int]
    settings: Mapping[str, Any]
    lost: bool


async def asked(connection: AsyncConnection) -> dict[str, Asked]:
    """Return whom each run has asked, by its name."""
    run, entry, call = schema.run, schema.reservation, schema.call
    whom = func.coalesce(entry.c.judge, call.c.judge)
    counted = select(entry.c.run_id, whom, func.count()).select_from(entry.outerjoin(call, call.c.key == entry.c.call_key))
    sent = counted.where(entry.c.state != ReservationState.RELEASED.value).group_by(entry.c.run_id, whom)
    judges: dict[int, dict[bytes | None, int]] = {}
    for number, judge, questions in await connection.execute(sent):
        judges.setdefault(number, {})[judge] = questions
    lost = await _without_decisions(connection)
    rows = await connection.execute(select(run.c.id, run.c.name, run.c.config))
    return {name: Asked(judges=judges.get(number, {}), settings=settings, lost=number in lost) for number, name, settings in rows}


async def _without_decisions(connection: AsyncConnection) -> set[int]:
    """Return the ids of runs that have lost decisions: to `db compact`, which leaves a run's last step and the sum of what it spent."""
    step, decision, entry = schema.step.c, schema.decision.c, schema.reservation.c
    there = exists().where(decision.run_id == step.run_id, decision.step == step.step)
    bare = select(step.run_id).where(step.pairs > 0, ~there)
    compacted = select(entry.run_id).where(entry.state == ReservationState.COMPACTED.value)
    return set((await connection.execute(bare.union(compacted))).scalars())


async def pairs(connection: AsyncConnection) -> AsyncGenerator[tuple[bytes, bytes], None]:
    """Yield (key, prompt's hash) of every stored pair."""
    async for row in await connection.stream(select(schema.pair.c.key, schema.pair.c.prompt)):
        yield row[0], row[1]


async def decided(connection: AsyncConnection) -> AsyncGenerator[Decided, None]:
    """Yield every decision, run by run in the order in which they were created, and step by step."""
    decision, run, pair = schema.decision, schema.run, schema.pair
    joined = decision.join(run, run.c.id == decision.c.run_id).outerjoin(pair, pair.c.key == decision.c.pair_key)
    names = ("asked", "logit", "uncertainty", "propensity", "source")
    columns = (run.c.name, decision.c.step, decision.c.pair_key, *(decision.c[name] for name in names), pair.c.prompt)
    statement = select(*columns).select_from(joined).order_by(run.c.created_at, run.c.id, decision.c.step, decision.c.pair_key)
    async for row in await connection.stream(statement, execution_options={"yield_per": AT_A_TIME}):
        yield Decided(*row)


async def spoken(connection: AsyncConnection) -> AsyncGenerator[Spoken, None]:
    """Yield every reply, of each question the first sample first."""
    columns = [schema.call.c[name] for name in Spoken._fields]
    statement = select(*columns).order_by(schema.call.c.sample)
    async for row in await connection.stream(statement, execution_options={"yield_per": AT_A_TIME}):
        yield Spoken(*row)


async def believed(connection: AsyncConnection, scorer: str) -> AsyncGenerator[Believed, None]:
    """Yield what one scorer thinks."""
    columns = [schema.score.c[name] for name in Believed._fields]
    async for row in await connection.stream(select(*columns).where(schema.score.c.scorer == scorer)):
        yield Believed(*row)


async def labelled(connection: AsyncConnection) -> AsyncGenerator[Labelled, None]:
    """Yield every label."""
    async for row in await connection.stream(select(*(schema.label.c[name] for name in Labelled._fields))):
        yield Labelled(*row)
