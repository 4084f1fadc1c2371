"""What a judge has turned away, and how much less it was asked at a time for that, from the end of one step to the end of the next."""

from __future__ import annotations

from collections.abc import Mapping

from judgeflow.routing.concurrency import Concurrency
from judgeflow.types import Pressure

LIMITS = ("requests_per_minute", "tokens_per_minute", "requests_left_by_others", "tokens_left_by_others")
"""What a judge may say it admits: the lowest counts."""


class Strain:
    """Counts for the step that ends next: so steps under way at the same time count nothing twice.  `now` is as in `Concurrency`.

    State changes only in `turned_away`, `told` and `take`, which do not await.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        self._concurrency = concurrency
        self._rate_limited = self._busy = 0
        self._lowest = concurrency.most
        self._low_taken_s = 0.0
        self._admits: dict[str, float] = {}

    def turned_away(self, *, rate_limited: bool) -> None:
        """An attempt was turned away; the limit in flight has fallen already, if it does."""
        self._rate_limited += rate_limited
        self._busy += not rate_limited
        self._lowest = min(self._lowest, self._concurrency.limit)

    def told(self, stricter: Mapping[str, float]) -> None:
        """The judge has said that it admits less than is configured (see `Gate.heed`)."""
        for name in stricter.keys() & LIMITS:
            self._admits[name] = min(stricter[name], self._admits.get(name, stricter[name]))

    def take(self, now: float, low_before_s: float) -> Pressure:
        """Return what there was since it was taken last, and begin anew.

        `low_before_s` is what `Concurrency.low_s` was when the step began: pauses between steps do not count as lowered.
        """
        low_s, limit = self._concurrency.low_s(now), self._concurrency.limit
        found = Pressure(
            max_in_flight=self._concurrency.most,
            in_flight=min(self._lowest, limit),
            rate_limited=self._rate_limited,
            busy=self._busy,
            lowered_s=low_s - max(low_before_s, self._low_taken_s),
            admits=self._admits,
        )
        self._rate_limited = self._busy = 0
        self._lowest, self._low_taken_s, self._admits = limit, low_s, {}
        return found
