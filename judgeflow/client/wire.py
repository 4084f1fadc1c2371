"""What goes over the wire between a trainer and a judgeflow service: JSON made of the engine's own values.

Bytes are written as hexadecimal digits.  A response does not repeat the pairs: outcomes stand in the order in which they were asked for,
and groups as `Group.pairs()` has them.  The same types make the service's OpenAPI description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, to_json

from judgeflow.client.unusable import Place, unusable, unusable_in
from judgeflow.errors import UsageError
from judgeflow.types import Choice, Group, Outcome, Pair, Preference, Prompt, Source, StepResult, StepStatistics, Verdict

T = TypeVar("T")

ROUTE_PATH = "/v1/route"
STREAM_PATH = "/v1/stream"
REWARD_PATH = "/v1/reward"
PART_PATH = "/v1/part"
LINES = "application/x-ndjson"
ATTEMPT = "Idempotency-Key"
"""Header that names a request: one that is repeated under the same name is answered once."""

_CONFIG = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex", extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """What is to be routed: pairs, or groups of responses, as one step.  Without a number steps count up from the run's last."""

    __pydantic_config__ = _CONFIG

    pairs: tuple[Pair, ...] = ()
    groups: tuple[Group, ...] = ()
    step: int | None = None

    def __post_init__(self) -> None:
        if self.pairs and self.groups:
            raise ValueError("a request has pairs or groups, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The final word on one pair: an `Outcome` without its texts.  `choice` is the judge's, `probability` that of response_a."""

    logit: float
    probability: float
    source: Source
    status: str
    choice: Choice | None = None
    preference: Preference | None = None
    verdict: Verdict | None = None
    acquisition: float | None = None
    audit: bool = False

    @classmethod
    def of(cls, outcome: Outcome) -> Decided:
        """Return what is said about an outcome."""
        return cls(
            logit=outcome.logit,
            probability=outcome.probability,
            source=outcome.source,
            status=outcome.status,
            choice=outcome.choice,
            preference=outcome.preference,
            verdict=outcome.verdict,
            acquisition=outcome.acquisition,
            audit=outcome.audit,
        )

    def about(self, pair: Pair) -> Outcome:
        """Return the outcome, given the pair that it is about."""
        return Outcome(
            pair=pair,
            logit=self.logit,
            source=self.source,
            status=self.status,
            preference=self.preference,
            verdict=self.verdict,
            acquisition=self.acquisition,
            audit=self.audit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAnswer:
    """How a step ended.  `advantages` has one number for each response of each group, by the group's id."""

    __pydantic_config__ = _CONFIG

    outcomes: tuple[Decided, ...]
    statistics: StepStatistics
    advantages: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, result: StepResult) -> RouteAnswer:
        """Return what is answered about a step."""
        outcomes = tuple(Decided.of(outcome) for outcome in result.outcomes)
        advantages = result.advantages() if result.groups else {}
        return cls(outcomes=outcomes, statistics=result.statistics, advantages=advantages)

    def about(self, request: RouteRequest) -> StepResult:
        """Return the step's result, given what was asked.  Raises `UsageError` if it is not about that."""
        pairs = pairs_of(request)
        if len(pairs) != len(self.outcomes):
            raise UsageError(f"the service answered about {len(self.outcomes)} pairs, and {len(pairs)} were asked about")
        outcomes = tuple(decided.about(pair) for decided, pair in zip(self.outcomes, pairs, strict=True))
        return StepResult(outcomes=outcomes, statistics=self.statistics, groups=request.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLine:
    """One line of a streamed answer: the outcome of the pair at `index`; or, as the last line, how many there were, or what went wrong."""

    __pydantic_config__ = _CONFIG

    index: int | None = None
    outcome: Decided | None = None
    total: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRequest:
    """One response, for trainers that hold no whole groups: it is answered when `size` responses to the prompt have come.

    `group` names the group where a trainer has names for them: two groups of one prompt are then told apart.
    """

    __pydantic_config__ = _CONFIG

    prompt: Prompt
    response: str
    size: int
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardAnswer:
    """What a response is worth among the `of` that came, when `wanted` were expected.

    `reward` is its advantage, `share` the mean probability that it is preferred to one of its siblings; `sources` counts who decided.
    """

    __pydantic_config__ = _CONFIG

    reward: float
    share: float
    of: int
    wanted: int
    sources: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Responses to one prompt that stand one after the other in a batch; a false `mask` takes one out of the comparison."""

    prompt: Prompt
    responses: tuple[str, ...]
    mask: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and len(self.mask) != len(self.responses):
            raise ValueError(f"{len(self.mask)} mask entries for {len(self.responses)} responses")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRequest:
    """What one of several ranks holds of a batch, which is the ranks' parts in a row; it is answered when all of them have come.

    `job` names the training, and what in it asks, so that two never meet; `batch` counts what that has asked about.  The parts of all ranks
    have one length, and each prompt has `size` responses in the batch.  Without `step` steps count up from the run's last.
    """

    __pydantic_config__ = _CONFIG

    job: str
    batch: int
    rank: int
    ranks: int
    size: int
    stretches: tuple[Stretch, ...]
    step: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise ValueError(f"rank {self.rank} is none of {self.ranks} ranks, which count from 0")
        if self.size < 2:
            raise ValueError(f"a preference is between at least two responses to a prompt, and size is {self.size}")

    @property
    def count(self) -> int:
        """How many responses it holds."""
        return sum(len(stretch.responses) for stretch in self.stretches)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnswer:
    """What the responses of a part are worth, in their order; one that is masked has no sources.

    `statistics` are those of the step in which the whole batch was judged, and `share` is this part's of its responses: the shares of all
    ranks add up to 1.  `missing` are ranks that did not come in time.  `silence` tells one of the ranks which pairs nobody had a word on.
    """

    __pydantic_config__ = _CONFIG

    places: tuple[RewardAnswer, ...]
    statistics: StepStatistics
    share: float
    missing: tuple[int, ...] = ()
    silence: str = ""


REQUEST: TypeAdapter[RouteRequest] = TypeAdapter(RouteRequest)
ANSWER: TypeAdapter[RouteAnswer] = TypeAdapter(RouteAnswer)
LINE: TypeAdapter[StreamLine] = TypeAdapter(StreamLine)
REWARD_REQUEST: TypeAdapter[RewardRequest] = TypeAdapter(RewardRequest)
REWARD_ANSWER: TypeAdapter[RewardAnswer] = TypeAdapter(RewardAnswer)
PART_REQUEST: TypeAdapter[PartRequest] = TypeAdapter(PartRequest)
PART_ANSWER: TypeAdapter[PartAnswer] = TypeAdapter(PartAnswer)


def pairs_of(request: RouteRequest) -> Sequence[Pair]:
    """Return the pairs of a request, in the order in which they are answered."""
    return request.pairs or tuple(pair for group in request.groups for pair in group.pairs())


def read_request(body: bytes) -> RouteRequest:
    """Return what a body asks for.  Raises `UsageError` naming up to three places in it, and what is expected there."""
    request = _read(REQUEST, body)
    _refuse_repeated([group.id for group in request.groups])
    return request


def read_reward_request(body: bytes) -> RewardRequest:
    """Return what a body asks for.  Raises like `read_request`."""
    return _read(REWARD_REQUEST, body)


def read_part_request(body: bytes) -> PartRequest:
    """Return what a body asks for.  Raises like `read_request`."""
    return _read(PART_REQUEST, body)


def _read(adapter: TypeAdapter[T], body: bytes) -> T:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        found = complaint_about(body) if error.errors()[0]["type"] == "json_invalid" else None
        raise UsageError(found or _complaint(error)) from None


def body_of(adapter: TypeAdapter[T], request: T) -> bytes:
    """Return a request as JSON.  Raises `UsageError` naming the place of what JSON cannot hold, and of what is not of its type."""
    try:
        return adapter.dump_json(request, warnings="error")
    except PydanticSerializationError as error:
        if (found := unusable(request)) is not None:
            raise UsageError(_told(found)) from None
        _read(adapter, to_json(request, inf_nan_mode="constants"))  # names what is of another type
        said = str(error).removeprefix("Pydantic serializer warnings:\n").strip().splitlines()[0]
        raise UsageError(f"it cannot be written as JSON: {said}") from None


def complaint_about(body: bytes) -> str | None:
    """Return the place of a text in a body that is no Unicode, and what is wrong with it; None where there is none."""
    found = unusable_in(body)
    return None if found is None else _told(found)


def _told(found: tuple[Place, str]) -> str:
    place, reason = found
    return f"{_place(place)}: {reason}"


def _refuse_repeated(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for place, name in enumerate(ids):
        if name in seen:
            raise UsageError(f"groups[{place}].id: {name!r} names another group of this step too; advantages are answered by id")
        seen.add(name)


def _complaint(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False)
    shown = "; ".join(f"{_place(each['loc'])}: {_reason(each)}" for each in found[:3])
    return shown + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def _reason(detail: ErrorDetails) -> str:
    return detail["msg"].removeprefix("Value error, ").removeprefix("Type error, ")


def _place(path: tuple[Any, ...]) -> str:
    """Return `groups[3].responses[1]` for ("groups", 3, "responses", 1); names of types in between are left out."""
    place = ""
    for part in path:
        if isinstance(part, int):
            place += f"[{part}]"
        elif str(part).isidentifier() and part != "str":
            place += f".{part}" if place else str(part)
    return place or "the body"
