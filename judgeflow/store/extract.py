"""What a verdict database says of its pairs, pair by pair in the order of their keys, however many there are.

First only keys and readings are read, sorted by the database; texts follow for a few hundred pairs at a time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Select, func, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.errors import UsageError
from judgeflow.keys import prompt_from_body
from judgeflow.store import history, identities, schema
from judgeflow.store.operations import DECISION_FIELDS
from judgeflow.store.operations import call_of as call_of_row
from judgeflow.types import Call, Decision, JudgeIdentity, Prompt, Reading, ReadingStatus, Reply

PAIRS_AT_A_TIME = 256
_KEYS_PER_READ = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which pairs: those that `run` decided, where it is given, by one of `sources`, where any is.

    Whose verdicts: those of `judge`, else of everybody; with a `run`, of nobody whom that run has not asked.
    """

    judge: str | None = None
    run: str | None = None
    sources: tuple[str, ...] = ()


class Where(NamedTuple):
    """The hashes of a pair's texts, and what is known about it: `source` is how the run decided it."""

    pair_key: bytes
    prompt: bytes
    low: bytes
    high: bytes
    source: str | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """A pair's texts in canonical order; `body` is the prompt as it is stored."""

    body: str
    conversational: bool
    low: str
    high: str

    @property
    def prompt(self) -> Prompt:
        """The prompt itself."""
        return prompt_from_body(self.body, conversational=self.conversational)


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """All replies of one judge about one pair, without their texts; by order (canonical first), then sample."""

    where: Where
    judge: JudgeIdentity
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A pair with the response that is known to be better (see `schema.label`)."""

    where: Where
    preferred: int
    source: str


async def _chosen(connection: AsyncConnection, selection: Selection) -> dict[bytes, JudgeIdentity]:
    """Return the judges whose verdicts count.  Raises as `identities.named`, and `UsageError` for one that the run has not asked."""
    there = await identities.judges(connection)
    chosen = set(there) if selection.run is None else await _asked_by(connection, selection.run, there)
    if selection.judge is not None:
        wanted = identities.named(selection.judge, there)
        if wanted not in chosen:
            called = identities.names(there)
            asked = ", ".join(called[key] for key in there if key in chosen) or "nobody"
            raise UsageError(f"--judge {selection.judge}: run {selection.run} asked {asked}; leave --run out for the verdicts of others")
        chosen = {wanted}
    return {key: judge for key, judge in there.items() if key in chosen}


async def _asked_by(connection: AsyncConnection, run: str, there: Mapping[bytes, JudgeIdentity]) -> set[bytes]:
    """Return whom a run asked, by its reservations; of a run whose reservations do not tell, whom its settings name, else all judges."""
    run_id = await _run_id(connection, run)
    told = (await history.asked(connection))[run]
    asked = {key for key in told.judges if key is not None}
    if asked and None not in told.judges and not told.lost and not await _recalled(connection, run_id):
        return asked
    ids = {there[key].id for key in asked if key in there}
    named = identities.judges_named(told.settings).keys() - ids  # another judge with the id of one that was asked is another run's
    return asked | {key for key, judge in there.items() if judge.id in named} or set(there)


async def _recalled(connection: AsyncConnection, run_id: int) -> bool:
    """Whether verdicts were stored before this run came to their pairs: they may be those of any judge in its settings."""
    decision = schema.decision.c
    found = select(decision.pair_key).where(decision.run_id == run_id, decision.source == "store").limit(1)
    return (await connection.execute(found)).first() is not None


async def testimonies(connection: AsyncConnection, selection: Selection) -> AsyncGenerator[Testimony, None]:
    """Yield what each judge says of each pair, by pair and then by judge."""
    chosen = await _chosen(connection, selection)
    call = schema.call.c
    statement = await _selected(
        connection, selection, schema.call, (call.key, call.judge, call.canonical, call.sample, call.status, call.preferred, call.strong)
    )
    statement = statement.where(call.judge.in_(list(chosen))).join(schema.judge, schema.judge.c.fingerprint == call.judge)
    ordered = statement.order_by(schema.judge.c.id, call.judge, call.canonical.desc(), call.sample)
    rows: list[Any] = []
    async for row in await connection.stream(ordered):
        if rows and (row.pair_key, row.judge) != (rows[0].pair_key, rows[0].judge):
            yield _testimony(rows, chosen)
            rows = []
        rows.append(row)
    if rows:
        yield _testimony(rows, chosen)


def _testimony(rows: Sequence[Any], chosen: Mapping[bytes, JudgeIdentity]) -> Testimony:
    return Testimony(where=_where(rows[0]), judge=chosen[rows[0].judge], calls=tuple(_brief(row) for row in rows))


def _brief(row: Any) -> Call:
    reading = Reading(status=ReadingStatus(row.status), preferred=row.preferred, strong=row.strong)
    return Call(
        key=row.key,
        pair_key=row.pair_key,
        judge=row.judge,
        canonical=row.canonical,
        sample=row.sample,
        reply=Reply(text=""),
        reading=reading,
        created_at=0.0,
    )


async def labelled(connection: AsyncConnection, selection: Selection) -> AsyncGenerator[Labelled, None]:
    """Yield every pair with a label."""
    label = schema.label.c
    statement = await _selected(connection, selection, schema.label, (label.preferred, label.source.label("label_source")))
    async for row in await connection.stream(statement):
        yield Labelled(where=_where(row), preferred=row.preferred, source=row.label_source)


async def sources(connection: AsyncConnection) -> dict[str, int]:
    """Return what there is to export, in words: labels by where they are from, and pairs by the judge that was heard on them."""
    label, call = schema.label.c, schema.call.c
    labels = await connection.execute(select(label.source, func.count()).group_by(label.source).order_by(label.source))
    found = {f"labels of {source}": number for source, number in labels}
    called = identities.names(await identities.judges(connection))
    heard = select(call.judge, func.count(call.pair_key.distinct())).group_by(call.judge)
    return found | {f"pairs judged by {called[judge]}": number for judge, number in await connection.execute(heard)}


async def _selected(connection: AsyncConnection, selection: Selection, table: Any, columns: Iterable[Any]) -> Select[Any]:
    """A statement over `table` with the pair's hashes, its category and how the run decided it, in the order of pair keys."""
    pair, label = schema.pair, schema.label.alias("about")
    decided = None if selection.run is None else _decided(await _run_id(connection, selection.run), selection.sources)
    source = null() if decided is None else decided.c.source
    joined = table.join(pair, pair.c.key == table.c.pair_key).outerjoin(label, label.c.pair_key == pair.c.key)
    if decided is not None:
        joined = joined.join(decided, decided.c.pair_key == pair.c.key)
    hashes = (pair.c.key.label("pair_key"), pair.c.prompt, pair.c.low, pair.c.high)
    statement = select(*hashes, label.c.category, source.label("decided_by"), *columns)
    return statement.select_from(joined).order_by(pair.c.key)


