"""An exact sliding window with weights: at most `limit` in any `period_s` seconds, whatever the arrival pattern."""

from __future__ import annotations

import itertools
import math
from collections import deque
from dataclasses import dataclass

CATCH_UP = 1 / 20
"""How much of a period a pace lets those catch up whom a busy machine has kept: without it, every delay would lower the rate for good."""


@dataclass(slots=True, eq=False)
class Entry:
    """One admitted request.  `at` is when it was sent: infinity while that lies ahead, minus infinity once it has left the window.

    Its weight may be corrected when the real one is known; `stamps` counts how often it was held or sent.
    """

    at: float
    weight: int
    stamps: int = 0


class SlidingWindow:
    """A log of what was sent in the last `period_s` seconds, and of what was admitted and is not sent yet.

    What is admitted counts until one period after it was sent, however long sending takes.  State changes only in `admit`, `hold`,
    `stamp` and `correct`, which do not await: callers on one loop need no lock.
    """

    def __init__(self, limit: int, period_s: float) -> None:
        self.limit = limit
        self.period_s = period_s
        self._log: deque[tuple[float, int, Entry]] = deque()  # by time; an entry with another number was held or stamped since
        self._used = 0

    def used(self, now: float) -> int:
        """Return the weight of the window that ends now, and of what is still to be sent."""
        while self._log and self._log[0][0] + self.period_s <= now:
            _, number, entry = self._log.popleft()
            if entry.stamps == number:
                self._used -= entry.weight
                entry.at = -math.inf
        return self._used

    def wait_s(self, now: float, weight: int = 1, limit: int | None = None) -> float:
        """Return the seconds until `weight` fits `limit` (None: the window's own); 0 if it does now.  Raises `ValueError`: never.

        As long as what is not sent yet stands in the way, it is a whole period: try again once that is sent.
        """
        limit = self.limit if limit is None else limit
        if weight > limit:
            raise ValueError(f"a request of weight {weight} can never fit a limit of {limit} per {self.period_s:g} s")
        excess = self.used(now) + weight - limit
        if excess <= 0:
            return 0.0
        for at, number, entry in self._log:
            excess -= entry.weight if entry.stamps == number else 0
            if excess <= 0:
                return at + self.period_s - now
        return self.period_s

    def admit(self, now: float, weight: int = 1) -> Entry:
        """Count a request that is sent now."""
        self.used(now)  # forgets what has left the window, also where nobody asks for the wait
        entry = Entry(at=now, weight=weight)
        self._log.append((now, entry.stamps, entry))
        self._used += weight
        return entry

    def hold(self, entry: Entry) -> None:
        """The request is not sent yet after all: count it until one period after `stamp`."""
        self._renew(entry, math.inf)

    def stamp(self, entry: Entry, now: float) -> None:
        """The request is sent now.  A second time counts instead of the first."""
        self._renew(entry, now)
        self._log.append((now, entry.stamps, entry))

    def _renew(self, entry: Entry, at: float) -> None:
        """What has left the window counts again."""
        if entry.at == -math.inf:
            self._used += entry.weight
        entry.at = at
        entry.stamps += 1

    def correct(self, entry: Entry, weight: int) -> None:
        """Replace the weight of an admitted request by what it really took; nothing happens once it has left the window."""
        if entry.at != -math.inf:
            self._used += weight - entry.weight
            entry.weight = weight

    def capacity(self, now: float, until: float, limit: int | None = None) -> int:
        """Return how much weight `limit` (None: the window's own) admits between `now`, which may lie ahead, and `until`."""
        if until < now:
            return 0
        limit = self.limit if limit is None else limit
        periods, rest = divmod(until - now, self.period_s)
        horizon = now + rest - self.period_s
        leaving = itertools.takewhile(lambda stamp: stamp[0] <= horizon, self._log)
        gone = sum(entry.weight for _, number, entry in leaving if entry.stamps == number)
        return int(periods) * limit + max(0, limit - (self._used - gone))


class Pace:
    """Weight that goes out evenly, `limit` in `period_s` seconds, instead of a whole window at once (None: as it comes).

    Who goes out late does not push back those behind it, who may catch up by `CATCH_UP` of a period.  State changes only in `admit`,
    which does not await.
    """

    def __init__(self, limit: int | None, period_s: float) -> None:
        self._gap_s = 0.0 if limit is None else period_s / limit
        self._catch_up_s = CATCH_UP * period_s
        self._next = -math.inf

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next request may go; 0 if it may now."""
        return max(0.0, self._next - now) if self._gap_s else 0.0

    def admit(self, now: float, weight: int = 1) -> None:
        """Count a request that goes now."""
        due = now if self._next == -math.inf else max(self._next, now - self._catch_up_s)
        self._next = due + self._gap_s * weight

    def at_most(self, admitted: int, start: float, until: float) -> int:
        """Return how much of the weight that is `admitted` between `start` and `until` can go by then."""
        if not self._gap_s:
            return admitted
        first = max(start, self._next)
        return min(admitted, int((until - first) / self._gap_s) + 1) if first <= until else 0
