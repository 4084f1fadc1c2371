"""The values that flow through judgeflow: frozen, slotted, without behaviour beyond their own consistency.

Logits are natural log-odds that the first response (`response_a`) is preferred.  Token counts are tokens as the judge bills
them, money is US dollars, durations are seconds.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Literal

Label = Literal["a", "b", "tie"]
Choice = Literal["a", "b", "tie", "inconsistent"]
Source = Literal["scorer", "judge", "store", "fallback"]

OK = "ok"
ONE_ORDER = "one_order"
IDENTICAL = "identical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message of a conversational prompt."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]


def as_prompt(value: str | Sequence[object]) -> Prompt:
    """Return a prompt given as text, messages or `{"role", "content"}` mappings in its frozen form.

    Raises `TypeError` for anything else, `ValueError` for an empty list.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence):
        raise TypeError(f"a prompt is a string or a list of messages, not {type(value).__name__}")
    if not value:
        raise ValueError("a prompt given as messages needs at least one message")
    return tuple(_as_message(item) for item in value)


def _as_message(item: object) -> Message:
    if isinstance(item, Message):
        return item
    if not isinstance(item, Mapping):
        raise TypeError(f"a message is a mapping with 'role' and 'content', not {type(item).__name__}")
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise TypeError("a message needs 'role' and 'content', both strings")
    return Message(role=role, content=content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two responses to one prompt, in an order that matters.

    `id`, `group`, `label` and `metadata` describe the pair without being part of it: two pairs with the same texts are equal.
    """

    prompt: Prompt
    response_a: str
    response_b: str
    id: str | None = field(default=None, compare=False)
    group: str | None = field(default=None, compare=False)
    label: Label | None = field(default=None, compare=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str):
            object.__setattr__(self, "prompt", as_prompt(self.prompt))
        for name, response in (("response_a", self.response_a), ("response_b", self.response_b)):
            if not isinstance(response, str):
                raise TypeError(f"{name} is a string, not {type(response).__name__}")

    def swapped(self) -> Pair:
        """Return the same pair with its responses, and its label, exchanged."""
        flipped: Mapping[Label, Label] = {"a": "b", "b": "a", "tie": "tie"}
        return Pair(
            prompt=self.prompt,
            response_a=self.response_b,
            response_b=self.response_a,
            id=self.id,
            group=self.group,
            label=flipped[self.label] if self.label else None,
            metadata=self.metadata,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One prompt and its K responses, as trainers sample them.

    Identical responses stay apart by their index.  `mask[k]` false takes response k out of the comparison: it gets advantage 0
    and its siblings count one fewer.
    """

    prompt: Prompt
    responses: tuple[str, ...]
    id: str
    mask: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", as_prompt(self.prompt))
        object.__setattr__(self, "responses", _as_responses(self.responses, self.id))
        if self.mask is None:
            return
        object.__setattr__(self, "mask", tuple(self.mask))
        if len(self.mask) != len(self.responses):
            raise ValueError(f"group {self.id!r}: {len(self.mask)} mask entries for {len(self.responses)} responses")

    @property
    def members(self) -> tuple[int, ...]:
        """Indexes of the responses that take part, ascending."""
        return tuple(k for k in range(len(self.responses)) if self.mask is None or self.mask[k])

    def indexes(self) -> tuple[tuple[int, int], ...]:
        """Return the (i, j), i < j, of every pair, in the order of `pairs()`."""
        return tuple(itertools.combinations(self.members, 2))

    def pairs(self) -> tuple[Pair, ...]:
        """Return the K(K-1)/2 pairs in canonical order: (0,1), (0,2), ..., (K-2,K-1)."""
        return tuple(
            Pair(
                prompt=self.prompt,
                response_a=self.responses[i],
                response_b=self.responses[j],
                id=f"{self.id}:{i}-{j}",
                group=self.id,
            )
            for i, j in self.indexes()
        )


def _as_responses(responses: Any, group: str) -> tuple[str, ...]:
    if isinstance(responses, str):
        raise TypeError(f"group {group!r}: responses is a tuple of strings, not one string")
    for k, response in enumerate(responses):
        if not isinstance(response, str):
            raise TypeError(f"group {group!r}: response {k} is a string, not {type(response).__name__}")
    return tuple(responses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """What the scorer believes of a pair.

    `logit` is the mean-field logit s = g / u, `uncertainty` is u >= 1 (None where the scorer has none) and `variance` the
    posterior variance behind it.  Finite by construction: a NaN raises `ValueError` where it is made.
    """

    logit: float
    uncertainty: float | None = None
    variance: float | None = None

    def __post_init__(self) -> None:
        for name in ("logit", "uncertainty", "variance"):
            value = getattr(self, name)
            if (value is None and name == "logit") or (value is not None and not math.isfinite(value)):
                raise ValueError(f"a preference needs a finite {name}, not {value}")
        object.__setattr__(self, "logit", _unsigned_zero(self.logit))

    @property
    def probability(self) -> float:
        """P(response_a is preferred)."""
        return sigmoid(self.logit)

    def swapped(self) -> Preference:
        """Return the belief about the swapped pair."""
        return replace(self, logit=-self.logit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One directed question: which of two responses, shown in this order, is better?

    `canonical` tells that the response with the smaller hash is shown first; a pair's two questions differ in it.  `nonce` is a
    hash of everything shown: it delimits the texts in the prompt, so no response can forge a delimiter, and it names the
    question to a replaying judge.
    """

    prompt: Prompt
    first: str
    second: str
    canonical: bool
    nonce: str
    pair_key: bytes
    call_key: bytes
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeIdentity:
    """Which judge answered: what verdicts are keyed by.

    `fingerprint` hashes the id, the model, the template and every sampling parameter, all of which stand readable in `parameters`.
    """

    id: str
    model: str
    fingerprint: bytes
    parameters: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the judge billed them; `reasoning` is part of `completion`, `cached` is part of `prompt`."""

    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """Tokens in and out."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the account stands with one of the judge's limits: how much a window admits, what is left, and seconds until it is reset."""

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateHeaders:
    """What a judge said about its limits beside an answer; None where it said nothing."""

    requests: Standing = Standing()
    tokens: Standing = Standing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One raw answer of the judge, exactly as it was given.  `rates` is news about the account and no part of the answer."""

    text: str
    reasoning: str = ""
    refusal: str | None = None
    finish_reason: str | None = "stop"
    usage: Usage = Usage()
    usd: float = 0.0
    latency_s: float = 0.0
    attempts: int = 1
    model: str = ""
    request_id: str | None = None
    rates: RateHeaders | None = field(default=None, compare=False, repr=False)


class ReadingStatus(StrEnum):
    """How much a reply says.  Everything but `OK` is kept, marked, and never counted as a verdict."""

    OK = "ok"
    UNPARSEABLE = "unparseable"
    TRUNCATED = "truncated"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the parser understood of one reply, in the order shown: +1 first, -1 second, 0 tie; None unless `OK`."""

    status: ReadingStatus
    preferred: int | None = None
    strong: bool = False
    parser_version: int = 1

    def __post_init__(self) -> None:
        if (self.status is ReadingStatus.OK) != (self.preferred in {-1, 0, 1}):
            raise ValueError(f"a reading with status {self.status} cannot prefer {self.preferred}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One answered question: what came back and how it was read.  One row of the store's `call` table.

    `canonical` is the order that was shown (see `Question`), `judge` the fingerprint, `created_at` Unix time in seconds.
    """

    key: bytes
    pair_key: bytes
    judge: bytes
    canonical: bool
    reply: Reply
    reading: Reading
    created_at: float
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge thinks of a pair, in the pair's own order.

    `logit` is +margin for response_a, -margin for response_b, half of it where only one order prefers, 0 for a tie or a
    contradiction.  `forward` showed response_a first, `backward` response_b; one of them may be missing.
    """

    choice: Choice
    logit: float
    judge: JudgeIdentity
    forward: Call | None = None
    backward: Call | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "logit", _unsigned_zero(self.logit))

    @property
    def calls(self) -> tuple[Call, ...]:
        """The one or two calls behind the verdict."""
        return tuple(call for call in (self.forward, self.backward) if call is not None)

    @property
    def swapped_agree(self) -> bool | None:
        """Whether both orders chose the same; None where only one spoke."""
        if self.forward is None or self.backward is None:
            return None
        first, second = self.forward.reading.preferred, self.backward.reading.preferred
        return None if first is None or second is None else first == -second

    def swapped(self) -> Verdict:
        """Return the same verdict for the swapped pair."""
        flipped: Mapping[Choice, Choice] = {"a": "b", "b": "a"}
        choice = flipped.get(self.choice, self.choice)
        return replace(self, choice=choice, logit=-self.logit, forward=self.backward, backward=self.forward)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What asking takes: paid replies, tokens in and out, US dollars.  Adds up component by component."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(requests=self.requests + other.requests, tokens=self.tokens + other.tokens, usd=self.usd + other.usd)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(requests=self.requests - other.requests, tokens=self.tokens - other.tokens, usd=self.usd - other.usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """What a run may spend in all; None means without limit."""

    requests: int | None = None
    tokens: int | None = None
    usd: float | None = None

    def admits(self, spent: Cost) -> bool:
        """Whether `spent` stays within every limit."""
        return (
            (self.requests is None or spent.requests <= self.requests)
            and (self.tokens is None or spent.tokens <= self.tokens)
            and (self.usd is None or spent.usd <= self.usd)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Budget put aside before a question is sent; settled with its reply, released if nothing was served.

    `judge` is the fingerprint of whom it is for.  What the store is handed at its end says how often it was sent, and when last
    (Unix time in seconds).
    """

    id: str
    call_key: bytes
    cost: Cost
    judge: bytes | None = None
    sends: int = 0
    sent_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """One question as an earlier process sent it: `requests` times, the last time at `at` (Unix time in seconds).

    `at` is None where nobody can tell: now at the latest.  `tokens` is what its reply took, or the worst case without a reply.
    """

    at: float | None
    requests: int
    tokens: int
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """What the store knows of a run: paid for, put aside for questions under way, and its last step (None before the first).

    `pacing` is what the run's pacer continues from, as it was when the last plan was recorded (None: nothing is known).
    """

    name: str
    spent: Cost = Cost()
    reserved: Cost = Cost()
    last_step: int | None = None
    pacing: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided about one pair in one step, in the pair's canonical order.

    `propensity` is the probability that the plan asked about the pair, as it was when the plan was made.  A planned decision has
    `asked` but no `source` yet; the step's end fills in `source` and `status`.  Not every pair that was to be asked about was reached:
    one with `asked` and the source "fallback" has no verdict (status "budget": it could not be paid any more; "deadline" and so on).
    Who weighs by inverse propensity must treat its verdict as missing, not as one that was seen with probability `propensity`.
    """

    pair_key: bytes
    asked: bool
    logit: float = 0.0
    uncertainty: float | None = None
    acquisition: float | None = None
    threshold: float | None = None
    propensity: float = 0.0
    audit: bool = False
    source: Source | None = None
    status: str = OK


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """One finished attempt, for observers: never texts, never secrets.

    `outcome` is the reading's status, or the status of the error; `order` is "canonical" or "swapped"; `judge` is the judge's id and
    `model` the model that it was asked as.  `step` is the step that had the question asked; others may have waited for it too.
    """

    run: str
    call_key: bytes
    pair_key: bytes
    order: str
    outcome: str
    attempt: int
    latency_s: float
    usage: Usage
    usd: float
    error: str | None = None
    judge: str | None = None
    model: str | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeState:
    """How it stands with one judge at a moment.

    `judge` is the judge's id, `seat` what its place is called.  `in_flight` requests are under way of at most `max_in_flight` now;
    `waiting` questions have no reply that is stored and are not under way.  `breaker` is "closed", "open" (nothing is sent) or
    "half_open" (one question is out as a probe).
    """

    judge: str
    seat: str
    in_flight: int
    max_in_flight: int
    waiting: int
    breaker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The final word on one pair: always there, always finite.

    `status` is "ok", or says what is missing: "one_order", "identical", or why a `fallback` happened ("deadline", "budget",
    "refused", "unparseable", "rate_limited", ...).  About identical responses nobody had to decide, though their `source` is "scorer": they
    count for no source and in no accuracy.  `acquisition` is the policy's score of the pair, larger means "ask"; `audit` tells
    that the judge was asked because the pair was drawn at random below the threshold.
    """

    pair: Pair
    logit: float
    source: Source
    status: str = OK
    preference: Preference | None = None
    verdict: Verdict | None = None
    acquisition: float | None = None
    audit: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "logit", _unsigned_zero(self.logit))

    @property
    def probability(self) -> float:
        """P(response_a is preferred)."""
        return sigmoid(self.logit)

    @property
    def choice(self) -> Choice | None:
        """The judge's choice; "tie" for identical responses; None where no judge spoke."""
        if self.verdict is not None:
            return self.verdict.choice
        return "tie" if self.status == IDENTICAL else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LateOutcome:
    """What the judge said about a pair after its step had returned: what would have stood at `index` of that step's outcomes."""

    step: int
    index: int
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the scorer and the judge agree over pairs that were asked about with known probabilities, as sums that add up.

    `asked` counts the pairs, `compared` those of them on which the judge prefers a response and the scorer has a belief.  The others are
    over the compared ones, each with weight 1 / propensity: `weight` is the sum of weights, `agreed` its part in agreement; the last
    three add up squares and products of both over prompts, whose pairs are no independent observations.  `judgeflow.routing.agreement`
    has the formulas.
    """

    asked: int = 0
    compared: int = 0
    prompts: int = 0
    weight: float = 0.0
    agreed: float = 0.0
    weight_squared: float = 0.0
    weight_agreed: float = 0.0
    agreed_squared: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """How often a judge had too much to do, and how much less it was asked at a time for that.

    `rate_limited` counts attempts that it turned away for a rate limit (429), `busy` those for its load (503, 529).  At the lowest,
    `in_flight` requests could be under way of `max_in_flight`; there were fewer than that for `lowered_s` seconds.  `admits` is what it
    said about its limits where that is less than configured, by the names of the notice `limits_tightened`.
    """

    max_in_flight: int
    in_flight: int
    rate_limited: int = 0
    busy: int = 0
    lowered_s: float = 0.0
    admits: Mapping[str, float] = field(default_factory=dict)

    @property
    def turned_away(self) -> int:
        """How many attempts were turned away."""
        return self.rate_limited + self.busy

    @property
    def is_none(self) -> bool:
        """Whether the judge has borne everything."""
        return not (self.turned_away or self.lowered_s or self.admits)

    def then(self, later: Pressure) -> Pressure:
        """Return both as one, `later` being of another time."""
        return self._with(later, lowered_s=self.lowered_s + later.lowered_s)

    def beside(self, other: Pressure) -> Pressure:
        """Return both as one, `other` being of another account of the judge at the same time."""
        return self._with(other, lowered_s=max(self.lowered_s, other.lowered_s))

    def _with(self, other: Pressure, *, lowered_s: float) -> Pressure:
        lowest = min(self, other, key=lambda each: each.in_flight / each.max_in_flight)
        said = [{**self.admits, **other.admits}, {**other.admits, **self.admits}]
        return Pressure(
            max_in_flight=lowest.max_in_flight,
            in_flight=lowest.in_flight,
            rate_limited=self.rate_limited + other.rate_limited,
            busy=self.busy + other.busy,
            lowered_s=lowered_s,
            admits={name: min(each[name] for each in said) for name in said[0]},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatistics:
    """What one step did and what it cost.

    `sources` counts outcomes by who decided, which about identical responses nobody did, and `statuses` counts all; `calls` and `spent`
    count the replies paid for in this step; `agreement` is the share of judged pairs whose two orders agree; `latency_s` maps "p50",
    "p90", "max" to seconds; `remaining` is None where unlimited.
    `routed` and `audited` compare the scorer with the judge on pairs asked about for their rank, and on those drawn at random.
    `judges` divides `spent` by the judge's id; `pressure` has, by their ids, the judges that had too much to do.
    """

    run: str
    step: int
    pairs: int
    threshold: float | None
    sources: Mapping[str, int]
    statuses: Mapping[str, int]
    calls: int
    spent: Cost
    prompt_tokens: int
    completion_tokens: int
    agreement: float | None
    latency_s: Mapping[str, float]
    remaining: Mapping[str, float | None]
    seconds: float
    routed: Agreement = Agreement()
    audited: Agreement = Agreement()
    judges: Mapping[str, Cost] = field(default_factory=dict)
    pressure: Mapping[str, Pressure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """Outcomes of one step in input order, and what training makes of them."""

    outcomes: tuple[Outcome, ...]
    statistics: StepStatistics
    groups: tuple[Group, ...] = ()

    @property
    def logits(self) -> tuple[float, ...]:
        """One finite logit per pair, in input order."""
        return tuple(outcome.logit for outcome in self.outcomes)

    def advantages(self, scale: float = 1.0) -> dict[str, tuple[float, ...]]:
        """Return {group id: advantage of each of its K responses}.

        A_i = scale / (K-1) * sum over j != i of s_ij, with s antisymmetric, so a group sums to zero; K counts unmasked responses
        and fewer than two give 0 (Xu et al. 2025, section 3).  Raises `ValueError` if the step was not routed with `route_groups`,
        or if two groups share an id.
        """
        if len(self.outcomes) != sum(len(group.indexes()) for group in self.groups):
            raise ValueError("advantages need groups: route this step with route_groups(groups)")
        repeated = [name for name, count in Counter(group.id for group in self.groups).items() if count > 1]
        if repeated:
            raise ValueError(f"advantages are told apart by group id, and {repeated[0]!r} names two groups of this step")
        logits = iter(self.logits)
        return {group.id: _group_advantages(group, logits, scale) for group in self.groups}


def _group_advantages(group: Group, logits: Any, scale: float) -> tuple[float, ...]:
    totals = [0.0] * len(group.responses)
    for i, j in group.indexes():
        logit = next(logits)
        totals[i] += logit
        totals[j] -= logit
    others = max(1, len(group.members) - 1)
    return tuple(scale * total / others for total in totals)


def _unsigned_zero(logit: float) -> float:
    """Return `logit`, with 0.0 for -0.0: negating a belief in nothing leaves it a belief in nothing."""
    return logit + 0.0


def sigmoid(logit: float) -> float:
    """Return 1 / (1 + exp(-logit)) without overflow."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))
