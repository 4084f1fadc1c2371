"""`MemoryStore`: the `Store` port without a file, for tests, demos and replays.

It keeps the same promises as the database as long as the process lives; texts of questions are not kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from judgeflow.errors import StoreError, StoreUnavailable
from judgeflow.ports import OPEN_FOR_S
from judgeflow.store.ledger import Entry, Ledger, ReservationState, dispatch
from judgeflow.store.operations import actual_cost, storable
from judgeflow.types import Call, Cost, Decision, Dispatch, JudgeIdentity, Question, Reservation, RunState, StepStatistics, Stock


@dataclass(slots=True)
class _Contents:
    """Everything stored.  Changed by `MemoryStore`'s methods only, each without an await in between."""

    judges: dict[bytes, str] = field(default_factory=dict)
    calls: dict[bytes, Call] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    decisions: dict[tuple[str, int], dict[bytes, Decision]] = field(default_factory=dict)
    steps: dict[str, list[StepStatistics]] = field(default_factory=dict)
    made_at: dict[tuple[str, str], float] = field(default_factory=dict)
    pacing: dict[str, Mapping[str, Any]] = field(default_factory=dict)


class MemoryStore:
    """A `Store` in memory.  `reopen()` gives another store on the same contents, as a second process would have.

    `wall` returns Unix time in seconds.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._contents = _Contents()
        self._wall = wall
        self._closed = False

    def reopen(self) -> MemoryStore:
        """Return an open store that shares this one's contents, whether this one is closed or not."""
        other = MemoryStore(self._wall)
        other._contents = self._contents
        return other

    async def open_run(self, name: str, config: Mapping[str, object], judge: JudgeIdentity | None) -> RunState:  # noqa: ARG002 - nobody reads it here
        """See `Store.open_run`."""
        contents = self._open()
        if judge is not None:
            contents.judges[judge.fingerprint] = judge.id
        contents.ledgers.setdefault(name, Ledger())
        await _turn()
        return self._state(name)

    async def read(self, call_keys: Sequence[bytes]) -> Mapping[bytes, Call]:
        """See `Store.read`."""
        contents = self._open()
        await _turn()
        return {key: contents.calls[key] for key in call_keys if key in contents.calls}

    async def decisions(self, run: str, step: int) -> Mapping[bytes, Decision]:
        """See `Store.decisions`."""
        contents = self._open()
        await _turn()
        return dict(contents.decisions.get((run, step), {}))

    async def record_plan(self, run: str, step: int, decisions: Sequence[Decision], pacing: Mapping[str, Any] | None = None) -> None:
        """See `Store.record_plan`."""
        contents = self._open()
        self._ledger(run)
        if pacing is not None:
            contents.pacing[run] = dict(pacing)
        planned = contents.decisions.setdefault((run, step), {})
        for decision in decisions:
            planned.setdefault(decision.pair_key, decision)
        await _turn()

    async def record_step(self, statistics: StepStatistics, decisions: Sequence[Decision]) -> None:
        """See `Store.record_step`."""
        contents = self._open()
        self._ledger(statistics.run)
        contents.steps.setdefault(statistics.run, []).append(statistics)
        planned = contents.decisions.setdefault((statistics.run, statistics.step), {})
        for decision in decisions:
            first = planned.get(decision.pair_key, decision)
            threshold = decision.threshold if first.threshold is None else first.threshold
            planned[decision.pair_key] = replace(first, source=decision.source, status=decision.status, threshold=threshold)
        await _turn()

    async def reserve(self, run: str, reservation: Reservation, stock: Stock) -> bool | Call:
        """See `Store.reserve`.  Raises `StoreError` for an id that was used before."""
        known, ledger = self._open().calls.get(reservation.call_key), self._ledger(run)
        granted = known or ledger.reserve(reservation, stock)
        if granted is True:
            self._contents.made_at[run, reservation.id] = self._wall()
        await _turn()
        return granted

    async def settle(self, run: str, reservation: Reservation, question: Question, call: Call) -> None:  # noqa: ARG002 - its texts are not kept
        """See `Store.settle`."""
        contents = self._open()
        ledger = self._ledger(run)
        if call.judge not in contents.judges:
            raise StoreError(f"judge {call.judge.hex()[:16]} is not registered; open_run registers the run and its judge first")
        contents.calls.setdefault(call.key, _stored(call))
        ledger.close(reservation, ReservationState.SETTLED, actual_cost(call))
        await _turn()

    async def charge(self, run: str, reservation: Reservation) -> None:
        """See `Store.charge`."""
        self._open()
        self._ledger(run).close(reservation, ReservationState.CHARGED, reservation.cost)

    async def release(self, run: str, reservation: Reservation) -> None:
        """See `Store.release`."""
        self._open()
        self._ledger(run).close(reservation, ReservationState.RELEASED, Cost())

    async def run_state(self, run: str) -> RunState:
        """See `Store.run_state`."""
        self._open()
        return self._state(run)

    async def dispatches(self, judge: JudgeIdentity, since: float) -> Sequence[Dispatch]:
        """See `Store.dispatches`."""
        contents = self._open()
        await _turn()
        made = [
            (entry, contents.made_at.get((run, key), 0.0))
            for run, ledger in contents.ledgers.items()
            for key, entry in ledger.entries.items()
        ]
        lately = [entry for entry, made_at in made if made_at >= since - OPEN_FOR_S and _counts(entry, since)]
        of_judge = [entry for entry in lately if entry.judge is not None and contents.judges.get(entry.judge) == judge.id]
        return [dispatch(entry.state, entry.sent_at, entry.sends, entry.cost.tokens) for entry in of_judge]

    async def aclose(self) -> None:
        """See `Store.aclose`."""
        self._closed = True

    def _open(self) -> _Contents:
        if self._closed:
            raise StoreUnavailable("the store is closed; open it again to go on")
        return self._contents

    def _ledger(self, run: str) -> Ledger:
        if run not in self._contents.ledgers:
            raise StoreError(f"run {run!r} is not in this store; call open_run first")
        return self._contents.ledgers[run]

    def _state(self, run: str) -> RunState:
        ledger = self._ledger(run)
        last = max((statistics.step for statistics in self._contents.steps.get(run, ())), default=None)
        pacing = self._contents.pacing.get(run)
        return RunState(name=run, spent=ledger.spent, reserved=ledger.reserved, last_step=last, pacing=pacing)


async def _turn() -> None:
    """Let others run, after the change is made: nobody may come to rely on a store that never yields."""
    await asyncio.sleep(0)


def _counts(entry: Entry, since: float) -> bool:
    return entry.state is ReservationState.OPEN or (entry.sent_at is not None and entry.sent_at >= since)


def _stored(call: Call) -> Call:
    reply = call.reply
    refusal = None if reply.refusal is None else storable(reply.refusal)
    return replace(call, reply=replace(reply, text=storable(reply.text), reasoning=storable(reply.reasoning), refusal=refusal))
