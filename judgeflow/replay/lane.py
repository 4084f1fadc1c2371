"""One judge's queue in virtual time: every call at its earliest legal moment under the real windows, and what its reply teaches.

It does what `engine.dispatcher` does where nothing fails, without coroutines: first come, first served; a call needs a place in flight,
budget for its worst case, and the windows' leave.  A call that the budget does not admit waits for those under way, which tend to cost
less than was put aside; when nothing is under way any more, it is declined with all behind it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from judgeflow.clock import MOMENT_S
from judgeflow.replay.bill import Bill
from judgeflow.replay.whatif import WhatIf
from judgeflow.routing.account import Account, Ticket
from judgeflow.routing.threshold import INSTANT_S, PROBE_REQUESTS, Experience, in_time
from judgeflow.types import Cost, Stock, Usage

Call = tuple[int, int]
"""A pair's position in the trace, and the order that is shown."""


@dataclass(slots=True, eq=False)
class _Sent:
    call: Call
    number: int
    latency_s: float
    worst: Cost
    ticket: Ticket | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a step's calls: those that came back in time, and why others did not (status by call)."""

    seconds: float
    failed: dict[Call, str]


class Lane:
    """The judge, its account, and what is known of it.

    `now` is virtual seconds; `spent` and `reserved` are the run's; `sent` tells which of n x 2 calls were sent.
    """

    def __init__(self, bill: Bill, what_if: WhatIf) -> None:
        self.now = 0.0
        self.spent = self.reserved = Cost()
        self.experience = Experience()
        self._bill = bill
        self._what_if = what_if
        limited = what_if.requests_per_minute is not None or what_if.tokens_per_minute is not None
        self._account = Account(what_if.limits, bill.longest_reply) if limited and bill.time_known else None
        self._under_way: list[tuple[float, int, _Sent]] = []  # a heap, by the moment when the reply comes
        self.sent = np.zeros(bill.prompt.shape, dtype=bool)
        self._sent = 0

    def worst(self, call: Call) -> Cost:
        """What is put aside for a call."""
        return Cost(requests=1, tokens=int(self._bill.worst_tokens[call]), usd=float(self._bill.worst_usd[call]))

    def actual(self, call: Call) -> Cost:
        """What a call takes."""
        tokens = int(self._bill.prompt[call] + self._bill.completion[call])
        return Cost(requests=1, tokens=tokens, usd=float(self._bill.usd[call]))

    def wait_until(self, moment: float) -> None:
        """Let time pass; what is under way comes back meanwhile."""
        while self._under_way and self._under_way[0][0] <= moment:
            self._land()
        self.now = max(self.now, moment)

    def in_time(self, left_s: float, deadline_s: float) -> Stock:
        """What can be asked now so that replies are there in `left_s` seconds; as `engine.panel` finds it with nothing waiting."""
        experience = self.experience
        latency_s = experience.latency_s(self._what_if.timeout_s, deadline_s, self.now)
        if latency_s >= left_s and experience.is_old(self.now):
            return Stock(requests=PROBE_REQUESTS)
        return in_time(
            self._capacity(self.now + left_s - latency_s),
            Cost(),
            under_way=len(self._under_way),
            max_in_flight=self._what_if.max_in_flight,
            seconds=left_s,
            latency_s=latency_s,
            token_share=experience.token_share,
            keeps_reserved=self._account is not None and self._what_if.charge == "reserved",
        )

    def in_turn(self, left_s: float, deadline_s: float) -> float:
        """How many questions may wait so that another, and then one more after its reply, are answered in time; as `engine.panel`."""
        if self.experience.mean_latency_s is None:
            return 0.0
        latency_s = self.experience.latency_s(self._what_if.timeout_s, deadline_s, self.now)
        if latency_s < INSTANT_S:
            return math.inf
        if 2 * latency_s > left_s:
            return 0.0
        windows = self._capacity(self.now + left_s - 2 * latency_s).requests
        places = self._what_if.max_in_flight * int(left_s / latency_s - 1)
        return places if windows is None else min(places, windows + len(self._under_way))

    @property
    def under_way(self) -> int:
        """Calls that are not back yet."""
        return len(self._under_way)

    def ask(self, calls: Iterable[Call], deadline_s: float | None, ceiling: Stock, more: Callable[[Call], Call | None]) -> Fate:
        """Ask these in their order, and what `more` says of each reply; return at the deadline, or when all are back.

        What is under way at the deadline comes back later; what waits is not sent.
        """
        started, queue = self.now, deque(calls)
        end = math.inf if deadline_s is None else started + deadline_s
        failed: dict[Call, str] = {}
        open_ = set(queue)
        while open_:
            send_at = self._next_send(queue, ceiling, failed)
            open_ -= failed.keys() if failed else set()
            back_at = self._under_way[0][0] if self._under_way else math.inf
            if not open_ or end <= min(send_at, back_at):
                break
            if send_at <= self.now:
                self._send(queue.popleft())
            elif send_at < back_at:
                self.now = send_at
            elif (call := self._land()) in open_:
                open_.discard(call)
                following = more(call)
                if following is not None:
                    open_.add(following)
                    queue.append(following)
        if open_:
            failed |= dict.fromkeys(open_, "deadline")
            self.now = end
        return Fate(seconds=self.now - started, failed=failed)

    def finish(self) -> None:
        """Wait for everything that is under way."""
        while self._under_way:
            self._land()

    def _next_send(self, queue: deque[Call], ceiling: Stock, failed: dict[Call, str]) -> float:
        """When the first of the queue may be looked at again: now, when a window opens, or only after a reply (infinity)."""
        while queue and len(self._under_way) < self._what_if.max_in_flight:
            call = queue[0]
            if ceiling != _UNLIMITED and not ceiling.admits(self.spent + self.reserved + self.worst(call)):
                if self._under_way:
                    return math.inf
                failed |= dict.fromkeys(queue, "budget")
                queue.clear()
                return math.inf
            try:
                wait = 0.0 if self._account is None else self._account.wait_s(self.now, int(self._bill.worst_tokens[call]))
            except ValueError:
                failed[queue.popleft()] = "too_long"
                continue
            return self.now + max(wait, MOMENT_S) if wait > 0 else self.now
        return math.inf

    def _send(self, call: Call) -> None:
        worst, latency_s = self.worst(call), float(self._bill.latency_s[call])
        ticket = None
        if self._account is not None:
            ticket = self._account.admit(self.now, worst.tokens)
            self._account.sent(ticket, self.now)
        self._sent += 1
        self.sent[call] = True
        self.reserved += worst
        sent = _Sent(call=call, number=self._sent, latency_s=latency_s, worst=worst, ticket=ticket)
        heapq.heappush(self._under_way, (self.now + latency_s, self._sent, sent))

    def _land(self) -> Call:
        self.now, _, sent = heapq.heappop(self._under_way)
        actual, bill = self.actual(sent.call), self._bill
        if sent.ticket is not None and self._account is not None:
            usage = Usage(prompt=int(bill.prompt[sent.call]), completion=int(bill.completion[sent.call]))
            self._account.settle(sent.ticket, usage)
        self.experience.learn(now=self.now, number=sent.number, latency_s=sent.latency_s, reserved=sent.worst, actual=actual)
        self.reserved -= sent.worst
        self.spent += actual
        return sent.call

    def _capacity(self, until: float) -> Stock:
        return Stock() if self._account is None else self._account.capacity(self.now, self.now, until)


_UNLIMITED = Stock()
