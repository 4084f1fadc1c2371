"""What a step waits for, and the outcomes that it hands out as replies come in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from judgeflow.engine import step as steps
from judgeflow.engine.inflight import Arrival
from judgeflow.engine.jobs import NotAsked
from judgeflow.errors import JudgeError, StoreError
from judgeflow.types import Outcome, Pair, Question

Emit = Callable[[int, Outcome], None]


class Outcomes:
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

    def give_up(self, status: str) -> None:
        """Give every pair without an outcome one that says why nothing is known about it."""
        for index, pair in enumerate(self._pairs):
            if self._slots[index] is None:
                self.put(index, Outcome(pair=pair, logit=0.0, source="fallback", status=status))

    def put(self, index: int, outcome: Outcome) -> None:
        """Set one outcome."""
        self._slots[index] = outcome
        if self._emit is not None:
            self._emit(index, outcome)

    def complete(self) -> tuple[Outcome, ...]:
        """Return all outcomes, in input order."""
        final = tuple(outcome for outcome in self._slots if outcome is not None)
        if len(final) != len(self._slots):
            raise AssertionError(f"{len(self._slots) - len(final)} pairs without an outcome")
        return final


class Waiting:
    """The replies that a step waits for.  An item is settled as soon as its last one is there.

    `late` has the call keys that were given up at the deadline.  `ask_another` may turn an item to another judge when its last reply is
    there, and tells whether it has: the item then waits for that judge's.
    """

    def __init__(self, deadline: float | None, settle: Callable[[steps.Item], None], ask_another: Callable[[steps.Item], bool]) -> None:
        self.deadline = deadline
        self.late: list[bytes] = []
        self._settle = settle
        self._ask_another = ask_another
        self._expected: dict[steps.Item, set[bytes]] = {}
        self._done = asyncio.Event()

    def expect(self, item: steps.Item, question: Question, reply: asyncio.Future[Arrival], *, launched: bool) -> None:
        """Wait for one more reply; `launched` tells that this step asked for it."""
        self._expected.setdefault(item, set()).add(question.call_key)
        reply.add_done_callback(lambda done: self._arrived(item, question.call_key, done, launched=launched))

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
            items = list(self._expected)
            self.late = self.given_up(steps.LATE)
            for item in items:
                self._settle(item)

    def given_up(self, status: str) -> list[bytes]:
        """Expect nothing more; return the call keys of what is missing."""
        missing = [key for keys in self._expected.values() for key in keys]
        for item, keys in self._expected.items():
            item.failures |= dict.fromkeys(keys, status)
        self._expected.clear()
        return missing

    def _arrived(self, item: steps.Item, key: bytes, reply: asyncio.Future[Arrival], *, launched: bool) -> None:
        error = reply.exception()
        if item not in self._expected:
            return
        if error is None:
            self._take(item, reply.result(), launched=launched)
        else:
            item.failures[key] = _status_of(error)
        self._expected[item].discard(key)
        if not self._expected[item]:
            del self._expected[item]
            if not self._ask_another(item):
                self._settle(item)
        self._check()

    @staticmethod
    def _take(item: steps.Item, arrival: Arrival, *, launched: bool) -> None:
        key = arrival.call.key
        item.calls[key] = arrival.call
        if arrival.paid:
            item.fresh.add(key)
        if arrival.paid and launched:
            item.paid.add(key)

    def _check(self) -> None:
        if not self._expected:
            self._done.set()


def _status_of(error: BaseException) -> str:
    """The label of an outcome that went without this reply."""
    if isinstance(error, JudgeError | NotAsked):
        return error.status
    return "store_error" if isinstance(error, StoreError) else "judge_error"
