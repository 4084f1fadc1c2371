"""When to ask again after a failed attempt: a plain function of the error's class."""

from __future__ import annotations

from dataclasses import dataclass

from judgeflow.errors import JudgeError, JudgeOverloaded, RateLimited, TransientJudgeError


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with jitter, capped in count and in time.

    `attempts` bounds the attempts that failed for other reasons than a rate limit (a 429 says nothing about the question); `for_s`
    bounds the seconds since the first attempt, rate limits included.  `base_s` doubles with each failure up to `cap_s`.  A judge that
    says how long it wants to rest is obeyed; if it says "not at all" the backoff holds, since whoever fails may not be hammered.
    """

    attempts: int = 6
    for_s: float = 600.0
    base_s: float = 0.5
    cap_s: float = 30.0

    def delay_s(self, error: JudgeError, *, failures: int, limited: int, elapsed_s: float, jitter: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        `failures` and `limited` count the failed attempts so far, this one included, without and with a rate limit; `jitter` is
        uniform in [0, 1) and spreads the wait over half to one and a half of the backoff.
        """
        if not isinstance(error, TransientJudgeError) or failures >= self.attempts:
            return None
        count = limited if isinstance(error, RateLimited) else failures
        backoff = min(self.cap_s, self.base_s * 2.0 ** min(count - 1, 30)) * (0.5 + jitter)
        asked_to_wait = error.retry_after_s if isinstance(error, JudgeOverloaded) else None
        wait = asked_to_wait if asked_to_wait is not None and asked_to_wait > 0 else backoff
        return None if elapsed_s + wait > self.for_s else wait
