"""An opened run: what the scheduler holds between `open` and `aclose`, and the way of one step through it.

1. keys       every pair is hashed, equal pairs become one item (on a worker thread)
2. known      one store read: replies that are already paid for
3. score      the scorer's preferences, while the store is being read
4. plan       `routing.plan.plan`: who is asked about, within what may be spent; recorded before anything is asked
5. ask        every missing question goes to the dispatcher, unless it is under way already
6. outcomes   when all replies are stored, or at the deadline, every pair gets its outcome
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from judgeflow.engine import step as steps
from judgeflow.engine.batcher import ScoringThread
from judgeflow.engine.dispatcher import Dispatcher, NotAsked
from judgeflow.engine.events import Observers
from judgeflow.engine.inflight import SingleFlight
from judgeflow.errors import JudgeError, StoreError
from judgeflow.keys import next_sample
from judgeflow.ports import Clock, Gate, Judge, Store
from judgeflow.routing.budget import Budget, is_spent
from judgeflow.routing.plan import Ask, Means, StepPlan, plan
from judgeflow.types import Call, Group, Outcome, Pair, Question, ReadingStatus, RunState, StepResult, StepStatistics, Stock

T = TypeVar("T")
Emit = Callable[[int, Outcome], None]

MAX_SAMPLES = 8
"""How often a question that failed for good may be asked again, over all runs."""


class Session:
    """One run, opened on one loop.  Steps may run concurrently; state changes only between awaits."""

    def __init__(
        self,
        *,
        run: str,
        rules: steps.Rules,
        store: Store,
        judge: Judge | None,
        dispatcher: Dispatcher | None,
        gate: Gate,
        scoring: ScoringThread | None,
        budget: Budget,
        clock: Clock,
        observers: Observers,
        last_step: int | None,
    ) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.loop = asyncio.get_running_loop()
        self._run = run
        self._rules = rules
        self._judge = judge
        self._gate = gate
        self._scoring = scoring
        self._budget = budget
        self._clock = clock
        self._observers = observers
        self._flights = SingleFlight()
        self._last_step = -1 if last_step is None else last_step
        self._latencies: deque[float] = deque(maxlen=256)
        self._budget_notice_given = False
        self._interrupted = False

    def stop(self) -> None:
        """Ask nothing more; steps under way return with what is in flight."""
        if not self._interrupted and self.dispatcher is not None:
            self.dispatcher.halt(NotAsked("interrupted"))
        self._interrupted = True

    async def aclose(self) -> None:
        """Stop, wait for what is in flight and let the scorer's thread end."""
        self.stop()
        if self.dispatcher is not None:
            await self.dispatcher.drain()
        if self._scoring is not None:
            await self._off_loop(self._scoring.close)

    async def run_step(
        self, pairs: Sequence[Pair], step: int | None, groups: tuple[Group, ...] = (), emit: Emit | None = None
    ) -> StepResult:
        """Route one step.  `emit` is called with (index, outcome) as soon as each outcome is final."""
        started = self._clock.now()
        number = self._last_step + 1 if step is None else step
        self._last_step = max(self._last_step, number)
        outcomes = _Outcomes(pairs, self._rules, emit)
        with self._flights.watch() as arrived:
            items = await self._collect(pairs, outcomes)
            await self._learn(items, number)
            planned = await self._plan(items, number, started)
            _adopt(items, arrived)
            waiting = self._ask(items, outcomes, self._deadline(started))
        await waiting.finish(None if waiting.deadline is None else waiting.deadline - self._clock.now())
        final = outcomes.complete()
        statistics = await self._finish(items, final, planned, number, started)
        return StepResult(outcomes=final, statistics=statistics, groups=groups)

    def _deadline(self, started: float) -> float | None:
        limit = self._rules.routing.step_deadline_s
        return None if limit is None else started + limit

    async def _off_loop(self, work: Callable[..., T], *args: Any) -> T:
        return await self.loop.run_in_executor(None, work, *args)

    async def _collect(self, pairs: Sequence[Pair], outcomes: _Outcomes) -> list[steps.Item]:
        items, invalid = await self._off_loop(steps.collect, pairs, self._rules)
        for index in invalid:
            outcomes.put(index, Outcome(pair=pairs[index], logit=0.0, source="fallback", status="invalid_text"))
        return items

    async def _learn(self, items: Sequence[steps.Item], step: int) -> None:
        """Find out everything about the items that costs nothing: stored replies, earlier decisions, preferences, prices."""
        await asyncio.gather(self._recall(items), self._score(items))
        decided = await self.store.decisions(self._run, step)
        for item in items:
            item.decided = decided.get(item.keys.pair)
        if self._judge is not None:
            await self._off_loop(steps.estimate, [item for item in items if item.missing()], self._judge)

    async def _recall(self, items: Sequence[steps.Item]) -> None:
        """Read stored replies.  Where one failed for good, a later sample of the same question may have fared better."""
        wanted = [(item, question) for item in items for question in item.questions]
        for _ in range(MAX_SAMPLES):
            found = await self.store.read([question.call_key for _, question in wanted])
            failed: list[tuple[steps.Item, Question]] = []
            for item, question in wanted:
                call = found.get(question.call_key)
                if call is not None:
                    item.calls[question.call_key] = call
                if call is not None or self._rules.retry_failed:
                    item.replace_question(question)
                if call is not None and call.reading.status is not ReadingStatus.OK:
                    failed.append((item, next_sample(question, call.judge)))
            if not failed:
                break
            wanted = failed

    async def _score(self, items: Sequence[steps.Item]) -> None:
        if self._scoring is None:
            return
        preferences, errors = await self._scoring.score([item.pair for item in items])
        for item, preference in zip(items, preferences, strict=True):
            item.preference = preference
        for error in errors:
            self._observers.notice("scorer_failed", error=str(error))

    async def _plan(self, items: Sequence[steps.Item], step: int, started: float) -> StepPlan:
        """Decide, count what will be asked as planned, and record the decisions before anything is sent."""
        state = await self.store.run_state(self._run)
        candidates = [steps.candidate(item, self._rules) for item in items]
        planned = plan(candidates, self._rules.routing, self._means(state, step, started))
        for item, action in zip(items, planned.actions, strict=True):
            item.action = action
        asked = [item for item in items if isinstance(item.action, Ask)]
        for item in asked:
            self._budget.plan(item.cost)
        try:
            await self.store.record_plan(self._run, step, steps.decisions(items, planned))
        except BaseException:
            for item in asked:
                self._budget.unplan(item.cost)
            raise
        return planned

    def _means(self, state: RunState, step: int, started: float) -> Means:
        allowance = self._budget.allowance(state, step)
        deadline = self._deadline(started)
        if deadline is None:
            return Means(allowance=allowance)
        slowest = sorted(self._latencies)[int(0.9 * len(self._latencies))] if self._latencies else 0.0
        return Means(allowance=allowance, requests_in_time=self._gate.capacity(deadline - slowest))

    def _ask(self, items: Sequence[steps.Item], outcomes: _Outcomes, deadline: float | None) -> _Waiting:
        """Send every missing question of the items to be asked on its way.  Does not await."""
        waiting = _Waiting(deadline, outcomes.settle)
        for item in items:
            if isinstance(item.action, Ask) and self.dispatcher is not None:
                for question in item.missing():
                    waiting.expect(item, question, self._flight(item, question, deadline, self.dispatcher))
        waiting.settle_the_rest(items)
        return waiting

    def _flight(self, item: steps.Item, question: Question, deadline: float | None, dispatcher: Dispatcher) -> asyncio.Future[Call]:
        """Join the question's flight, or start one."""
        cost = item.costs[question.call_key]
        under_way = self._flights.pending(question.call_key)
        if under_way is not None:
            self._budget.unplan(cost)
            dispatcher.prolong(question.call_key, deadline)
            return under_way
        return self._flights.launch(question.call_key, dispatcher.submit(question, cost, deadline))

    async def _finish(
        self, items: Sequence[steps.Item], final: Sequence[Outcome], planned: StepPlan, step: int, started: float
    ) -> StepStatistics:
        """Count, record and announce a step.  Its outcomes stand, whatever happens to the record."""
        self._latencies.extend(item.calls[key].reply.latency_s for item in items for key in item.fresh)
        left = await self._left()
        statistics = steps.statistics(
            run=self._run,
            step=step,
            items=items,
            outcomes=final,
            threshold=planned.threshold,
            remaining={"requests": left.requests, "tokens": left.tokens, "usd": left.usd} if left else {},
            seconds=self._clock.now() - started,
        )
        try:
            await self.store.record_step(statistics, steps.final_decisions(items, planned, self._rules))
        except StoreError as error:
            self._observers.notice("step_not_recorded", error=str(error))
        self._observers.step(statistics)
        self._tell_if_spent(left, statistics.statuses)
        return statistics

    async def _left(self) -> Stock | None:
        """What the run may still spend; None if the store cannot be asked."""
        try:
            return self._budget.remaining(await self.store.run_state(self._run))
        except StoreError:
            return None

    def _tell_if_spent(self, left: Stock | None, statuses: Mapping[str, int]) -> None:
        if left is not None and not self._budget_notice_given and (is_spent(left) or "budget" in statuses):
            self._budget_notice_given = True
            self._observers.notice("budget_spent", requests_left=left.requests, tokens_left=left.tokens, usd_left=left.usd)


