"""What somebody reads one by one: a pair with its texts, its replies, and what was decided about it.  Every statement finds by an index."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.keys import KEY_BYTES, call_key
from judgeflow.store import schema
from judgeflow.store.columns import cut, flags, floats, numbers
from judgeflow.store.extract import Where, whole_calls
from judgeflow.store.operations import DECISION_FIELDS
from judgeflow.store.survey import SETTLED, Replies
from judgeflow.types import Call, Decision, ReadingStatus

Item = TypeVar("Item")

AT_A_TIME = 128
SAMPLES = 8
"""A question is asked again where its reply gave no verdict and somebody wishes it: so often at most."""


async def decision_of(connection: AsyncConnection, run_id: int, step: int, pair_key: bytes) -> Decision | None:
    """Return how one step decided about one pair; None if it did not."""
    at = schema.decision.c
    statement = select(*(at[name] for name in DECISION_FIELDS)).where(at.run_id == run_id, at.step == step, at.pair_key == pair_key)
    row = (await connection.execute(statement)).mappings().first()
    return None if row is None else Decision(**row)


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
    wanted = questions(pairs, judges)
    found: list[Call] = []
    for sample in range(SAMPLES):
        keys = [asked.key(sample) for asked in wanted]
        come = await whole_calls(connection, keys)
        found += come.values()
        unread = {key for key, call in come.items() if call.reading.status is not ReadingStatus.OK}
        wanted = [item for item, key in zip(wanted, keys, strict=True) if key in unread]
        if not wanted:
            break
    return sorted(found, key=lambda call: (call.pair_key, call.judge, not call.canonical, call.sample))


class Asked(NamedTuple):
    """What a judge may have been asked about a pair; `canonical`: with its texts shown in canonical order."""

    pair: Where
    judge: bytes
    canonical: bool

    def key(self, sample: int = 0) -> bytes:
        """The key of the reply."""
        first, second = (self.pair.low, self.pair.high) if self.canonical else (self.pair.high, self.pair.low)
        return call_key(self.judge, self.pair.prompt, first, second, sample)


def questions(pairs: Iterable[Where], judges: Collection[bytes]) -> list[Asked]:
    """Return every question, both orders, that these judges may have been asked about these pairs."""
    return [Asked(pair, judge, canonical) for pair in pairs for judge in judges for canonical in (True, False)]


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
