"""How many requests may be under way at a time, learnt from what the judge turns away.

Additive increase, multiplicative decrease (Chiu and Jain, 1989), as in TCP: with L the limit and F the limit at its last fall,

    turned away    L <- max(1, L / 2)               once per episode: what was sent before the last fall does not count again
    answered       L <- min(most, L + rise / L)     rise = max(1/4, F / 16) while L < F, and L from there on

so a round of L replies adds `rise`: half of what failed is won back in about eight rounds.  Beyond F the judge serves again what it
refused at the time, so each reply adds one and L doubles in a round.

Not every refusal is about our load.  A shared judge turns some requests away at any level, and halving for each of p of them keeps L
near sqrt(1.5 / p) at best, whatever the judge would bear (Mathis et al., "The macroscopic behavior of the TCP congestion avoidance
algorithm", 1997).  Load gives itself away: below F, where the judge has served before, next to nothing should be refused.  So there L falls
only if the share that is refused of what was sent since the last fall, an exponential mean over two rounds, is above `TOLERATED`.
"""

from __future__ import annotations

FALL = 0.5
"""What is left of the limit after a fall: the least that ends an overload of up to twice the capacity at one blow."""

RISE = 1 / 16
"""What a round wins back, as a share of the limit that failed.  About one request in a hundred is then turned away while a judge's
capacity is searched for; a fixed step of one would need half an hour for 32 places at 60 s a reply."""

LEAST_RISE = 1 / 4
"""What a round wins back at least: below four places a sixteenth would take minutes to tell anything."""

TOLERATED = 0.125
"""Up to this share, what is refused below F says nothing about load.  It is also what a judge may lose of its places before L follows."""

LEAST_MEMORY = 20
"""Over how many requests the share is taken at least: among fewer, one refusal would be a tenth of them."""

IN_USE = 0.5
"""The limit rises only while at least this share of it is under way: replies to few requests say nothing about many."""


class Concurrency:
    """A limit between 1 and `most` (requests under way).  It begins at `most`: what the settings allow is believed until it fails.

    Requests are numbered in the order in which they are sent, from 1: numbers tell before from after where times may be equal.
    `now` is seconds of one monotonic clock.  State changes only in `turned_away` and `answered`, which do not await.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(most)
        self._failed_at = float(most)
        self._sent_at_fall = 0
        self._refused = 0.0  # the share since then
        self._low_since: float | None = None
        self._low_before_s = 0.0
        self._lowest_told = most

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return int(self._limit)

    def low_s(self, now: float) -> float:
        """Return for how many seconds in all the limit has been below `most`."""
        return self._low_before_s + (0.0 if self._low_since is None else now - self._low_since)

    def turned_away(self, now: float, *, number: int, sent: int) -> bool:
        """Request `number`, of `sent` so far, found the judge overloaded.

        Returns whether the limit is now lower than it has been since it was full.
        """
        if number <= self._sent_at_fall:
            return False
        self._count(refused=True)
        if self._limit < self._failed_at and self._refused <= TOLERATED:
            return False
        self._sent_at_fall = sent
        self._refused = 0.0
        self._failed_at = self._limit
        self._limit = max(1.0, self._limit * FALL)
        if self._low_since is None:
            self._low_since = now
        is_new_low = self.limit < self._lowest_told
        self._lowest_told = min(self._lowest_told, self.limit)
        return is_new_low

    def answered(self, now: float, *, number: int, under_way: int) -> float | None:
        """Request `number` was served; `under_way` were until now, itself included.

        Returns the seconds that the limit was below `most` if this has brought it back there, else None.
        """
        if number <= self._sent_at_fall:
            return None
        self._count(refused=False)
        if self._low_since is None or under_way < IN_USE * self.limit:
            return None
        rise = max(LEAST_RISE, RISE * self._failed_at) if self._limit < self._failed_at else self._limit
        self._limit = min(float(self.most), self._limit + rise / self._limit)
        if self._limit < self.most:
            return None
        low_for_s, self._low_since, self._lowest_told = now - self._low_since, None, self.most
        self._low_before_s += low_for_s
        return low_for_s

    def _count(self, *, refused: bool) -> None:
        self._refused += (refused - self._refused) / max(LEAST_MEMORY, 2 * self._limit)
