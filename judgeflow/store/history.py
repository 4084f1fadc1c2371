"""What a verdict database remembers, as plain rows for a replay: no texts, in the order in which they are stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.store import identities, schema
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


async def pairs(connection: AsyncConnection) -> AsyncGenerator[tuple[bytes, bytes], None]:
    """Yield (key, prompt's hash) of every stored pair."""
    async for row in await connection.stream(select(schema.pair.c.key, schema.pair.c.prompt)):
        yield row[0], row[1]


async def decided(connection: AsyncConnection) -> AsyncGenerator[Decided, None]:
    """Yield every decision, run by run and step by step."""
    decision, run, pair = schema.decision, schema.run, schema.pair
    joined = decision.join(run, run.c.id == decision.c.run_id).outerjoin(pair, pair.c.key == decision.c.pair_key)
    names = ("asked", "logit", "uncertainty", "propensity")
    columns = (run.c.name, decision.c.step, decision.c.pair_key, *(decision.c[name] for name in names), pair.c.prompt)
    statement = select(*columns).select_from(joined).order_by(decision.c.run_id, decision.c.step, decision.c.pair_key)
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
