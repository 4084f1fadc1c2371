"""What cases count beside the statistics of `judgeflow.replay`."""

from __future__ import annotations


def overlap(one: str, other: str) -> float:
    """Return how much two texts share: twice their common words over all their words (Dice 1945); 1 for two without words."""
    from collections import Counter

    mine, theirs = Counter(one.split()), Counter(other.split())
    words = mine.total() + theirs.total()
    return 2 * (mine & theirs).total() / words if words else 1.0
