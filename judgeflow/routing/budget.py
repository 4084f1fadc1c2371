"""What a step may spend of the run's stock.

The store is the authority: it takes every reservation in one transaction.  This ledger adds what the store cannot know yet, the
questions that are planned but not yet reserved, so that concurrent steps do not plan with the same money.
"""

from __future__ import annotations

from judgeflow.types import Cost, RunState, Stock


class Budget:
    """The run's stock, seen from one process.  Changed only by `plan` and `unplan`, which do not await."""

    def __init__(self, stock: Stock, steps: int | None = None) -> None:
        self.stock = stock
        self.steps = steps
        self._planned = Cost()

    def plan(self, cost: Cost) -> None:
        """Count a question that will be asked."""
        self._planned += cost

    def unplan(self, cost: Cost) -> None:
        """The question is reserved in the store by now, or will not be asked."""
        self._planned -= cost

    @property
    def planned(self) -> Cost:
        """What questions are expected to cost that will be asked and are not reserved yet."""
        return self._planned

    def left(self, state: RunState) -> Stock:
        """Return what is neither paid nor put aside; never below 0."""
        return _rest(self.stock, state.spent + state.reserved)

    def remaining(self, state: RunState) -> Stock:
        """Return what may still be planned: the stock less paid, reserved and planned; never below 0."""
        return _rest(self.stock, state.spent + state.reserved + self._planned)

    def allowance(self, state: RunState, step: int) -> Stock:
        """Return what step number `step` may spend: everything, or with `steps` an equal part of what is left.

        Steps count from 0.  What a step leaves is shared by those after it.
        """
        left = self.remaining(state)
        if self.steps is None:
            return left
        steps_left = max(1, self.steps - step)
        return Stock(
            requests=None if left.requests is None else left.requests // steps_left,
            tokens=None if left.tokens is None else left.tokens // steps_left,
            usd=None if left.usd is None else left.usd / steps_left,
        )

    def ceiling(self, state: RunState, step: int) -> Stock:
        """Return what the run may have spent and put aside with step number `step`: what it has by now, and the step's allowance.

        Never more than the stock, whatever is planned.
        """
        if self.steps is None:
            return self.stock
        allowance, taken, stock = self.allowance(state, step), state.spent + state.reserved + self._planned, self.stock
        return Stock(
            requests=None if stock.requests is None else min(stock.requests, taken.requests + (allowance.requests or 0)),
            tokens=None if stock.tokens is None else min(stock.tokens, taken.tokens + (allowance.tokens or 0)),
            usd=None if stock.usd is None else min(stock.usd, taken.usd + (allowance.usd or 0.0)),
        )


def _rest(stock: Stock, taken: Cost) -> Stock:
    return Stock(
        requests=_left(stock.requests, taken.requests),
        tokens=_left(stock.tokens, taken.tokens),
        usd=None if stock.usd is None else max(0.0, stock.usd - taken.usd),
    )


def _left(limit: int | None, taken: int) -> int | None:
    return None if limit is None else max(0, limit - taken)
