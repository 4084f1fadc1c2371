"""An observer for tests."""

from __future__ import annotations

from judgeflow.types import CallEvent, StepStatistics


class Watcher:
    """An `Observer` that keeps what it is told: `calls`, `steps`, `notices` as (event, fields), and whether it was `closed`.

    >>> async with Scheduler(judge=judge, store=store, observers=[seen := Watcher()]) as scheduler: ...
    >>> seen.notices
    [('budget_spent', {'requests_left': 0, ...})]
    """

    def __init__(self) -> None:
        self.calls: list[CallEvent] = []
        self.steps: list[StepStatistics] = []
        self.notices: list[tuple[str, dict[str, object]]] = []
        self.closed = False

    def call(self, event: CallEvent) -> None:
        self.calls.append(event)

    def step(self, statistics: StepStatistics) -> None:
        self.steps.append(statistics)

    def notice(self, event: str, **fields: object) -> None:
        self.notices.append((event, fields))

    def close(self) -> None:
        self.closed = True
