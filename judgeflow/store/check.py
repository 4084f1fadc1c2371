"""Proves that a verdict database is sound, or says what is wrong with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, case, false, func, select
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.errors import StoreUnavailable
from judgeflow.keys import call_key, digest, pair_key, prompt_from_body, prompt_hash
from judgeflow.plurals import plural
from judgeflow.store import schema
from judgeflow.store.database import Database
from judgeflow.store.engines import database_at
from judgeflow.store.ledger import USD_DECIMALS, ReservationState
from judgeflow.store.queries import count, open_reservations, reading
from judgeflow.store.runs import runs
from judgeflow.store.upkeep import Tell, one_moment, untold
from judgeflow.types import Cost, ReadingStatus

MOST_NAMED = 5
TOLD_EVERY = 10_000
USD_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.  `detail` says what is wrong, or what was looked at; `ok` whether the database is sound in this."""

    check: str
    ok: bool
    detail: str


@dataclass(slots=True)
class Problems:
    """Everything that is wrong in one respect: the first few by name, the others counted, so that no damage fills the memory."""

    named: list[str] = field(default_factory=list)
    number: int = 0

    def add(self, problem: str) -> None:
        """Note one problem."""
        self.number += 1
        if len(self.named) < MOST_NAMED:
            self.named.append(problem)

    def __str__(self) -> str:
        """The first problems, and how many more there are."""
        return "; ".join(self.named) + (f" and {self.number - len(self.named)} more" if self.number > len(self.named) else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a check works with: the connection, where problems go, and who is told how far it has come."""

    connection: AsyncConnection
    problems: Problems = field(default_factory=Problems)
    tell: Tell = untold

    async def rows(self, name: str, statement: Select[Any], table: Table) -> AsyncIterator[Any]:
        """Yield the rows of a statement about `table`, telling how many are done."""
        total = await count(self.connection, table)
        async with self.connection.stream(statement) as rows:
            done = 0
            async for row in rows:
                yield row
                done += 1
                if done % TOLD_EVERY == 0:
                    self.tell(name, done, total)


async def check(url: str, tell: Tell = untold, found: Callable[[Finding], None] = lambda _finding: None) -> tuple[Finding, ...]:
    """Run every check on the database at `url`, in the order of `checks`; keys are recomputed from all stored texts.

    All checks see the same moment, so a run may go on beside them.  `found` is told of each finding at once.

    Raises `StoreUnavailable` if it cannot be read at all, `SchemaMismatch` if it is missing or has another schema.
    """
    database = database_at(url)
    async with reading(url) as connection, one_moment(connection):
        findings = [Finding(check="schema", ok=True, detail=f"revision {schema.REVISIONS[-1]}")]
        for name, run in checks(database).items():
            found(findings[-1])
            findings.append(await _guarded(name, run, Examination(connection=connection, tell=tell)))
        found(findings[-1])
        return tuple(findings)


Check = Callable[[Examination], Awaitable[str]]


async def _guarded(name: str, run: Check, at: Examination) -> Finding:
    """Run one check; a damaged page that stops it is a finding and does not stop the others."""
    looked_at = ""
    try:
        looked_at = await run(at)
    except (DatabaseError, StoreUnavailable) as error:
        at.problems.add(f"stopped by damage: {getattr(error, 'orig', error)}")
        if at.connection.dialect.name != "sqlite":
            await at.connection.rollback()  # or a server would take no more statements
    return Finding(check=name, ok=not at.problems.number, detail=str(at.problems) if at.problems.number else looked_at)


async def _texts(at: Examination) -> str:
    number = 0
    async for key, conversational, body in at.rows("texts", select(schema.text), schema.text):
        number += 1
        if not _is_text_key(key, body, conversational=conversational):
            at.problems.add(f"text {key.hex()[:16]} is not what its hash says")
    return plural(number, "text matches its hash", "texts match their hashes")


def _is_text_key(key: bytes, body: str, *, conversational: bool) -> bool:
    try:
        return prompt_hash(prompt_from_body(body, conversational=conversational)) == key
    except (ValueError, TypeError, KeyError):  # what a changed body makes of a conversation
        return False


async def _pairs(at: Examination) -> str:
    """Keys are made of the hashes of the texts, which `texts` has compared with what they stand for."""
    number = 0
    async for key, prompt, low, high in at.rows("pairs", select(schema.pair), schema.pair):
        number += 1
        if low > high or pair_key(prompt, low, high) != key:
            at.problems.add(f"pair {key.hex()[:16]} is not what its key says")
    return plural(number, "pair matches its key", "pairs match their keys")


async def _judges(at: Examination) -> str:
    """A judge of judgeflow's own client is named by its parameters; what others are named by, they alone know."""
    number = 0
    for row in await at.connection.execute(select(schema.judge)):
        number += 1
        if row.parameters.keys() >= _OWN_PARAMETERS and digest("judge/1", row.parameters) != row.fingerprint:
            at.problems.add(f"judge {row.id} ({row.fingerprint.hex()[:16]}) has other parameters than its fingerprint says")
    return plural(number, "judge matches its fingerprint", "judges match their fingerprints")


_OWN_PARAMETERS = {"id", "model", "template", "temperature", "max_completion_tokens", "extra_body"}


async def _calls(at: Examination) -> str:
    call, pair = schema.call.c, schema.pair.c
    shown = (case((call.canonical, pair.low), else_=pair.high), case((call.canonical, pair.high), else_=pair.low))
    statement = select(call.key, call.judge, pair.prompt, *shown, call.sample).join_from(schema.call, schema.pair)
    number = 0
    async for key, *asked in at.rows("calls", statement, schema.call):
        number += 1
        if call_key(*asked) != key:
            at.problems.add(f"call {key.hex()[:16]} answers another question than its key says")
    return plural(number, "reply matches the question of its key", "replies match the questions of their keys")


async def _readings(at: Examination) -> str:
    """A reply is understood exactly if a side, or neither, is preferred."""
    number = 0
    for table, key in ((schema.call, schema.call.c.key), (schema.reading, schema.reading.c.call_key)):
        number += await count(at.connection, table)
        async for found, status, preferred in at.rows("readings", _contradictions(table, key), table):
            at.problems.add(f"reading of {table.name} {found.hex()[:16]} is {status} and prefers {preferred}")
    return plural(number, "reading fits its status", "readings fit their statuses")


def _contradictions(table: Table, key: ColumnElement[Any]) -> Select[Any]:
    status, preferred = table.c.status, table.c.preferred
    understood, one_of_three = status == ReadingStatus.OK.value, preferred.in_((-1, 0, 1))
    sound = (understood & one_of_three) | (status.in_(_UNREAD) & preferred.is_(None))
    return select(key, status, preferred).where(~func.coalesce(sound, false()))


_UNREAD = [status.value for status in ReadingStatus if status is not ReadingStatus.OK]


async def _labels(at: Examination) -> str:
    label = schema.label.c
    statement = select(label.pair_key, label.preferred).where(label.preferred.not_in((-1, 0, 1)))
    async for key, preferred in at.rows("labels", statement, schema.label):
        at.problems.add(f"label of pair {key.hex()[:16]} prefers {preferred}, which is neither -1, 0 nor 1")
    labels, scores = [await count(at.connection, table) for table in (schema.label, schema.score)]
    return f"{plural(labels, 'label')} and {plural(scores, 'score')} of stored pairs"


async def _budgets(at: Examination) -> str:
    """Compare every run's counters with the sums over its reservations; one that was compacted counts for those it stands for."""
    sums = await _sums(at.connection)
    for run in [state.run for state in await runs(at.connection)]:
        for kind, cost in (("spent", run.spent), ("reserved", run.reserved)):
            found = sums.get((run.name, kind), (0, 0, 0.0))
            if (cost.requests, cost.tokens) != found[:2] or abs(cost.usd - found[2]) > USD_TOLERANCE:
                counted = f"{plural(found[0], 'request')}, {plural(found[1], 'token')}, {round(found[2], USD_DECIMALS)} USD"
                at.problems.add(f"run {run.name} says {cost} {kind}, its reservations sum up to {counted}")
    return "counters of every run equal its reservations"


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
    return f"{plural(cost.requests, 'request')}, {plural(cost.tokens, 'token')} and {cost.usd:.4f} USD"


async def _states(at: Examination) -> str:
    """Open reservations are no damage, but a state that nobody knows is."""
    entry = schema.reservation.c
    known = [state.value for state in ReservationState]
    async for name, state in at.rows("states", select(entry.id, entry.state).where(entry.state.not_in(known)), schema.reservation):
        at.problems.add(f"reservation {name} is {state}, which is no state")
    return await _open_reservations(at.connection)


async def _open_reservations(connection: AsyncConnection) -> str:
    """Open reservations are no damage: a process is asking right now, or died while it did, and then they stay charged."""
    still_open = await open_reservations(connection)
    held = [
        f"run {run.name}: {still_open[run.id]} open, {_amounts(run.reserved)} put aside"
        for run in [state.run for state in await runs(connection)]
        if still_open[run.id]
    ]
    meaning = " (under way in a process that runs now; left by one that died, they stay charged at their worst case)"
    return "; ".join(held) + meaning if held else "no reservation is open"


def checks(database: Database) -> dict[str, Check]:
    """Every check by its name, in the order in which they run."""

    async def pages(at: Examination) -> str:
        for problem in await database.damage(at.connection):
            at.problems.add(problem)
        return "every page is sound"

    async def references(at: Examination) -> str:
        for problem in await database.dangling(at.connection):
            at.problems.add(problem)
        return "every reference resolves"

    return {"pages": pages, "references": references} | _OF_ROWS


_OF_ROWS: dict[str, Check] = {
    "texts": _texts,
    "pairs": _pairs,
    "judges": _judges,
    "calls": _calls,
    "readings": _readings,
    "labels": _labels,
    "budgets": _budgets,
    "reservations": _states,
}
