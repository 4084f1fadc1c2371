"""Proves that a verdict database is sound, or says what is wrong with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.errors import StoreUnavailable
from judgeflow.keys import pair_keys, prompt_from_body, prompt_hash
from judgeflow.store import schema
from judgeflow.store.database import Database
from judgeflow.store.engines import database_at
from judgeflow.store.ledger import USD_DECIMALS, ReservationState
from judgeflow.store.queries import reading, runs
from judgeflow.types import Cost, Pair

MOST_NAMED = 5
USD_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.  `detail` says what is wrong, or what was looked at; `ok` whether the database is sound in this."""

    check: str
    ok: bool
    detail: str


async def check(url: str) -> tuple[Finding, ...]:
    """Run every check on the database at `url`, in the order of `_checks`; keys are recomputed from all stored texts.

    Raises `StoreUnavailable` if it cannot be read at all, `SchemaMismatch` if it is missing or has another schema.
    """
    database = database_at(url)
    async with reading(url) as connection:
        findings = [Finding(check="schema", ok=True, detail=f"revision {schema.REVISIONS[-1]}")]
        for name, run in _checks(database).items():
            findings.append(await _guarded(name, run, connection))
        return tuple(findings)


Check = Callable[[AsyncConnection], Awaitable[tuple[list[str], str]]]


async def _guarded(name: str, run: Check, connection: AsyncConnection) -> Finding:
    """Run one check; a damaged page that stops it is a finding and does not stop the others."""
    try:
        problems, looked_at = await run(connection)
    except (DatabaseError, StoreUnavailable) as error:
        problems, looked_at = [f"stopped by damage: {getattr(error, 'orig', error)}"], ""
        await connection.rollback()  # or a server would take no more statements
    more = f" and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
    return Finding(check=name, ok=not problems, detail="; ".join(problems[:MOST_NAMED]) + more if problems else looked_at)


async def _texts(connection: AsyncConnection) -> tuple[list[str], str]:
    problems, number = [], 0
    async for key, conversational, body in await connection.stream(select(schema.text)):
        number += 1
        if not _is_text_key(key, body, conversational=conversational):
            problems.append(f"text {key.hex()[:16]} is not what its hash says")
    return problems, f"{number} texts match their hashes"


def _is_text_key(key: bytes, body: str, *, conversational: bool) -> bool:
    try:
        return prompt_hash(prompt_from_body(body, conversational=conversational)) == key
    except (ValueError, TypeError, KeyError):  # what a changed body makes of a conversation
        return False


async def _pairs(connection: AsyncConnection) -> tuple[list[str], str]:
    prompt, low, high = (schema.text.alias(name) for name in ("prompt_text", "low_text", "high_text"))
    pair = schema.pair
    joined = pair.join(prompt, prompt.c.hash == pair.c.prompt).join(low, low.c.hash == pair.c.low).join(high, high.c.hash == pair.c.high)
    statement = select(pair.c.key, prompt.c.conversational, prompt.c.body, low.c.body, high.c.body).select_from(joined)
    problems, number = [], 0
    async for key, conversational, body, first, second in await connection.stream(statement):
        number += 1
        if not _is_pair_key(key, body, first, second, conversational=conversational):
            problems.append(f"pair {key.hex()[:16]} is not what its key says")
    return problems, f"{number} pairs match their keys"


def _is_pair_key(key: bytes, body: str, first: str, second: str, *, conversational: bool) -> bool:
    try:
        prompt = prompt_from_body(body, conversational=conversational)
        return pair_keys(Pair(prompt=prompt, response_a=first, response_b=second)).pair == key
    except (ValueError, TypeError, KeyError):
        return False


async def _budgets(connection: AsyncConnection) -> tuple[list[str], str]:
    """Compare every run's counters with the sums over its reservations."""
    sums = await _sums(connection)
    problems = []
    for run in await runs(connection):
        for kind, cost in (("spent", run.spent), ("reserved", run.reserved)):
            found = sums.get((run.name, kind), (0, 0, 0.0))
            if (cost.requests, cost.tokens) != found[:2] or abs(cost.usd - found[2]) > USD_TOLERANCE:
                counted = f"{found[0]} requests, {found[1]} tokens, {round(found[2], USD_DECIMALS)} USD"
                problems.append(f"run {run.name} says {cost} {kind}, its reservations sum up to {counted}")
    return problems, "counters of every run equal its reservations"


async def _sums(connection: AsyncConnection) -> dict[tuple[str, str], tuple[int, int, float]]:
    entry, run = schema.reservation.c, schema.run.c
    is_open = (entry.state == ReservationState.OPEN.value).label("is_open")
    statement = (
        select(run.name, is_open, func.sum(entry.requests), func.sum(entry.tokens), func.sum(entry.usd))
        .join_from(schema.reservation, schema.run)
        .group_by(run.name, is_open)
    )
    rows = await connection.execute(statement)
    return {(name, "reserved" if still_open else "spent"): (requests, tokens, usd) for name, still_open, requests, tokens, usd in rows}


def _amounts(cost: Cost) -> str:
    return f"{cost.requests} requests, {cost.tokens} tokens and {cost.usd:.4f} USD"


async def _open_reservations(connection: AsyncConnection) -> tuple[list[str], str]:
    """Open reservations are no damage: a process is asking right now, or died while it did, and then they stay charged."""
    held = [
        f"run {run.name}: {run.open_reservations} open, {_amounts(run.reserved)} put aside"
        for run in await runs(connection)
        if run.open_reservations
    ]
    meaning = " (under way in a process that runs now; left by one that died, they stay charged at their worst case)"
    return [], "; ".join(held) + meaning if held else "no reservation is open"


def _checks(database: Database) -> dict[str, Check]:
    """Every check by its name, in the order in which they run."""

    async def pages(connection: AsyncConnection) -> tuple[list[str], str]:
        return await database.damage(connection), "every page is sound"

    async def references(connection: AsyncConnection) -> tuple[list[str], str]:
        return await database.dangling(connection), "every reference resolves"

    return {"pages": pages, "references": references} | _OF_ROWS


_OF_ROWS: dict[str, Check] = {
    "texts": _texts,
    "pairs": _pairs,
    "budgets": _budgets,
    "reservations": _open_reservations,
}
