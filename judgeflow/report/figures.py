"""The figures of a run, as plain values: the terminal, the HTML file and the live page all show these and compute nothing of their own.

Moments are Unix time in seconds, durations seconds, money US dollars.  Shares are between 0 and 1.  What cannot be known is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from judgeflow.store.runs import Pace
from judgeflow.types import Cost, Pressure, Stock

Mood = Literal["good", "unsure", "bad"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""What `Spread` tells of a distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share with its 95 % interval, and of how many it is one."""

    value: float
    low: float
    high: float
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One of the three things that a reader wants to know first: `title` names it, `text` is one plain sentence."""

    title: str
    mood: Mood
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A distribution by its quantiles, at `QUANTILES`, over `of` values."""

    quantiles: tuple[float, ...]
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """One step, all its endings together: what was spent adds up over them, what became of the pairs is how it ended last.

    `sources` counts as the judge's what any ending had from it, also where the last one took it from the store.
    `asked` counts the pairs that were to be asked about, `audits` those of them that were drawn at random; both are None, like the
    spreads, where decisions were not read or are gone.  `seconds` adds up.  `waited_s` maps "p50", "p90" and "max" to how long replies
    took; `remaining` maps "requests", "tokens" and "usd" to what was left, where there is a limit (see `pace.left_after`).  `pressure` has
    the judges that had too much to do, by their ids; None where nobody noted that.
    """

    step: int
    ended_at: float
    seconds: float
    pairs: int
    asked: int | None
    audits: int | None
    threshold: float | None
    sources: Mapping[str, int]
    statuses: Mapping[str, int]
    spent: Cost
    prompt_tokens: int
    completion_tokens: int
    agreement: float | None
    waited_s: Mapping[str, float]
    remaining: Mapping[str, float]
    uncertainty: Spread | None
    acquisition: Spread | None
    pressure: Mapping[str, Pressure] | None = None

    @property
    def turned_away(self) -> int | None:
        """How many requests judges turned away; None where nobody noted it."""
        return None if self.pressure is None else sum(judge.turned_away for judge in self.pressure.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteFigures:
    """One minute of a run: what was sent to a judge in it, and how many questions were under way or waiting at its end.

    Minutes in which nothing was sent, asked or answered are left out: nothing was sent in them, and the backlog stayed what it was.
    """

    start: float
    requests: int
    tokens: int
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeFigures:
    """What one judge did in this run; `calls`, `spent` and everything after them are None or empty until replies have been read.

    `statuses` counts replies by how they were read, `unanswered` questions that were charged without a reply.  `first` is the share of its
    decided replies that prefer what was shown first (a half is unbiased); `agree` that of pairs whose two orders agree; both take what one
    prompt has brought for one observation.  `latency_s` maps "p50", "p90", "p99" and "max" to seconds; the limits are those of the
    configuration, per minute.  `pressure` is what it turned away, None where that was nothing, or nobody noted it; `strain` says the same
    in words.
    """

    id: str
    model: str
    fingerprint: str
    calls: int | None
    statuses: Mapping[str, int]
    agree: Share | None
    first: Share | None
    latency_s: Mapping[str, float]
    spent: Cost | None
    unanswered: int = 0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    minutes: tuple[MinuteFigures, ...] = ()
    pressure: Pressure | None = None
    strain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Where the budget goes at the pace of the last steps: `steps_left` and `seconds_left` until `kind` ("requests", "tokens" or "usd")
    is spent, the first of those that are limited.  `steps_wanted` are those that the configuration still wants, where it says so.
    """

    kind: str
    steps_left: float
    seconds_left: float | None
    steps_wanted: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Whether asking where the router asks finds more of the scorer's mistakes than asking at random.

    `routed` and `audited` are shares of pairs on which the judge contradicts the scorer, weighted by 1 / propensity, of pairs asked about
    for their rank and of those drawn at random below the threshold; an undecided scorer counts half.  `difference` is routed less audited,
    and `ratio` how many times as many mistakes asking where the router asks finds as asking at random would, each as (value, low, high).
    `per_hundred` is `routed` as a number of a hundred: on how many routed pairs the judge decides otherwise than the scorer, with or
    without an audit; `per_hundred_at_random` is how many it would be, had the pairs been drawn at random, and None where the run has no
    audit.  `verdict` says it in one sentence.
    """

    routed: Share | None = None
    audited: Share | None = None
    difference: tuple[float, float, float] | None = None
    per_hundred: float | None = None
    per_hundred_at_random: float | None = None
    ratio: tuple[float, float, float] | None = None
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideReply:
    """One raw answer: `shown` is "ab" if the pair's first response was shown first, else "ba"; `preferred` is in the pair's own order.

    `judge` is its id, with the beginning of its fingerprint where several judges of the database have the same.
    """

    shown: Literal["ab", "ba"]
    judge: str
    text: str
    reasoning: str
    status: str
    preferred: Literal["a", "b", "tie"] | None
    latency_s: float
    prompt_tokens: int
    completion_tokens: int
    usd: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFigures:
    """One judged pair to read: its texts and replies, and what was decided about it where somebody asked for that.

    Responses are in canonical order.  A conversation stands in `prompt` as a tuple of its messages (role, content).  Where the pair is told
    of for a run, `replies` are those of the run's judges, and `others` counts those of judges that the run did not ask.
    """

    key: str
    prompt: str | tuple[Mapping[str, str], ...]
    response_a: str
    response_b: str
    replies: tuple[SideReply, ...]
    step: int | None = None
    logit: float | None = None
    uncertainty: float | None = None
    source: str | None = None
    status: str | None = None
    asked: bool | None = None
    audit: bool | None = None
    others: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Everything that is told about one run, as it was at `at`.

    `complete` tells that decisions and replies were read up to the last step; before, `asked`, `changed`, `compared` and whatever else
    needs them is None or empty.  `pace` tells whether the run is at work, and `news` says it in one sentence.  `changed` counts decisions
    where the judge's word contradicts the scorer's, `compared` those where both have one; `prompt_tokens` and `completion_tokens` are those
    that steps have recorded, `spent` is what the run's budget counts.
    """

    name: str
    at: float
    pace: Pace
    news: str
    complete: bool
    created_at: float
    config: Mapping[str, Any]
    answers: tuple[Answer, ...]
    pairs: int
    asked: int | None
    sources: Mapping[str, int]
    statuses: Mapping[str, int]
    spent: Cost
    reserved: Cost
    stock: Stock
    prompt_tokens: int
    completion_tokens: int
    changed: int | None
    compared: int | None
    steps: tuple[StepFigures, ...]
    judges: tuple[JudgeFigures, ...]
    forecast: Forecast | None
    lift: Lift
    slowest: tuple[PairFigures, ...] = ()
    inconsistent: tuple[PairFigures, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What the figures leave out, and why: decisions that were compacted, replies of other runs, ..."""

    @property
    def usd_per_change(self) -> float | None:
        """What a changed decision has cost; None where nothing was changed or no dollars are known."""
        return self.spent.usd / self.changed if self.changed and self.spent.usd else None

    @property
    def calls_per_change(self) -> float | None:
        """How many paid calls a changed decision took."""
        return self.spent.requests / self.changed if self.changed else None
