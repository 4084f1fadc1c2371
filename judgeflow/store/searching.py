"""A search for a text among stored pairs and the replies about them, one stretch of pairs after the other.

There is no index of texts: every run would pay for it.  A stretch takes some tens of milliseconds, and who looks goes on as long as it
is worth it.  Only connections of `Database.browsing` can do so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Dialect, FromClause, Select, and_, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.keys import canonical_json
from judgeflow.store import bulk, schema
from judgeflow.store.browse import SAMPLES, Asked, questions
from judgeflow.store.extract import Texts, Where, texts, whole_calls
from judgeflow.store.identities import judges, names
from judgeflow.store.paging import batches
from judgeflow.store.texts import holds, sought
from judgeflow.types import Call, ReadingStatus

QUESTIONS = 4096
"""So many replies are looked for in one stretch: with many judges it has fewer pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundReply:
    """One reply that contains what was looked for, in its text or in its reasoning.

    `judge` is called as in `identities.names`; `shown` is "ab" if the pair was shown in canonical order, else "ba".
    """

    judge: str
    shown: Literal["ab", "ba"]
    text: str
    reasoning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One pair that contains what was looked for: in its texts, or in `replies` to it."""

    pair_key: bytes
    texts: Texts
    replies: tuple[FoundReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a stretch of a search found; it goes on behind the key `upto`, None at the end.  `share` of all pairs were looked at so far."""

    hits: tuple[Hit, ...]
    upto: bytes | None
    share: float


async def search(connection: AsyncConnection, words: str, *, after: bytes, limit: int, stretch: int) -> Found:
    """Look for a text in the next `stretch` stored pairs, or fewer, in the order of their keys, upper case or lower: in prompts, responses
    and replies.

    Keys are spread evenly, so the last one that was looked at tells how far the search has come.
    """
    called = names(await judges(connection))
    size = max(1, min(stretch, QUESTIONS // max(1, 2 * len(called))))
    pair = schema.pair.c
    statement = select(pair.key, pair.prompt, pair.low, pair.high).where(pair.key > after).order_by(pair.key).limit(size)
    there = {row[0]: Where(*row) for row in (await connection.execute(statement)).all()}
    replies = await _replies(connection, list(there.values()), list(called), words)
    with_text = await _with_text(connection, list(there), words)
    keys = sorted((there.keys() & with_text) | replies.keys())[:limit]  # a run may have written pairs since
    upto = keys[-1] if len(keys) == limit else max(there) if len(there) == size else None
    bodies = await texts(connection, [there[key] for key in keys])
    told = await whole_calls(connection, [reply for key in keys for reply in replies.get(key, ())])
    hits = tuple(
        Hit(
            pair_key=key,
            texts=bodies[key],
            replies=tuple(_found(told[reply], called) for reply in replies.get(key, ())),
        )
        for key in keys
    )
    return Found(hits=hits, upto=upto, share=1.0 if upto is None else int.from_bytes(upto[:4]) / 2**32)


def _found(call: Call, called: Mapping[bytes, str]) -> FoundReply:
    shown: Literal["ab", "ba"] = "ab" if call.canonical else "ba"
    return FoundReply(judge=called[call.judge], shown=shown, text=call.reply.text, reasoning=call.reply.reasoning)


async def _with_text(connection: AsyncConnection, keys: Sequence[bytes], words: str) -> list[bytes]:
    """Return those of these neighbouring pairs whose prompt or responses have the words in them."""
    if not keys:
        return []
    pair, bodies = schema.pair.c, [schema.text.alias(f"text_of_{side}") for side in ("prompt", "low", "high")]
    statement = select(pair.key).where(pair.key >= keys[0], pair.key <= keys[-1])
    for body, hashed in zip(bodies, (pair.prompt, pair.low, pair.high), strict=True):
        statement = statement.join(body, body.c.hash == hashed)
    found = statement.where(or_(*(_holds(connection.dialect, body, words) for body in bodies)))
    return list((await connection.execute(found)).scalars())


def _holds(dialect: Dialect, text: FromClause, words: str) -> ColumnElement[bool]:
    """Whether a stored text has these words in it: a conversation stands there as JSON, so they are looked for as JSON writes them."""
    plain, escaped = (holds(dialect, text.c.body, sought(dialect, each)) for each in (words, canonical_json(words).decode()[1:-1]))
    return or_(and_(not_(text.c.conversational), plain), and_(text.c.conversational, escaped))


async def _replies(connection: AsyncConnection, pairs: Sequence[Where], asked_of: Sequence[bytes], words: str) -> dict[bytes, list[bytes]]:
    """Return the keys of replies about these pairs that have the words in them, by pair.

    Calls have no index on their pair: see `browse.calls_about`.
    """
    wanted, found = questions(pairs, asked_of), dict[bytes, list[bytes]]()
    for sample in range(SAMPLES):
        owners = await asyncio.to_thread(_by_key, wanted, sample)
        wanted = []
        stored = await _looked_up(connection, list(owners), words)
        for key, status, has_words in ((key, *stored[key]) for key in owners if key in stored):  # in the order of the questions
            if has_words:
                found.setdefault(owners[key].pair.pair_key, []).append(key)
            if status != ReadingStatus.OK:
                wanted.append(owners[key])
        if not wanted:
            break
    return found


def _by_key(wanted: Sequence[Asked], sample: int) -> dict[bytes, Asked]:
    return {asked.key(sample): asked for asked in wanted}


async def _looked_up(connection: AsyncConnection, keys: Sequence[bytes], words: str) -> dict[bytes, tuple[str, bool]]:
    """Return (status, whether it has the words in it) by key of those stored replies that have them, or were not understood."""
    found: dict[bytes, tuple[str, bool]] = {}
    for some in batches(keys):
        rows = await connection.run_sync(bulk.chosen_among, _telling, schema.call.c.key, some, words=sought(connection.dialect, words))
        found |= {key: (status, bool(has)) for key, status, has in rows}
    return found


def _telling(dialect: Dialect, key: Column[Any], found: ColumnElement[bool], words: Any) -> Select[Any]:
    """Selects those replies that have the words in them or were not understood: of most, nothing has to leave the database."""
    call = schema.call.c
    has_words = or_(holds(dialect, call.text, words), and_(call.reasoning != "", holds(dialect, call.reasoning, words)))
    return select(key, call.status, has_words).where(found, or_(call.status != ReadingStatus.OK.value, has_words))
