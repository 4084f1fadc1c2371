"""What the judge's account was asked for lately: a window of requests, one of tokens, and what replies tell about both.

A question counts from when it is admitted until one period after it was sent, so a busy loop or a slow connection moves nothing into a
later window: with any two questions' ways to the judge differing by the margin at most, its own windows hold exactly (docs/limits.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from judgeflow.config import LimitsConfig
from judgeflow.routing.charges import Charges, Expected, headroom
from judgeflow.routing.learned import Learned
from judgeflow.routing.limits import Entry, Pace, SlidingWindow
from judgeflow.types import Dispatch, RateHeaders, Stock, Usage

UNLIMITED = 2**62


@dataclass(slots=True, eq=False)
class Ticket:
    """One admitted question in both windows; `held_requests` and `held_tokens` are what they held when it was last sent."""

    worst: int
    expected: Expected
    request: Entry
    tokens: Entry
    sent_at: float = math.inf
    held_requests: int = 0
    held_tokens: int = 0
    closed: bool = False


class Account:
    """Both limits of one account.  `longest_reply` is in tokens; None: unknown.

    State changes only in `admit`, `sent`, `hold`, `settle`, `lost`, `cancel`, `remember` and `hear`, which do not await.  `now` is
    seconds of one monotonic clock.
    """

    def __init__(self, limits: LimitsConfig, longest_reply: int | None = None) -> None:
        self.period_s = limits.period_s
        self._limits = limits
        self._charges = Charges(limits.charge, longest_reply)
        self._requests = SlidingWindow(limits.requests_per_minute or UNLIMITED, limits.period_s)
        self._tokens = SlidingWindow(limits.tokens_per_minute or UNLIMITED, limits.period_s)
        self._learned_requests = Learned(self._requests, limits.requests_per_minute)
        self._learned_tokens = Learned(self._tokens, limits.tokens_per_minute)
        self._request_pace = _pace(limits, limits.requests_per_minute)
        self._token_pace = _pace(limits, limits.tokens_per_minute)
        self._fresh = True
        self._variance = 0.0  # of what is under way, and
        self._slack = 0  # how much more its worst cases are than what is expected of it

    def wait_s(self, now: float, tokens: int) -> float:
        """Return the seconds until a question of at most `tokens` may go; 0 if it may now.  Raises `ValueError`: never.

        What is under way may end earlier and cost less than expected: ask again after every change.
        """
        expected = self._charges.expect(tokens)
        paced = max(self._request_pace.wait_s(now), self._token_pace.wait_s(now))
        configured = max(paced, self._requests.wait_s(now), self._token_wait_s(now, expected))
        return max(configured, self._learned_tokens.wait_s(now, expected.tokens), self._learned_requests.wait_s(now, 1))

    def _token_wait_s(self, now: float, expected: Expected) -> float:
        """Until it fits beside what may come on top of all that is expected; a question that is too large for that goes alone."""
        free = self._tokens.limit - headroom(self._variance + expected.variance, self._slack + expected.slack)
        alone = min(expected.tokens, self._tokens.limit)
        return self._tokens.wait_s(now, expected.tokens, max(free, alone))

    def admit(self, now: float, tokens: int) -> Ticket:
        """Count a question that is going to be sent."""
        expected = self._charges.expect(tokens)
        request, weighed = self._requests.admit(now), self._tokens.admit(now, expected.tokens)
        ticket = Ticket(worst=tokens, expected=expected, request=request, tokens=weighed)
        self.hold(ticket)
        self._request_pace.admit(now)
        self._token_pace.admit(now, expected.tokens)
        self._fresh = False
        self._variance += expected.variance
        self._slack += expected.slack
        return ticket

    def sent(self, ticket: Ticket, now: float) -> None:
        """The question has left now.  The last time counts."""
        self._requests.stamp(ticket.request, now)
        self._tokens.stamp(ticket.tokens, now)
        ticket.sent_at = now
        ticket.held_requests, ticket.held_tokens = self._requests.used(now), self._tokens.used(now)

    def hold(self, ticket: Ticket) -> None:
        """The question has not left yet."""
        self._requests.hold(ticket.request)
        self._tokens.hold(ticket.tokens)

    def settle(self, ticket: Ticket, usage: Usage) -> None:
        """The reply took these tokens; `Usage()` for a question that was turned away, which teaches nothing."""
        self._close(ticket, self._charges.learn(ticket.worst, usage) if usage.total else 0)

    def lost(self, ticket: Ticket) -> None:
        """Nobody will ever know what the question was charged: it counts for what it will hardly have passed."""
        self._close(ticket, ticket.expected.safe)

    def cancel(self, ticket: Ticket) -> None:
        """The question never left."""
        self._close(ticket, 0)
        self._requests.correct(ticket.request, 0)

    def _close(self, ticket: Ticket, tokens: int) -> None:
        if not ticket.closed:
            ticket.closed = True
            self._variance -= ticket.expected.variance
            self._slack -= ticket.expected.slack
        self._tokens.correct(ticket.tokens, tokens)

    def remember(self, now: float, dispatches: Iterable[Dispatch], wall: float) -> None:
        """Count what an earlier process sent; `wall` is Unix time in seconds now.  Ignored by an account that has sent something.

        Where the wall clock was set back meanwhile, what seems to lie ahead was sent just now.
        """
        if not self._fresh:
            return
        aged = [(now if item.at is None else now - max(0.0, wall - item.at), item) for item in dispatches]
        for at, item in sorted(aged, key=lambda pair: pair[0]):
            tokens = item.requests * self._charges.bound(item.tokens, answered=item.answered)
            self._requests.admit(at, item.requests)
            self._tokens.admit(at, tokens)
            self._request_pace.admit(at, item.requests)
            self._token_pace.admit(at, tokens)

    def hear(self, now: float, rates: RateHeaders, ticket: Ticket | None) -> Mapping[str, float]:
        """Take in what a reply says; return what is stricter now (see `Gate.heed`), with `held_s` to be obeyed by the caller."""
        requests, tokens = self._learned_requests, self._learned_tokens
        sent = ticket if ticket is not None and ticket.sent_at < math.inf else None
        at, held = (now, (0, 0)) if sent is None else (sent.sent_at, (sent.held_requests, sent.held_tokens))
        news = {
            "requests_per_minute": requests.hear(now, rates.requests),
            "tokens_per_minute": tokens.hear(now, rates.tokens),
            "requests_left_by_others": requests.hear_others(now, rates.requests, at, held[0]),
            "tokens_left_by_others": tokens.hear_others(now, rates.tokens, at, held[1]),
            "held_s": max(requests.hold_s(now, rates.requests), tokens.hold_s(now, rates.tokens)) or None,
        }
        return {name: value for name, value in news.items() if value is not None}

    def capacity(self, now: float, start: float, until: float) -> Stock:
        """Return what can pass between `start`, which may lie ahead of `now`, and `until`; None where there is no limit."""
        requests = self._request_pace.at_most(self._requests.capacity(start, until), start, until)
        tokens = self._token_pace.at_most(self._tokens.capacity(start, until), start, until)
        limited = self._limits.requests_per_minute is not None, self._limits.tokens_per_minute is not None
        return Stock(
            requests=self._learned_requests.at_most(requests if limited[0] else None, now, start, until),
            tokens=self._learned_tokens.at_most(tokens if limited[1] else None, now, start, until),
        )


def _pace(limits: LimitsConfig, limit: int | None) -> Pace:
    """What spends a fresh window evenly; with start = "burst", nothing does."""
    return Pace(limit if limits.start == "paced" else None, limits.period_s)
