"""What a step may spend of the run's stock.

The store is the authority: it takes every reservation in one transaction.  This ledger adds what the store cannot know yet, the
questions that are planned but not yet reserved, so that concurrent steps do not plan with the same money.
"""

from __future__ import annotations

import math

from judgeflow.types import Cost, RunState, Stock


class Budget:
    """The run's stock, seen from one process.  Changed only by `plan` and `unplan`, which do not await."""

    def __init__(self, stock: Stock, steps: int | None = None) -> None:
        self.stock = stock
        self._steps = steps
        self._planned = Cost()

    def plan(self, cost: Cost) -> None:
        """Count a question that will be asked."""
        self._planned += cost

    def unplan(self, cost: Cost) -> None:
        """The question is reserved in the store by now, or will not be asked."""
        self._planned -= cost

    def remaining(self, state: RunState) -> Stock:
        """Return what may still be spent: the stock less paid, reserved and planned; never below 0."""
        taken = state.spent + state.reserved + self._planned
        return Stock(
            requests=_left(self.stock.requests, taken.requests),
            tokens=_left(self.stock.tokens, taken.tokens),
            usd=None if self.stock.usd is None else max(0.0, self.stock.usd - taken.usd),
        )

    def allowance(self, state: RunState, step: int) -> Stock:
        """Return what step number `step` may spend: everything, or with `steps` an equal part of what is left.

        Steps count from 0.  What a step leaves is shared by those after it.
        """
        left = self.remaining(state)
        if self._steps is None:
            return left
        steps_left = max(1, self._steps - step)
        return Stock(
            requests=None if left.requests is None else left.requests // steps_left,
            tokens=None if left.tokens is None else left.tokens // steps_left,
            usd=None if left.usd is None else left.usd / steps_left,
        )


def _left(limit: int | None, taken: int) -> int | None:
    return None if limit is None else max(0, limit - taken)


def is_spent(stock: Stock) -> bool:
    """Whether nothing more can be asked with what is left."""
    return stock.requests == 0 or stock.tokens == 0 or (stock.usd is not None and math.isclose(stock.usd, 0.0, abs_tol=1e-12))
