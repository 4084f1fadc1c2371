"""The questions of a run's steps on their way: sent, joined where one is under way already, spared where they are not needed any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager

from judgeflow.engine import benches
from judgeflow.engine.course import Course
from judgeflow.engine.inflight import Arrival, SingleFlight
from judgeflow.engine.items import LATE, Item
from judgeflow.engine.jobs import NotAsked, Order
from judgeflow.engine.late import LateWork
from judgeflow.engine.panel import Panel
from judgeflow.engine.rules import Rules
from judgeflow.engine.waiting import Expected, Waiting, status_of
from judgeflow.errors import JudgeflowError
from judgeflow.ports import Clock
from judgeflow.types import Call, Pair, Question, Stock


class Inquiry:
    """Asks the panel what steps want to know, each question once, whoever wants it.

    Every question that it is to ask counts as planned already; what it does not ask after all it takes out of the plan.  Without a panel
    there is nothing to ask.  With `late`, questions outlive the deadline of their step.  Nothing here awaits but `replies`.
    """

    def __init__(self, *, panel: Panel | None, rules: Rules, clock: Clock, late: LateWork | None) -> None:
        self._panel = panel
        self._rules = rules
        self._clock = clock
        self._late = late
        self._flights = SingleFlight()
        self._stopped = False

    def stop(self) -> None:
        """Ask nothing more; what is under way may come back."""
        if not self._stopped and self._panel is not None:
            self._panel.halt(NotAsked("interrupted"))
        self._stopped = True

    def watch(self) -> AbstractContextManager[dict[bytes, Call]]:
        """Collect every reply that comes inside the block, whichever step has asked."""
        return self._flights.watch()

    def is_pending(self, call_key: bytes) -> bool:
        """Whether this question is under way."""
        return self._flights.pending(call_key) is not None

    def ask(self, course: Course, order: Sequence[int], ceiling: Stock) -> None:
        """Send every missing question of these items on its way, in this order."""
        course.ceiling = ceiling
        self._look_ahead(course)
        for index in order:
            item, refusal = course.items[index], self._refusal(course)
            if refusal is not None:
                self._forgo(item, status_of(refusal))
            else:
                self._launch(course, item)

    def ask_more(self, course: Course, item: Item) -> bool:
        """Ask the other order, where it is still open, or the judge that stands in for one that has failed; tell whether there is one."""
        deadline = course.waiting.deadline
        in_time = not self._stopped and (deadline is None or self._clock.now() < deadline)
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
            self._judges.plan(bench.place, item.expected[key])
        return self._launch(course, item)

    def release(self, course: Course) -> None:
        """Ask about the first of those held back, where they will be sent at once: whoever is scored later may rank before the others."""
        while course.held and course.first is not None and self._judges.has_room(course.items[course.held[0]].bench.place):
            index = course.held.popleft()
            self.adopt(course, [course.items[index]])
            self.ask(course, [index], course.first.ceiling)

    def let_go(self, course: Course, status: str) -> None:
        """Do without those held back."""
        while course.held:
            self._forgo(course.items[course.held.popleft()], status)

    def adopt(self, course: Course, items: Sequence[Item]) -> None:
        """Take over replies that another step was given while this one was deciding: they are not asked for any more."""
        for item in items if course.arrived else ():
            for key in item.missing():
                if key in course.arrived:
                    item.calls[key] = course.arrived[key]
                    if item.is_asked:
                        self._judges.unplan(item.bench.place, item.expected[key])

    async def replies(self, course: Course, pairs: Sequence[Pair]) -> None:
        """Wait for the replies.  What is not wanted any more, at the deadline or because the step is cancelled, is not sent."""
        waiting = course.waiting
        try:
            await waiting.finish(course.time_left(self._clock.now()))
        except BaseException:
            self.abandon(course)
            raise
        self._spare_others(waiting.late)
        if self._late is not None:
            self._late.take(course.number, pairs, waiting.late, course.outcomes.rules)
        else:
            self._leave(waiting.late, LATE)

    def abandon(self, course: Course) -> None:
        """Nobody waits for the step any more: what it has not sent is not needed."""
        unanswered = course.waiting.given_up("interrupted")
        self._spare_others(unanswered)
        self._leave(unanswered, "interrupted")

    @property
    def _judges(self) -> Panel:
        if self._panel is None:
            raise AssertionError("a step without a judge asks nothing")
        return self._panel

    def _refusal(self, course: Course) -> JudgeflowError | None:
        """Why the judge cannot be used, where a step that has begun to ask has learnt that: what it has not asked would fare no better."""
        return self._judges.refusal if course.early and course.refusal is None else None

    def _look_ahead(self, course: Course) -> None:
        """Find out whose orders can be asked one after the other before the deadline."""
        limit, left = self._rules.routing.step_deadline_s, course.time_left(self._clock.now())
        if limit is not None and left is not None and self._rules.orders == "adaptive":
            course.in_turn = self._judges.in_turn(left, limit)

    def _launch(self, course: Course, item: Item) -> bool:
        """Ask what is to be asked next; return whether there is anything."""
        in_turn = course.in_turn is None or self._judges.questions(item.bench.place) < course.in_turn[item.bench.place]
        wanted = benches.wanted(item, self._rules, in_turn=in_turn)
        for question in (item.bench.questions[key] for key in wanted):
            flight, launched = self._flight(course, item, question)
            course.waiting.expect(item, question, flight, launched=launched)
        if not wanted:
            self._spare(item)
        return bool(wanted)

    def _flight(self, course: Course, item: Item, question: Question) -> tuple[asyncio.Future[Arrival], bool]:
        """Join the question's flight, or launch one; return it, and whether it was launched."""
        key, place = question.call_key, item.bench.place
        under_way = self._flights.pending(key)
        if under_way is not None:
            self._judges.unplan(place, item.expected[key])
            self._judges.join(key, self._lasts_until(course.waiting))
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
        return self._flights.launch(key, self._judges.submit(order)), True

    def _lasts_until(self, waiting: Waiting) -> float | None:
        """When a question is not worth sending any more."""
        return waiting.deadline if self._late is None else None

    def _forgo(self, item: Item, status: str) -> None:
        for key in item.missing():
            self._judges.unplan(item.bench.place, item.expected[key])
            item.failures[key] = status

    def _spare(self, item: Item, *others: bytes) -> None:
        """What was planned for the item and is not asked, but for the `others`, is not needed."""
        for key in item.missing():
            if item.is_asked and key not in {*others, *item.failures}:
                self._judges.unplan(item.bench.place, item.expected[key])

    def _spare_others(self, unanswered: Sequence[Expected]) -> None:
        """Orders that would have been asked after those that did not come are not asked."""
        for item in {expected.item for expected in unanswered}:
            self._spare(item, *(expected.question.call_key for expected in unanswered))

    def _leave(self, unanswered: Sequence[Expected], status: str) -> None:
        for expected in unanswered:
            self._judges.leave(expected.question.call_key, NotAsked(status))