def _adopt(items: Sequence[steps.Item], arrived: Mapping[bytes, Call]) -> None:
    """Take over replies that another step was given while this one was deciding."""
    for item in items:
        for question in item.missing():
            if question.call_key in arrived:
                item.calls[question.call_key] = arrived[question.call_key]


class _Outcomes:
    """The outcomes of a step by input position; each is set once and passed on at once."""

    def __init__(self, pairs: Sequence[Pair], rules: steps.Rules, emit: Emit | None) -> None:
        self._pairs = pairs
        self._rules = rules
        self._emit = emit
        self._slots: list[Outcome | None] = [None] * len(pairs)

    def settle(self, item: steps.Item) -> None:
        """Give every occurrence of an item its outcome."""
        canonical = steps.resolve(item, self._rules)
        for index, flipped in item.places:
            self.put(index, steps.placed(canonical, self._pairs[index], flipped=flipped))

    def put(self, index: int, outcome: Outcome) -> None:
        self._slots[index] = outcome
        if self._emit is not None:
            self._emit(index, outcome)

    def complete(self) -> tuple[Outcome, ...]:
        """Return all outcomes, in input order."""
        final = tuple(outcome for outcome in self._slots if outcome is not None)
        if len(final) != len(self._slots):
            raise AssertionError(f"{len(self._slots) - len(final)} pairs without an outcome")
        return final


