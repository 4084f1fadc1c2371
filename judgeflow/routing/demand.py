"""How much a price would have asked about in the steps seen so far: a demand curve in a few dozen points, however many steps there were.

A point stands for neighbouring pairs: their mean value, their number, and what asking about them takes of every limited kind.  Points are
merged while together they hold at most `COARSENESS` of what lies above them, and of `TOP` of the whole: a merging t-digest (Dunning and
Ertl, 2019) that is fine where few are asked about.  Between two points the curve is a straight line.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

Point = tuple[float, ...]
"""Value, number of pairs, and the sum of what they take of each limited kind."""

VALUE, PAIRS, FIRST_KIND = 0, 1, 2

COARSENESS, TOP = 0.1, 0.002
"""They bound a curve to about 2 ln(1 + 1 / TOP) / COARSENESS = 125 points."""

DIGITS = 7
"""Significant digits that a point keeps, in memory as on disk: a curve that was read back is the same curve."""


class Demand:
    """The pairs that steps could have asked about, the most valuable first; older blocks of steps count less.

    With each new block every earlier one loses all but `memory` of its weight: 0 keeps the last block alone.  Changed by `learn` only.
    """

    def __init__(self, memory: float, state: Sequence[Any] = (0.0, 0.0, ())) -> None:
        self.memory = memory
        self.steps, self.pairs = float(state[0]), float(state[1])
        self._lay_out([tuple(point) for point in state[2]])

    @property
    def state(self) -> list[Any]:
        """What another `Demand` continues from."""
        return [self.steps, self.pairs, [list(point) for point in self._points]]

    def learn(self, points: Sequence[Point], *, steps: int, pairs: int) -> None:
        """Take in a block of `steps` steps and `pairs` pairs, of which `points` could have been asked about."""
        older = [] if self.memory == 0.0 else [(value, *(self.memory * weight for weight in rest)) for value, *rest in self._points]
        self.steps, self.pairs = self.memory * self.steps + steps, self.memory * self.pairs + pairs
        self._lay_out(compressed(sorted([*older, *points], reverse=True)))

    def reach(self, targets: Iterable[tuple[int, float]]) -> float:
        """Return how far down the curve a step gets with its targets (column, amount): a number of points, the last one in part."""
        return min((self._reach(column, target * self.steps) for column, target in targets), default=float(len(self._points)))

    def _reach(self, column: int, target: float) -> float:
        sums = self._sums[column]
        index = bisect_right(sums, target)
        if index == len(sums):
            return float(index)
        before = sums[index - 1] if index else 0.0
        return index + max(0.0, target - before) / (sums[index] - before)

    def price(self, reach: float) -> float:
        """Return the value of a pair at `reach`; minus infinity beyond the last."""
        points, index = self._points, int(reach)
        if index >= len(points):
            return -math.inf
        part = reach - index
        other = index - 1 if part < 0.5 else index + 1
        here = points[index]
        if not 0 <= other < len(points):  # outside the outermost points: as steep as between them and their neighbours
            inner = points[min(len(points) - 1, 1)] if other < 0 else points[max(0, index - 1)]
            return here[VALUE] + (here[VALUE] - inner[VALUE]) * abs(part - 0.5)
        there = points[other]
        away = abs(part - 0.5) * here[PAIRS] / ((here[PAIRS] + there[PAIRS]) / 2)
        return here[VALUE] + (there[VALUE] - here[VALUE]) * away

    def worth(self, reach: float) -> tuple[float, float]:
        """Return the sum of values of the pairs above `reach` and their number, a step."""
        index, part = int(reach), reach - int(reach)
        value, pairs = (self._values[index - 1], self._sums[PAIRS][index - 1]) if index else (0.0, 0.0)
        if index < len(self._points):
            value += part * self._points[index][VALUE] * self._points[index][PAIRS]
            pairs += part * self._points[index][PAIRS]
        return (value / self.steps, pairs / self.steps) if self.steps else (0.0, 0.0)

    def _lay_out(self, points: list[Point]) -> None:
        self._points = points
        width = len(points[0]) if points else 0
        self._sums = [list(accumulate(point[column] for point in points)) for column in range(width)] if points else _NOTHING
        self._values = list(accumulate(point[VALUE] * point[PAIRS] for point in points))


_NOTHING: list[list[float]] = [[] for _ in range(8)]


def compressed(points: Sequence[Point]) -> list[Point]:
    """Return few points for many, which stand in descending order of value."""
    above = TOP * sum(point[PAIRS] for point in points)
    merged: list[list[float]] = []
    for point in points:
        last = merged[-1] if merged else None
        if last is None or last[PAIRS] + point[PAIRS] > COARSENESS * above:
            above += last[PAIRS] if last is not None else 0.0
            merged.append(list(point))
            continue
        together = last[PAIRS] + point[PAIRS]
        last[VALUE] += (point[VALUE] - last[VALUE]) * point[PAIRS] / together
        for column in range(PAIRS, len(point)):
            last[column] += point[column]
    return [tuple(rounded(number) for number in point) for point in merged if point[PAIRS] > 0.0]


def rounded(number: float) -> float:
    """Return the number with the digits that are kept."""
    return float(f"{number:.{DIGITS}g}")
