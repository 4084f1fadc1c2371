"""What is noticed while a run goes on: the last error, a question that is not accepted, a judge whose replies nobody can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from judgeflow.errors import QuestionRejected
from judgeflow.types import CallEvent, ReadingStatus, StepStatistics

FIRST_REPLIES = 20
"""So many replies without a single verdict are no accident."""


class Watch:
    """An observer that keeps the last error, and says, through `say`, what a judge answers to the first question that it does not
    accept, and that the first replies all go without a verdict: each once.
    """

    def __init__(self, template: str, say: Callable[[str], None]) -> None:
        self.last_error: str | None = None
        self._template = template
        self._say = say
        self._rejected = False
        # Replies without a verdict by status; None once a verdict came or the warning was given.  Changed by _count alone.
        self._unread: Counter[str] | None = Counter()

    def call(self, event: CallEvent) -> None:
        """Keep an error; count a reply."""
        if event.error is not None:
            self.last_error = event.error
            self._warn_of_rejection(event)
        elif self._unread is not None:
            self._unread = self._count(self._unread, event.outcome)

    def _warn_of_rejection(self, event: CallEvent) -> None:
        """Rejections end no run, since they may concern single questions; where they concern all, this is the word that helps."""
        if event.outcome == QuestionRejected.status and not self._rejected:
            self._rejected = True
            self._say(f"warning: a question is not accepted, and its pair goes without a verdict: {event.error}")

    def _count(self, unread: Counter[str], status: str) -> Counter[str] | None:
        if status == ReadingStatus.OK:
            return None
        unread[status] += 1
        if unread.total() < FIRST_REPLIES:
            return unread
        self._say(self._warning(unread))
        return None

    def _warning(self, unread: Counter[str]) -> str:
        counts = ", ".join(f"{status} {count}" for status, count in unread.most_common())
        return (
            f"warning: none of the first {FIRST_REPLIES} replies holds a verdict ({counts}); does this judge end its replies with a tag of "
            f"template {self._template}, within [judge] max_completion_tokens? `judgeflow db info` counts replies that were not understood"
        )

    def step(self, statistics: StepStatistics) -> None:
        """Steps are the summary's."""

    def notice(self, event: str, **fields: object) -> None:
        """Keep what kept pairs from being asked about."""
        if event in {"judge_stopped", "store_failed", "scorer_failed"}:
            self.last_error = str(fields.get("error"))

    def close(self) -> None:
        """There is nothing to close."""
