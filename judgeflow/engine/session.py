"""An opened run: what the scheduler holds between `open` and `aclose`, and the way of one step through it.

1. keys       every pair is hashed, equal pairs become one item (on a worker thread)
2. known      one store read: replies that are already paid for
3. score      the scorer's preferences about what is not known yet, piece by piece on its own thread; meanwhile questions are priced
4. plan       `routing.pacing.decide`: who is asked about, within what may be spent; recorded before anything is asked
5. ask        every missing question goes to the dispatcher, unless it is under way already
6. outcomes   when all replies are stored, or at the deadline, every pair gets its outcome

4 and 5 begin while 3 is under way, for those pairs that `routing.plan.certain` says will be asked about whatever the rest scores.

A deadline holds for the whole way: one that comes during 1 to 4 ends the step with what is known by then.  Scoring may take three
quarters of the time that is left when it begins; the plan then goes on with the pairs that were scored.  With `after_deadline = "keep"`
the questions of a step outlive it: see `LateWork`.
"""

from __future__ import annotations

import asyncio
import functools
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from judgeflow.engine import benches, deciding, resolving
from judgeflow.engine.batcher import ScoringThread
from judgeflow.engine.course import Course, Grounds, Planned
from judgeflow.engine.ending import Ending
from judgeflow.engine.events import Observers
from judgeflow.engine.inflight import Arrival, SingleFlight
from judgeflow.engine.items import LATE, Item, collect
from judgeflow.engine.jobs import NotAsked, Order
from judgeflow.engine.late import LateOutcomes, LateWork
from judgeflow.engine.panel import Panel
from judgeflow.engine.recall import recall
from judgeflow.engine.rules import Rules
from judgeflow.engine.waiting import Emit, Expected, Outcomes, Waiting, status_of
from judgeflow.errors import JudgeflowError, ScorerError, StoreClosed, StoreUnavailable
from judgeflow.ports import Clock, Store
from judgeflow.routing.audit import lot_of
from judgeflow.routing.budget import Budget
from judgeflow.routing.early import given_back
from judgeflow.routing.pacing import Pacer, decide
from judgeflow.routing.plan import Ask, Means, StepPlan, asking_order, begun, certain, early_order, is_adaptive
from judgeflow.routing.threshold import with_headroom
from judgeflow.types import Cost, Group, Outcome, Pair, Preference, Question, RunState, StepResult, Stock

T = TypeVar("T")

