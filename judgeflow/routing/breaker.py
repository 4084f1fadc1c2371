"""Whether a judge is there at all: a circuit breaker (Nygard, Release It!, 2007), so that nobody hammers a judge that is down.

    closed      questions go out.  `RUN` different questions that fail one after the other, with no answer in between, open it.  So does a
                single refusal of service, and a judge that could never be reached.
    open        nothing goes out for a cool-down: `first_s`, doubled with each probe that fails up to `longest_s`, with jitter.
    half-open   exactly one question is out, as a probe.  Any answer closes the breaker; else it is open again, for longer.

What counts as a failure is the caller's to say: a judge that is there and says no to one question, or "too many requests", has answered.

Questions wait for a judge whose breaker is open until `patience` probes have failed, or one has after `PATIENCE_S`; then it is given up:
whoever waits is answered with the failure, and so is who comes during a cool-down.  A judge that refuses service, or has never answered, is
given up sooner: waiting does not mend a wrong key or address.  What comes later may then probe at once, and after that once a cool-down.
"""

from __future__ import annotations

import math
from typing import Literal

State = Literal["closed", "open", "half_open"]
Change = Literal["opened", "probe_failed", "closed"]

RUN = 10
"""Where three in ten attempts fail for themselves, ten different questions fail in a row about once in 200,000 attempts."""

PATIENCE_S = 60.0
"""A judge that lets its probes hang until they time out is given up after the first that fails later than this."""

NEWCOMERS_PATIENCE = 2
"""Probes that a judge may fail that has never answered: it is probably not there."""


class Breaker:
    """The breaker of one judge.

    Attempts are numbered in the order in which they are sent, from 1: what was sent before the breaker opened says little about later.
    `now` is seconds of one monotonic clock, `jitter` uniform in [0, 1) and spreads a cool-down over half to one and a half.  State changes
    only in `sent`, `answered`, `failed` and `refused`, which do not await.
    """

    def __init__(self, *, first_s: float, longest_s: float, patience: int) -> None:
        self.state: State = "closed"
        self.probes = 0
        self.gave_up = False
        self._first_s = first_s
        self._longest_s = longest_s
        self._patience = patience
        self._ever_answered = False
        self._failing: set[bytes] = set()
        self._last_sent = 0
        self._sent_at_opening = 0
        self._refused = False
        self._opened_at = 0.0
        self._probe = 0
        self._probe_at = 0.0
        self._failed_probes = 0

    @property
    def ever_answered(self) -> bool:
        """Whether this judge has answered anything so far."""
        return self._ever_answered

    def wait_s(self, now: float) -> float:
        """Return the seconds until a question may go out: 0 if one may now, infinity while a probe is out."""
        if self.state == "closed":
            return 0.0
        return math.inf if self.state == "half_open" else max(0.0, self._probe_at - now)

    def open_s(self, now: float) -> float:
        """Return for how many seconds the breaker has been open, or was when it closed at `now`."""
        return now - self._opened_at

    def sent(self, number: int) -> bool:
        """Attempt `number` goes out, which `wait_s` allowed.  Returns whether it is a probe."""
        self._last_sent = number
        if self.state == "closed":
            return False
        self.state = "half_open"
        self._probe = number
        self.probes += 1
        return True

    def answered(self, number: int) -> Change | None:
        """Attempt `number` was answered: the judge is there."""
        self._ever_answered = True
        self._failing.clear()
        if self.state == "closed" or (self._refused and number <= self._sent_at_opening):
            return None
        self.state, self.gave_up, self._refused = "closed", False, False
        return "closed"

    def failed(self, now: float, number: int, question: bytes, jitter: float, *, last: bool = False) -> Change | None:
        """Attempt `number`, at `question`, failed as if nobody were there; `last` tells that it is no use to wait for this judge."""
        if self._is_probe(number):
            return self._probe_failed(now, jitter, last=last)
        if self.state != "closed" or number <= self._sent_at_opening:
            return None
        self._failing.add(question)
        return self._open(now, jitter, last=last) if last or len(self._failing) >= RUN else None

    def refused(self, now: float, number: int, jitter: float) -> Change | None:
        """Attempt `number` says that no question will be answered before somebody does something about it."""
        if self._is_probe(number):
            self._refused = True
            return self._probe_failed(now, jitter, last=True)
        if self.state != "closed" or number <= self._sent_at_opening:
            return None
        self._refused = True
        return self._open(now, jitter, last=True)

    def _is_probe(self, number: int) -> bool:
        return self.state == "half_open" and number == self._probe

    def _open(self, now: float, jitter: float, *, last: bool) -> Change:
        self._opened_at, self._failed_probes, self.probes = now, 0, 0
        self._failing.clear()
        self._cool_down(now, jitter, last=last)
        return "opened"

    def _probe_failed(self, now: float, jitter: float, *, last: bool) -> Change:
        self._failed_probes += 1
        self._cool_down(now, jitter, last=last)
        return "probe_failed"

    def _cool_down(self, now: float, jitter: float, *, last: bool) -> None:
        self.state = "open"
        self._sent_at_opening = self._last_sent
        self._probe_at = now + min(self._longest_s, self._first_s * 2.0 ** min(self._failed_probes, 60)) * (0.5 + jitter)
        patience = self._patience if self._ever_answered else min(self._patience, NEWCOMERS_PATIENCE)
        if not self.gave_up and (last or self._failed_probes >= patience or now - self._opened_at >= PATIENCE_S):
            self.gave_up = True
            self._probe_at = now if self._refused or not self._ever_answered else self._probe_at
