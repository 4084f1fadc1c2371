"""Verdicts, scores and labels that others have recorded, into a verdict database.

First write wins: what is stored already stays as it is, so the same evidence may be taken in again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy import Column, Connection, Table, select

from judgeflow.keys import PairKeys, prompt_body
from judgeflow.store import bulk, migrate, schema
from judgeflow.store.database import Database
from judgeflow.store.engines import database_at
from judgeflow.store.failures import store_errors
from judgeflow.store.operations import Row, call_row, text_row
from judgeflow.types import Call, JudgeIdentity, Pair, Preference

KEYS_PER_READ = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Which response is known to be better, and from where: 1 the first of the canonical order, -1 the second, 0 neither."""

    preferred: int
    source: str
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one pair; `scores` are in canonical order, by the name of their scorer."""

    pair: Pair
    keys: PairKeys
    calls: Sequence[Call] = ()
    judges: Sequence[JudgeIdentity] = ()
    scores: Mapping[str, Preference] = field(default_factory=dict)
    label: Known | None = None


@dataclass(slots=True)
class Taken:
    """How many rows of a table were new, how many were there already, and how many labels say otherwise than the one that stays."""

    new: int = 0
    known: int = 0
    conflicting: int = 0


class EvidenceWriter:
    """Takes evidence into a database, one transaction for each batch.  Made by `open`; blocks, so keep it off event loops."""

    def __init__(self, database: Database, wall: Callable[[], float]) -> None:
        self.taken: dict[str, Taken] = {name: Taken() for name in ("call", "score", "label")}
        self.where = database.name
        self._writer = database.writer()
        self._wall = wall

    @classmethod
    async def open(cls, url: str, wall: Callable[[], float] = time.time) -> Self:
        """Open a database as `SqlStore.open` does, creating a missing one.  Raises as it does."""
        await migrate.prepare(url)
        return cls(database_at(url), wall)

    def write(self, batch: Sequence[Evidence]) -> None:
        """Store what is new of a batch, all of it or, if this raises `StoreError`, nothing."""
        with store_errors(self.where):
            found = self._writer.visit_and_wait(lambda connection: _store(connection, batch, self._wall()))
        for name, taken in found.items():
            self.taken[name].new += taken.new
            self.taken[name].known += taken.known
            self.taken[name].conflicting += taken.conflicting

    def close(self) -> None:
        """Release the database."""
        self._writer.close()


def _store(connection: Connection, batch: Sequence[Evidence], now: float) -> dict[str, Taken]:
    """Write a batch in one transaction; return what became of its rows, by table."""
    with connection.begin():
        _register(connection, batch, now)
        _insert_pairs(connection, batch)
        taken = {table.name: _insert_missing(connection, table, column, rows) for table, column, rows in _rows(batch, now)}
        taken["label"].conflicting = _conflicts(connection, batch)
        return taken


def _conflicts(connection: Connection, batch: Sequence[Evidence]) -> int:
    """Count the labels of a batch that say otherwise than those that are stored."""
    told = [(item.keys.pair, item.label.preferred) for item in batch if item.label is not None]
    keys, label, stored = list(dict(told)), schema.label.c, dict[bytes, int]()
    for start in range(0, len(keys), KEYS_PER_READ):
        wanted = label.pair_key.in_(keys[start : start + KEYS_PER_READ])
        stored |= {row[0]: row[1] for row in connection.execute(select(label.pair_key, label.preferred).where(wanted))}
    return sum(preferred != stored[key] for key, preferred in told)


def _register(connection: Connection, batch: Sequence[Evidence], now: float) -> None:
    judges = {judge.fingerprint: judge for item in batch for judge in item.judges}
    rows = [
        {"fingerprint": key, "id": judge.id, "model": judge.model, "parameters": dict(judge.parameters), "created_at": now}
        for key, judge in judges.items()
    ]
    if rows:
        connection.execute(bulk.new_rows(connection.dialect, schema.judge), rows)


def _insert_pairs(connection: Connection, batch: Sequence[Evidence]) -> None:
    texts: dict[bytes, Row] = {}
    pairs: dict[bytes, Row] = {}
    for item in batch:
        keys, pair = item.keys, item.pair
        low, high = sorted((keys.response_a, keys.response_b))
        pairs[keys.pair] = {"key": keys.pair, "prompt": keys.prompt, "low": low, "high": high}
        texts[keys.prompt] = text_row(keys.prompt, prompt_body(pair.prompt), conversational=not isinstance(pair.prompt, str))
        for key, response in ((keys.response_a, pair.response_a), (keys.response_b, pair.response_b)):
            texts[key] = text_row(key, response, conversational=False)
    bulk.insert_new(connection, schema.text, list(texts.values()))
    bulk.insert_new(connection, schema.pair, list(pairs.values()))


def _rows(batch: Sequence[Evidence], now: float) -> list[tuple[Table, Column[bytes], list[Row]]]:
    calls = [call_row(call) for item in batch for call in item.calls]
    scores = [
        {"scorer": name, "pair_key": item.keys.pair, "logit": score.logit, "uncertainty": score.uncertainty, "created_at": now}
        for item in batch
        for name, score in item.scores.items()
    ]
    labels = [
        {
            "pair_key": item.keys.pair,
            "preferred": item.label.preferred,
            "category": item.label.category,
            "source": item.label.source,
            "created_at": now,
        }
        for item in batch
        if item.label is not None
    ]
    return [
        (schema.call, schema.call.c.key, calls),
        (schema.score, schema.score.c.pair_key, scores),
        (schema.label, schema.label.c.pair_key, labels),
    ]


def _insert_missing(connection: Connection, table: Table, column: Column[bytes], rows: Sequence[Row]) -> Taken:
    """Insert the rows that are not there; of two with one key, the first."""
    names = [each.name for each in table.primary_key]
    there = _present(connection, table, column, [row[column.name] for row in rows])
    fresh: dict[tuple[object, ...], Row] = {}
    for row in rows:
        fresh.setdefault(tuple(row[name] for name in names), row)
    new = [row for key, row in fresh.items() if key not in there]
    bulk.insert_new(connection, table, new)
    return Taken(new=len(new), known=len(rows) - len(new))


def _present(connection: Connection, table: Table, column: Column[bytes], keys: Sequence[bytes]) -> set[tuple[object, ...]]:
    """The primary keys of the rows whose `column` is one of `keys`."""
    wanted = list(dict.fromkeys(keys))
    found: set[tuple[object, ...]] = set()
    for start in range(0, len(wanted), KEYS_PER_READ):
        statement = select(*table.primary_key).where(column.in_(wanted[start : start + KEYS_PER_READ]))
        found |= {tuple(row) for row in connection.execute(statement)}
    return found
