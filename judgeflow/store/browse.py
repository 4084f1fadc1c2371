"""What somebody reads one by one: the decisions of a step, a pair with its texts and replies, and where a word occurs.

Every statement is over in milliseconds, but for a step of very many pairs.  A search goes through texts piece by piece and stops when it is
told to, so it never keeps a connection busy after whoever asked has gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import Column, ColumnElement, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.keys import KEY_BYTES, call_key
from judgeflow.store import schema
from judgeflow.store.columns import cut, flags, floats, numbers
from judgeflow.store.extract import Where, whole_calls
from judgeflow.store.survey import SETTLED, Replies
from judgeflow.types import Call, ReadingStatus

Item = TypeVar("Item")

AT_A_TIME = 128
SAMPLES = 8
"""A question is asked again where its reply gave no verdict and somebody wishes it: so often at most."""

TEXTS_AT_A_TIME = 1000
"""Texts that one statement of a search goes through: some ten milliseconds."""

EXCERPT = 60
"""Characters of an excerpt on either side of what was found."""


class DecisionRow(NamedTuple):
    """One decision; `stored` tells that its pair's texts are in the database."""

    pair_key: bytes
    step: int
    asked: bool
    audit: bool
    logit: float
    uncertainty: float | None
    acquisition: float | None
    threshold: float | None
    propensity: float
    source: str | None
    status: str
    stored: bool


_DECISION = tuple(name for name in DecisionRow._fields if name != "stored")


async def step_decisions(
    connection: AsyncConnection, run_id: int, step: int, *, offset: int = 0, limit: int = 100, asked_only: bool = False
) -> list[DecisionRow]:
    """Return decisions of one step, those most worth asking about first, from number `offset` on."""
    at, pair = schema.decision.c, schema.pair
    columns = [at[name] for name in _DECISION]
    joined = schema.decision.outerjoin(pair, pair.c.key == at.pair_key)
    statement = select(*columns, pair.c.key.is_not(None)).select_from(joined).where(at.run_id == run_id, at.step == step)
    if asked_only:
        statement = statement.where(at.asked)
    ordered = statement.order_by(at.acquisition.desc().nulls_last(), at.pair_key).offset(offset).limit(limit)
    return [DecisionRow._make((*row[:-1], bool(row[-1]))) for row in await connection.execute(ordered)]


async def decision_of(connection: AsyncConnection, run_id: int, step: int, pair_key: bytes) -> DecisionRow | None:
    """Return how one step decided about one pair; None if it did not."""
    at = schema.decision.c
    statement = select(*(at[name] for name in _DECISION)).where(at.run_id == run_id, at.step == step, at.pair_key == pair_key)
    row = (await connection.execute(statement)).first()
    return None if row is None else DecisionRow._make((*row, True))


async def pair_named(connection: AsyncConnection, pair_key: bytes) -> Where | None:
    """Return the hashes of a pair's texts; None if they are not stored."""
    found = await _pairs(connection, [schema.pair.c.key == pair_key])
    return found[0] if found else None


async def pairs_beginning(connection: AsyncConnection, beginnings: Sequence[int]) -> list[Where]:
    """Return the pairs whose keys begin with these eight bytes (see `store.columns.cut`)."""
    return await _pairs(connection, [_begins(beginning) for beginning in beginnings])


def _begins(beginning: int) -> ColumnElement[bool]:
    """A range of keys, which an index finds."""
    rest = KEY_BYTES - 8
    low = beginning.to_bytes(8, "big")
    return schema.pair.c.key.between(low + bytes(rest), low + b"\xff" * rest)


async def _pairs(connection: AsyncConnection, conditions: Sequence[ColumnElement[bool]]) -> list[Where]:
    pair = schema.pair.c
    found: list[Where] = []
    for some in _batches(conditions):
        rows = await connection.execute(select(pair.key, pair.prompt, pair.low, pair.high).where(or_(*some)))
        found += [Where(pair_key=key, prompt=prompt, low=low, high=high) for key, prompt, low, high in rows]
    return found


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), AT_A_TIME):
        yield items[start : start + AT_A_TIME]


async def calls_about(connection: AsyncConnection, pairs: Sequence[Where], judges: Sequence[bytes]) -> list[Call]:
    """Return every reply of these judges to the questions about these pairs, by order and sample.

    Calls have no index on their pair, but their keys can be told from the pair's hashes; of a question that was not understood there
    may be another sample.
    """
    wanted = [(pair, judge, canonical) for pair in pairs for judge in judges for canonical in (True, False)]
    found: list[Call] = []
    for sample in range(SAMPLES):
        keys = [_question(*item, sample) for item in wanted]
        come = await whole_calls(connection, keys)
        found += come.values()
        unread = {key for key, call in come.items() if call.reading.status is not ReadingStatus.OK}
        wanted = [item for item, key in zip(wanted, keys, strict=True) if key in unread]
        if not wanted:
            break
    return sorted(found, key=lambda call: (call.pair_key, call.judge, not call.canonical, call.sample))


