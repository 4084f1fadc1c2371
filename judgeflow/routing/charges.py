"""What the judge's account is charged for a question, in tokens, before its reply is there.

A worst case W is the longest prompt B that the question may have and the longest reply M.  Judges charge in one of two ways:

    reserved    prompt + M, when the question arrives                      what the reply leaves is not given back
    actual      prompt + completion                                        what was really used

Prompt and completion are predicted from this judge's own replies: prompt = r B with r the share that prompts took of their bounds.
One question's prediction is its mean.  Those of n questions under way fall short together by little, so that is what is kept free:

    headroom = min( Z sqrt(v_1 + ... + v_n),  what their worst cases leave )      v_i = var(r) B_i^2 [+ var(completion)]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from judgeflow.types import Usage

Charge = Literal["reserved", "actual"]

Z = 5.0
"""Standard deviations that are kept free.  A busy window is full at every question, so what happens once in a thousand is too often, and
the lengths of replies are skewed; with thirty under way among a thousand, five instead of three cost a thousandth of the window."""

DOUBT = 10
"""A variance seen in n replies may be more: it is taken times 1 + DOUBT / n."""

ENOUGH = 16
"""Before so many replies nothing is predicted, and the worst case counts."""

_ROUNDING = 1e-3
"""Tokens; what sums of many fractions are off by is no token more."""

MEMORY = 0.99
"""Weight that an observation keeps with each later one: about the last hundred replies count."""


class Moments:
    """Mean and variance of the latest observations, the older the less.  Changed by `add` only."""

    def __init__(self) -> None:
        self.count = 0
        self._weight = self._sum = self._squares = 0.0

    def add(self, value: float) -> None:
        """Take one observation into account."""
        self.count += 1
        self._weight = MEMORY * self._weight + 1.0
        self._sum = MEMORY * self._sum + value
        self._squares = MEMORY * self._squares + value * value

    @property
    def mean(self) -> float:
        """The mean; 0 before the first."""
        return self._sum / self._weight if self._weight else 0.0

    @property
    def variance(self) -> float:
        """The variance around it, with the doubt that few observations leave."""
        return max(0.0, self._squares / self._weight - self.mean**2) * (1 + DOUBT / self.count) if self._weight else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What one question will probably be charged, how uncertain that is, and by how much its worst case is more (tokens)."""

    tokens: int
    variance: float = 0.0
    slack: int = 0

    @property
    def safe(self) -> int:
        """What this one question will hardly pass."""
        return self.tokens + headroom(self.variance, self.slack)


def headroom(variance: float, slack: int) -> int:
    """Return what questions under way, whose variances and slacks sum up to these, may be charged beyond what is expected."""
    return min(math.ceil(Z * math.sqrt(max(0.0, variance)) - _ROUNDING), slack)


class Charges:
    """What this judge's questions are charged.  `longest_reply` is M, in tokens; None: unknown, then a question is charged as a whole.

    Changed by `learn` only, which does not await.
    """

    def __init__(self, charge: Charge, longest_reply: int | None) -> None:
        self._charge = charge
        self._longest = longest_reply
        self._prompt, self._completion = Moments(), Moments()

    def expect(self, worst: int) -> Expected:
        """Return what a question with this worst case will probably be charged."""
        bound, longest = self._parts(worst)
        if self._prompt.count < ENOUGH or (self._longest is None and self._charge == "reserved"):
            return Expected(tokens=worst)
        tokens, variance = self._prompt.mean * bound, self._prompt.variance * bound**2
        if self._charge == "reserved":
            tokens += longest
        elif self._longest is not None:
            tokens += min(self._completion.mean, longest)
            variance += self._completion.variance
        return Expected(tokens=math.ceil(tokens - _ROUNDING), variance=variance, slack=max(0, worst - int(tokens)))

    def learn(self, worst: int, usage: Usage) -> int:
        """Take a reply's usage into account, and return what the question was charged."""
        bound, longest = self._parts(worst)
        whole = self._longest is None
        self._prompt.add((usage.total if whole else usage.prompt) / max(1, bound))
        self._completion.add(usage.completion)
        if self._charge == "actual":
            return usage.total
        return worst if whole else usage.prompt + longest

    def bound(self, tokens: int, *, answered: bool) -> int:
        """Return what a question of an earlier process was charged at most; `tokens` is what its reply took, or its worst case."""
        return tokens + (self._longest or 0) if answered and self._charge == "reserved" else tokens

    def _parts(self, worst: int) -> tuple[int, int]:
        """The bounds of prompt and reply that a worst case consists of."""
        longest = min(worst, self._longest or 0)
        return worst - longest, longest
