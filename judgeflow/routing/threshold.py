"""The arithmetic behind the adaptive threshold: what a judge's replies really take, and what can still be asked in time.

A worst case is what a reservation puts aside: the longest prompt and the longest reply.  It keeps the budget safe, and would leave
most of it unspent if plans were made with it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from judgeflow.types import Cost, Stock

Bound = TypeVar("Bound", int | None, float | None)

REMEMBERED = 256
MEMORY = 0.99
"""Weight that an observation keeps with each later one: about the last hundred replies count."""
SLOW_SHARE = 0.9
BELIEVED_S = 600.0
"""Older latencies count only where there are no newer ones: a judge has slow hours."""
PROBE_REQUESTS = 10
"""So many requests ask a judge again that was too slow for the deadline when it was heard last: a few, since they may be lost."""
USUAL_WINDOW_S = 60.0
INSTANT_S = 0.001
"""A judge that is faster is not what a step waits for."""


class _Heard(NamedTuple):
    """One reply: its place among all requests sent, when it came and how long it took (seconds)."""

    number: int
    at: float
    latency_s: float


class Experience:
    """What replies of this judge have taken so far.  Changed only by `learn`, which does not await; `mean_latency_s` is None before it.

    Latencies are those of the requests that were *sent* last.  Of a burst the slow ones come last: whoever counts what *came* last takes a
    judge for slower than it is.  `now` is seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.mean_latency_s: float | None = None
        self._heard: list[_Heard] = []  # a heap: the request that was sent first is on top
        self._reserved_tokens = self._tokens = 0.0
        self._reserved_usd = self._usd = 0.0

    def learn(self, *, now: float, number: int, latency_s: float, reserved: Cost, actual: Cost) -> None:
        """Take one paid reply into account; `number` is the place of its request among all that were sent."""
        heapq.heappush(self._heard, _Heard(number, now, latency_s))
        if len(self._heard) > REMEMBERED:
            heapq.heappop(self._heard)
        self.mean_latency_s = MEMORY * (latency_s if self.mean_latency_s is None else self.mean_latency_s) + (1 - MEMORY) * latency_s
        self._reserved_tokens = MEMORY * self._reserved_tokens + reserved.tokens
        self._tokens = MEMORY * self._tokens + actual.tokens
        self._reserved_usd = MEMORY * self._reserved_usd + reserved.usd
        self._usd = MEMORY * self._usd + actual.usd

    def expected(self, worst: Cost) -> Cost:
        """Return what a worst case will probably come to: the same requests, tokens and dollars by the share seen so far.

        Before anything is known it is the worst case itself.
        """
        return Cost(
            requests=worst.requests,
            tokens=math.ceil(worst.tokens * self.token_share),
            usd=worst.usd * _share(self._usd, self._reserved_usd),
        )

    @property
    def token_share(self) -> float:
        """What replies take of the tokens that are put aside for them; 1 before anything is known."""
        return _share(self._tokens, self._reserved_tokens)

    def latency_s(self, timeout_s: float, deadline_s: float, now: float) -> float:
        """Return how long the slower replies take: the 90 % quantile of those seen.

        Before anything is known it is the judge's timeout, but at most half of a step's deadline: else nobody would ever be asked.
        """
        return slow(self._recent(now) or [heard.latency_s for heard in self._heard]) if self._heard else min(timeout_s, deadline_s / 2)

    def is_old(self, now: float) -> bool:
        """Whether the judge may have become another since its last reply."""
        return bool(self._heard) and not self._recent(now)

    def _recent(self, now: float) -> list[float]:
        return [heard.latency_s for heard in self._heard if heard.at > now - BELIEVED_S]


def slow(latencies: Sequence[float]) -> float:
    """Return the latency that nine in ten do not pass."""
    ordered = sorted(latencies)
    return ordered[math.ceil(SLOW_SHARE * len(ordered)) - 1]


def _share(actual: float, reserved: float) -> float:
    return actual / reserved if reserved > 0 else 1.0


def with_headroom(allowance: Stock, left: Stock, headroom: Cost) -> Stock:
    """Return `allowance`, or less where what is `left` of the run would not bear the last reservation.

    Questions are planned at what they will probably cost and reserved at their worst case: `headroom` is the largest difference.
    """
    return Stock(
        requests=allowance.requests,
        tokens=_smaller(allowance.tokens, None if left.tokens is None else max(0, left.tokens - headroom.tokens)),
        usd=_smaller(allowance.usd, None if left.usd is None else max(0.0, left.usd - headroom.usd)),
    )


def _smaller(one: Bound, other: Bound) -> Bound:
    return one if other is None else other if one is None else min(one, other)


def in_time(
    windows: Stock,
    queued: Cost,
    *,
    under_way: int,
    max_in_flight: int,
    seconds: float,
    latency_s: float,
    token_share: float = 1.0,
    keeps_reserved: bool = False,
) -> Stock:
    """Return what can be asked so that its replies are there in `seconds`; tokens as they are expected, like `queued`.

    `windows` is what the rate limits admit until one latency before that, `queued` what waits to be sent already, `under_way` the
    number of requests in flight.  Requests pass in waves of `max_in_flight`, one latency each; those under way are the first wave's.
    With `keeps_reserved` a request weighs its worst case in the token window also when its reply is there.
    """
    places = None if latency_s < INSTANT_S else max_in_flight * int(max(0.0, seconds) / latency_s) - under_way
    bounds = [bound - queued.requests for bound in (windows.requests, places) if bound is not None]
    use = min(1.0, token_share) if keeps_reserved else _window_use(token_share, latency_s, seconds - latency_s)
    tokens = None if windows.tokens is None else int(windows.tokens * use)
    return Stock(
        requests=max(0, min(bounds)) if bounds else None,
        tokens=None if tokens is None else max(0, tokens - queued.tokens),
    )


def _window_use(token_share: float, latency_s: float, seconds: float) -> float:
    """Return how much of a token window is used by what replies really take, a `token_share` of their worst case.

    A request weighs its worst case until its reply is there, and what it took for the rest of the window, or of the time to send.
    """
    share = min(1.0, token_share)
    waiting = min(1.0, latency_s / min(USUAL_WINDOW_S, seconds)) if seconds > 0 else 1.0
    return share / (waiting + (1.0 - waiting) * share) if share > 0 else 0.0
