"""The judge's rate limits as one gate.

Requests pass an asyncio-throttle `Throttler`, an exact sliding-window log.  It polls, is not FIFO and knows no tokens: so there is
one waiter, the dispatcher, and a weighted window stands beside it.  `WindowGate` is the same gate without the library's own clock,
for virtual time.
"""

from __future__ import annotations

import functools
import math

from asyncio_throttle.throttler import Throttler

from judgeflow.config import LimitsConfig
from judgeflow.ports import Clock, Settle
from judgeflow.routing.limits import SlidingWindow

_UNLIMITED = 2**62


class WindowGate:
    """Both limits as sliding windows on the engine's clock."""

    def __init__(self, limits: LimitsConfig, clock: Clock) -> None:
        self._clock = clock
        self._requests = SlidingWindow(limits.requests_per_minute or _UNLIMITED, limits.period_s)
        self._tokens = SlidingWindow(limits.tokens_per_minute or _UNLIMITED, limits.period_s)
        self._limited = limits.requests_per_minute is not None
        self._closed_until = -math.inf

    async def admit(self, tokens: int) -> Settle:
        """Wait for the pause to end and both windows to open, then count the request.  Raises `ValueError`: never fits."""
        while (wait := self._wait_s(self._clock.now(), tokens)) > 0:
            await self._clock.sleep(wait)
        await self._pass_request_limit()
        now = self._clock.now()
        if self._limited:
            self._requests.admit(now)
        return functools.partial(self._tokens.correct, self._tokens.admit(now, tokens))

    def _wait_s(self, now: float, tokens: int) -> float:
        return max(self._closed_until - now, self._tokens.wait_s(now, tokens), self._request_wait_s(now))

    def _request_wait_s(self, now: float) -> float:
        return self._requests.wait_s(now)

    async def _pass_request_limit(self) -> None:
        """The window has been waited for already."""

    def pause(self, seconds: float) -> None:
        """Admit nothing for `seconds`."""
        self._closed_until = max(self._closed_until, self._clock.now() + seconds)

    def capacity(self, until: float) -> int | None:
        """Return how many requests can pass between now and `until`; None without a limit."""
        now = self._clock.now()
        return self._requests.capacity(max(now, self._closed_until), until) if self._limited else None


class ThrottleGate(WindowGate):
    """The gate of a real run: asyncio-throttle decides when the next request may go.

    With start = "paced" it lets one request pass every window / limit seconds instead of a full window at once.
    """

    def __init__(self, limits: LimitsConfig, clock: Clock) -> None:
        super().__init__(limits, clock)
        self._throttler: Throttler | None = None
        if limits.requests_per_minute is not None:
            paced = limits.start == "paced"
            rate, period = (1, limits.period_s / limits.requests_per_minute) if paced else (limits.requests_per_minute, limits.period_s)
            self._throttler = Throttler(rate_limit=rate, period=period, retry_interval=min(0.01, period / 10))

    def _request_wait_s(self, now: float) -> float:
        del now  # the throttler waits by itself
        return 0.0

    async def _pass_request_limit(self) -> None:
        if self._throttler is not None:
            await self._throttler.acquire()  # type: ignore[no-untyped-call]  # the library has no annotations
