"""Rate limits as a judge keeps them: for each API key a sliding window of requests and one of tokens, both exact.

Pure: `now` is an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from judgeflow.errors import ConfigurationError

Over = Literal["requests", "tokens", "concurrency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeLimits:
    """What a fake judge admits for each API key; None means without limit.

    In no window of `window_s` seconds are more than `requests_per_minute` requests or `tokens_per_minute` tokens admitted (the
    names are the usual ones; with `window_s=1` they are limits per second).  `charge="reserved"` charges prompt + max tokens when
    a request arrives, `charge="actual"` what it really uses.  Requests that are turned away are not charged.  With
    `headers=False` neither 429s nor successes carry rate-limit headers.  Raises `ConfigurationError` for limits below 1.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    window_s: float = 60.0
    max_concurrency: int | None = None
    charge: Literal["reserved", "actual"] = "reserved"
    headers: bool = True

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "max_concurrency"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name.replace('_', '-')} is {value}; give at least 1, or leave it out for no limit")
        if not (math.isfinite(self.window_s) and self.window_s > 0):
            raise ConfigurationError(f"window-s is {self.window_s}; give the length of the window in seconds, more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class OverLimit:
    """Why a request was turned away, and in how many seconds it would fit (None: unknown, or never)."""

    over: Over
    retry_after_s: float | None


class SlidingWindow:
    """Amounts admitted during the last `window_s` seconds, at most `capacity` of them.

    `peak` is the most there ever was, `share` how full it was on average from the end of the first window to the latest admission
    (0 before that).
    """

    def __init__(self, capacity: int, window_s: float) -> None:
        self.capacity = capacity
        self.peak = 0
        self.share = 0.0
        self._window_s = window_s
        self._admitted: deque[tuple[float, int]] = deque()
        self._used = 0
        self._began = math.inf  # when the first window ended; from then on
        self._integral = 0.0  # of the used share over time, until
        self._seen = -math.inf

    def used(self, now: float) -> int:
        """Return what the window that ends now holds."""
        while self._admitted and self._admitted[0][0] + self._window_s <= now:
            moment, amount = self._admitted.popleft()
            self._integrate(moment + self._window_s)
            self._used -= amount
        return self._used

    def _integrate(self, until: float) -> None:
        self._integral += max(0.0, until - max(self._seen, self._began)) * self._used / self.capacity
        self._seen = max(self._seen, until)

    def wait(self, amount: int, now: float) -> float:
        """Return the seconds until `amount` fits: 0 if it does now, infinity if it never will."""
        excess = self.used(now) + amount - self.capacity
        if excess <= 0:
            return 0.0
        for moment, admitted in self._admitted:
            excess -= admitted
            if excess <= 0:
                return moment + self._window_s - now
        return math.inf

    def add(self, amount: int, now: float) -> None:
        """Count an admitted amount."""
        self.used(now)
        self._integrate(now)
        self._began = min(self._began, now + self._window_s)
        if now > self._began:
            self.share = self._integral / (now - self._began)
        self._admitted.append((now, amount))
        self._used += amount
        self.peak = max(self.peak, self.used(now))

    def reset_s(self, now: float) -> float:
        """Return the seconds until the window is empty."""
        return self._admitted[-1][0] + self._window_s - now if self.used(now) else 0.0


class Meter:
    """The limits of one API key: all state changes in `admit` and `leave`."""

    def __init__(self, limits: JudgeLimits) -> None:
        self.limits = limits
        self.in_flight = 0
        capacities: dict[Over, int | None] = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
        self.windows = {name: SlidingWindow(size, limits.window_s) for name, size in capacities.items() if size is not None}

    def admit(self, tokens: int, now: float) -> OverLimit | None:
        """Count one more request of `tokens`, under way until `leave`; or return why it is turned away, counting nothing."""
        if self.limits.max_concurrency is not None and self.in_flight >= self.limits.max_concurrency:
            return OverLimit(over="concurrency", retry_after_s=None)
        amounts = {name: tokens if name == "tokens" else 1 for name in self.windows}
        waits = {name: window.wait(amounts[name], now) for name, window in self.windows.items()}
        worst = max(waits, key=lambda name: waits[name], default=None)
        if worst is not None and waits[worst] > 0:
            return OverLimit(over=worst, retry_after_s=waits[worst] if math.isfinite(waits[worst]) else None)
        for name, window in self.windows.items():
            window.add(amounts[name], now)
        self.in_flight += 1
        return None

    def change(self, limits: JudgeLimits) -> None:
        """Admit by other limits from now on.  Raises `ConfigurationError` unless the same things are limited, in windows as long."""
        sizes: dict[Over, int | None] = {"requests": limits.requests_per_minute, "tokens": limits.tokens_per_minute}
        wanted = {name: size for name, size in sizes.items() if size is not None}
        if wanted.keys() != self.windows.keys() or limits.window_s != self.limits.window_s:
            raise ConfigurationError("limits that change while a judge runs must limit the same things in windows as long as before")
        self.limits = limits
        for name, size in wanted.items():
            self.windows[name].capacity = size

    def leave(self) -> None:
        """Count one admitted request as finished."""
        self.in_flight -= 1

    def headers(self, now: float) -> dict[str, str]:
        """Return the x-ratelimit-* headers as of now; `reset` is when the window will be empty."""
        if not self.limits.headers:
            return {}
        headers = {}
        for name, window in self.windows.items():
            headers[f"x-ratelimit-limit-{name}"] = str(window.capacity)
            headers[f"x-ratelimit-remaining-{name}"] = str(max(0, window.capacity - window.used(now)))
            headers[f"x-ratelimit-reset-{name}"] = duration(window.reset_s(now))
        return headers


def duration(seconds: float) -> str:
    """Return a time as rate-limit headers write it: 6ms, 1.5s, 6m0s, 1h0m0s.  Rounded up to a millisecond."""
    milliseconds = max(0, math.ceil(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def retry_headers(seconds: float) -> dict[str, str]:
    """Return retry-after-ms, exact, and retry-after, whole seconds as HTTP wants them; both rounded up."""
    return {"retry-after-ms": str(math.ceil(seconds * 1000)), "retry-after": str(math.ceil(seconds))}
