"""What `judgeflow route` says while it runs: how many pairs are done, how many are judged, what is spent and what is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from judgeflow.types import Cost

if TYPE_CHECKING:
    from collections.abc import Callable

    from judgeflow.cli.progress import Tell
    from judgeflow.config import BudgetConfig
    from judgeflow.types import CallEvent, Outcome, StepStatistics

JUDGED = frozenset({"judge", "store"})


class RouteProgress:
    """An observer that counts replies, and is handed every outcome.  Changed on the scheduler's loop only.

    `paid` is what replies have cost since it began, those included that came too late for their step.
    """

    def __init__(self, pairs: int, budget: BudgetConfig) -> None:
        self.paid = Cost()
        self.tell: Tell | None = None
        self.in_flight: Callable[[], int] = int
        self._pairs = pairs
        self._budget = budget
        self._done = 0
        self._judged = 0
        self._spent: dict[str, float] = {"requests": 0, "tokens": 0, "usd": 0.0}

    def spent(self, before: Cost) -> None:
        """Count what the run had spent before, and begin."""
        self._spend(before.requests, before.tokens, before.usd)
        self._move()

    def outcome(self, index: int, outcome: Outcome) -> None:
        """Count a pair.

        What is known, or left to the scorer, comes all at once and says nothing of the speed: it is told with the next reply.
        """
        del index
        self._done += 1
        self._judged += outcome.source in JUDGED
        if outcome.source == "judge":
            self._move()

    def call(self, event: CallEvent) -> None:
        """Count a reply that is paid for."""
        if event.error is None:
            self.paid += Cost(requests=1, tokens=event.usage.total, usd=event.usd)
            self._spend(1, event.usage.total, event.usd)
            self._move()

    def step(self, statistics: StepStatistics) -> None:
        """Tell what the step has decided."""
        del statistics
        self._move()

    def notice(self, event: str, **fields: object) -> None:
        """Notices are the log's."""

    def close(self) -> None:
        """The bar ends with its block."""

    def _spend(self, requests: int, tokens: int, usd: float) -> None:
        for name, amount in {"requests": requests, "tokens": tokens, "usd": usd}.items():
            self._spent[name] += amount

    def _move(self) -> None:
        if self.tell is not None:
            self.tell("pairs", self._done, self._pairs)

    def words(self) -> str:
        """What is known beside the pairs: `judged 21%, 2.31/5 USD, 64 in flight`."""
        parts = [f"judged {self._judged / self._done:.0%}"] if self._done else []
        return ", ".join([*parts, self._spending(), f"{self.in_flight()} in flight"])

    def _spending(self) -> str:
        """The dearest kind of budget that is limited, or else the number of calls."""
        if self._budget.usd is not None:
            return f"{self._spent['usd']:.2f}/{self._budget.usd:g} USD"
        if self._budget.tokens is not None:
            return f"{self._spent['tokens']:,.0f}/{self._budget.tokens:,} tokens"
        limit = "" if self._budget.requests is None else f"/{self._budget.requests:,}"
        return f"{self._spent['requests']:,.0f}{limit} calls"
