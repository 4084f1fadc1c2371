"""What a step waits for, and the outcomes that it hands out as replies come in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from judgeflow.engine.events import complain
from judgeflow.engine.inflight import Arrival
from judgeflow.engine.items import LATE, Item
from judgeflow.engine.jobs import NotAsked
from judgeflow.engine.resolving import resolve
from judgeflow.engine.rules import Rules
from judgeflow.errors import JudgeError, StoreError
from judgeflow.routing.margin import Margin
from judgeflow.types import Outcome, Pair, Question

Emit = Callable[[int, Outcome], None]


class Outcomes:
    """The outcomes of a step by input position; each is set once and passed on at once.

    A matched margin moves on with every plan; `rules` has it as it was when the step's first outcome was set, and all others get that.
    """

    def __init__(self, pairs: Sequence[Pair], rules: Rules, emit: Emit | None) -> None:
        self._pairs = pairs
        self.rules = rules
        self._margin_holds = False
        self._emit = emit
        self._slots: list[Outcome | None] = [None] * len(pairs)

    def settle(self, item: Item) -> None:
        """Give every occurrence of an item its outcome."""
        if not self._margin_holds:
            self.rules, self._margin_holds = replace(self.rules, margin=Margin(self.rules.margin.value)), True
        for index, flipped in item.places:
            self.put(index, resolve(item, self.rules, self._pairs[index], flipped=flipped))

    def give_up(self, status: str) -> None:
        """Give every pair without an outcome one that says why nothing is known about it."""
        for index, pair in enumerate(self._pairs):
            if self._slots[index] is None:
                self.put(index, Outcome(pair=pair, logit=0.0, source="fallback", status=status))

    def put(self, index: int, outcome: Outcome) -> None:
        """Set one outcome.  Whoever is handed it and fails is handed no more: the step goes on."""
        self._slots[index] = outcome
        if self._emit is None:
            return
        try:
            self._emit(index, outcome)
        except Exception as error:  # it is the caller's, as observers are
            complain(f"{self._emit!r} failed on an outcome and is handed no more of this step: {error!r}")
            self._emit = None

    def complete(self) -> tuple[Outcome, ...]:
        """Return all outcomes, in input order."""
        final = tuple(outcome for outcome in self._slots if outcome is not None)
        if len(final) != len(self._slots):
            raise AssertionError(f"{len(self._slots) - len(final)} pairs without an outcome")
        return final


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A reply that somebody waits for; `launched` tells that it was asked for by the same."""

    item: Item
    question: Question
    reply: asyncio.Future[Arrival]
    launched: bool


class Waiting:
    """The replies that a step waits for.  An item is settled as soon as its last one is there, once.

    Items are asked about one after the other, perhaps over some time: `settle_the_rest` says that all have been.  `late` has what was
    given up at the deadline.  `ask_more` may ask more about an item when its last reply is there, the other order or another judge, and
    tells whether it has: the item then waits for that.  Changed only by the methods below and by replies that come, none of which awaits.
    """

    def __init__(self, deadline: float | None, settle: Callable[[Item], None], ask_more: Callable[[Item], bool]) -> None:
        self.deadline = deadline
        self.late: list[Expected] = []
        self._settle = settle
        self._ask_more = ask_more
        self._expected: dict[Item, dict[bytes, Expected]] = {}
        self._settled: set[Item] = set()
        self._all_asked = False
        self._done = asyncio.Event()

    def expect(self, item: Item, question: Question, reply: asyncio.Future[Arrival], *, launched: bool) -> None:
        """Wait for one more reply; `launched` tells that this step asked for it."""
        expected = Expected(item=item, question=question, reply=reply, launched=launched)
        self._expected.setdefault(item, {})[question.call_key] = expected
        reply.add_done_callback(lambda done: self._arrived(item, question.call_key, done, launched=launched))

    def settle_the_rest(self, items: Sequence[Item]) -> None:
        """Settle the items that wait for nothing.  No item is asked about any more."""
        for item in items:
            if item not in self._expected and item not in self._settled:
                self._finish(item)
        self._all_asked = True
        self._check()

    async def finish(self, timeout_s: float | None) -> None:
        """Return when everything is there; after `timeout_s` seconds what is missing is given up."""
        try:
            await asyncio.wait_for(self._done.wait(), timeout_s)
        except TimeoutError:
            items = list(self._expected)
            self.late = self.given_up(LATE)
            for item in items:
                self._finish(item)

    def given_up(self, status: str) -> list[Expected]:
        """Expect nothing more; return what is missing."""
        missing = [expected for replies in self._expected.values() for expected in replies.values()]
        for item, replies in self._expected.items():
            item.failures |= dict.fromkeys(replies, status)
        self._expected.clear()
        return missing

    def close(self) -> None:
        """Let go of the step: what comes later is nothing to it.  Both would keep each other alive until a garbage collection."""
        self._settle, self._ask_more = _nothing, _nobody

    def _arrived(self, item: Item, key: bytes, reply: asyncio.Future[Arrival], *, launched: bool) -> None:
        error = reply.exception()
        if item not in self._expected:
            return
        if error is None:
            self._take(item, reply.result(), launched=launched)
        else:
            item.failures[key] = status_of(error)
        del self._expected[item][key]
        if not self._expected[item]:
            del self._expected[item]
            if not self._ask_more(item):
                self._finish(item)
        self._check()

    def _finish(self, item: Item) -> None:
        self._settled.add(item)
        self._settle(item)

    @staticmethod
    def _take(item: Item, arrival: Arrival, *, launched: bool) -> None:
        key = arrival.call.key
        item.calls[key] = arrival.call
        if arrival.paid:
            item.fresh |= {key}
        if arrival.paid and launched:
            item.paid |= {key}

    def _check(self) -> None:
        if self._all_asked and not self._expected:
            self._done.set()


def _nothing(_item: Item) -> None: ...


def _nobody(_item: Item) -> bool:
    return False


def status_of(error: BaseException) -> str:
    """The label of an outcome that went without this reply."""
    if isinstance(error, JudgeError | NotAsked):
        return error.status
    return "store_error" if isinstance(error, StoreError) else "judge_error"
