"""Which pairs of a step are asked about: `routing` decides, within what may be spent, and it is recorded before anything is asked.

Some are certain to be asked about whatever the rest scores.  These are begun before there is a plan, in which they count like all others.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from judgeflow.engine import benches, deciding, resolving
from judgeflow.engine.course import Course, Grounds, Planned
from judgeflow.engine.items import LATE, Item
from judgeflow.engine.late import LateWork
from judgeflow.engine.panel import Panel
from judgeflow.engine.rules import Rules
from judgeflow.ports import Clock, Store
from judgeflow.routing.audit import lot_of
from judgeflow.routing.budget import Budget
from judgeflow.routing.early import given_back
from judgeflow.routing.pacing import Pacer, decide
from judgeflow.routing.plan import Means, StepPlan, asking_order, begun, certain, early_order, is_adaptive
from judgeflow.routing.threshold import with_headroom
from judgeflow.types import Cost, RunState, Stock


class Planning:
    """Plans the steps of one run, and counts as planned what they will ask.

    `is_pending` tells whether a question is under way, `note_prices` hears what questions cost at worst.  Without a `panel` nobody is
    asked; with `late`, questions of earlier steps may stand in the way.
    """

    def __init__(
        self,
        *,
        run: str,
        rules: Rules,
        store: Store,
        panel: Panel | None,
        budget: Budget,
        pacer: Pacer,
        clock: Clock,
        late: LateWork | None,
        is_pending: Callable[[bytes], bool],
        note_prices: Callable[[Iterable[Cost]], None],
    ) -> None:
        self._run = run
        self._rules = rules
        self._store = store
        self._panel = panel
        self._budget = budget
        self._pacer = pacer
        self._clock = clock
        self._late = late
        self._is_pending = is_pending
        self._note_prices = note_prices

    @property
    def may_begin(self) -> bool:
        """Whether anybody can be certain to be asked about before all are scored, and by whom: a draw, or a stand-in, is decided later."""
        routing = self._rules.routing
        decided_later = routing.policy in {"never", "random"} or bool(routing.audit_fraction) or self._rules.stand_ins
        return self._panel is not None and not decided_later

    async def begin(self, course: Course) -> bool:
        """Find those who will be asked about whatever the rest scores, and record them, as the plan would have it.

        They are held back, in the order in which to ask.  Returns whether there are new ones.
        """
        routing = self._rules.routing
        scored = sum(item.is_scored for item in course.items)
        if scored < course.next_look:
            return False
        grounds = await self._grounds(course)
        candidates, places = grounds.candidates, self._pacer.sure(grounds.candidates)
        unscored = frozenset(index for index, candidate in enumerate(candidates) if candidate.obstacle == LATE)
        means = grounds.means if is_adaptive(routing) else Means(allowance=grounds.worst)
        course.plan_next_look(scored, len(unscored), (means.allowance.requests, means.in_time.requests, places))
        sure = certain(candidates, unscored, routing, means, places)
        ready = [index for index in sure if index not in course.early and course.items[index].is_scored]
        if not ready:
            return False
        items = [course.items[index] for index in ready]
        self._make_way(course, items)
        fresh = sum(item.decided is None for item in items)
        course.begun += fresh
        self._pacer.begin(fresh)
        plan = begun(ready, routing)
        deciding.act(items, plan)
        await self._record(items, course.number, plan)
        course.begin_early(grounds, ready)
        course.held = deque(early_order([*course.held, *ready], candidates, routing, grounds.seed))
        return True

    async def plan(self, course: Course) -> Planned:
        """Decide, count what will be asked as planned, and record the decisions before anything is sent."""
        routing, items, step = self._rules.routing, course.items, course.number
        grounds = await self._grounds(course)
        lot = lot_of(routing.seed, self._run, step)
        self._end_beginning(course)
        decided = decide(grounds.candidates, routing, grounds.means, pacer=self._pacer, step=step, lot=lot)
        order = [index for index in asking_order(grounds.candidates, decided, routing, grounds.seed) if not course.is_sent(index)]
        self._make_way(course, [items[index] for index in order])
        self._assign([items[index] for index in order], course)
        others = [index for index in range(len(items)) if index not in course.early]
        planned = decided.part(others)
        deciding.act([items[index] for index in others], planned)
        if self._is_worth_recording(grounds):
            await self._record([items[index] for index in others], step, planned)
        self._rules.margin.learn(resolving.left_to_scorer(items, self._rules))
        return Planned(decided, grounds.ceiling, tuple(order))

    def do_without(self, course: Course, status: str) -> Planned:
        """Return the plan of a step that could not decide, for the reason that `status` names: it asks no more than it has already."""
        self._end_beginning(course)
        return Planned(deciding.undecided(course.items, course.early, self._rules, status), self._budget.stock)

    def give_up(self, course: Course) -> None:
        """The step ends without any plan."""
        self._pacer.give_up(course.begun)

    def _end_beginning(self, course: Course) -> None:
        """The step has a plan now, in which those asked about early count like all others, or needs none."""
        self._pacer.begin(-course.begun)
        course.begun = 0

    async def _grounds(self, course: Course) -> Grounds:
        """What a plan is made of.  What was asked early counts as if it had not been, so that the plan is the same."""
        items, step, routing = course.items, course.number, self._rules.routing
        if self._panel is not None:
            await self._panel.reserved()
        stored = await self._store.run_state(self._run)
        state = stored if self._panel is None else self._panel.as_expected(stored)
        self._price([item for index, item in enumerate(items) if index not in course.early])
        if is_adaptive(routing):
            self._make_way(course)
        means = self._means(self._allowance(items, state, step), course)
        grounds = Grounds(
            candidates=[course.asked_as.get(index) or deciding.candidate(item, self._rules) for index, item in enumerate(items)],
            means=means,
            worst=self._budget.allowance(stored, step),
            ceiling=self._budget.stock if is_adaptive(routing) else self._budget.ceiling(state, step),
            seed=secrets.randbits(32) if self._panel is not None and self._panel.has_company(stored) else None,
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

    def _price(self, items: Sequence[Item]) -> None:
        """Fill in what worst cases will probably come to, turn to judges that are up, and tell what questions cost."""
        items = [item for item in items if item.costs]  # of the others everything is stored
        if self._panel is not None:
            for bench in [bench for item in items for bench in item.benches]:
                bench.expected = {key: self._panel.expected(bench.place, cost) for key, cost in bench.costs.items()}
            benches.take_known(items, self._rules)  # with what the scorer says, one order may be enough
            benches.turn(items, self._panel.up, self._rules)
        for item in items:
            if item.obstacle is None:
                self._note_prices(item.costs.values())

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
            room = self._means(Stock(), course).in_time
            dropped = self._late.make_way(room if asked is not None else given_back(room, course.taken), questions)

    def _assign(self, items: Sequence[Item], course: Course) -> None:
        """Choose each item's judge, where one judge stands in for another."""
        if self._panel is not None:
            rooms = self._panel.rooms(course.time_left(self._clock.now()), self._rules.routing.step_deadline_s)
            benches.assign(items, rooms, self._rules, self._is_pending)

    def _means(self, allowance: Stock, course: Course) -> Means:
        limit, left = self._rules.routing.step_deadline_s, course.time_left(self._clock.now())
        if limit is None or left is None or self._panel is None:
            return Means(allowance=allowance)
        return Means(allowance=allowance, in_time=self._panel.in_time(left, limit))

    def _allowance(self, items: Sequence[Item], state: RunState, step: int) -> Stock:
        """What the step may spend: an adaptive threshold's pacer divides what is left, a fixed rule has an equal part of it."""
        headroom = _most([item.costs[key] - item.expected[key] for item in items for key in item.costs])
        left = self._budget.remaining(state)
        return with_headroom(left if is_adaptive(self._rules.routing) else self._budget.allowance(state, step), left, headroom)

    def _is_worth_recording(self, grounds: Grounds) -> bool:
        """Whether a plan says more than the end of its step: where everything is known there is nothing to decide, now or when resumed."""
        return self._pacer.state is not None or any(candidate.cost.requests for candidate in grounds.candidates)

    async def _record(self, items: Sequence[Item], step: int, decided: StepPlan) -> None:
        """Count what these items ask as planned, and store what was decided."""
        asked = [(item.bench.place, cost) for item in items if item.is_asked for cost in item.expected.values()]
        for place, cost in asked:
            self._judges.plan(place, cost)
        try:
            await self._store.record_plan(self._run, step, deciding.decisions(items, decided), self._pacer.state)
        except BaseException:
            for place, cost in asked:
                self._judges.unplan(place, cost)
            raise

    @property
    def _judges(self) -> Panel:
        if self._panel is None:
            raise AssertionError("a step without a judge asks nothing")
        return self._panel


def _most(costs: Sequence[Cost]) -> Cost:
    """The componentwise maximum."""
    return Cost(tokens=max((cost.tokens for cost in costs), default=0), usd=max((cost.usd for cost in costs), default=0.0))