class _Waiting:
    """The replies that a step waits for.  An item is settled as soon as its last one is there."""

    def __init__(self, deadline: float | None, settle: Callable[[steps.Item], None]) -> None:
        self.deadline = deadline
        self._settle = settle
        self._expected: Counter[steps.Item] = Counter()
        self._done = asyncio.Event()

    def expect(self, item: steps.Item, question: Question, reply: asyncio.Future[Call]) -> None:
        """Wait for one more reply."""
        self._expected[item] += 1
        reply.add_done_callback(lambda done: self._arrived(item, question, done))

    def settle_the_rest(self, items: Sequence[steps.Item]) -> None:
        """Settle the items that wait for nothing."""
        for item in items:
            if item not in self._expected:
                self._settle(item)
        self._check()

    async def finish(self, timeout_s: float | None) -> None:
        """Return when everything is there; after `timeout_s` seconds what is missing is given up."""
        try:
            await asyncio.wait_for(self._done.wait(), timeout_s)
        except TimeoutError:
            for item in list(self._expected):
                item.failures |= {question.call_key: "deadline" for question in item.missing()}
                self._settle(item)
            self._expected.clear()

    def _arrived(self, item: steps.Item, question: Question, reply: asyncio.Future[Call]) -> None:
        error = reply.exception()
        if item not in self._expected:
            return
        if error is None:
            item.calls[question.call_key] = reply.result()
            item.fresh.add(question.call_key)
        else:
            item.failures[question.call_key] = _status_of(error)
        self._expected[item] -= 1
        if self._expected[item] == 0:
            del self._expected[item]
            self._settle(item)
        self._check()

    def _check(self) -> None:
        if not self._expected:
            self._done.set()


def _status_of(error: BaseException) -> str:
    """The label of an outcome that went without this reply."""
    if isinstance(error, JudgeError | NotAsked):
        return error.status
    return "store_error" if isinstance(error, StoreError) else "judge_error"
