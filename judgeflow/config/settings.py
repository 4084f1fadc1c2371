"""The settings of each section of judgeflow.toml: their types, bounds and defaults."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_serializer, field_validator, model_validator

from judgeflow.complaints import shown
from judgeflow.types import Stock

NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Whole = Annotated[int, Field(le=2**63 - 1)]
"""A whole number that every database and every hash takes."""

PolicyName = Literal["error", "uncertainty", "margin", "random", "always", "never"]
SCORERLESS: tuple[PolicyName, ...] = ("always", "random", "never")

_VARIABLE_NAME = re.compile(r"(?!sk_|gsk_|hf_|AIza)[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(r"https?://([^/?#@:\s\[\]]+|\[[\w:.%]+\])(:\d+)?(/[^?#\s]*)?")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RunConfig(Section):
    """[run]: which run this is, and where its files lie."""

    name: NonEmpty | None = Field(None, description="the run's identity; default: a hash of input and configuration")
    directory: NonEmpty = Field(".", description="folder that relative paths of [store] and [log] start from")


class ScorerConfig(Section):
    """[scorer]: the embedded preference model, as `judgeflow train` has written it."""

    path: NonEmpty = Field(description="folder of the scorer")
    device: NonEmpty = Field("auto", description="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="what the body computes in; auto is bfloat16 on a GPU")
    max_batch_tokens: int | None = Field(
        None, ge=1, description="tokens of one batch, padding included; bounds memory; default 4096, on a GPU 65536"
    )
    compile: bool = Field(False, description="run the body through torch.compile: slow at the first step, faster later, on a GPU above all")


class JudgeConnection(Section):
    """What is one judge's own: a strong LLM that is asked over the OpenAI chat-completions protocol."""

    id: NonEmpty | None = Field(None, description="what verdicts are keyed by; default: base_url + model")
    base_url: NonEmpty = Field("https://api.openai.com/v1", description="everything before /chat/completions")
    model: NonEmpty = Field(description="model name to send")
    api_key_env: NonEmpty | None = Field(None, description="environment variable that holds the API key; none: no key is sent")
    temperature: float | None = Field(None, ge=0, le=2, description="sent only if set: some reasoning models refuse it")
    max_completion_tokens: Whole = Field(4096, ge=1, description="longest reply, reasoning included")
    template: NonEmpty = Field("default", description="name of a packaged template, or path of a TOML file")
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = Field(
        "max_completion_tokens", description="what this server calls the limit"
    )
    timeout_s: float = Field(120.0, gt=0, description="seconds for one attempt, connecting included")
    connect_timeout_s: float = Field(10.0, gt=0, description="seconds to connect")
    retry_attempts: Whole = Field(6, ge=1, description="attempts at one question that fail for other reasons than a rate limit")
    retry_for_s: float = Field(600.0, gt=0, description="seconds after which a question is given up, rate limits included")
    max_prompt_tokens: Whole = Field(120_000, ge=1, description="longer questions are not sent: the pair gets a labelled fallback")
    extra_body: dict[str, Any] = Field(default_factory=dict, description="more fields of the request: top_p, seed, ...")
    prompt_usd_per_mtok: float = Field(0.0, ge=0, description="USD per million prompt tokens")
    completion_usd_per_mtok: float = Field(0.0, ge=0, description="USD per million completion tokens")
    weight: float = Field(1.0, gt=0, description="share of the pairs, beside the other judges' weights, with panel = weights")

    @property
    def name(self) -> str:
        """What verdicts are keyed by, in words."""
        return self.id or f"{self.base_url} {self.model}"

    @field_validator("api_key_env")
    @classmethod
    def _a_name_not_a_key(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE_NAME.fullmatch(value):
            raise ValueError(
                "[judge] api_key_env: the NAME of an environment variable is expected, for instance OPENAI_API_KEY, and this is no name; "
                "if it is the key itself, take it out of here, put it into such a variable, and name the variable"
            )
        return value

    @model_validator(mode="after")
    def _owned_fields(self) -> Self:
        owned = {"model", "messages", "temperature", "stream", "n", self.max_tokens_field} & set(self.extra_body)
        if owned:
            raise ValueError(f"[judge] extra_body: {', '.join(sorted(owned))} is set by judgeflow itself; take it out")
        _check_address(self.base_url)
        _check_sendable(self.extra_body)
        return self


class JudgeConfig(JudgeConnection):
    """[judge]: the judge, or the first of several; what holds for all of them stands here too."""

    orders: Literal["both", "adaptive", "random", "first"] = Field(
        "both", description="which orders of a pair are asked; adaptive: one, and the other where it can still outweigh the scorer's word"
    )
    graded: bool = Field(default=False, description="slight preferences (A>B) count half of strong ones (A>>B)")


def _check_address(base_url: str) -> None:
    """Raise `ValueError` for what is no plain address; it is stored with every verdict and shown in errors, so it holds no secret."""
    plain = _ADDRESS.fullmatch(base_url)
    if not plain and base_url.startswith(("http://", "https://")) and "@" in base_url:
        raise ValueError(
            "[judge] base_url: holds a user name or password, which would be stored with every verdict; take it out, and name the "
            "variable that holds the API key in api_key_env"
        )
    if any(mark in base_url for mark in "?#"):
        raise ValueError("[judge] base_url: ends before any ? or #, since /chat/completions is appended to it; take the rest out")
    if not plain:
        raise ValueError(f"[judge] base_url: {shown(base_url)} is not an http:// or https:// address")


def _check_sendable(extra_body: dict[str, Any]) -> None:
    for key, value in extra_body.items():
        try:
            json.dumps(value, allow_nan=False)
            orjson.dumps([key, value])
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"[judge] extra_body: cannot be sent as JSON: {key}: {error}") from None


