"""One batch of writes inside one transaction: read the accounts, decide in order, write the rows.

Nothing here awaits: a whole transaction is one visit to the thread that writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, Insert, RowMapping, Select, Table, Update, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from judgeflow.errors import StoreError
from judgeflow.store import schema
from judgeflow.store.ledger import Entry, Ledger, ReservationState
from judgeflow.store.operations import Close, OpenRun, Operation, Reserve, Row, Rows, Settle, call_of
from judgeflow.types import Call, Cost, RunState

Accounting = Reserve | Settle | Close


def apply(connection: Connection, operations: Sequence[Operation], rows: Rows, run_ids: Mapping[str, int], now: float) -> list[object]:
    """Apply `operations` in order on a connection that holds the write lock; return one result each.

    `rows` are the rows they stand for.  Nothing is committed here; an error means that the caller must roll back.
    """
    ledgers = _ledgers(connection, [item for item in operations if isinstance(item, Accounting)], run_ids)
    loaded = {name: frozenset(ledger.entries) for name, ledger in ledgers.items()}
    known = stored_calls(connection, [item.reservation.call_key for item in operations if isinstance(item, Reserve)])
    results = [_result(connection, operation, ledgers, known, now) for operation in operations]
    _insert_rows(connection, rows)
    for name, ledger in ledgers.items():
        _save(connection, run_ids[name], ledger, loaded[name], now)
    return results


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
    """Return the stored calls among a few hundred keys."""
    if not keys:
        return {}
    rows = connection.execute(_CALLS.where(schema.call.c.key.in_(keys)))
    return {row[0]: call_of(row) for row in rows}


_CALLS = select(schema.call)


def _open_run(connection: Connection, operation: OpenRun, now: float) -> RunState:
    if operation.judge is not None:
        identity = operation.judge
        row: Row = {
            "fingerprint": identity.fingerprint,
            "id": identity.id,
            "model": identity.model,
            "parameters": dict(identity.parameters),
        }
        connection.execute(insert_new(connection, schema.judge), [row | {"created_at": now}])
    zero = {f"{kind}_{unit}": 0 for kind in ("spent", "reserved") for unit in ("requests", "tokens", "usd")}
    row = {"name": operation.run, "config": dict(operation.config), "created_at": now} | zero
    connection.execute(insert_new(connection, schema.run), [row])
    return run_state(connection, operation.run)


def run_state(connection: Connection, name: str) -> RunState:
    """Return what a run has spent, put aside and last finished.  Raises `StoreError` for a run that was never opened."""
    last = select(func.max(schema.step.c.step)).where(schema.step.c.run_id == schema.run.c.id).scalar_subquery()
    row = (connection.execute(select(schema.run, last.label("last_step")).where(schema.run.c.name == name))).mappings().first()
    if row is None:
        raise unknown_run(name)
    return RunState(name=name, spent=_cost(row, "spent_"), reserved=_cost(row, "reserved_"), last_step=row["last_step"])


def unknown_run(name: str) -> StoreError:
    """Return the error about a run that was never opened."""
    return StoreError(f"run {name!r} is not in this database; call open_run first")


def _ledgers(connection: Connection, operations: Iterable[Accounting], run_ids: Mapping[str, int]) -> dict[str, Ledger]:
    wanted: dict[str, list[str]] = {}
    for operation in operations:
        wanted.setdefault(operation.run, []).append(operation.reservation.id)
    return {name: _ledger(connection, run_ids[name], ids) for name, ids in wanted.items()}


def _ledger(connection: Connection, run_id: int, ids: Sequence[str]) -> Ledger:
    """Read a run's counters, and of its reservations those that this batch speaks of."""
    counters = (connection.execute(select(schema.run).where(schema.run.c.id == run_id))).mappings().one()
    rows = (connection.execute(_reservations(run_id, ids))).mappings()
    entries = [(row["id"], Entry(call_key=row["call_key"], cost=_cost(row, ""), state=ReservationState(row["state"]))) for row in rows]
    return Ledger(_cost(counters, "spent_"), _cost(counters, "reserved_"), entries)


def _reservations(run_id: int, ids: Sequence[str]) -> Select[tuple[object, ...]]:
    return select(schema.reservation).where(schema.reservation.c.run_id == run_id, schema.reservation.c.id.in_(ids))


def _cost(row: RowMapping, prefix: str) -> Cost:
    return Cost(requests=row[f"{prefix}requests"], tokens=row[f"{prefix}tokens"], usd=row[f"{prefix}usd"])


def _save(connection: Connection, run_id: int, ledger: Ledger, loaded: frozenset[str], now: float) -> None:
    if not ledger.changed:
        return
    made = [_entry_row(run_id, key, ledger.entries[key]) | {"created_at": now} for key in ledger.changed - loaded]
    closed = [_entry_row(run_id, key, ledger.entries[key]) for key in ledger.changed & loaded]
    if made:
        connection.execute(schema.reservation.insert(), made)
    if closed:
        renamed = [{f"new_{name}": value for name, value in row.items()} for row in closed]
        connection.execute(_UPDATE_RESERVATION, renamed)
    counters = {f"{kind}_{unit}": getattr(cost, unit) for kind, cost in _totals(ledger) for unit in ("requests", "tokens", "usd")}
    connection.execute(schema.run.update().where(schema.run.c.id == run_id).values(counters))


def _totals(ledger: Ledger) -> tuple[tuple[str, Cost], tuple[str, Cost]]:
    return ("spent", ledger.spent), ("reserved", ledger.reserved)


def _entry_row(run_id: int, key: str, entry: Entry) -> Row:
    amounts = {"requests": entry.cost.requests, "tokens": entry.cost.tokens, "usd": entry.cost.usd}
    return {"run_id": run_id, "id": key, "call_key": entry.call_key, "state": entry.state.value} | amounts


def _update_reservation() -> Update:
    table = schema.reservation
    amounts: Row = {name: bindparam(f"new_{name}") for name in ("state", "requests", "tokens", "usd")}
    return table.update().where(table.c.run_id == bindparam("new_run_id"), table.c.id == bindparam("new_id")).values(amounts)


_UPDATE_RESERVATION = _update_reservation()


def _insert_rows(connection: Connection, rows: Rows) -> None:
    """Insert parents before children; what is there already stays as it is."""
    tables: tuple[tuple[Table, Sequence[Row]], ...] = (
        (schema.text, list(rows.texts.values())),
        (schema.pair, list(rows.pairs.values())),
        (schema.call, rows.calls),
        (schema.decision, rows.planned),
    )
    for table, values in tables:
        if values:
            connection.execute(insert_new(connection, table), values)
    if rows.finished:
        connection.execute(_finish_decisions(connection), rows.finished)
    if rows.steps:
        connection.execute(schema.step.insert(), rows.steps)


def insert_new(connection: Connection, table: Table) -> Insert:
    """Return an insert that keeps a row which is there already."""
    return _dialect_insert(connection, table).on_conflict_do_nothing()


def _finish_decisions(connection: Connection) -> Insert:
    """Insert decisions that were never planned; of planned ones, fill in what became of them."""
    statement = _dialect_insert(connection, schema.decision)
    ended = {"source": statement.excluded.source, "status": statement.excluded.status}
    return statement.on_conflict_do_update(index_elements=["run_id", "step", "pair_key"], set_=ended)


def _dialect_insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
