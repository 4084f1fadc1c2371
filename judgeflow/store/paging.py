"""What a page that is looked at while runs go on shows of a database: a step's pairs in some order.

Every statement is short, but for a step of very many pairs; `store.window` ends those that are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.store import bulk, schema
from judgeflow.store.browse import calls_about, questions
from judgeflow.store.extract import Texts, Where, texts
from judgeflow.store.operations import DECISION_FIELDS
from judgeflow.types import Call, Decision

Order = Literal["uncertainty", "latency", "status"]
ORDERS: tuple[Order, ...] = ("uncertainty", "latency", "status")

PAIRS_BY_LATENCY = 20_000
"""More pairs of one step than this are not sorted by how long their replies took."""

KEYS_AT_A_TIME = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One decision of a step with what is stored about its pair: texts and replies are missing where nothing was asked."""

    decision: Decision
    texts: Texts | None
    calls: tuple[Call, ...]


async def step_size(connection: AsyncConnection, run_id: int, step: int) -> int:
    """Return how many decisions a step has."""
    return int((await connection.execute(select(func.count()).select_from(schema.decision).where(*_of(run_id, step)))).scalar_one())


async def step_page(
    connection: AsyncConnection, run_id: int, step: int, *, order: Order, skip: int, limit: int, judges: Collection[bytes]
) -> tuple[Judged, ...]:
    """Return some decisions of a step: the most uncertain first, the slowest first, or by status; with texts and replies of `judges`.

    Of a step with more than `PAIRS_BY_LATENCY` decisions, the slowest first are the most uncertain first.
    """
    slowest = await _slowest(connection, run_id, step, judges) if order == "latency" else None
    statement = select(*_DECISION).where(*_of(run_id, step))
    if slowest is None:
        rows = (await connection.execute(_ordered(statement, order).offset(skip).limit(limit))).mappings()
        decisions = [Decision(**row) for row in rows]
    else:
        chosen = slowest[skip : skip + limit]
        rows = (await connection.execute(statement.where(schema.decision.c.pair_key.in_(chosen)))).mappings()
        decisions = sorted((Decision(**row) for row in rows), key=lambda decision: chosen.index(decision.pair_key))
    return await _with_pairs(connection, decisions, judges)


_DECISION = [schema.decision.c[name] for name in DECISION_FIELDS]


def _of(run_id: int, step: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return schema.decision.c.run_id == run_id, schema.decision.c.step == step


def _ordered(statement: Select[Any], order: Order) -> Select[Any]:
    at = schema.decision.c
    doubt = at.uncertainty.desc().nulls_last()
    keys = (at.status, at.source, doubt) if order == "status" else (doubt,)
    return statement.order_by(*keys, at.pair_key)


async def _with_pairs(connection: AsyncConnection, decisions: Sequence[Decision], judges: Collection[bytes]) -> tuple[Judged, ...]:
    pair = schema.pair.c
    rows = await connection.execute(select(*pair).where(pair.key.in_([decision.pair_key for decision in decisions])))
    there = [where_of(row) for row in rows]
    bodies = await texts(connection, there)
    calls: dict[bytes, list[Call]] = {}
    for call in await calls_about(connection, there, list(judges)):
        calls.setdefault(call.pair_key, []).append(call)
    return tuple(Judged(decision=each, texts=bodies.get(each.pair_key), calls=tuple(calls.get(each.pair_key, ()))) for each in decisions)


def where_of(row: Any) -> Where:
    """Return the hashes of a row of `pair`."""
    return Where(pair_key=row.key, prompt=row.prompt, low=row.low, high=row.high)


async def _slowest(connection: AsyncConnection, run_id: int, step: int, judges: Collection[bytes]) -> list[bytes] | None:
    """Every pair of a step, the one whose reply took longest first; None for a step too large to sort."""
    at, pair = schema.decision.c, schema.pair
    statement = select(at.pair_key, pair).outerjoin_from(schema.decision, pair, pair.c.key == at.pair_key).where(*_of(run_id, step))
    rows = (await connection.execute(statement.limit(PAIRS_BY_LATENCY + 1))).all()
    if len(rows) > PAIRS_BY_LATENCY:
        return None
    stored = [where_of(row) for row in rows if row.key is not None]
    owners = {asked.key(): asked.pair.pair_key for asked in questions(stored, judges)}
    latency = dict.fromkeys((row.pair_key for row in rows), -1.0)
    call = schema.call.c
    for keys in batches(list(owners)):
        for key, seconds in await connection.execute(
            select(call.key, call.latency_s).where(bulk.among(connection.dialect, call.key, keys))
        ):
            latency[owners[key]] = max(latency[owners[key]], seconds)
    return sorted(latency, key=lambda key: (-latency[key], key))


def batches(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the keys, some hundred at a time."""
    return (keys[start : start + KEYS_AT_A_TIME] for start in range(0, len(keys), KEYS_AT_A_TIME))
