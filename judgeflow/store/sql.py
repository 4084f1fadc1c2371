"""`SqlStore`: the verdict database behind the `Store` port."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from sqlalchemy import Connection

from judgeflow.errors import StoreClosed
from judgeflow.store import migrate
from judgeflow.store.database import Database
from judgeflow.store.engines import database_at
from judgeflow.store.failures import store_errors
from judgeflow.store.ledger import Entry, ReservationState
from judgeflow.store.operations import Close, Finish, OpenRun, Operation, Plan, Reserve, Rows, Settle, build_rows, weight
from judgeflow.store.transaction import Entries, Overtaken, apply, decided, dispatches, run_ids, run_state, stored_calls, unknown_run
from judgeflow.store.writer import GroupWriter
from judgeflow.types import (
    Call,
    Cost,
    Decision,
    Dispatch,
    JudgeIdentity,
    Question,
    Reservation,
    RunState,
    StepStatistics,
    Stock,
)

DECISIONS_PER_WRITE = 4000
"""About 50 ms of writing.  Other writes, of this process and of others, come in between."""

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")


class SqlStore:
    """A `Store` in a database.  Made by `SqlStore.open`, used on the loop that opened it."""

    def __init__(self, database: Database, wall: Callable[[], float]) -> None:
        self._where = database.name
        self._writer = database.writer()
        self._reader = database.reader()
        self._wall = wall
        # Ids of runs by name.  They never change, so what is here is true; written by _learn_runs alone.
        self._run_ids: dict[str, int] = {}
        # Reservations made here and not closed yet; used on the writer's thread alone.
        self._open_entries: dict[str, Entry] = {}
        self._queue: GroupWriter[Operation] = GroupWriter(self._commit, weight)
        self._closed = False

    @classmethod
    async def open(cls, url: str, *, wall: Callable[[], float] = time.time) -> Self:
        """Open a verdict database given as SQLAlchemy URL or plain path; a missing or empty one is created.

        `wall` returns Unix time in seconds.  Raises `StoreUnavailable` if it cannot be read and written, `SchemaMismatch` if it
        belongs to another program or another version of judgeflow, `ConfigurationError` if `url` is no address.
        """
        await migrate.prepare(url)
        store = cls(database_at(url), wall)
        try:
            await store._try_writing()
        except BaseException:
            await store.aclose()
            raise
        return store

    async def _try_writing(self) -> None:
        """Take the write lock once, so that a database that cannot be written stops us here, before anything is paid for."""
        with store_errors(self._where):
            await self._writer.visit(_touch)

    async def open_run(self, name: str, config: Mapping[str, object], judge: JudgeIdentity | None) -> RunState:
        """See `Store.open_run`.  The configuration stored is the one the run was created with."""
        return cast("RunState", await self._queue.submit(OpenRun(run=name, config=config, judge=judge)))

    async def read(self, call_keys: Sequence[bytes]) -> Mapping[bytes, Call]:
        """See `Store.read`."""
        return await self._read(stored_calls, list(dict.fromkeys(call_keys)))

    async def decisions(self, run: str, step: int) -> Mapping[bytes, Decision]:
        """See `Store.decisions`."""
        return await self._read(decided, run, step)

    async def record_plan(self, run: str, step: int, decisions: Sequence[Decision], pacing: Mapping[str, Any] | None = None) -> None:
        """See `Store.record_plan`.  A very large plan is written in parts, the pacing with the last; others may write in between."""
        *parts, last = _parts(decisions)
        for part in parts:
            await self._queue.submit(Plan(run=run, step=step, decisions=part))
        await self._queue.submit(Plan(run=run, step=step, decisions=last, pacing=pacing))

    async def record_step(self, statistics: StepStatistics, decisions: Sequence[Decision]) -> None:
        """See `Store.record_step`.  Recording a step again adds a row of statistics and renews source and status.

        Very many decisions are written in parts, the statistics with the last.
        """
        run, step = statistics.run, statistics.step
        *parts, last = _parts(decisions)
        for part in parts:
            await self._queue.submit(Finish(run=run, step=step, decisions=part))
        await self._queue.submit(Finish(run=run, step=step, decisions=last, statistics=statistics))

    async def reserve(self, run: str, reservation: Reservation, stock: Stock) -> bool | Call:
        """See `Store.reserve`.  Raises `StoreError` for an id that was used before."""
        return cast("bool | Call", await self._queue.submit(Reserve(run=run, reservation=reservation, stock=stock)))

    async def settle(self, run: str, reservation: Reservation, question: Question, call: Call) -> None:
        """See `Store.settle`.  Of a reservation that is closed already the reply is kept and nothing is charged."""
        await self._queue.submit(Settle(run=run, reservation=reservation, question=question, call=call))

    async def charge(self, run: str, reservation: Reservation) -> None:
        """See `Store.charge`."""
        await self._queue.submit(Close(run=run, reservation=reservation, state=ReservationState.CHARGED, actual=reservation.cost))

    async def release(self, run: str, reservation: Reservation) -> None:
        """See `Store.release`."""
        await self._queue.submit(Close(run=run, reservation=reservation, state=ReservationState.RELEASED, actual=Cost()))

    async def run_state(self, run: str) -> RunState:
        """See `Store.run_state`."""
        return await self._read(run_state, run)

    async def dispatches(self, judge: JudgeIdentity, since: float) -> Sequence[Dispatch]:
        """See `Store.dispatches`."""
        return await self._read(dispatches, judge.id, since)

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self._closed = True
        await self._queue.aclose()
        await self._reader.aclose()
        await self._writer.aclose()

    async def _read(
        self, work: Callable[Concatenate[Connection, Arguments], Found], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Found:
        if self._closed:
            raise StoreClosed(f"{self._where}: the store is closed; open it again to go on")
        with store_errors(self._where):
            return await self._reader.visit(work, *arguments, **options)

    async def _commit(self, operations: Sequence[Operation]) -> Sequence[object]:
        """Apply operations in one transaction and return their results; raising means that nothing was changed."""
        with store_errors(self._where):
            await self._learn_runs({item.run for item in operations if not isinstance(item, OpenRun)})
            return await self._writer.visit(self._transact, operations, self._wall())

    def _transact(self, connection: Connection, operations: Sequence[Operation], now: float) -> Sequence[object]:
        """Hash and lay out what will be written, then write it: on the writer's thread."""
        rows = build_rows(operations, self._run_ids, now)
        try:
            return self._write(connection, operations, rows, now, self._open_entries)
        except Overtaken:
            return self._write(connection, operations, rows, now, {})

    def _write(self, connection: Connection, operations: Sequence[Operation], rows: Rows, now: float, ours: Entries) -> Sequence[object]:
        with connection.begin():
            results, changed = apply(connection, operations, rows, run_ids=self._run_ids, now=now, ours=ours)
        self._open_entries |= {key: entry for key, entry in changed.items() if entry.state is ReservationState.OPEN}
        for operation in operations:
            if isinstance(operation, Settle | Close):  # it is closed now, by this or another process
                self._open_entries.pop(operation.reservation.id, None)
        return results

    async def _learn_runs(self, names: set[str]) -> None:
        missing = names - self._run_ids.keys()
        if not missing:
            return
        self._run_ids |= await self._reader.visit(run_ids, missing)
        if names - self._run_ids.keys():
            raise unknown_run(min(names - self._run_ids.keys()))


def _touch(connection: Connection) -> None:
    with connection.begin():
        pass


def _parts(decisions: Sequence[Decision]) -> list[Sequence[Decision]]:
    """Cut decisions so that no part holds the writer for long; one part at least."""
    return [decisions[start : start + DECISIONS_PER_WRITE] for start in range(0, max(1, len(decisions)), DECISIONS_PER_WRITE)]
