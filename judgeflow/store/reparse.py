"""Reads stored replies again, with this version's parser or with other rules.  Nothing is asked and nothing is spent.

A page of replies is read and parsed without any lock.  Where a reading comes out differently, its reply is read once more inside
a transaction, and what it said before moves to `reading`: so a run may write beside it, and whoever is interrupted runs it again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.errors import ConfigurationError
from judgeflow.store import bulk, identities, schema
from judgeflow.store.queries import count, reading
from judgeflow.store.upkeep import Tell, one_moment, untold, writing
from judgeflow.types import JudgeIdentity, Reading, ReadingStatus, Reply
from judgeflow.verdicts.parse import PARSER_VERSION, read_reply
from judgeflow.verdicts.prompt import Grade, Template, load_template, packaged_templates

PAGE = 1000
EXAMPLES = 5
EXCERPT = 120

_SIDES = {1: "first", 0: "tie", -1: "second"}

IMPORTED = "imported"
"""The finish_reason of replies that were imported by their winner (`judgeflow.exchange.replies`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the replies of one judge are read.

    `judge` is what it is called (`identities.names`), `verdicts` are those of a template, `template` is its hash, `own` that of the
    judge's own.
    """

    judge: str
    verdicts: Mapping[str, Grade]
    template: bytes
    own: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """One stored reply, what its row says about it, and what the rules make of it now."""

    key: bytes
    judge: bytes
    before: Reading
    after: Reading
    text: str

    @property
    def changed(self) -> bool:
        """Whether it now says something else."""
        return words(self.before) != words(self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A reply that is read differently: its key, its judge's name, both readings in words, and the end of its text."""

    call: str
    judge: str
    before: str
    after: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of the pairs that one judge was asked about in both orders: how many were understood, and the share whose orders agree."""

    judge: str
    pairs_before: int
    before: float | None
    pairs_after: int
    after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reparsed:
    """What reading again has changed, or would change.

    `changes` counts replies by (before, after); `renewed` counts those whose reading is the same, by an older parser; `newer` those
    that a newer parser has read, which are left alone.
    """

    calls: int
    changes: Mapping[tuple[str, str], int]
    renewed: int
    newer: int
    agreement: tuple[Agreement, ...]
    examples: tuple[Example, ...]


def words(reading: Reading) -> str:
    """Return a reading in a template's words: the status, or which of the two responses shown is preferred."""
    if reading.preferred is None:
        return reading.status.value
    return ("slightly " if reading.preferred and not reading.strong else "") + _SIDES[reading.preferred]


async def reparse(
    url: str,
    *,
    template: Template | None = None,
    judge: str | None = None,
    dry_run: bool = False,
    wall: Callable[[], float] = time.time,
    tell: Tell = untold,
) -> Reparsed:
    """Read the replies of every judge again, or of the one called `judge`, by their own rules or by those of `template`.

    `wall` returns Unix time in seconds.  Raises as `identities.named`, `ConfigurationError` for a judge without replies and for one whose
    template is not known; else as `upkeep.writing`.
    """
    report = _Report()
    async with reading(url) as connection, writing(url) as store, one_moment(connection):
        rules = await _rules(connection, template, judge)
        total = await count(connection, schema.call)
        async for rows in _pages(connection, list(rules)):
            page = [reread(row, rules) for row in rows]
            report.add(page, rows, rules)
            stale = [item.key for item in page if item.before != item.after]
            if stale and not dry_run:
                await store.visit(_supersede, stale, rules, wall())
            tell("replies", report.calls, total)
    return report.result(rules)


async def _rules(connection: AsyncConnection, template: Template | None, judge: str | None) -> dict[bytes, Rules]:
    """Return the rules by fingerprint, for judges that have replies."""
    known = {} if template else {item.hash: item for item in map(load_template, packaged_templates())}
    there = await identities.judges(connection)
    called = identities.names(there)
    has_replies = select(schema.call.c.key).where(schema.call.c.judge == schema.judge.c.fingerprint).exists()
    answered = set(await connection.scalars(select(schema.judge.c.fingerprint).where(has_replies)))
    chosen = answered if judge is None else {identities.named(judge, there)} & answered
    if judge is not None and not chosen:
        others = ", ".join(called[key] for key in there if key in answered) or "none"
        raise ConfigurationError(f"--judge {judge}: no replies of this judge are stored; judges with replies: {others}")
    return {key: _rules_of(there[key], called[key], template, known) for key in there if key in chosen}


def _rules_of(judge: JudgeIdentity, name: str, template: Template | None, known: Mapping[bytes, Template]) -> Rules:
    named = judge.parameters.get("template")
    own = bytes.fromhex(named) if isinstance(named, str) else None
    found = template or known.get(own or b"")
    if found is None:
        raise ConfigurationError(
            f"judge {name}: its replies answer a template that does not come with judgeflow ({named or 'none is named'}); "
            f"read them with: judgeflow db reparse --judge '{name}' --template FILE.toml"
        )
    return Rules(judge=name, verdicts=found.verdicts, template=found.hash, own=own)


def _select(*others: Any) -> Select[Any]:
    call = schema.call.c
    reading_of = (call.status, call.preferred, call.strong, call.parser_version)
    return select(call.key, call.judge, call.text, call.refusal, call.finish_reason, *reading_of, *others)


async def _pages(connection: AsyncConnection, judges: Sequence[bytes]) -> AsyncIterator[list[Any]]:
    """Yield all replies of these judges, both orders of a pair one after the other: sorting keys alone keeps texts out of the sort."""
    call = schema.call.c
    ordered = select(call.key).where(call.judge.in_(judges)).order_by(call.judge, call.pair_key, call.sample, call.canonical)
    async with connection.stream_scalars(ordered) as keys:
        async for page in keys.partitions(PAGE):
            statement = _select(call.pair_key, call.sample).where(call.key.in_(page))
            rows = {row.key: row for row in await connection.execute(statement)}
            yield [rows[key] for key in page]


def reread(row: Any, rules: Mapping[bytes, Rules]) -> Reread:
    """Return what a row's reply says by the rules of its judge.

    What a newer parser has read stays, and so does a verdict that was imported without a text that could be read: its text is a tag of
    the template that it came in with.
    """
    before = Reading(status=ReadingStatus(row.status), preferred=row.preferred, strong=row.strong, parser_version=row.parser_version)
    reply = Reply(text=row.text, refusal=row.refusal, finish_reason=row.finish_reason)
    stays = before.parser_version > PARSER_VERSION or reply.finish_reason == IMPORTED
    after = before if stays else read_reply(reply, rules[row.judge].verdicts)
    return Reread(key=row.key, judge=row.judge, before=before, after=after, text=row.text)


def _supersede(connection: Connection, keys: Sequence[bytes], rules: Mapping[bytes, Rules], now: float) -> None:
    """Give these replies their new readings, and keep the old ones that said something else."""
    with connection.begin():
        page = [reread(row, rules) for row in connection.execute(_select().where(schema.call.c.key.in_(keys)))]
        old = schema.reading.c
        made_by = select(old.call_key, old.next_template).where(old.call_key.in_(keys)).order_by(old.replaced_at)
        templates = {row.call_key: row.next_template for row in connection.execute(made_by)}
        stale = [item for item in page if item.before != item.after]
        superseded = [_superseded(item, rules[item.judge], templates, now) for item in stale if item.changed]
        bulk.insert(connection, schema.reading, superseded)
        bulk.update(connection, schema.call, [{"key": item.key} | _reading_row(item.after) for item in stale], ("key",), ())


def _superseded(item: Reread, rules: Rules, templates: Mapping[bytes, bytes | None], now: float) -> dict[str, Any]:
    made_by = {"template": templates.get(item.key, rules.own), "next_template": rules.template}
    return {"call_key": item.key, "replaced_at": now} | _reading_row(item.before) | made_by


def _reading_row(reading: Reading) -> dict[str, Any]:
    return {
        "status": reading.status.value,
        "preferred": reading.preferred,
        "strong": reading.strong,
        "parser_version": reading.parser_version,
    }


@dataclass(slots=True)
class _Share:
    """Pairs understood in both orders, and how many of them agree."""

    pairs: int = 0
    agree: int = 0

    def add(self, readings: Iterable[Reading]) -> None:
        shown = [reading.preferred for reading in readings if reading.preferred is not None]
        if len(shown) == 2:
            self.pairs += 1
            self.agree += sum(shown) == 0  # each counts from what was shown first, so orders that agree have opposite signs

    @property
    def share(self) -> float | None:
        return self.agree / self.pairs if self.pairs else None


@dataclass(slots=True)
class _Report:
    """Grows page by page; of pairs it holds the one whose second order may stand on the next page."""

    calls: int = 0
    renewed: int = 0
    newer: int = 0
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    before: dict[bytes, _Share] = field(default_factory=dict)
    after: dict[bytes, _Share] = field(default_factory=dict)
    _open: list[Reread] = field(default_factory=list)
    _question: tuple[object, ...] = ()

    def add(self, page: Sequence[Reread], rows: Sequence[Any], rules: Mapping[bytes, Rules]) -> None:
        for item, row in zip(page, rows, strict=True):
            self.calls += 1
            self.newer += item.before.parser_version > PARSER_VERSION
            self.renewed += item.before != item.after and not item.changed
            if item.changed:
                self._note(item, rules[item.judge].judge)
            question = (row.judge, row.pair_key, row.sample)
            if question != self._question:
                self._tally()
                self._question = question
            self._open.append(item)

    def _note(self, item: Reread, judge: str) -> None:
        change = words(item.before), words(item.after)
        self.changes[change] += 1
        if self.changes[change] == 1 or len(self.examples) < EXAMPLES:
            self.examples.append(Example(call=item.key.hex(), judge=judge, before=change[0], after=change[1], text=item.text[-EXCERPT:]))

    def _tally(self) -> None:
        if self._open:
            judge = self._open[0].judge
            self.before.setdefault(judge, _Share()).add(item.before for item in self._open)
            self.after.setdefault(judge, _Share()).add(item.after for item in self._open)
        self._open = []

    def result(self, rules: Mapping[bytes, Rules]) -> Reparsed:
        self._tally()
        return Reparsed(
            calls=self.calls,
            changes=dict(self.changes.most_common()),
            renewed=self.renewed,
            newer=self.newer,
            agreement=tuple(_agreement(rules[judge].judge, before, self.after[judge]) for judge, before in self.before.items()),
            examples=tuple(self.examples),
        )


def _agreement(judge: str, before: _Share, after: _Share) -> Agreement:
    return Agreement(judge=judge, pairs_before=before.pairs, before=before.share, pairs_after=after.pairs, after=after.share)