SCORING_SHARE = 0.75
"""How much of the time before its deadline a step may spend on scoring; the rest is for the judge."""

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
        self._scoring = scoring
        self._budget = budget
        self._pacer = pacer
        self._clock = clock
        self._observers = observers
        self._flights = SingleFlight()
        self._last_step = -1 if last_step is None else last_step
        self._interrupted = False
        keeps = panel is not None and rules.routing.after_deadline == "keep"
        self._late = LateWork(panel, late_outcomes) if panel is not None and keeps else None
        self._ending = Ending(
            run=run, store=store, panel=panel, budget=budget, clock=clock, observers=observers, deadline_s=rules.routing.step_deadline_s
        )

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
        await self._ending.aclose()
        if self._scoring is not None:
            await self._off_loop(self._scoring.close)

    async def run_step(
        self, pairs: Sequence[Pair], step: int | None, groups: tuple[Group, ...] = (), emit: Emit | None = None
    ) -> StepResult:
        """Route one step.  `emit` is called with (index, outcome) as soon as each outcome is final."""
        started = self._clock.now()
        number = self._last_step + 1 if step is None else step
        self._last_step = max(self._last_step, number)
        self._observers.begin(self._run, number)
        outcomes = Outcomes(pairs, self._rules, emit)
        waiting = Waiting(self._deadline(started), outcomes.settle, lambda item: self._ask_more(course, item))
        refusal = self.panel.refusal if self.panel is not None else None
        with self._flights.watch() as arrived:
            course = Course(number=number, started=started, outcomes=outcomes, waiting=waiting, arrived=arrived, refusal=refusal)
            course.low_s = self.panel.low_s if self.panel is not None else ()
            try:
                planned = await self._prepare(course, pairs)
            except BaseException:
                self._pacer.give_up(course.begun)
                self._let_go(course, "interrupted")
                self._abandon(course)
                waiting.close()
                raise
            self._adopt(course, [item for index, item in enumerate(course.items) if not course.is_sent(index)])
            self._ask(course, planned.order, planned.ceiling)
            waiting.settle_the_rest(course.items)
        await self._await_replies(course, pairs)
        waiting.close()
        final = outcomes.complete()
        statistics = await self._ending.finish(course, final, planned)
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

    async def _prepare(self, course: Course, pairs: Sequence[Pair]) -> Planned:
        """Find the step's items and decide about them; at the deadline, or without the store, with what is known by then."""
        try:
            async with asyncio.timeout(self._time_left(course.started)) as limit:
                course.items += await self._collect(pairs, course.outcomes)
                await self._learn(course)
                return await self._plan(course)
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
        await self._score([item for item in course.items if not item.is_scored], course.started, asyncio.Event())

    def _unplanned(self, course: Course, status: str) -> Planned:
        """A step that could not decide asks nothing more than it has asked already."""
        self._let_go(course, status)
        self._end_beginning(course)
        return Planned(deciding.undecided(course.items, course.early, self._rules, status), self._budget.stock)

    async def _collect(self, pairs: Sequence[Pair], outcomes: Outcomes) -> list[Item]:
        items, invalid = await self._off_loop(collect, pairs, self._rules)
        for index in invalid:
            outcomes.put(index, Outcome(pair=pairs[index], logit=0.0, source="fallback", status="invalid_text"))
        return items

    async def _learn(self, course: Course) -> None:
        """Find out everything about the items: stored replies, earlier decisions, prices, preferences.  Begin to ask meanwhile."""
        await recall(course.items, self.store, self._rules, self._off_loop)
        unknown = [item for item in course.items if resolving.unknown(item, self._rules)] if self._scoring is not None else []
        news = asyncio.Event()
        scoring = self.loop.create_task(self._score(unknown, course.started, news))
        scoring.add_done_callback(lambda _: news.set())
        release = functools.partial(self._release, course)
        if self.panel is not None:
            self.panel.tell_when_free(release)
        try:
            decided = await self.store.decisions(self._run, course.number)
            for item in course.items:
                item.decided = decided.get(item.keys.pair)
            if self.panel is not None:
                missing = [item for item in course.items if item.missing()]
                await self._off_loop(benches.estimate, missing, self.panel.judges, self._rules)
            while self._may_begin_early() and not scoring.done():
                await news.wait()
                news.clear()
                if not scoring.done():
                    await self._begin(course)
            await scoring
        finally:
            if self.panel is not None:
                self.panel.tell_no_more(release)
            scoring.cancel()
            await asyncio.gather(scoring, return_exceptions=True)

    async def _score(self, items: Sequence[Item], started: float, news: asyncio.Event) -> None:
        """Let the scorer speak about the items, as long as there is time for it; what it has said by then is kept, and told as news."""
        if self._scoring is None:
            return
        left = self._time_left(started)
        try:
            async with asyncio.timeout(None if left is None else SCORING_SHARE * left) as limit:
                async for piece, scored in self._scoring.score([item.pair for item in items]):
                    self._keep(items[piece.start : piece.stop], scored)
                    news.set()
            _scorer_failed(items)  # those that no piece has brought
        except TimeoutError:
            if not limit.expired():
                raise

    def _keep(self, items: Sequence[Item], scored: Sequence[Preference] | ScorerError) -> None:
        if isinstance(scored, ScorerError):
            _scorer_failed(items)
            self._observers.notice("scorer_failed", error=str(scored))
            return
        for item, preference in zip(items, scored, strict=True):
            item.preference = preference

    def _may_begin_early(self) -> bool:
        """Whether anybody can be certain to be asked about before all are scored, and by whom: a draw, or a stand-in, is decided later."""
        routing = self._rules.routing
        decided_later = routing.policy in {"never", "random"} or bool(routing.audit_fraction) or self._rules.stand_ins
        return self._scoring is not None and self.panel is not None and not decided_later

    async def _begin(self, course: Course) -> None:
        """Ask about those who will be asked about whatever the rest scores; they are recorded before, as the plan would have it."""
        routing = self._rules.routing
        scored = sum(item.is_scored for item in course.items)
        if scored < course.next_look:
            return
        grounds = await self._grounds(course)
        candidates, places = grounds.candidates, self._pacer.sure(grounds.candidates)
        unscored = frozenset(index for index, candidate in enumerate(candidates) if candidate.obstacle == LATE)
        means = grounds.means if is_adaptive(routing) else Means(allowance=grounds.worst)
        course.plan_next_look(scored, len(unscored), (means.allowance.requests, means.in_time.requests, places))
        sure = certain(candidates, unscored, routing, means, places)
        ready = [index for index in sure if index not in course.early and course.items[index].is_scored]
        if not ready:
            return
        items = [course.items[index] for index in ready]
        self._make_way(course, items)
        fresh = sum(item.decided is None for item in items)
        course.begun += fresh
        self._pacer.begin(fresh)
        plan = begun(ready, routing)
        deciding.act(items, plan)
        await self._record_plan(items, course.number, plan)
        course.begin_early(grounds, ready)
        course.held = deque(early_order([*course.held, *ready], candidates, routing, grounds.seed))
        self._release(course)

    def _end_beginning(self, course: Course) -> None:
        """The step has a plan now, in which those asked about early count like all others, or needs none."""
        self._pacer.begin(-course.begun)
        course.begun = 0

    async def _plan(self, course: Course) -> Planned:
        """Decide, count what will be asked as planned, and record the decisions before anything is sent."""
        routing, items, step = self._rules.routing, course.items, course.number
        grounds = await self._grounds(course)
        lot = lot_of(routing.seed, self._run, step)
        self._end_beginning(course)
        decided = decide(grounds.candidates, routing, grounds.means, pacer=self._pacer, step=step, lot=lot)
        order = [index for index in asking_order(grounds.candidates, decided, routing, grounds.seed) if not course.is_sent(index)]
        self._make_way(course, [items[index] for index in order])
        self._assign([items[index] for index in order], course.started)
        others = [index for index in range(len(items)) if index not in course.early]
        planned = decided.part(others)
        deciding.act([items[index] for index in others], planned)
        if self._is_worth_recording(grounds):
            await self._record_plan([items[index] for index in others], step, planned)
        self._rules.margin.learn(resolving.left_to_scorer(items, self._rules))
        return Planned(decided, grounds.ceiling, tuple(order))

    async def _grounds(self, course: Course) -> Grounds:
        """What a plan is made of.  What was asked early counts as if it had not been, so that the plan is the same."""
        items, step, routing = course.items, course.number, self._rules.routing
        if self.panel is not None:
            await self.panel.reserved()
        stored = await self.store.run_state(self._run)
        state = stored if self.panel is None else self.panel.as_expected(stored)
        self._price([item for index, item in enumerate(items) if index not in course.early])
        if is_adaptive(routing):
            self._make_way(course)
        means = self._means(self._allowance(items, state, step), course.started)
        grounds = Grounds(
            candidates=[course.asked_as.get(index) or deciding.candidate(item, self._rules) for index, item in enumerate(items)],
            means=means,
            worst=self._budget.allowance(stored, step),
            ceiling=self._budget.stock if is_adaptive(routing) else self._budget.ceiling(state, step),
            seed=secrets.randbits(32) if self.panel is not None and self.panel.has_company(stored) else None,
        )
        if course.first is None:
            return grounds
        allowance = course.allowance(self._budget.remaining(state))
        return replace(
            grounds,
            means=replace(means, allowance=allowance, in_time=given_back(means.in_time, course.taken)),
            worst=course.worst(self._budget.remaining(stored)),
            ceiling=course.first.ceiling,
        )

    def _make_way(self, course: Course, asked: Sequence[Item] | None = None) -> None:
        """Drop late questions of earlier steps, which stand before this one's in the queue, where they would push these out.

        A fixed rule has said whom it asks about: the late ones get what that leaves of the time.  An adaptive threshold rises for whatever
        waits, so it would leave them everything: they get half.
        """
        if self._late is None:
            return
        questions = None if asked is None else {key: cost for item in asked for key, cost in item.expected.items()}
        dropped = 1
        while dropped:
            room = self._means(Stock(), course.started).in_time
            dropped = self._late.make_way(room if asked is not None else given_back(room, course.taken), questions)

    def _assign(self, items: Sequence[Item], started: float) -> None:
        """Choose each item's judge, where one judge stands in for another."""
        if self.panel is not None:
            rooms = self.panel.rooms(self._time_left(started), self._rules.routing.step_deadline_s)
            benches.assign(items, rooms, self._rules, lambda key: self._flights.pending(key) is not None)

    def _price(self, items: Sequence[Item]) -> None:
        """Fill in what worst cases will probably come to, turn to judges that are up, and remember the cheapest question."""
        items = [item for item in items if item.costs]  # of the others everything is stored
        if self.panel is not None:
            for bench in [bench for item in items for bench in item.benches]:
                bench.expected = {key: self.panel.expected(bench.place, cost) for key, cost in bench.costs.items()}
            benches.take_known(items, self._rules)  # with what the scorer says, one order may be enough
            benches.turn(items, self.panel.up, self._rules)
        for item in items:
            if item.obstacle is None:
                self._ending.note_prices(item.costs.values())

    def _allowance(self, items: Sequence[Item], state: RunState, step: int) -> Stock:
        """What the step may spend: an adaptive threshold's pacer divides what is left, a fixed rule has an equal part of it."""
        headroom = _most([item.costs[key] - item.expected[key] for item in items for key in item.costs])
        left = self._budget.remaining(state)
        return with_headroom(left if is_adaptive(self._rules.routing) else self._budget.allowance(state, step), left, headroom)

    def _is_worth_recording(self, grounds: Grounds) -> bool:
        """Whether a plan says more than the end of its step: where everything is known there is nothing to decide, now or when resumed."""
        return self._pacer.state is not None or any(candidate.cost.requests for candidate in grounds.candidates)

    async def _record_plan(self, items: Sequence[Item], step: int, decided: StepPlan) -> None:
        asked = [(item.bench.place, cost) for item in items if isinstance(item.action, Ask) for cost in item.expected.values()]
        for place, cost in asked:
            self._asking().plan(place, cost)
        try:
            await self.store.record_plan(self._run, step, deciding.decisions(items, decided), self._pacer.state)
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

    def _ask(self, course: Course, order: Sequence[int], ceiling: Stock) -> None:
        """Send every missing question of these items on its way, in this order.  Does not await."""
        course.ceiling = ceiling
        self._look_ahead(course)
        for index in order:
            item, refusal = course.items[index], self._refusal(course)
            if refusal is not None:
                self._forgo(item, status_of(refusal))
            else:
                self._launch(course, item)

    def _look_ahead(self, course: Course) -> None:
        """Find out whose orders can be asked one after the other before the deadline."""
        limit, left = self._rules.routing.step_deadline_s, self._time_left(course.started)
        if limit is not None and left is not None and self._rules.orders == "adaptive":
            course.in_turn = self._asking().in_turn(left, limit)

    def _release(self, course: Course) -> None:
        """Ask about the first of those held back, where they will be sent at once: whoever is scored later may rank before the others."""
        while course.held and course.first is not None and self._asking().has_room(course.items[course.held[0]].bench.place):
            index = course.held.popleft()
            self._adopt(course, [course.items[index]])
            self._ask(course, [index], course.first.ceiling)

    def _let_go(self, course: Course, status: str) -> None:
        """Do without those held back."""
        while course.held:
            self._forgo(course.items[course.held.popleft()], status)

    def _forgo(self, item: Item, status: str) -> None:
        for key in item.missing():
            self._asking().unplan(item.bench.place, item.expected[key])
            item.failures[key] = status

    def _refusal(self, course: Course) -> JudgeflowError | None:
        """Why the judge cannot be used, where a step that has begun to ask has learnt that: what it has not asked would fare no better."""
        return self._asking().refusal if course.early and course.refusal is None else None

    def _adopt(self, course: Course, items: Sequence[Item]) -> None:
        """Take over replies that another step was given while this one was deciding: they are not asked for any more."""
        for item in items if course.arrived else ():
            for key in item.missing():
                if key in course.arrived:
                    item.calls[key] = course.arrived[key]
                    if isinstance(item.action, Ask):
                        self._asking().unplan(item.bench.place, item.expected[key])

    def _launch(self, course: Course, item: Item) -> bool:
        """Ask what is to be asked next; return whether there is anything."""
        in_turn = course.in_turn is None or self._asking().questions(item.bench.place) < course.in_turn[item.bench.place]
        wanted = benches.wanted(item, self._rules, in_turn=in_turn)
        for question in (item.bench.questions[key] for key in wanted):
            flight, launched = self._flight(course, item, question)
            course.waiting.expect(item, question, flight, launched=launched)
        if not wanted:
            self._spare(item)
        return bool(wanted)

    def _spare(self, item: Item, *others: bytes) -> None:
        """What was planned for the item and is not asked, but for the `others`, is not needed."""
        for key in item.missing():
            if isinstance(item.action, Ask) and key not in {*others, *item.failures}:
                self._asking().unplan(item.bench.place, item.expected[key])

    def _ask_more(self, course: Course, item: Item) -> bool:
        """Ask the other order, where it is still open, or the judge that stands in for one that has failed; tell whether there is one."""
        deadline = course.waiting.deadline
        in_time = not self._interrupted and (deadline is None or self._clock.now() < deadline)
        if in_time and item.failures.keys().isdisjoint(item.bench.directions):
            return self._launch(course, item)
        self._spare(item)
        bench = benches.stand_in(item, self._rules)
        if bench is None or not in_time:
            return False
        for key in item.bench.directions:
            item.failures.pop(key, None)
        item.bench = bench
        self._look_ahead(course)
        for key in item.missing():
            self._asking().plan(bench.place, item.expected[key])
        return self._launch(course, item)

    def _flight(self, course: Course, item: Item, question: Question) -> tuple[asyncio.Future[Arrival], bool]:
        """Join the question's flight, or launch one; return it, and whether it was launched."""
        panel, key, place = self._asking(), question.call_key, item.bench.place
        under_way = self._flights.pending(key)
        if under_way is not None:
            panel.unplan(place, item.expected[key])
            panel.join(key, self._lasts_until(course.waiting))
            return under_way, False
        order = Order(
            question=question,
            cost=item.costs[key],
            planned=item.expected[key],
            stock=course.ceiling,
            deadline=self._lasts_until(course.waiting),
            lot=course.waiting,
            place=place,
            step=course.number,
        )
        return self._flights.launch(key, panel.submit(order)), True

    def _lasts_until(self, waiting: Waiting) -> float | None:
        """When a question is not worth sending any more."""
        return waiting.deadline if self._late is None else None

    def _asking(self) -> Panel:
        if self.panel is None:
            raise AssertionError("a step without a judge asks nothing")
        return self.panel

    async def _await_replies(self, course: Course, pairs: Sequence[Pair]) -> None:
        """Wait for the replies.  What is not wanted any more, at the deadline or because the step is cancelled, is not sent."""
        waiting = course.waiting
        try:
            await waiting.finish(None if waiting.deadline is None else waiting.deadline - self._clock.now())
        except BaseException:
            self._abandon(course)
            raise
        self._spare_others(waiting.late)
        if self._late is not None:
            self._late.take(course.number, pairs, waiting.late, course.outcomes.rules)
        else:
            self._leave(waiting.late, LATE)

    def _abandon(self, course: Course) -> None:
        """Nobody waits for the step any more: what it has not sent is not needed."""
        unanswered = course.waiting.given_up("interrupted")
        self._spare_others(unanswered)
        self._leave(unanswered, "interrupted")

    def _spare_others(self, unanswered: Sequence[Expected]) -> None:
        """Orders that would have been asked after those that did not come are not asked."""
        for item in {expected.item for expected in unanswered}:
            self._spare(item, *(expected.question.call_key for expected in unanswered))

    def _leave(self, unanswered: Sequence[Expected], status: str) -> None:
        for expected in unanswered:
            self._asking().leave(expected.question.call_key, NotAsked(status))


def _most(costs: Sequence[Cost]) -> Cost:
    """The componentwise maximum."""
    return Cost(tokens=max((cost.tokens for cost in costs), default=0), usd=max((cost.usd for cost in costs), default=0.0))


def _scorer_failed(items: Iterable[Item]) -> None:
    """Note that the scorer has had its turn: those of the items that have no preference now will get none."""
    for item in items:
        item.unscored = "scorer_failed"
