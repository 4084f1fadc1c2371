"""The end of a step: it is counted, recorded and announced.  Its outcomes stand, whatever happens to the record."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from judgeflow.engine.counting import statistics as counted
from judgeflow.engine.course import Course, Planned
from judgeflow.engine.deciding import final_decisions
from judgeflow.engine.events import Observers
from judgeflow.engine.panel import Panel
from judgeflow.errors import StoreError
from judgeflow.ports import Clock, Store
from judgeflow.routing.budget import Budget
from judgeflow.types import Cost, Decision, Outcome, StepStatistics, Stock

T = TypeVar("T")

GRACE_S = 0.25
"""How long a step that has reached its deadline still waits for its record to be written; the writing goes on without it."""


class Ending:
    """Ends the steps of one run."""

    def __init__(
        self,
        *,
        run: str,
        store: Store,
        panel: Panel | None,
        budget: Budget,
        clock: Clock,
        observers: Observers,
        deadline_s: float | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._cheapest: Cost | None = None  # the least that a question of this run was priced at, by component
        self._run = run
        self._store = store
        self._panel = panel
        self._budget = budget
        self._clock = clock
        self._observers = observers
        self._budget_notice_given = False
        self._slow_notice_given = False
        self._recordings: set[asyncio.Task[Any]] = set()

    def note_prices(self, costs: Iterable[Cost]) -> None:
        """Remember the cheapest question."""
        for cost in (each for each in costs if each.requests):
            least = self._cheapest or cost
            self._cheapest = Cost(requests=1, tokens=min(least.tokens, cost.tokens), usd=min(least.usd, cost.usd))

    async def finish(self, course: Course, final: Sequence[Outcome], planned: Planned) -> StepStatistics:
        """Return what the step did, when it is recorded or its time is up."""
        left = await self._in_time(self._left(), course)
        statistics = counted(
            run=self._run,
            step=course.number,
            items=course.items,
            outcomes=final,
            plan=planned.plan,
            remaining={"requests": left.requests, "tokens": left.tokens, "usd": left.usd} if left else {},
            seconds=self._clock.now() - course.started,
            pressure=self._panel.take_pressure(course.low_s) if self._panel is not None else {},
        )
        await self._in_time(self._record(statistics, final_decisions(course.items, planned.plan, final)), course)
        self._observers.step(statistics)
        self._tell_if_spent(left)
        self._tell_if_too_slow()
        return statistics

    async def aclose(self) -> None:
        """Wait for what is still being written."""
        if self._recordings:
            await asyncio.wait(self._recordings)

    async def _in_time(self, work: Coroutine[Any, Any, T], course: Course) -> T | None:
        """Wait for `work` until the deadline, or a moment after it; what takes longer goes on by itself, and None is returned."""
        task = asyncio.get_running_loop().create_task(work)
        self._recordings.add(task)
        task.add_done_callback(self._recordings.discard)
        deadline = course.waiting.deadline
        await asyncio.wait([task], timeout=None if deadline is None else max(deadline - self._clock.now(), GRACE_S))
        return task.result() if task.done() else None

    async def _record(self, statistics: StepStatistics, decisions: Sequence[Decision]) -> None:
        try:
            await self._store.record_step(statistics, decisions)
        except StoreError as error:
            if self._panel is None or self._panel.store_failure is None:  # else that has been told
                self._observers.notice("step_not_recorded", error=str(error))

    async def _left(self) -> Stock | None:
        """What the run may still spend; None if the store cannot be asked."""
        if self._panel is not None:
            await self._panel.released()
        try:
            return self._budget.left(await self._store.run_state(self._run))
        except StoreError:
            return None

    def _tell_if_spent(self, left: Stock | None) -> None:
        """Say once that not even the cheapest question seen so far can be paid any more, and that no reservation can make it so."""
        if left is None or self._panel is None or self._panel.open or self._budget_notice_given:
            return
        if not left.admits(self._cheapest or Cost()):
            self._budget_notice_given = True
            self._observers.notice("budget_spent", requests_left=left.requests, tokens_left=left.tokens, usd_left=left.usd)

    def _tell_if_too_slow(self) -> None:
        """Say, once until that changes, that no judge answers within a step: what is asked about comes too late for it."""
        if self._panel is None or self._deadline_s is None:
            return
        latency_s = self._panel.too_slow_s(self._deadline_s)
        if latency_s is not None and not self._slow_notice_given:
            self._observers.notice("judge_too_slow", latency_s=round(latency_s, 3), step_deadline_s=self._deadline_s)
        self._slow_notice_given = latency_s is not None
