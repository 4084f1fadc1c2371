"""The figures of a run, as plain values: the terminal, the HTML file and the live page all show these and compute nothing of their own.

Moments are Unix time in seconds, durations seconds, money US dollars.  Shares are between 0 and 1.  What cannot be known is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from judgeflow.types import Cost, Stock

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
    """One step, all its endings together.

    `asked` counts the pairs that were to be asked about, `audits` those of them that were drawn at random; `waited_s` maps "p50", "p90"
    and "max" to how long replies took; `remaining` maps "requests", "tokens" and "usd" to what was left, where there is a limit.
    """

    step: int
    ended_at: float
    seconds: float
    pairs: int
    asked: int
    audits: int
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteFigures:
    """One minute of a run: what was sent to a judge in it, and how many questions were under way or waiting at its end."""

    start: float
    requests: int
    tokens: int
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeFigures:
    """What one judge did in this run.

    `first` is the share of its decided replies that prefer what was shown first (a half is unbiased); `agree` that of pairs whose two
    orders agree; the limits are those of the configuration.
    """

    id: str
    model: str
    fingerprint: str
    calls: int
    statuses: Mapping[str, int]
    agree: Share | None
    first: Share | None
    latency_s: Mapping[str, float]
    spent: Cost
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    minutes: tuple[MinuteFigures, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Where the budget goes at the pace of the last steps: `steps_left` and `seconds_left` until `kind` ("requests", "tokens" or "usd")
    is spent, the first of those that are limited.
    """

    kind: str
    steps_left: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Whether asking where the router asks finds more of the scorer's mistakes than asking at random.

    `routed` and `audited` are shares of pairs on which the judge contradicts the scorer; `per_hundred` counts the decisions that a
    hundred judged pairs have changed, and `per_hundred_at_random` those that they would have changed, had the pairs been drawn at
    random; both None where the run has no audit.
    """

    routed: Share | None
    audited: Share | None
    difference: tuple[float, float, float] | None
    per_hundred: float | None
    per_hundred_at_random: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideReply:
    """One raw answer: `shown` is "ab" if the pair's first response was shown first, else "ba"; `preferred` is in the pair's own order."""

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
    """One judged pair to read: texts and replies.  A conversation stands in `prompt` as a tuple of its messages (role, content)."""

    key: str
    step: int | None
    prompt: str | tuple[Mapping[str, str], ...]
    response_a: str
    response_b: str
    replies: tuple[SideReply, ...]
    logit: float | None
    uncertainty: float | None
    source: str | None
    status: str | None
    asked: bool | None
    audit: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Everything that is told about one run."""

    name: str
    created_at: float
    config: Mapping[str, Any]
    answers: tuple[Answer, ...]
    pairs: int
    asked: int
    sources: Mapping[str, int]
    statuses: Mapping[str, int]
    spent: Cost
    reserved: Cost
    stock: Stock
    prompt_tokens: int
    completion_tokens: int
    changed: int
    compared: int
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
