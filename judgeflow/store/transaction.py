"""One batch of writes inside one transaction: read the accounts, decide in order, write the rows.

Nothing here awaits: a whole transaction is one visit to the thread that writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from sqlalchemy import Connection, RowMapping, bindparam, func, select

from judgeflow.errors import StoreError
from judgeflow.ports import OPEN_FOR_S
from judgeflow.store import bulk, schema
from judgeflow.store.bulk import Lines
from judgeflow.store.ledger import Entry, Ledger, ReservationState, dispatch
from judgeflow.store.operations import (
    DECISION_FIELDS,
    Close,
    Line,
    OpenRun,
    Operation,
    Reserve,
    Row,
    Rows,
    Settle,
    call_of,
)
from judgeflow.types import Call, Cost, Decision, Dispatch, RunState

KEYS_PER_READ = 512
"""On a server, building the calls of one chunk keeps the loop for about 3 ms."""

Accounting = Reserve | Settle | Close
Entries = Mapping[str, Entry]


class Overtaken(Exception):
    """A reservation that this process knows as open was closed by another one.  Nothing is written; read everything and try again."""


def apply(
    connection: Connection, operations: Sequence[Operation], rows: Rows, *, run_ids: Mapping[str, int], now: float, ours: Entries
) -> tuple[list[object], Entries]:
    """Apply `operations` in order on a connection that holds the write lock; return one result each, and the reservations changed.

    `rows` are the rows they stand for, `ours` reservations that are known to be open, by id: they need not be read.  Nothing is
    committed here; an error means that the caller must roll back.
    """
    ledgers = _ledgers(connection, [item for item in operations if isinstance(item, Accounting)], run_ids, ours)
    loaded = {name: frozenset(ledger.entries) for name, ledger in ledgers.items()}
    known = stored_calls(connection, [item.reservation.call_key for item in operations if isinstance(item, Reserve)])
    results = [_result(connection, operation, ledgers, known, now) for operation in operations]
    _insert_rows(connection, rows)
    changed: dict[str, Entry] = {}
    for name, ledger in ledgers.items():
        _save(connection, run_ids[name], ledger, loaded[name], now)
        changed |= {key: ledger.entries[key] for key in ledger.changed}
    return results, changed


def _result(connection: Connection, operation: Operation, ledgers: Mapping[str, Ledger], known: Mapping[bytes, Call], now: float) -> object:
    if isinstance(operation, OpenRun):
        return _open_run(connection, operation, now)
    if isinstance(operation, Reserve):
        answered = known.get(operation.reservation.call_key)
        return answered or ledgers[operation.run].reserve(operation.reservation, operation.stock)
    if isinstance(operation, Settle):
        ledgers[operation.run].close(operation.reservation, ReservationState.SETTLED, operation.actual)
    elif isinstance(operation, Close):
        ledgers[operation.run].close(operation.reservation, operation.state, operation.actual)
    return None


def stored_calls(connection: Connection, keys: Sequence[bytes]) -> dict[bytes, Call]:
    """Return the stored calls among these keys."""
    found: dict[bytes, Call] = {}
    for start in range(0, len(keys), KEYS_PER_READ):
        some = keys[start : start + KEYS_PER_READ]
        found |= {row[0]: call_of(row) for row in bulk.rows_among(connection, schema.call.c.key, some)}
    return found


def decided(connection: Connection, run: str, step: int) -> dict[bytes, Decision]:
    """Return the decisions of one step of a run, by pair key."""
    rows = connection.execute(_DECISIONS.where(schema.run.c.name == run, schema.decision.c.step == step)).mappings()
    return {row["pair_key"]: Decision(**row) for row in rows}


_DECISIONS = select(*(schema.decision.c[name] for name in DECISION_FIELDS)).join_from(schema.decision, schema.run)


def run_ids(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """Return the ids of those of these runs that are there, by name."""
    rows = connection.execute(select(schema.run.c.name, schema.run.c.id).where(schema.run.c.name.in_(names)))
    return {name: number for name, number in rows}  # noqa: C416  # dict() takes a result for a mapping


def _open_run(connection: Connection, operation: OpenRun, now: float) -> RunState:
    if operation.judge is not None:
        identity = operation.judge
        row: Row = {
            "fingerprint": identity.fingerprint,
            "id": identity.id,
            "model": identity.model,
            "parameters": dict(identity.parameters),
        }
        connection.execute(bulk.new_rows(connection.dialect, schema.judge), [row | {"created_at": now}])
    zero = {f"{kind}_{unit}": 0 for kind in ("spent", "reserved") for unit in ("requests", "tokens", "usd")}
    row = {"name": operation.run, "config": dict(operation.config), "created_at": now} | zero
    connection.execute(bulk.new_rows(connection.dialect, schema.run), [row])
    return run_state(connection, operation.run)


def run_state(connection: Connection, name: str) -> RunState:
    """Return what a run has spent, put aside and last finished.  Raises `StoreError` for a run that was never opened."""
    last = select(func.max(schema.step.c.step)).where(schema.step.c.run_id == schema.run.c.id).scalar_subquery()
    statement = select(schema.run, schema.pacing.c.state, last.label("last_step")).outerjoin_from(schema.run, schema.pacing)
    row = connection.execute(statement.where(schema.run.c.name == name)).mappings().first()
    if row is None:
        raise unknown_run(name)
    return RunState(
        name=name, spent=_cost(row, "spent_"), reserved=_cost(row, "reserved_"), last_step=row["last_step"], pacing=row["state"]
    )


def dispatches(connection: Connection, judge_id: str, since: float) -> list[Dispatch]:
    """Return what was sent to judges with this id since `since`, and what is open: see `Store.dispatches`."""
    row = schema.reservation.c
    is_open, closed_lately = row.state == ReservationState.OPEN.value, row.sent_at >= since
    of_judge = row.judge.in_(select(schema.judge.c.fingerprint).where(schema.judge.c.id == judge_id))
    statement = select(row.state, row.sent_at, row.sends, row.tokens).where(
        row.created_at >= since - OPEN_FOR_S, is_open | closed_lately, of_judge
    )
    return [dispatch(*item) for item in connection.execute(statement)]


def unknown_run(name: str) -> StoreError:
    """Return the error about a run that was never opened."""
    return StoreError(f"run {name!r} is not in this database; call open_run first")


def _ledgers(connection: Connection, operations: Iterable[Accounting], run_ids: Mapping[str, int], ours: Entries) -> dict[str, Ledger]:
    by_run: dict[str, list[Accounting]] = {}
    for operation in operations:
        by_run.setdefault(operation.run, []).append(operation)
    return {name: _ledger(connection, run_ids[name], items, ours) for name, items in by_run.items()}


def _ledger(connection: Connection, run_id: int, operations: Sequence[Accounting], ours: Entries) -> Ledger:
    """Read a run's counters, and of its reservations those that this batch closes.

    One that is to be made is not looked for: were it there already, its insert would fail.
    """
    counters = connection.execute(_COUNTERS, {"run_id": run_id}).mappings().one()
    closing = [item.reservation.id for item in operations if not isinstance(item, Reserve)]
    entries = {key: ours[key] for key in closing if key in ours}
    unknown = [key for key in closing if key not in entries]
    if unknown:
        these = schema.reservation.c.run_id == run_id, bulk.among(connection.dialect, schema.reservation.c.id, unknown)
        rows = connection.execute(_RESERVATIONS.where(*these)).mappings().all()
        entries |= {row["id"]: _entry(row) for row in rows}
    return Ledger(_cost(counters, "spent_"), _cost(counters, "reserved_"), entries.items())


def _entry(row: RowMapping) -> Entry:
    as_it_is = {name: row[name] for name in _AS_IT_IS}
    return Entry(cost=_cost(row, ""), state=ReservationState(row["state"]), **as_it_is)


_COUNTERS = select(schema.run).where(schema.run.c.id == bindparam("run_id"))
_RESERVATIONS = select(schema.reservation)


def _cost(row: RowMapping, prefix: str) -> Cost:
    return Cost(requests=row[f"{prefix}requests"], tokens=row[f"{prefix}tokens"], usd=row[f"{prefix}usd"])


def _save(connection: Connection, run_id: int, ledger: Ledger, loaded: frozenset[str], now: float) -> None:
    if not ledger.changed:
        return
    made = [_line(run_id, key, ledger.entries[key], now) for key in ledger.changed if key not in loaded]
    bulk.insert(connection, schema.reservation, Lines.of(schema.reservation, made))
    closed = [_line(run_id, key, ledger.entries[key]) for key in ledger.changed if key in loaded]
    lines = Lines(_CLOSED_COLUMNS, closed)
    if closed and bulk.update(connection, schema.reservation, lines, ("run_id", "id", "call_key"), _STILL_OPEN) != len(closed):
        raise Overtaken
    counters = {f"{kind}_{unit}": getattr(cost, unit) for kind, cost in _totals(ledger) for unit in ("requests", "tokens", "usd")}
    connection.execute(schema.run.update().where(schema.run.c.id == run_id).values(counters))


def _totals(ledger: Ledger) -> tuple[tuple[str, Cost], tuple[str, Cost]]:
    return ("spent", ledger.spent), ("reserved", ledger.reserved)


def _line(run_id: int, key: str, entry: Entry, *created_at: float) -> Line:
    """A row of `reservation` in the order of its columns; one that is there already keeps the moment when it was made."""
    cost, state = entry.cost, entry.state.value
    amounts = (cost.requests, cost.tokens, cost.usd)
    return (run_id, key, entry.call_key, *amounts, state, *created_at, entry.judge, entry.sends, entry.sent_at)


_CLOSED_COLUMNS = tuple(name for name in schema.reservation.c.keys() if name != "created_at")  # noqa: SIM118  # no mapping

_AS_IT_IS = ("call_key", "judge", "sends", "sent_at")
"""What of an entry stands in its row by the same name."""


_STILL_OPEN = (("state", ReservationState.OPEN.value),)


def _insert_rows(connection: Connection, rows: Rows) -> None:
    """Insert parents before children; what is there already stays as it is, but for what pacers have learnt."""
    for table, lines in (
        (schema.text, list(rows.texts.values())),
        (schema.pair, list(rows.pairs.values())),
        (schema.call, rows.calls),
        (schema.decision, rows.planned),
    ):
        bulk.insert_new(connection, table, Lines.of(table, lines))
    finished = Lines.of(schema.decision, rows.finished)
    bulk.insert_or_update(connection, schema.decision, finished, ("source", "status"), ("threshold",))
    if rows.steps:
        connection.execute(schema.step.insert(), rows.steps)
    if rows.pacing:
        connection.execute(schema.pacing.delete().where(schema.pacing.c.run_id.in_(rows.pacing)))
        connection.execute(schema.pacing.insert(), [{"run_id": run_id, "state": dict(state)} for run_id, state in rows.pacing.items()])
