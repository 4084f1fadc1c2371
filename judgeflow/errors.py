"""Every error judgeflow raises on purpose.

    JudgeflowError
    ├── UsageError                    the caller did what the contract forbids
    │   ├── ConfigurationError        a setting is unknown, mistyped, impossible or missing
    │   ├── RecordError               a pair record cannot be used (file and line are named)
    │   └── ReplayError               what was recorded cannot answer the question
    │       └── NotCovered            it has no verdicts on what a policy would ask about
    ├── ScorerError                   the scorer failed on a batch
    ├── StoreError                    the verdict database cannot do what was asked
    │   ├── StoreUnavailable          locked, read-only, full, corrupt or unreachable
    │   │   └── StoreClosed           closed, or its event loop has ended: it will not take anything any more
    │   ├── ReadTooLong               a read was ended because it took longer than it may
    │   └── SchemaMismatch            older, newer or foreign schema (the command to run is named)
    ├── ServiceError                  a judgeflow service did not answer, or not with what was asked for
    └── JudgeError                    one attempt to ask the judge failed
        ├── TransientJudgeError       worth another attempt
        │   ├── JudgeUnreachable      nothing was sent
        │   ├── JudgeOverloaded       5xx: the judge said that it failed; `retry_after_s` if it said so
        │   │   ├── JudgeBusy         503, 529: it has too much to do; fewer requests at a time would help
        │   │   │   └── RateLimited   429: nothing was served
        │   │   └── GatewayFailed     408, 502, 504, 520, 524: the judge behind it may have answered, and been paid for it
        │   └── ReplyLost             sent, but no usable reply came: may have been paid for
        └── PermanentJudgeError       the same question would fail again
            ├── QuestionRejected      400, 413, 422: this question is not acceptable
            │   └── QuestionTooLong   longer than [judge] max_prompt_tokens: it is not even sent
            └── JudgeRefusesService   401 - 404, insufficient_quota, no such model: no question is acceptable

The first line of the class docstring is the default message.  Whoever catches an error decides by class alone: `TransientJudgeError` may be
retried, `JudgeRefusesService` stops the run's asking, everything else concerns one question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from judgeflow.types import RateHeaders


class JudgeflowError(Exception):
    """judgeflow could not do what was asked."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or type(self).__name__).partition("\n")[0])


class UsageError(JudgeflowError):
    """This call breaks the contract of the function."""


class ConfigurationError(UsageError):
    """The configuration is not usable."""


class RecordError(UsageError):
    """A pair record is not usable."""


class ReplayError(UsageError):
    """What was recorded cannot answer the question."""


class NotCovered(ReplayError):
    """There are no verdicts on what the policy would ask about."""


class ScorerError(JudgeflowError):
    """The scorer failed."""


class StoreError(JudgeflowError):
    """The verdict database failed."""


class StoreUnavailable(StoreError):
    """The verdict database cannot be read or written."""


class StoreClosed(StoreUnavailable):
    """The verdict database is closed; open it again to go on."""


class ReadTooLong(StoreError):
    """This read of the verdict database takes longer than it may."""


class SchemaMismatch(StoreError):
    """The verdict database has another schema than this version of judgeflow."""


class ServiceError(JudgeflowError):
    """The judgeflow service did not answer."""


class JudgeError(JudgeflowError):
    """The judge did not answer.

    `maybe_paid` tells whether the judge may have charged for the attempt although no reply arrived; the budget then
    charges it at its worst case.  `status` is the label of an outcome that had to do without the judge.  `rates` is what the
    judge said about its limits, if it did.
    """

    maybe_paid = False
    rates: RateHeaders | None = None
    status = "judge_error"


class TransientJudgeError(JudgeError):
    """The judge failed in a way that another attempt may mend."""


class JudgeUnreachable(TransientJudgeError):
    """No connection to the judge could be made."""

    status = "unreachable"


class JudgeOverloaded(TransientJudgeError):
    """The judge reported a failure of its own."""

    status = "overloaded"

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class JudgeBusy(JudgeOverloaded):
    """The judge has too many requests to serve another."""


class RateLimited(JudgeBusy):
    """The judge turned the request away because of a rate limit."""

    status = "rate_limited"


class GatewayFailed(JudgeOverloaded):
    """A gateway gave up on the judge, which may have answered all the same."""

    maybe_paid = True


class ReplyLost(TransientJudgeError):
    """The question was sent, but no usable reply came back."""

    maybe_paid = True
    status = "reply_lost"


class PermanentJudgeError(JudgeError):
    """The judge will not answer this question."""


class QuestionRejected(PermanentJudgeError):
    """The judge does not accept this question."""

    status = "rejected"


class QuestionTooLong(QuestionRejected):
    """The question is longer than this judge is given."""

    status = "too_long"


class JudgeRefusesService(PermanentJudgeError):
    """The judge accepts no question from this account with these settings."""

    status = "judge_stopped"
