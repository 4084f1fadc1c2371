"""The judge's rate limits as one gate.

Requests pass an asyncio-throttle `Throttler`, an exact sliding-window log.  It polls, is not FIFO and knows no tokens: so there is
one waiter, the dispatcher, and a weighted window stands beside it.  `WindowGate` is the same gate without the library's own clock,
for virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import Mapping

from asyncio_throttle.throttler import Throttler

from judgeflow.config import LimitsConfig
from judgeflow.ports import Clock, Settle
from judgeflow.routing.learned import Learned
from judgeflow.routing.limits import Entry, SlidingWindow
from judgeflow.types import RateHeaders, Stock

_UNLIMITED = 2**62
_MOMENT_S = 1e-6
"""The shortest wait, in seconds: a loop takes a timer that is due within its clock's resolution for due, and would come back at once."""


class WindowGate:
    """Both limits as sliding windows on the engine's clock."""

    def __init__(self, limits: LimitsConfig, clock: Clock) -> None:
        self._clock = clock
        self._requests = _request_window(limits)
        self._sent = self._requests if limits.start == "burst" else SlidingWindow(_UNLIMITED, limits.period_s)  # over a whole period
        self._tokens = SlidingWindow(limits.tokens_per_minute or _UNLIMITED, limits.period_s)
        self._learned_requests = Learned(self._sent, limits.requests_per_minute)
        self._learned_tokens = Learned(self._tokens, limits.tokens_per_minute)
        self._limited = limits.requests_per_minute is not None
        self._weighed = limits.tokens_per_minute is not None
        self._closed_until = -math.inf
        self._corrected = asyncio.Event()

    async def admit(self, tokens: int) -> Settle:
        """Wait for the pause to end and both windows to open, then count the request.  Raises `ValueError`: never fits."""
        await self._open(tokens)
        await self._pass_request_limit()
        while self._wait_s(self._clock.now(), tokens) > 0:  # a pause began meanwhile: what has passed the limit is sent too late for it
            await self._open(tokens)
            await self._pass_request_limit()
        now = self._clock.now()
        self._requests.admit(now)
        if self._sent is not self._requests:
            self._sent.admit(now)
        return functools.partial(self._correct, self._tokens.admit(now, tokens))

    def _correct(self, entry: Entry, tokens: int) -> None:
        self._tokens.correct(entry, tokens)
        self._corrected.set()

    async def _open(self, tokens: int) -> None:
        """Wait until pause and windows admit `tokens`; a reply that took fewer tokens than were counted for it shortens the wait."""
        while (wait := self._wait_s(self._clock.now(), tokens)) > 0:
            self._corrected.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._corrected.wait(), max(wait, _MOMENT_S))

    def _wait_s(self, now: float, tokens: int) -> float:
        configured = max(self._tokens.wait_s(now, tokens), self._request_wait_s(now))
        learned = max(self._learned_tokens.wait_s(now, tokens), self._learned_requests.wait_s(now, 1))
        return max(self._closed_until - now, configured, learned)

    def _request_wait_s(self, now: float) -> float:
        return self._requests.wait_s(now)

    async def _pass_request_limit(self) -> None:
        """The window has been waited for already."""

    def pause(self, seconds: float) -> None:
        """Admit nothing for `seconds`."""
        self._closed_until = max(self._closed_until, self._clock.now() + seconds)

    def heed(self, rates: RateHeaders) -> Mapping[str, float]:
        """See `Gate.heed`."""
        now = self._clock.now()
        requests, tokens = self._learned_requests.hear(now, rates.requests), self._learned_tokens.hear(now, rates.tokens)
        held_s = max(self._learned_requests.hold_s(now, rates.requests), self._learned_tokens.hold_s(now, rates.tokens))
        if held_s > 0:
            self.pause(held_s)
        stricter = {"requests_per_minute": requests, "tokens_per_minute": tokens, "held_s": held_s or None}
        return {name: value for name, value in stricter.items() if value is not None}

    def capacity(self, until: float) -> Stock:
        """See `Gate.capacity`."""
        now = self._clock.now()
        start = max(now, self._closed_until)
        requests = self._requests.capacity(start, until) if self._limited else None
        tokens = self._tokens.capacity(start, until) if self._weighed else None
        return Stock(
            requests=self._learned_requests.at_most(requests, now, start, until),
            tokens=self._learned_tokens.at_most(tokens, now, start, until),
        )


def _request_window(limits: LimitsConfig) -> SlidingWindow:
    """A whole window's requests at once, or with start = "paced" one in every window / limit seconds."""
    requests = limits.requests_per_minute
    if requests is None:
        return SlidingWindow(_UNLIMITED, limits.period_s)
    return SlidingWindow(1, limits.period_s / requests) if limits.start == "paced" else SlidingWindow(requests, limits.period_s)


class ThrottleGate(WindowGate):
    """The gate of a real run: asyncio-throttle decides when the next request may go."""

    def __init__(self, limits: LimitsConfig, clock: Clock) -> None:
        super().__init__(limits, clock)
        self._throttler: Throttler | None = None
        if limits.requests_per_minute is not None:
            rate, period = self._requests.limit, self._requests.period_s
            self._throttler = Throttler(rate_limit=rate, period=period, retry_interval=min(0.01, period / 10))

    def _request_wait_s(self, now: float) -> float:
        del now  # the throttler waits by itself
        return 0.0

    async def _pass_request_limit(self) -> None:
        if self._throttler is not None:
            await self._throttler.acquire()  # type: ignore[no-untyped-call]  # the library has no annotations