def _decided(run_id: int, sources: Sequence[str]) -> Any:
    """The pairs that a run decided; of one that came in several steps, one way in which it did."""
    decision = schema.decision.c
    statement = select(decision.pair_key, func.min(decision.source).label("source")).where(decision.run_id == run_id)
    if sources:
        statement = statement.where(decision.source.in_(sources))
    return statement.group_by(decision.pair_key).subquery()


async def _run_id(connection: AsyncConnection, name: str) -> int:
    runs: dict[str, int] = {
        run: number for number, run in await connection.execute(select(schema.run.c.id, schema.run.c.name).order_by(schema.run.c.id))
    }
    if name not in runs:
        raise UsageError(f"--run {name}: no such run; there are {', '.join(runs) or 'none'}")
    return runs[name]


def _where(row: Any) -> Where:
    return Where(pair_key=row.pair_key, prompt=row.prompt, low=row.low, high=row.high, source=row.decided_by, category=row.category)


async def decisions(connection: AsyncConnection, selection: Selection) -> AsyncGenerator[tuple[int, Decision, Where | None], None]:
    """Yield (step, decision, the pair's texts if they are stored) of everything a run decided, by pair and then by step."""
    decision, pair = schema.decision, schema.pair
    run_id = await _run_id(connection, selection.run or "")
    hashes = (pair.c.key.label("stored"), pair.c.prompt, pair.c.low, pair.c.high)
    statement = select(decision.c.step, *(decision.c[name] for name in DECISION_FIELDS), *hashes)
    statement = statement.select_from(decision.outerjoin(pair, pair.c.key == decision.c.pair_key)).where(decision.c.run_id == run_id)
    if selection.sources:
        statement = statement.where(decision.c.source.in_(selection.sources))
    async for row in await connection.stream(statement.order_by(decision.c.pair_key, decision.c.step)):
        made = Decision(**{name: getattr(row, name) for name in DECISION_FIELDS})
        where = None if row.stored is None else Where(pair_key=row.stored, prompt=row.prompt, low=row.low, high=row.high)
        yield row.step, made, where


async def texts(connection: AsyncConnection, wanted: Iterable[Where]) -> dict[bytes, Texts]:
    """Return the texts of a few hundred pairs, by pair key."""
    wanted = list(wanted)
    hashes = list(dict.fromkeys(key for where in wanted for key in (where.prompt, where.low, where.high)))
    bodies: dict[bytes, tuple[str, bool]] = {}
    for start in range(0, len(hashes), _KEYS_PER_READ):
        rows = await connection.execute(select(schema.text).where(schema.text.c.hash.in_(hashes[start : start + _KEYS_PER_READ])))
        bodies |= {row.hash: (row.body, row.conversational) for row in rows}
    return {
        where.pair_key: Texts(
            body=bodies[where.prompt][0],
            conversational=bodies[where.prompt][1],
            low=bodies[where.low][0],
            high=bodies[where.high][0],
        )
        for where in wanted
    }


async def whole_calls(connection: AsyncConnection, keys: Sequence[bytes]) -> dict[bytes, Call]:
    """Return calls with their texts, by key."""
    found: dict[bytes, Call] = {}
    for start in range(0, len(keys), _KEYS_PER_READ):
        rows = await connection.execute(select(schema.call).where(schema.call.c.key.in_(keys[start : start + _KEYS_PER_READ])))
        found |= {row[0]: call_of_row(row) for row in rows}
    return found
