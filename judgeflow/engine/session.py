"""An opened run: what the scheduler holds between `open` and `aclose`, and the way of one step through it.

1. keys       every pair is hashed, equal pairs become one item (on a worker thread)
2. known      one store read: replies that are already paid for
3. score      the scorer's preferences about what is not known yet, piece by piece on its own thread; meanwhile questions are priced
4. plan       who is asked about, within what may be spent; recorded before anything is asked: see `Planning`
5. ask        every missing question goes to its judge's dispatcher, unless it is under way already: see `Inquiry`
6. outcomes   when all replies are stored, or at the deadline, every pair gets its outcome

4 and 5 begin while 3 is under way, for those pairs that `routing.plan.certain` says will be asked about whatever the rest scores.

A deadline holds for the whole way: one that comes during 1 to 4 ends the step with what is known by then.  Scoring may take three
quarters of the time that is left when it begins; the plan then goes on with the pairs that were scored.  With `after_deadline = "keep"`
the questions of a step outlive it: see `LateWork`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from judgeflow.engine.batcher import ScoringThread
from judgeflow.engine.benches import estimate
from judgeflow.engine.course import Course, Planned
from judgeflow.engine.ending import Ending
from judgeflow.engine.events import Observers
from judgeflow.engine.inquiry import Inquiry
from judgeflow.engine.items import LATE, Item, collect
from judgeflow.engine.late import LateOutcomes, LateWork
from judgeflow.engine.panel import Panel
from judgeflow.engine.planning import Planning
from judgeflow.engine.recall import recall
from judgeflow.engine.resolving import unknown
from judgeflow.engine.rules import Rules
from judgeflow.engine.scoring import Scoring
from judgeflow.engine.waiting import Emit, Outcomes, Waiting
from judgeflow.errors import StoreClosed, StoreUnavailable
from judgeflow.ports import Clock, Store
from judgeflow.routing.budget import Budget
from judgeflow.routing.pacing import Pacer
from judgeflow.types import Group, Outcome, Pair, StepResult

T = TypeVar("T")

UNSTORED = "store_error"
"""Status of pairs that a step had to leave undecided because its store failed."""


class Session:
    """One run, opened on one loop.  Steps may run concurrently; state changes only between awaits."""

    def __init__(
        self,
        *,
        run: str,
        rules: Rules,
        store: Store,
        panel: Panel | None,
        scoring: ScoringThread | None,
        budget: Budget,
        pacer: Pacer,
        clock: Clock,
        observers: Observers,
        last_step: int | None,
        late_outcomes: LateOutcomes,
    ) -> None:
        self.store = store
        self.panel = panel
        self.loop = asyncio.get_running_loop()
        self._run = run
        self._rules = rules
        self._scoring = None if scoring is None else Scoring(scoring, observers)
        self._clock = clock
        self._observers = observers
        self._last_step = -1 if last_step is None else last_step
        deadline_s, keeps = rules.routing.step_deadline_s, rules.routing.after_deadline == "keep"
        late = LateWork(panel, late_outcomes) if panel is not None and keeps else None
        self._ending = Ending(run=run, store=store, panel=panel, budget=budget, clock=clock, observers=observers, deadline_s=deadline_s)
        self._inquiry = Inquiry(panel=panel, rules=rules, clock=clock, late=late)
        self._planning = Planning(
            run=run,
            rules=rules,
            store=store,
            panel=panel,
            budget=budget,
            pacer=pacer,
            clock=clock,
            late=late,
            is_pending=self._inquiry.is_pending,
            note_prices=self._ending.note_prices,
        )

    def stop(self) -> None:
        """Ask nothing more; steps under way return with what is in flight."""
        self._inquiry.stop()

    async def aclose(self) -> None:
        """Stop, wait for what is in flight and let the scorer's thread end."""
        self.stop()
        if self.panel is not None:
            await self.panel.drain()
        await self._ending.aclose()
        if self._scoring is not None:
            await self._off_loop(self._scoring.thread.close)

    async def run_step(
        self, pairs: Sequence[Pair], step: int | None, groups: tuple[Group, ...] = (), emit: Emit | None = None
    ) -> StepResult:
        """Route one step.  `emit` is called with (index, outcome) as soon as each outcome is final."""
        started = self._clock.now()
        number = self._last_step + 1 if step is None else step
        self._last_step = max(self._last_step, number)
        self._observers.begin(self._run, number)
        outcomes = Outcomes(pairs, self._rules, emit)
        waiting = Waiting(self._deadline(started), outcomes.settle, lambda item: self._inquiry.ask_more(course, item))
        refusal = self.panel.refusal if self.panel is not None else None
        with self._inquiry.watch() as arrived:
            course = Course(number=number, started=started, outcomes=outcomes, waiting=waiting, arrived=arrived, refusal=refusal)
            course.low_s = self.panel.low_s if self.panel is not None else ()
            try:
                planned = await self._prepare(course, pairs)
            except BaseException:
                self._planning.give_up(course)
                self._inquiry.let_go(course, "interrupted")
                self._inquiry.abandon(course)
                waiting.close()
                raise
            self._inquiry.adopt(course, [item for index, item in enumerate(course.items) if not course.is_sent(index)])
            self._inquiry.ask(course, planned.order, planned.ceiling)
            waiting.settle_the_rest(course.items)
        await self._inquiry.replies(course, pairs)
        waiting.close()
        final = outcomes.complete()
        statistics = await self._ending.finish(course, final, planned)
        return StepResult(outcomes=final, statistics=statistics, groups=groups)

    def _deadline(self, started: float) -> float | None:
        limit = self._rules.routing.step_deadline_s
        return None if limit is None else started + limit

    async def _off_loop(self, work: Callable[..., T], *args: Any) -> T:
        return await self.loop.run_in_executor(None, work, *args)

    # Before anything is asked

    async def _prepare(self, course: Course, pairs: Sequence[Pair]) -> Planned:
        """Find the step's items and decide about them; at the deadline, or without the store, with what is known by then."""
        try:
            async with asyncio.timeout(course.time_left(self._clock.now())) as limit:
                course.items += await self._collect(pairs, course.outcomes)
                await self._learn(course)
                return await self._planning.plan(course)
        except TimeoutError:
            if not limit.expired():
                raise
        except StoreClosed:
            raise
        except StoreUnavailable as error:
            await self._do_without_store(course, error)
            return self._unplanned(course, UNSTORED)
        if not course.items:
            course.outcomes.give_up(LATE)
        return self._unplanned(course, LATE)

    async def _do_without_store(self, course: Course, error: StoreUnavailable) -> None:
        """Nothing may be asked that cannot be recorded; what the scorer says needs no store."""
        if self.panel is not None:
            self.panel.store_failed(error)
        await self._score([item for item in course.items if not item.is_scored], course, asyncio.Event())

    def _unplanned(self, course: Course, status: str) -> Planned:
        """A step that could not decide asks nothing more than it has asked already."""
        self._inquiry.let_go(course, status)
        return self._planning.do_without(course, status)

    async def _collect(self, pairs: Sequence[Pair], outcomes: Outcomes) -> list[Item]:
        items, invalid = await self._off_loop(collect, pairs, self._rules)
        for index in invalid:
            outcomes.put(index, Outcome(pair=pairs[index], logit=0.0, source="fallback", status="invalid_text"))
        return items

    async def _learn(self, course: Course) -> None:
        """Find out everything about the items: stored replies, earlier decisions, prices, preferences.  Begin to ask meanwhile."""
        await recall(course.items, self.store, self._rules, self._off_loop)
        unknown_yet = [item for item in course.items if unknown(item, self._rules)] if self._scoring is not None else []
        news = asyncio.Event()
        scoring = self.loop.create_task(self._score(unknown_yet, course, news))
        scoring.add_done_callback(lambda _: news.set())
        release = functools.partial(self._inquiry.release, course)
        if self.panel is not None:
            self.panel.tell_when_free(release)
        try:
            decided = await self.store.decisions(self._run, course.number)
            for item in course.items:
                item.decided = decided.get(item.keys.pair)
            if self.panel is not None:
                missing = [item for item in course.items if item.missing()]
                await self._off_loop(estimate, missing, self.panel.judges, self._rules)
            while self._scoring is not None and self._planning.may_begin and not scoring.done():
                await news.wait()
                news.clear()
                if not scoring.done() and await self._planning.begin(course):
                    release()
            await scoring
        finally:
            if self.panel is not None:
                self.panel.tell_no_more(release)
            scoring.cancel()
            await asyncio.gather(scoring, return_exceptions=True)

    async def _score(self, items: Sequence[Item], course: Course, news: asyncio.Event) -> None:
        if self._scoring is not None:
            await self._scoring.score(items, course.time_left(self._clock.now()), news)
