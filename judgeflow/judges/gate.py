"""The judge's rate limits as one gate: an `Account` decides, this waits.

In a real run requests then pass an asyncio-throttle `Throttler` as well, an exact sliding-window log.  It polls, is not FIFO, knows no
tokens and counts from its own grant: so there is one waiter, the dispatcher, and the account decides first.  `WindowGate` is the same
gate without the library's own clock, for virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping, Sequence

from asyncio_throttle.throttler import Throttler

from judgeflow.clock import MOMENT_S
from judgeflow.config import LimitsConfig
from judgeflow.ports import Clock, Permit
from judgeflow.routing.account import Account, Ticket
from judgeflow.types import Dispatch, RateHeaders, Stock, Usage


class WindowGate:
    """Both limits as sliding windows on the engine's clock.  `longest_reply` is in tokens; None: unknown."""

    def __init__(self, limits: LimitsConfig, clock: Clock, *, longest_reply: int | None = None) -> None:
        self._clock = clock
        self._account = Account(limits, longest_reply)
        self._limited = limits.requests_per_minute is not None or limits.tokens_per_minute is not None
        self._keeps_reserved = limits.charge == "reserved"
        self._closed_until = -math.inf
        self._changed = asyncio.Event()

    @property
    def period_s(self) -> float:
        """See `Gate.period_s`."""
        return self._account.period_s if self._limited else 0.0

    @property
    def keeps_reserved(self) -> bool:
        """See `Gate.keeps_reserved`."""
        return self._keeps_reserved

    async def admit(self, tokens: int) -> Permit:
        """Wait for the pause to end and both windows to open, then count the request.  Raises `ValueError`: never fits."""
        await self._open(tokens)
        await self._pass_throttler()
        while self._wait_s(tokens) > 0:  # a pause began meanwhile: what has passed the throttler is sent too late for it
            await self._open(tokens)
            await self._pass_throttler()
        return _Permit(self._account, self._account.admit(self._clock.now(), tokens), self._clock, self._stir)

    def _stir(self) -> None:
        """Let whoever waits look again."""
        self._changed.set()

    async def _open(self, tokens: int) -> None:
        """Wait until pause and windows admit `tokens`; what is sent, or costs less than was counted for it, may shorten the wait."""
        while (wait := self._wait_s(tokens)) > 0:
            self._changed = asyncio.Event()  # a new one: an event belongs to the loop that waits for it, a gate may outlive its loop
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wait, MOMENT_S)):  # `wait_for` may lose a cancellation that meets the event
                    await self._changed.wait()

    def _wait_s(self, tokens: int) -> float:
        now = self._clock.now()
        return max(self._closed_until - now, self._account.wait_s(now, tokens))

    async def _pass_throttler(self) -> None:
        """The windows have been waited for already."""

    def remember(self, dispatches: Sequence[Dispatch], wall: float) -> None:
        """See `Gate.remember`."""
        self._account.remember(self._clock.now(), dispatches, wall)

    def pause(self, seconds: float) -> None:
        """Admit nothing for `seconds`."""
        self._closed_until = max(self._closed_until, self._clock.now() + seconds)

    def heed(self, rates: RateHeaders, permit: Permit | None = None) -> Mapping[str, float]:
        """See `Gate.heed`."""
        ticket = permit.ticket if isinstance(permit, _Permit) else None
        stricter = self._account.hear(self._clock.now(), rates, ticket)
        self.pause(stricter.get("held_s", 0.0))
        return stricter

    def capacity(self, until: float) -> Stock:
        """See `Gate.capacity`."""
        now = self._clock.now()
        return self._account.capacity(now, max(now, self._closed_until), until)


class _Permit:
    """See `Permit`.  Whoever waits at the gate is told of every change."""

    def __init__(self, account: Account, ticket: Ticket, clock: Clock, stir: Callable[[], None]) -> None:
        self.ticket = ticket
        self._account = account
        self._clock = clock
        self._stir = stir

    def sent(self) -> None:
        self._account.sent(self.ticket, self._clock.now())
        self._stir()

    def hold(self) -> None:
        self._account.hold(self.ticket)

    def settle(self, usage: Usage) -> None:
        self._account.settle(self.ticket, usage)
        self._stir()

    def lost(self) -> None:
        self._account.lost(self.ticket)
        self._stir()

    def cancel(self) -> None:
        self._account.cancel(self.ticket)
        self._stir()


class ThrottleGate(WindowGate):
    """The gate of a real run: asyncio-throttle has the last word on when the next request may go."""

    def __init__(self, limits: LimitsConfig, clock: Clock, *, longest_reply: int | None = None) -> None:
        super().__init__(limits, clock, longest_reply=longest_reply)
        self._throttler: Throttler | None = None
        if limits.requests_per_minute is not None:
            period = limits.period_s
            self._throttler = Throttler(rate_limit=limits.requests_per_minute, period=period, retry_interval=min(0.001, period / 10))

    async def _pass_throttler(self) -> None:
        if self._throttler is not None:
            await self._throttler.acquire()  # type: ignore[no-untyped-call]  # the library has no annotations
