"""An exact sliding window with weights: at most `limit` in any `period_s` seconds, whatever the arrival pattern."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True)
class Entry:
    """One admitted request; its weight may be corrected when the real one is known."""

    at: float
    weight: int


class SlidingWindow:
    """A log of what was admitted in the last `period_s` seconds.

    State changes only in `admit` and `correct`, which do not await: callers on one loop need no lock.
    """

    def __init__(self, limit: int, period_s: float) -> None:
        self.limit = limit
        self.period_s = period_s
        self._log: deque[Entry] = deque()
        self._used = 0

    def used(self, now: float) -> int:
        """Return the weight admitted in the window that ends now."""
        while self._log and self._log[0].at + self.period_s <= now:
            self._used -= self._log.popleft().weight
        return self._used

    def wait_s(self, now: float, weight: int = 1, limit: int | None = None) -> float:
        """Return the seconds until `weight` fits `limit` (None: the window's own); 0 if it does now.  Raises `ValueError`: never."""
        limit = self.limit if limit is None else limit
        if weight > limit:
            raise ValueError(f"a request of weight {weight} can never fit a limit of {limit} per {self.period_s:g} s")
        excess = self.used(now) + weight - limit
        for entry in self._log:
            if excess <= 0:
                break
            excess -= entry.weight
            if excess <= 0:
                return entry.at + self.period_s - now
        return 0.0

    def admit(self, now: float, weight: int = 1) -> Entry:
        """Count a request that is sent now."""
        self.used(now)  # forgets what has left the window, also where nobody asks for the wait
        entry = Entry(at=now, weight=weight)
        self._log.append(entry)
        self._used += weight
        return entry

    def correct(self, entry: Entry, weight: int) -> None:
        """Replace the weight of an admitted request by what it really took; nothing happens once it has left the window."""
        if self._log and entry.at >= self._log[0].at:
            self._used += weight - entry.weight
            entry.weight = weight

    def capacity(self, now: float, until: float, limit: int | None = None) -> int:
        """Return how much weight `limit` (None: the window's own) admits between `now`, which may lie ahead, and `until`."""
        if until < now:
            return 0
        limit = self.limit if limit is None else limit
        periods, rest = divmod(until - now, self.period_s)
        still_there = sum(entry.weight for entry in self._log if entry.at + self.period_s > now + rest)
        return int(periods) * limit + max(0, limit - still_there)
