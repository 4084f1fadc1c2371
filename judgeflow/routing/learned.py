"""What a judge's replies say about its limits, used to be stricter than the settings, never laxer."""

from __future__ import annotations

import math

from judgeflow.routing.limits import SlidingWindow
from judgeflow.types import Standing

LONGEST_HOLD_S = 600.0
"""Nobody is held back longer by a header: after ten minutes, the time that a question is retried for by default, the judge is asked
again, and may say so again.  A daily limit that is used up then costs one request every ten minutes, and an odd header ten minutes."""

OUR_DOING = 0.95
"""A judge has nothing left because of us if our own window holds at least this share of the limit; the rest is jitter."""


class Learned:
    """One limit as the replies tell it, beside the configured one (None: none), both for the gate's `window` of what was sent.

    The lowest limit that was said holds for one period from when it was said last.  State changes only in `hear`, which does not
    await.  `now` is seconds of one monotonic clock.
    """

    def __init__(self, window: SlidingWindow, configured: int | None) -> None:
        self._window = window
        self._configured = configured
        self._limit = 0
        self._until = -math.inf

    def hear(self, now: float, standing: Standing) -> int | None:
        """Take in what a reply says.  Returns the limit that holds from now on, if it is lower than the configured one."""
        said = standing.limit
        if said is not None and (self._configured is None or said < self._configured) and (now >= self._until or said <= self._limit):
            self._limit, self._until = said, now + self._window.period_s
        return self._limit if now < self._until else None

    def hold_s(self, now: float, standing: Standing) -> float:
        """Return for how many seconds nothing may be sent, since nothing is left until the judge's reset; else 0.

        Where our own requests fill the window, it knows better: each is counted until it leaves, while the judge's reset is the
        moment when all have left.
        """
        if standing.remaining != 0 or standing.reset_s is None:
            return 0.0
        limit = self._limit if now < self._until else self._configured
        ours = limit is not None and self._window.used(now) >= OUR_DOING * limit
        return 0.0 if ours and standing.reset_s <= self._window.period_s else min(standing.reset_s, LONGEST_HOLD_S)

    def wait_s(self, now: float, weight: int) -> float:
        """Return the seconds until the learned limit admits `weight`, or is not heeded any more.

        What is heavier than the whole limit passes alone: headers slow questions down and never refuse one.
        """
        if now >= self._until:
            return 0.0
        return min(self._until - now, self._window.wait_s(now, min(weight, self._limit), self._limit))

    def at_most(self, admitted: int | None, now: float, start: float, until: float) -> int | None:
        """Return what passes between `start` and `until` of what the settings have `admitted` then (None: everything)."""
        if now >= self._until:
            return admitted
        learned = self._window.capacity(start, until, self._limit)
        return learned if admitted is None else min(admitted, learned)