def _question(pair: Where, judge: bytes, canonical: bool, sample: int) -> bytes:  # noqa: FBT001 - one of two orders
    first, second = (pair.low, pair.high) if canonical else (pair.high, pair.low)
    return call_key(judge, pair.prompt, first, second, sample)


async def replies_about(connection: AsyncConnection, beginnings: Sequence[int], judges: Sequence[bytes]) -> Replies:
    """Return the replies to pairs with these beginnings of keys, as columns: whoever has paid for them."""
    pairs = {pair.pair_key: pair for pair in await pairs_beginning(connection, beginnings)}
    calls = await calls_about(connection, list(pairs.values()), judges)
    moments, nothing = floats([call.created_at for call in calls]), np.zeros(len(calls), dtype=np.int64)
    return Replies(
        ids=[call.key.hex() for call in calls],
        states=[SETTLED] * len(calls),
        judges=[call.judge for call in calls],
        requests=nothing,
        tokens=nothing,
        usd=nothing.astype(np.float64),
        created=moments,
        sends=nothing,
        sent=moments,
        replied=np.ones(len(calls), dtype=np.bool_),
        keys=cut([call.pair_key for call in calls]),
        prompts=cut([pairs[call.pair_key].prompt for call in calls]),
        canonical=flags([call.canonical for call in calls]),
        samples=numbers([call.sample for call in calls]),
        statuses=[call.reading.status.value for call in calls],
        preferred=numbers([call.reading.preferred for call in calls]),
        strong=flags([call.reading.strong for call in calls]),
        latencies=floats([call.reply.latency_s for call in calls]),
        ended=moments,
    )


class Find(NamedTuple):
    """One text in which a word occurs."""

    pair_key: bytes
    where: Literal["prompt", "response", "reply"]
    excerpt: str


async def search(
    connection: AsyncConnection, wanted: str, *, limit: int = 20, stop: Callable[[], bool] = lambda: False
) -> tuple[list[Find], bool]:
    """Return up to `limit` texts and replies that contain `wanted`, in any case, and whether all were looked through.

    `stop` is asked after every piece.  Of a text that several pairs share one pair is told.
    """
    found: list[Find] = []
    async for more in _finds(connection, wanted):
        found += more
        if len(found) >= limit or stop():
            return found[:limit], False
    return found, True


async def _finds(connection: AsyncConnection, wanted: str) -> AsyncIterator[list[Find]]:
    body, text = schema.text.c, schema.call.c
    async for rows in _pieces(connection, body.hash, select(body.hash, body.body).where(_contains(body.body, wanted))):
        yield await _pairs_with(connection, {key: excerpt(found, wanted) for key, found in rows}) if rows else []
    async for rows in _pieces(connection, text.key, select(text.pair_key, text.text).where(_contains(text.text, wanted))):
        yield [Find(key, "reply", excerpt(found, wanted)) for key, found in rows]


def _contains(column: Column[str], wanted: str) -> ColumnElement[bool]:
    return column.icontains(wanted, autoescape=True)


async def _pieces(connection: AsyncConnection, key: Column[bytes], chosen: Select[Any]) -> AsyncIterator[list[Any]]:
    """Go through a table in the order of its keys; yield the rows of each piece that are `chosen`."""
    after = b""
    while True:
        border = select(key).where(key > after).order_by(key).offset(TEXTS_AT_A_TIME - 1).limit(1)
        last = (await connection.execute(border)).scalar()
        piece = chosen.where(key > after) if last is None else chosen.where(key > after, key <= last)
        yield list((await connection.execute(piece)).all())
        if last is None:
            return
        after = last


async def _pairs_with(connection: AsyncConnection, excerpts: dict[bytes, str]) -> list[Find]:
    """One pair for each text.  There is no index on a pair's texts, but pairs are short rows."""
    pair, left, found = schema.pair.c, dict(excerpts), []
    for column in (pair.prompt, pair.low, pair.high):
        for keys in _batches(list(left)):
            for hashed, key in await connection.execute(select(column, pair.key).where(column.in_(keys))):
                if hashed in left:
                    found.append(Find(key, "prompt" if column is pair.prompt else "response", left.pop(hashed)))
    return found


def excerpt(text: str, wanted: str) -> str:
    """Return what stands around the first place where `wanted` occurs, in one line."""
    at = max(0, text.lower().find(wanted.lower()))
    start, stop = max(0, at - EXCERPT), at + len(wanted) + EXCERPT
    cut_ = " ".join(text[start:stop].split())
    return f"{'... ' if start else ''}{cut_}{' ...' if stop < len(text) else ''}"
