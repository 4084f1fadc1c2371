"""What the attempts at one judge say about it: how much it bears, whether it is there at all, and what the operator is told of that."""

from __future__ import annotations

import random
from collections.abc import Callable

from judgeflow.engine.jobs import Job
from judgeflow.engine.seat import Seat
from judgeflow.errors import (
    JudgeBusy,
    JudgeError,
    JudgeRefusesService,
    JudgeUnreachable,
    QuestionRejected,
    RateLimited,
    TransientJudgeError,
)
from judgeflow.ports import Clock, Permit
from judgeflow.routing.breaker import Breaker
from judgeflow.routing.concurrency import Concurrency
from judgeflow.routing.strain import Strain
from judgeflow.types import RateHeaders

UNREACHABLE_ATTEMPTS = 3
"""A judge that has never answered and cannot be reached so often for one question is not there: nobody waits for it any longer."""


class Health:
    """Hears how each attempt ended, and moves the limit in flight, the gate and the breaker of one judge.

    Of an outage the operator is told once each `judge_opened`, `judge_half_open` and `judge_closed`, and `judge_stopped` when nobody waits
    for the judge any more.  `patience` is how many failed probes questions wait for; 0 where another judge stands in.  `error` is what
    opened the breaker, or failed the last probe.  Changes only between awaits.
    """

    def __init__(self, seat: Seat, concurrency: Concurrency, *, patience: int, clock: Clock, notice: Callable[..., None]) -> None:
        self.breaker = Breaker(first_s=seat.retry.base_s, longest_s=seat.retry.cap_s, patience=patience)
        self.strain = Strain(concurrency)
        self.error: JudgeError | None = None
        self._gate = seat.gate
        self._concurrency = concurrency
        self._clock = clock
        self._notice = notice
        self._told_stricter: set[str] = set()
        self._random = random.Random()  # noqa: S311 - jitter needs no secrets

    @property
    def refusal(self) -> JudgeError | None:
        """Why nobody waits for this judge; None while it answers, or is expected to."""
        return self.error if self.breaker.gave_up else None

    @property
    def wait_s(self) -> float:
        """Seconds until a question may go out; infinity while a probe is out."""
        return self.breaker.wait_s(self._clock.now())

    def sent(self, number: int) -> None:
        """Attempt `number` goes out."""
        if self.breaker.sent(number) and self.breaker.probes == 1:
            self._notice("judge_half_open")

    def answered(self, job: Job, rates: RateHeaders | None, permit: Permit, *, under_way: int) -> None:
        """A reply came; `under_way` requests were until now, its own included."""
        self._heed(rates, permit)
        low_for_s = self._concurrency.answered(self._clock.now(), number=job.sent, under_way=under_way)
        if low_for_s is not None:
            self._notice("in_flight_recovered", max_in_flight=self._concurrency.most, seconds=round(low_for_s, 1))
        self._is_there(job)

    def failed(self, job: Job, error: JudgeError, permit: Permit, *, sent: int) -> bool:
        """An attempt failed, of `sent` so far.  Returns whether this has opened the breaker, or kept it open."""
        self._heed(error.rates, permit)
        if isinstance(error, JudgeBusy):
            self._turned_away(job, error, sent)
        if self._proves_presence(error):
            self._is_there(job)
            return False
        is_known = isinstance(error, TransientJudgeError | JudgeRefusesService)  # else the judge object raised something odd
        return (is_known or self.breaker.state == "half_open") and self._is_absent(job, error)

    def _turned_away(self, job: Job, error: JudgeBusy, sent: int) -> None:
        is_new_low = self._concurrency.turned_away(self._clock.now(), number=job.sent, sent=sent)
        self.strain.turned_away(rate_limited=isinstance(error, RateLimited))
        if is_new_low:
            limit, most = self._concurrency.limit, self._concurrency.most
            self._notice("in_flight_lowered", in_flight=limit, max_in_flight=most, error=str(error))

    def _proves_presence(self, error: JudgeError) -> bool:
        """Whether it takes a judge to say that: no to this question, or to so many at a time where there could be fewer."""
        alone = self._concurrency.limit == 1 or self.breaker.state == "half_open"
        return isinstance(error, RateLimited | QuestionRejected) or (isinstance(error, JudgeBusy) and not alone)

    def _is_there(self, job: Job) -> None:
        if self.breaker.answered(job.sent) == "closed":
            self.error = None
            self._notice("judge_closed", seconds=round(self.breaker.open_s(self._clock.now()), 1), probes=self.breaker.probes)

    def _is_absent(self, job: Job, error: JudgeError) -> bool:
        gave_up, now, jitter = self.breaker.gave_up, self._clock.now(), self._random.random()
        if isinstance(error, JudgeRefusesService):
            change = self.breaker.refused(now, job.sent, jitter)
        else:
            never_there = isinstance(error, JudgeUnreachable) and not self.breaker.ever_answered and job.failures >= UNREACHABLE_ATTEMPTS
            change = self.breaker.failed(now, job.sent, job.question.call_key, jitter, last=never_there)
        if change is None:
            return False
        self.error = error
        if change == "opened":
            self._notice("judge_opened", error=str(error))
        if self.breaker.gave_up and not gave_up:
            self._notice("judge_stopped", error=str(error))
        return True

    def _heed(self, rates: RateHeaders | None, permit: Permit) -> None:
        """Let the gate know what the judge says about its limits, and say once what is stricter for it."""
        stricter = self._gate.heed(rates, permit) if rates is not None else {}
        self.strain.told(stricter)
        news = {name: value for name, value in stricter.items() if name not in self._told_stricter}
        if news:
            self._told_stricter |= news.keys()
            self._notice("limits_tightened", **news)
