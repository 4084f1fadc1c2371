"""Sliding windows by brute force: what the cases that count requests compare judgeflow's own windows with.

Nothing here is shared with the product; it is slow and short, so that it can be seen to be right.
"""

from __future__ import annotations

from collections.abc import Sequence

SAME_MOMENT_S = 1e-6
"""Moments closer to each other than this are one: sums of seconds are rounded."""


def earliest_sends(count: int, start: float, limit: int, period_s: float, before: Sequence[float] = ()) -> list[float]:
    """Return the earliest legal moments of `count` requests one after the other, none before `start` (seconds).

    Legal: no window of `period_s` seconds, open at its beginning, holds more than `limit` requests, those sent `before` included.
    """
    sent, moments, now = list(before), [], start
    for _ in range(count):
        while len(in_window := [moment for moment in sent if moment > now - period_s + SAME_MOMENT_S]) >= limit:
            now = min(in_window) + period_s
        sent.append(now)
        moments.append(now)
    return moments


def peak(moments: Sequence[float], weights: Sequence[int], period_s: float) -> int:
    """Return the largest weight that any window of `period_s` seconds holds; one that is full is full when something has just come."""
    return max((_weight_until(end, moments, weights, period_s) for end in moments), default=0)


def _weight_until(end: float, moments: Sequence[float], weights: Sequence[int], period_s: float) -> int:
    begin = end - period_s + SAME_MOMENT_S
    return sum(weight for moment, weight in zip(moments, weights, strict=True) if begin < moment <= end)
