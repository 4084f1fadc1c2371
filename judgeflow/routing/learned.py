"""What a judge's replies say about its limits, used to be stricter than the settings, never laxer.

What is left of a limit tells what others take of the same account: with S the limit as it is said, R what is left, and U what our own
window held when the question was sent or, if that is more, holds now (judges count at either moment),

    others = S - R - U        leaves us S - others, until the judge's reset, for one period at most, or until a younger question hears
                              something else
"""

from __future__ import annotations

import math
from collections import deque

from judgeflow.routing.limits import SlidingWindow
from judgeflow.types import Standing

LONGEST_HOLD_S = 600.0
"""Nobody is held back longer by a header: after ten minutes, the time that a question is retried for by default, the judge is asked
again, and may say so again.  A daily limit that is used up then costs one request every ten minutes, and an odd header ten minutes."""

OUR_DOING = 0.95
"""A judge has nothing left because of us if our own window holds at least this share of the limit; the rest is jitter."""


OTHERS_DOING = 0.05
"""Others use the account if the judge counts by this share of the limit more than our own window holds; less is jitter."""


class Learned:
    """One limit as the replies tell it, beside the configured one (None: none), both for the gate's `window` of what was sent.

    Each limit that was said holds for one period from when it was said last; of those that hold the lowest is kept.  State changes only
    in `hear` and `hear_others`, which do not await.  `now` is seconds of one monotonic clock.
    """

    def __init__(self, window: SlidingWindow, configured: int | None) -> None:
        self._window = window
        self._configured = configured
        self._said: deque[tuple[int, float]] = deque()  # limits and until when they hold, both rising; a lower, later one covers others
        self._share = 0  # what others leave us
        self._shared_until = -math.inf
        self._asked_at = -math.inf  # when the question was sent that told

    def hear(self, now: float, standing: Standing) -> int | None:
        """Take in the limit that a reply tells.  Returns the limit that holds from now on, if it is lower than the configured one."""
        said = standing.limit
        if said is not None and (self._configured is None or said < self._configured):
            while self._said and self._said[-1][0] >= said:
                self._said.pop()
            self._said.append((said, now + self._window.period_s))
        return self._lowest(now)

    def _lowest(self, now: float) -> int | None:
        """The lowest limit that holds, if any does."""
        while self._said and self._said[0][1] <= now:
            self._said.popleft()
        return self._said[0][0] if self._said else None

    def hear_others(self, now: float, standing: Standing, sent_at: float, held: int) -> int | None:
        """Take in what a reply tells about others.  Its question was sent at `sent_at`, when our window held `held`.

        Returns what they leave us, if that is less than the configured limit.
        """
        if standing.limit is None or standing.remaining is None or sent_at < self._asked_at:
            return None
        self._asked_at = sent_at
        others = standing.limit - standing.remaining - max(held, self._window.used(now))
        share = max(1, standing.limit - others)
        if others <= OTHERS_DOING * standing.limit or (self._configured is not None and share >= self._configured):
            self._shared_until = -math.inf
            return None
        period_s = self._window.period_s
        self._share, self._shared_until = share, now + (period_s if standing.reset_s is None else min(period_s, standing.reset_s))
        return share

    def hold_s(self, now: float, standing: Standing) -> float:
        """Return for how many seconds nothing may be sent, since nothing is left until the judge's reset; else 0.

        Where our own requests fill the window, it knows better: each is counted until it leaves, while the judge's reset is the
        moment when all have left.
        """
        if standing.remaining != 0 or standing.reset_s is None:
            return 0.0
        said = self._lowest(now)
        limit = self._configured if said is None else said
        ours = limit is not None and self._window.used(now) >= OUR_DOING * limit
        return 0.0 if ours and standing.reset_s <= self._window.period_s else min(standing.reset_s, LONGEST_HOLD_S)

    def wait_s(self, now: float, weight: int) -> float:
        """Return the seconds until what was learned admits `weight`, or is not heeded any more.

        What is heavier than the whole limit passes alone: headers slow questions down and never refuse one.
        """
        waits = [min(until - now, self._window.wait_s(now, min(weight, limit), limit)) for limit, until in self._in_force(now)]
        return max(waits, default=0.0)

    def at_most(self, admitted: int | None, now: float, start: float, until: float) -> int | None:
        """Return what passes between `start` and `until` of what the settings have `admitted` then (None: everything)."""
        learned = [self._window.capacity(start, until, limit) for limit, _ in self._in_force(now)]
        return min([*learned, *([admitted] if admitted is not None else [])], default=None)

    def _in_force(self, now: float) -> list[tuple[int, float]]:
        """The limits that hold now, each with the moment when it ends."""
        self._lowest(now)
        shared = [(self._share, self._shared_until)] if now < self._shared_until else []
        return [*self._said, *shared]
