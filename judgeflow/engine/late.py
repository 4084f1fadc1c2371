"""Questions that a step has left behind at its deadline, and the verdicts that they still bring."""

from __future__ import annotations

import asyncio
import functools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace

from judgeflow.engine.inflight import Arrival
from judgeflow.engine.items import LATE, Item
from judgeflow.engine.jobs import NotAsked
from judgeflow.engine.panel import Panel
from judgeflow.engine.resolving import resolve
from judgeflow.engine.rules import Rules
from judgeflow.engine.waiting import Expected, Waiting
from judgeflow.types import Cost, LateOutcome, Pair, Stock

KEPT = 10_000
"""How many late verdicts wait for somebody to take them; the oldest are forgotten first: they are stored in any case."""

_Open = dict[bytes, Cost]


class LateOutcomes:
    """Late verdicts until they are taken.  Outlives the session: what was under way when it closed is among them."""

    def __init__(self) -> None:
        self._come: deque[LateOutcome] = deque(maxlen=KEPT)

    def put(self, outcome: LateOutcome) -> None:
        """Keep one until it is taken."""
        self._come.append(outcome)

    def take(self) -> list[LateOutcome]:
        """Return those that have come since the last time, oldest first."""
        return [self._come.popleft() for _ in range(len(self._come))]


class LateWork:
    """What steps were given up waiting for.  Changed only by the methods below and by replies that come."""

    def __init__(self, panel: Panel, outcomes: LateOutcomes) -> None:
        self._panel = panel
        self._outcomes = outcomes
        self._open: list[_Open] = []  # by step, oldest first: what each question will probably cost, in the order in which it was asked

    def take(self, step: int, pairs: Sequence[Pair], late: Sequence[Expected], rules: Rules) -> None:
        """Wait for what this step does not wait for any more; `rules` are those of its outcomes."""
        if not late:
            return
        copies = {expected.item: _copy(expected.item) for expected in late}
        answered = {copy for item, copy in copies.items() if resolve(item, rules).verdict is not None}  # one order was enough
        waiting = Waiting(None, lambda item: None if item in answered else self._settle(step, pairs, item, rules), lambda _: False)
        questions: _Open = {}
        for expected in late:
            key = expected.question.call_key
            self._release(key)
            copies[expected.item].failures.pop(key, None)
            questions[key] = expected.item.expected.get(key, Cost())
            expected.reply.add_done_callback(functools.partial(self._answered, questions, key))
            waiting.expect(copies[expected.item], expected.question, expected.reply, launched=expected.launched)
        self._open.append(questions)

    def make_way(self, room: Stock, asked: Mapping[bytes, Cost] | None) -> int:
        """Drop questions that are not sent yet until those `asked` fit into the `room` that is left beside the rest; return how many.

        `asked` has what each will probably cost; what is asked again is no late question any more.  Without it the late ones may take
        half of the time.  They go from the oldest step first, and of a step what it would have asked last.  Where `room` cannot go below
        zero, it takes more than one call.
        """
        wanted = asked or {}
        waiting = {key: questions for questions in self._open for key in reversed(self._waiting(questions)) if key not in wanted}
        late = sum((questions[key] for key, questions in waiting.items()), Cost())
        new = late if asked is None else sum((cost for key, cost in asked.items() if not self._panel.is_queued(key)), Cost())
        dropped = list(waiting)[: _surplus(late, new, room, halve=asked is None)]
        for key in dropped:
            del waiting[key][key]
            self._panel.leave(key, NotAsked(LATE))
        return len(dropped)

    def _answered(self, questions: _Open, key: bytes, _reply: asyncio.Future[Arrival]) -> None:
        questions.pop(key, None)
        if not questions:
            self._open = [others for others in self._open if others]

    def _waiting(self, questions: _Open) -> list[bytes]:
        return [key for key in questions if self._panel.is_queued(key)]

    def _release(self, key: bytes) -> None:
        """A newer step has asked the same question: it is that step's from now on."""
        for questions in self._open:
            if questions.pop(key, None) is not None:
                self._panel.leave(key, NotAsked(LATE))

    def _settle(self, step: int, pairs: Sequence[Pair], item: Item, rules: Rules) -> None:
        for index, flipped in item.places:
            outcome = resolve(item, rules, pairs[index], flipped=flipped)
            if outcome.verdict is not None:
                self._outcomes.put(LateOutcome(step=step, index=index, outcome=outcome))


def _surplus(late: Cost, new: Cost, room: Stock, *, halve: bool) -> int:
    """How many of the late questions are too many; each that goes makes room for one, and is one less that needs its own."""
    lacking = [0.0 if room.requests is None else float(new.requests - room.requests)]
    if room.tokens is not None and late.tokens:
        lacking.append((new.tokens - room.tokens) * late.requests / late.tokens)
    return max(0, math.ceil(max(lacking) / (2 if halve else 1)))


def _copy(item: Item) -> Item:
    """The item as the step leaves it; what comes late changes the copy, not what the step has to say about itself."""
    return replace(item, calls=dict(item.calls), failures=dict(item.failures))
