"""An opened run: what the scheduler holds between `open` and `aclose`, and the way of one step through it.

1. keys       every pair is hashed, equal pairs become one item (on a worker thread)
2. known      one store read: replies that are already paid for
3. score      the scorer's preferences about what is not known yet
4. plan       `routing.pacing.decide`: who is asked about, within what may be spent; recorded before anything is asked
5. ask        every missing question goes to the dispatcher, unless it is under way already
6. outcomes   when all replies are stored, or at the deadline, every pair gets its outcome

A deadline holds for the whole way: one that comes during 1 to 4 ends the step with what is known by then.  Scoring may take three
quarters of the time that is left when it begins; the plan then goes on with the pairs that were scored.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from judgeflow.engine import step as steps
from judgeflow.engine.batcher import ScoringThread
from judgeflow.engine.events import Observers
from judgeflow.engine.inflight import Arrival, SingleFlight
from judgeflow.engine.jobs import NotAsked, Order
from judgeflow.engine.panel import Panel
from judgeflow.engine.waiting import Emit, Outcomes, Waiting
from judgeflow.errors import ScorerError, StoreError
from judgeflow.keys import next_sample
from judgeflow.ports import Clock, Store
from judgeflow.routing.audit import lot_of
from judgeflow.routing.budget import Budget
from judgeflow.routing.pacing import Pacer, decide
from judgeflow.routing.plan import Ask, Means, StepPlan, asking_order, is_adaptive
from judgeflow.routing.threshold import with_headroom
from judgeflow.types import (
    Call,
    Cost,
    Decision,
    Group,
    Outcome,
    Pair,
    Preference,
    Question,
    ReadingStatus,
    RunState,
    StepResult,
    StepStatistics,
    Stock,
)

T = TypeVar("T")

MAX_SAMPLES = 8
"""How often a question that failed for good may be asked again, over all runs."""

SCORING_SHARE = 0.75
"""How much of the time before its deadline a step may spend on scoring; the rest is for the judge."""

GRACE_S = 0.25
"""How long a step that has reached its deadline still waits for its record to be written; the writing goes on without it."""


class Session:
    """One run, opened on one loop.  Steps may run concurrently; state changes only between awaits."""

    def __init__(
        self,
        *,
        run: str,
        rules: steps.Rules,
        store: Store,
        panel: Panel | None,
        scoring: ScoringThread | None,
        budget: Budget,
        pacer: Pacer,
        clock: Clock,
        observers: Observers,
        last_step: int | None,
    ) -> None:
        self.store = store
        self.panel = panel
        self.loop = asyncio.get_running_loop()
        self._run = run
        self._rules = rules
        self._scoring = scoring
        self._budget = budget
        self._pacer = pacer
        self._clock = clock
        self._observers = observers
        self._flights = SingleFlight()
        self._last_step = -1 if last_step is None else last_step
        self._cheapest = Cost()  # the least that a question of this run was priced at, by component
        self._budget_notice_given = False
        self._interrupted = False
        self._recordings: set[asyncio.Task[Any]] = set()

    def stop(self) -> None:
        """Ask nothing more; steps under way return with what is in flight."""
        if not self._interrupted and self.panel is not None:
            self.panel.halt(NotAsked("interrupted"))
        self._interrupted = True

    async def aclose(self) -> None:
        """Stop, wait for what is in flight and let the scorer's thread end."""
        self.stop()
        if self.panel is not None:
            await self.panel.drain()
        if self._recordings:
            await asyncio.wait(self._recordings)
        if self._scoring is not None:
            await self._off_loop(self._scoring.close)

    async def run_step(
        self, pairs: Sequence[Pair], step: int | None, groups: tuple[Group, ...] = (), emit: Emit | None = None
    ) -> StepResult:
        """Route one step.  `emit` is called with (index, outcome) as soon as each outcome is final."""
        started = self._clock.now()
        number = self._last_step + 1 if step is None else step
        self._last_step = max(self._last_step, number)
        outcomes = Outcomes(pairs, self._rules, emit)
        with self._flights.watch() as arrived:
            items, planned = await self._prepare(pairs, outcomes, number, started)
            self._adopt(items, arrived)
            waiting = self._ask(items, planned, outcomes, self._deadline(started))
        await self._await_replies(waiting)
        final = outcomes.complete()
        statistics = await self._finish(items, final, planned, number, started)
        return StepResult(outcomes=final, statistics=statistics, groups=groups)

    def _deadline(self, started: float) -> float | None:
        limit = self._rules.routing.step_deadline_s
        return None if limit is None else started + limit

    def _time_left(self, started: float) -> float | None:
        deadline = self._deadline(started)
        return None if deadline is None else deadline - self._clock.now()

    async def _off_loop(self, work: Callable[..., T], *args: Any) -> T:
        return await self.loop.run_in_executor(None, work, *args)

    # Before anything is asked

    async def _prepare(self, pairs: Sequence[Pair], outcomes: Outcomes, step: int, started: float) -> tuple[Sequence[steps.Item], _Planned]:
        """Return the step's items and what to do about them; at the deadline, with what is known by then."""
        items: list[steps.Item] = []
        try:
            async with asyncio.timeout(self._time_left(started)) as limit:
                items += await self._collect(pairs, outcomes)
                await self._learn(items, step, started)
                return items, await self._plan(items, step, started)
        except TimeoutError:
            if not limit.expired():
                raise
        if not items:
            outcomes.give_up(steps.LATE)
        late = steps.out_of_time(items, self._rules)
        for item, action in zip(items, late.actions, strict=True):
            item.action = action
        return items, _Planned(late, self._budget.stock)

    async def _collect(self, pairs: Sequence[Pair], outcomes: Outcomes) -> list[steps.Item]:
        items, invalid = await self._off_loop(steps.collect, pairs, self._rules)
        for index in invalid:
            outcomes.put(index, Outcome(pair=pairs[index], logit=0.0, source="fallback", status="invalid_text"))
        return items

    async def _learn(self, items: Sequence[steps.Item], step: int, started: float) -> None:
        """Find out everything about the items that costs nothing: stored replies, earlier decisions, preferences, prices."""
        await self._recall(items)
        await self._score([item for item in items if steps.unknown(item, self._rules)], started)
        decided = await self.store.decisions(self._run, step)
        for item in items:
            item.decided = decided.get(item.keys.pair)
        if self.panel is not None:
            await self._off_loop(steps.estimate, [item for item in items if item.missing()], self.panel.judges, self._rules)

    async def _recall(self, items: Sequence[steps.Item]) -> None:
        """Read stored replies of every judge.  Where one failed for good, a later sample of the same question may have fared better."""
        wanted = [(item, bench, question) for item in items for bench in item.benches for question in bench.questions]
        for _ in range(MAX_SAMPLES):
            found = await self.store.read([question.call_key for _, _, question in wanted])
            failed: list[_Failed] = []
            for item, bench, question in wanted:
                call = found.get(question.call_key)
                if call is not None:
                    item.calls[question.call_key] = call
                if call is not None or self._rules.retry_failed:
                    bench.replace_question(question)
                if call is not None and call.reading.status is not ReadingStatus.OK:
                    failed.append((item, bench, question, call.judge))
            if not failed:
                break
            wanted = await self._off_loop(_next_samples, failed)
        steps.take_known(items)

    async def _score(self, items: Sequence[steps.Item], started: float) -> None:
        """Let the scorer speak about the items, as long as there is time for it; what it has said by then is kept."""
        if self._scoring is None:
            return
        left = self._time_left(started)
        try:
            async with asyncio.timeout(None if left is None else SCORING_SHARE * left) as limit:
                async for piece, scored in self._scoring.score([item.pair for item in items]):
                    self._keep(items[piece.start : piece.stop], scored)
            steps.scorer_failed(items)  # those that no piece has brought
        except TimeoutError:
            if not limit.expired():
                raise

    def _keep(self, items: Sequence[steps.Item], scored: Sequence[Preference] | ScorerError) -> None:
        if isinstance(scored, ScorerError):
            steps.scorer_failed(items)
            self._observers.notice("scorer_failed", error=str(scored))
            return
        for item, preference in zip(items, scored, strict=True):
            item.preference = preference

    async def _plan(self, items: Sequence[steps.Item], step: int, started: float) -> _Planned:
        """Decide, count what will be asked as planned, and record the decisions before anything is sent."""
        stored = await self.store.run_state(self._run)
        seed = secrets.randbits(32) if self.panel is not None and self.panel.has_company(stored) else None
        state, routing = stored if self.panel is None else self.panel.as_expected(stored), self._rules.routing
        self._price(items)
        ceiling = self._budget.stock if is_adaptive(routing) else self._budget.ceiling(state, step)
        candidates = [steps.candidate(item, self._rules) for item in items]
        means = self._means(self._allowance(items, state, step), started)
        decided = decide(candidates, routing, means, pacer=self._pacer, step=step, lot=lot_of(routing.seed, self._run, step))
        for item, action in zip(items, decided.actions, strict=True):
            item.action = action
        order = asking_order(candidates, decided, routing, seed)
        self._assign([items[index] for index in order], started)
        await self._record_plan(items, step, decided)
        return _Planned(decided, ceiling, order)

    def _assign(self, items: Sequence[steps.Item], started: float) -> None:
        """Choose each item's judge, where one judge stands in for another."""
        if self.panel is not None:
            rooms = self.panel.rooms(self._time_left(started), self._rules.routing.step_deadline_s)
            steps.assign(items, rooms, self._rules, lambda key: self._flights.pending(key) is not None)

    def _price(self, items: Sequence[steps.Item]) -> None:
        """Fill in what worst cases will probably come to, turn to judges that are up, and remember the cheapest question."""
        if self.panel is not None:
            for bench in [bench for item in items for bench in item.benches]:
                bench.expected = {key: self.panel.expected(bench.place, cost) for key, cost in bench.costs.items()}
            steps.turn(items, self.panel.up, self._rules)
        for item in items:
            if item.obstacle is None:
                self._cheapest = _least([self._cheapest, *item.costs.values()])

    def _allowance(self, items: Sequence[steps.Item], state: RunState, step: int) -> Stock:
        """What the step may spend: an adaptive threshold's pacer divides what is left, a fixed rule has an equal part of it."""
        headroom = _most([item.costs[key] - item.expected[key] for item in items for key in item.costs])
        left = self._budget.remaining(state)
        return with_headroom(left if is_adaptive(self._rules.routing) else self._budget.allowance(state, step), left, headroom)

    async def _record_plan(self, items: Sequence[steps.Item], step: int, decided: StepPlan) -> None:
        asked = [(item.bench.place, cost) for item in items if isinstance(item.action, Ask) for cost in item.expected.values()]
        for place, cost in asked:
            self._asking().plan(place, cost)
        try:
            await self.store.record_plan(self._run, step, steps.decisions(items, decided), self._pacer.state)
        except BaseException:
            for place, cost in asked:
                self._asking().unplan(place, cost)
            raise

    def _means(self, allowance: Stock, started: float) -> Means:
        limit, left = self._rules.routing.step_deadline_s, self._time_left(started)
        if limit is None or left is None or self.panel is None:
            return Means(allowance=allowance)
        return Means(allowance=allowance, in_time=self.panel.in_time(left, limit))

    # Asking

    def _adopt(self, items: Sequence[steps.Item], arrived: Mapping[bytes, Call]) -> None:
        """Take over replies that another step was given while this one was deciding: they are not asked for any more."""
        for item in items:
            for question in item.missing():
                if question.call_key in arrived:
                    item.calls[question.call_key] = arrived[question.call_key]
                    if isinstance(item.action, Ask):
                        self._asking().unplan(item.bench.place, item.expected[question.call_key])

    def _ask(self, items: Sequence[steps.Item], planned: _Planned, outcomes: Outcomes, deadline: float | None) -> Waiting:
        """Send every missing question of the items to be asked on its way, in the order of the ranking.  Does not await."""
        waiting = Waiting(deadline, outcomes.settle, lambda item: self._ask_another(item, planned.ceiling, waiting))
        for index in planned.order:
            self._launch(items[index], planned.ceiling, waiting)
        waiting.settle_the_rest(items)
        return waiting

    def _launch(self, item: steps.Item, ceiling: Stock, waiting: Waiting) -> None:
        for question in item.missing():
            flight, launched = self._flight(item, question, ceiling, waiting)
            waiting.expect(item, question, flight, launched=launched)

    def _ask_another(self, item: steps.Item, ceiling: Stock, waiting: Waiting) -> bool:
        """Turn to the judge that stands in for one that has failed; return whether there is one, and time for it."""
        bench = steps.stand_in(item, self._rules)
        if bench is None or self._interrupted or (waiting.deadline is not None and self._clock.now() >= waiting.deadline):
            return False
        for question in item.questions:
            item.failures.pop(question.call_key, None)
        item.bench = bench
        for question in item.missing():
            self._asking().plan(bench.place, item.expected[question.call_key])
        self._launch(item, ceiling, waiting)
        return bool(item.missing())

    def _flight(self, item: steps.Item, question: Question, ceiling: Stock, waiting: Waiting) -> tuple[asyncio.Future[Arrival], bool]:
        """Join the question's flight, or launch one; return it, and whether it was launched."""
        panel, key, place = self._asking(), question.call_key, item.bench.place
        under_way = self._flights.pending(key)
        if under_way is not None:
            panel.unplan(place, item.expected[key])
            panel.join(key, waiting.deadline)
            return under_way, False
        order = Order(
            question=question,
            cost=item.costs[key],
            planned=item.expected[key],
            stock=ceiling,
            deadline=waiting.deadline,
            lot=waiting,
            place=place,
        )
        return self._flights.launch(key, panel.submit(order)), True

    def _asking(self) -> Panel:
        if self.panel is None:
            raise AssertionError("a step without a judge asks nothing")
        return self.panel

    async def _await_replies(self, waiting: Waiting) -> None:
        """Wait for the replies.  What is not wanted any more, at the deadline or because the step is cancelled, is not sent."""
        try:
            await waiting.finish(None if waiting.deadline is None else waiting.deadline - self._clock.now())
        except BaseException:
            self._leave(waiting.given_up("interrupted"), "interrupted")
            raise
        self._leave(waiting.late, steps.LATE)

    def _leave(self, call_keys: Sequence[bytes], status: str) -> None:
        for key in call_keys:
            self._asking().leave(key, NotAsked(status))

    # The end of a step

    async def _finish(
        self, items: Sequence[steps.Item], final: Sequence[Outcome], planned: _Planned, step: int, started: float
    ) -> StepStatistics:
        """Count, record and announce a step.  Its outcomes stand, whatever happens to the record."""
        left = await self._in_time(self._left(), started)
        statistics = steps.statistics(
            run=self._run,
            step=step,
            items=items,
            outcomes=final,
            plan=planned.plan,
            remaining={"requests": left.requests, "tokens": left.tokens, "usd": left.usd} if left else {},
            seconds=self._clock.now() - started,
        )
        await self._in_time(self._record(statistics, steps.final_decisions(items, planned.plan, self._rules)), started)
        self._observers.step(statistics)
        self._tell_if_spent(left)
        return statistics

    async def _in_time(self, work: Coroutine[Any, Any, T], started: float) -> T | None:
        """Wait for `work` until the deadline, or a moment after it; what takes longer goes on by itself, and None is returned."""
        task = self.loop.create_task(work)
        self._recordings.add(task)
        task.add_done_callback(self._recordings.discard)
        left = self._time_left(started)
        await asyncio.wait([task], timeout=None if left is None else max(left, GRACE_S))
        return task.result() if task.done() else None

    async def _record(self, statistics: StepStatistics, decisions: Sequence[Decision]) -> None:
        try:
            await self.store.record_step(statistics, decisions)
        except StoreError as error:
            self._observers.notice("step_not_recorded", error=str(error))

    async def _left(self) -> Stock | None:
        """What the run may still spend; None if the store cannot be asked."""
        if self.panel is not None:
            await self.panel.released()
        try:
            return self._budget.left(await self.store.run_state(self._run))
        except StoreError:
            return None

    def _tell_if_spent(self, left: Stock | None) -> None:
        """Say once that not even the cheapest question seen so far can be paid any more, and that no reservation can make it so."""
        if left is None or self.panel is None or self.panel.open or self._budget_notice_given:
            return
        if not left.admits(self._cheapest):
            self._budget_notice_given = True
            self._observers.notice("budget_spent", requests_left=left.requests, tokens_left=left.tokens, usd_left=left.usd)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A step's plan, what the run may have spent and put aside with it, and in which order to ask."""

    plan: StepPlan
    ceiling: Stock
    order: tuple[int, ...] = ()


_Failed = tuple[steps.Item, steps.Bench, Question, bytes]


def _next_samples(failed: Sequence[_Failed]) -> list[tuple[steps.Item, steps.Bench, Question]]:
    """Hash the next sample of each question.  Texts may be large: run it off the loop."""
    return [(item, bench, next_sample(question, judge)) for item, bench, question, judge in failed]


def _most(costs: Sequence[Cost]) -> Cost:
    """The componentwise maximum."""
    return Cost(tokens=max((cost.tokens for cost in costs), default=0), usd=max((cost.usd for cost in costs), default=0.0))


def _least(costs: Sequence[Cost]) -> Cost:
    """The componentwise minimum of those that are a price."""
    prices = [cost for cost in costs if cost.requests]
    if not prices:
        return Cost()
    return Cost(requests=1, tokens=min(cost.tokens for cost in prices), usd=min(cost.usd for cost in prices))
