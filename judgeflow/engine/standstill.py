"""Why one judge is asked nothing for a while, for reasons that lie with no single question: nobody would fare better now."""

from __future__ import annotations

import math
from collections.abc import Callable

from judgeflow.engine.jobs import Job
from judgeflow.errors import JudgeError, JudgeflowError, JudgeOverloaded, RateLimited
from judgeflow.ports import Clock
from judgeflow.routing.learned import LONGEST_HOLD_S

UNSTORABLE_REPLIES = 3
"""So many replies in a row that the store refuses are no accident of one reply: asking stops before more is paid for."""


class Standstill:
    """Keeps why asking has stopped, until an answer to a later attempt is stored, or the time is over that the judge wants for itself.

    `failure` is that of the gate, of a judge that turns everybody away, or of a store that refuses every reply; None without one.  The
    operator is told once.  An outage is no standstill: see `Health`.  Changes only between awaits.
    """

    def __init__(self, clock: Clock, notice: Callable[..., None]) -> None:
        self.failure: JudgeflowError | None = None
        self._clock = clock
        self._notice = notice
        self._sent_at_failure = 0
        self._left_alone_until = -math.inf  # by the judge's own word
        self._left_alone_by: JudgeflowError | None = None
        self._answered_at = -math.inf
        self._unstorable = 0

    @property
    def left_alone(self) -> JudgeflowError | None:
        """What the judge said when it wanted to be left alone, until that time is over."""
        return self._left_alone_by if self._clock.now() < self._left_alone_until else None

    def answered(self) -> None:
        """A reply has come, and is to be stored."""
        self._answered_at = self._clock.now()

    def stored(self, job: Job) -> None:
        """A reply is stored: what failed before it was sent is over."""
        self._unstorable = 0
        if job.sent > self._sent_at_failure:
            self.failure = None

    def is_turning_everybody_away(self, job: Job, error: JudgeError) -> bool:
        """Whether nobody was answered in all the time for which `job` was tried: each of those that wait would take as long."""
        return isinstance(error, RateLimited) and self._answered_at < (job.first_attempt_at or 0.0)

    def refused_by_store(self) -> bool:
        """The store has not taken something; return whether it takes nothing any more."""
        self._unstorable += 1
        return self._unstorable >= UNSTORABLE_REPLIES

    def begin(self, failure: JudgeflowError, event: str, *, sent: int) -> None:
        """Stop, after `sent` attempts, and tell the operator as `event` unless asking has stopped already."""
        if self.failure is None:
            self._notice(event, error=str(failure))
        self.note(failure, sent=sent)

    def note(self, failure: JudgeflowError, *, sent: int) -> None:
        """Stop, after `sent` attempts, where the operator is told otherwise."""
        self.failure = failure
        self._sent_at_failure = sent

    def leave_alone(self, error: JudgeOverloaded, tried_for_s: float) -> JudgeflowError:
        """The judge wants to be left alone for longer than a question is tried.  Returns what those who wait are told."""
        seconds = error.retry_after_s or 0.0
        longer = f"it wants to be left alone for {seconds:g} s, and a question is tried for {tried_for_s:g} s at most"
        reason = type(error)(f"{error}; {longer}", retry_after_s=seconds)
        if self.left_alone is None:
            self._notice("judge_stopped", error=str(reason))
        self._left_alone_by, self._left_alone_until = reason, self._clock.now() + min(seconds, LONGEST_HOLD_S)
        return reason