class LimitsConfig(Section):
    """[limits]: what the judge's account admits.  This capacity perishes; attempts count."""

    requests_per_minute: Whole | None = Field(None, ge=1, description="requests in any window of window_s")
    tokens_per_minute: Whole | None = Field(None, ge=1, description="tokens in any window of window_s")
    max_in_flight: int = Field(
        64, ge=1, le=10_000, description="most requests under way at the same time; fewer while the judge has too much to do"
    )
    window_s: float = Field(60.0, gt=0, description="length of the sliding window in seconds")
    start: Literal["burst", "paced"] = Field("burst", description="spend a fresh window at once, or evenly")
    margin_s: float | None = Field(None, ge=0, description="added to the window against network jitter; default window_s / 120")
    charge: Literal["reserved", "actual"] = Field(
        "reserved", description="what the judge counts as tokens: prompt and longest reply when a question arrives, or what is really used"
    )

    @property
    def period_s(self) -> float:
        """The window that is kept on this side: the judge's plus the margin, in seconds."""
        return self.window_s + (self.window_s / 120 if self.margin_s is None else self.margin_s)


class FurtherJudgeConfig(JudgeConnection):
    """[judges.NAME]: another judge, with rate limits of its own in [judges.NAME.limits]."""

    limits: LimitsConfig = Field(LimitsConfig(), description="what this judge's account admits: the keys of [limits]")


class BudgetConfig(Section):
    """[budget]: what the run may spend.  This stock keeps; paid replies count."""

    requests: Whole | None = Field(None, ge=0, description="paid replies of the whole run")
    tokens: Whole | None = Field(None, ge=0, description="tokens in and out of the whole run")
    usd: float | None = Field(None, ge=0, description="US dollars of the whole run")
    steps: Whole | None = Field(None, ge=1, description="steps that the stock should last for")

    @property
    def stock(self) -> Stock:
        """The limits as a value."""
        return Stock(requests=self.requests, tokens=self.tokens, usd=self.usd)


class RoutingConfig(Section):
    """[routing]: whom to ask about."""

    policy: PolicyName = Field("error", description="what makes a pair worth asking about")
    threshold: Literal["adaptive"] | float = Field("adaptive", description="ask above this acquisition; adaptive follows what can be spent")
    floor: float | None = Field(None, description="never ask below this acquisition")
    max_share: float | None = Field(None, gt=0, le=1, description="largest share of a step's pairs that is asked about")
    step_deadline_s: float | None = Field(None, gt=0, description="seconds after which a step returns with what it has")
    after_deadline: Literal["drop", "keep"] = Field(
        "drop", description="what becomes of questions not sent by then; keep: they are asked while later steps run"
    )
    verdict_margin: Annotated[float, Field(gt=0)] | Literal["matched"] = Field(
        2.0, description="logit of a clear verdict; matched: the median of what the scorer says where it decides"
    )
    on_inconsistent: Literal["scorer", "zero"] = Field("scorer", description="logit where the two orders contradict each other")
    audit_fraction: float = Field(0.0, ge=0, lt=1, description="share of what is asked that goes to pairs drawn below the threshold")
    cost_weighted: bool = Field(False, description="rank by acquisition per expected token; a policy in training can learn to exploit that")
    panel: Literal["fallback", "weights"] = Field(
        "fallback", description="with [judges.NAME]: the next judge stands in for one that is down, fails or is full; or each has its share"
    )
    seed: Whole = Field(0, ge=0, description="seed of policy random, of audits, of orders = random and of panel = weights")


class StoreConfig(Section):
    """[store]: where verdicts are kept."""

    url: NonEmpty = Field("sqlite+aiosqlite:///judgeflow.db", description="path or SQLAlchemy address of the verdict database")

    @field_serializer("url")
    def _without_password(self, url: str) -> str:
        """Settings are stored with a run, and shown: a password of the database must not be."""
        return re.sub(r"^([^:/]+://[^:/]*):[^@]*@", r"\1@", url)


class LogConfig(Section):
    """[log]: one event per attempt and per step."""

    path: NonEmpty | None = Field(None, description="file to append to; none: the terminal only")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    format: Literal["json", "console"] = Field("json", description="form of the lines in the file")
    tensorboard: NonEmpty | None = Field(None, description="folder for TensorBoard scalars of every step; none: no scalars are written")


class MetricsConfig(Section):
    """[metrics]: figures of the running process for Prometheus."""

    port: int | None = Field(None, ge=1, le=65535, description="serve /metrics on this port; none: nothing is served")
    host: NonEmpty = Field("127.0.0.1", description="address to serve it on; 0.0.0.0 lets other machines read it")


class TracingConfig(Section):
    """[tracing]: OpenTelemetry spans of steps and calls."""

    enabled: bool = Field(False, description="make spans, for the program's tracer provider or by the OTEL_* variables")
