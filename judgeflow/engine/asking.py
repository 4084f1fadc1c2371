"""One attempt at asking a judge: whatever a judge does, it ends in a reply or in a `JudgeError`, and observers are told."""

from __future__ import annotations

from dataclasses import replace

from judgeflow.engine.events import Observers
from judgeflow.errors import JudgeError, PermanentJudgeError
from judgeflow.ports import Clock, Judge
from judgeflow.types import Call, CallEvent, Question, Reading, ReadingStatus, Reply, Usage


class Asker:
    """Asks one judge, reads what it replies, and tells observers of every attempt.  Judges are foreign code: nothing they raise passes."""

    def __init__(self, judge: Judge, run: str, clock: Clock, observers: Observers) -> None:
        self._judge = judge
        self._run = run
        self._clock = clock
        self._observers = observers

    async def ask(self, question: Question, attempt: int, step: int | None = None) -> Reply:
        """Ask once, for `step`; `attempt` counts from 1.  Raises `JudgeError` and nothing else."""
        started = self._clock.now()
        try:
            return _require_reply(await self._judge.ask(question))
        except JudgeError as error:
            self._tell(question, attempt, step, error.status, self._clock.now() - started, error=error)
            raise
        except Exception as error:  # a judge is foreign code: its surprises concern one question
            surprise = PermanentJudgeError(f"the judge raised {error!r}")
            surprise.maybe_paid = True
            self._tell(question, attempt, step, surprise.status, self._clock.now() - started, error=surprise)
            raise surprise from error

    def call(self, question: Question, reply: Reply, attempt: int, step: int | None = None) -> Call:
        """Return a reply as it is stored: read, with the number of attempts that it took."""
        call = Call(
            key=question.call_key,
            pair_key=question.pair_key,
            judge=self._judge.identity.fingerprint,
            canonical=question.canonical,
            reply=reply if reply.rates is None and attempt == 1 else replace(reply, attempts=attempt, rates=None),
            reading=self._read(reply),
            created_at=self._clock.wall(),
            sample=question.sample,
        )
        self._tell(question, attempt, step, call.reading.status.value, reply.latency_s, reply=reply)
        return call

    def _read(self, reply: Reply) -> Reading:
        """Read a reply.  One that the judge's own reader chokes on is kept all the same: it was paid for."""
        try:
            return self._judge.read(reply)
        except Exception as error:  # a judge is foreign code
            self._observers.notice("reply_unreadable", error=repr(error))
            return Reading(status=ReadingStatus.UNPARSEABLE)

    def _tell(
        self,
        question: Question,
        attempt: int,
        step: int | None,
        outcome: str,
        latency_s: float,
        *,
        reply: Reply | None = None,
        error: JudgeError | None = None,
    ) -> None:
        event = CallEvent(
            run=self._run,
            call_key=question.call_key,
            pair_key=question.pair_key,
            order="canonical" if question.canonical else "swapped",
            outcome=outcome,
            attempt=attempt,
            latency_s=latency_s,
            usage=reply.usage if reply else Usage(),
            usd=reply.usd if reply else 0.0,
            error=str(error) if error else None,
            judge=self._judge.identity.id,
            model=self._judge.identity.model,
            step=step,
        )
        self._observers.call(event)


def _require_reply(reply: object) -> Reply:
    """Raise for a judge that returns something else: the attempt may have cost something all the same."""
    if not isinstance(reply, Reply):
        error = PermanentJudgeError(f"the judge returned {type(reply).__name__} instead of a Reply")
        error.maybe_paid = True
        raise error
    return reply
