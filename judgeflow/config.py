"""Settings: judgeflow.toml, then `JUDGEFLOW_SECTION__KEY` from the environment, then command-line overrides.

Everything is checked before anything starts.  A mistake names the key, where it was set (file and line, variable, flag) and
what would be accepted.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_serializer, field_validator, model_validator

from judgeflow.complaints import Origin, depth_of, describe, model_of, shown
from judgeflow.errors import ConfigurationError
from judgeflow.types import Stock

ENVIRONMENT_PREFIX = "JUDGEFLOW_"
DEFAULT_FILE = "judgeflow.toml"

NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Whole = Annotated[int, Field(le=2**63 - 1)]
"""A whole number that every database and every hash takes."""

PolicyName = Literal["error", "uncertainty", "margin", "random", "always", "never"]
SCORERLESS: tuple[PolicyName, ...] = ("always", "random", "never")

_JUDGE_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_VARIABLE_NAME = re.compile(r"(?!sk_|gsk_|hf_|AIza)[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(r"https?://([^/?#@:\s\[\]]+|\[[\w:.%]+\])(:\d+)?(/[^?#\s]*)?")
_HINTS: dict[tuple[str, ...], str] = {
    ("routing", "threshold"): "it should be 'adaptive' or a finite number",
    ("routing", "verdict_margin"): "it should be 'matched' or a number above 0",
}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RunConfig(_Section):
    """[run]: which run this is, and where its files lie."""

    name: NonEmpty | None = Field(None, description="the run's identity; default: a hash of input and configuration")
    directory: NonEmpty = Field(".", description="folder that relative paths of [store] and [log] start from")


class ScorerConfig(_Section):
    """[scorer]: the embedded preference model, as `judgeflow train` has written it."""

    path: NonEmpty = Field(description="folder of the scorer")
    device: NonEmpty = Field("auto", description="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="what the body computes in; auto is bfloat16 on a GPU")
    max_batch_tokens: int | None = Field(
        None, ge=1, description="tokens of one batch, padding included; bounds memory; default 4096, on a GPU 65536"
    )
    compile: bool = Field(False, description="run the body through torch.compile: slow at the first step, faster later, on a GPU above all")


class JudgeConnection(_Section):
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


class LimitsConfig(_Section):
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


class BudgetConfig(_Section):
    """[budget]: what the run may spend.  This stock keeps; paid replies count."""

    requests: Whole | None = Field(None, ge=0, description="paid replies of the whole run")
    tokens: Whole | None = Field(None, ge=0, description="tokens in and out of the whole run")
    usd: float | None = Field(None, ge=0, description="US dollars of the whole run")
    steps: Whole | None = Field(None, ge=1, description="steps that the stock should last for")

    @property
    def stock(self) -> Stock:
        """The limits as a value."""
        return Stock(requests=self.requests, tokens=self.tokens, usd=self.usd)


class RoutingConfig(_Section):
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


class StoreConfig(_Section):
    """[store]: where verdicts are kept."""

    url: NonEmpty = Field("sqlite+aiosqlite:///judgeflow.db", description="path or SQLAlchemy address of the verdict database")

    @field_serializer("url")
    def _without_password(self, url: str) -> str:
        """Settings are stored with a run, and shown: a password of the database must not be."""
        return re.sub(r"^([^:/]+://[^:/]*):[^@]*@", r"\1@", url)


class LogConfig(_Section):
    """[log]: one event per attempt and per step."""

    path: NonEmpty | None = Field(None, description="file to append to; none: the terminal only")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    format: Literal["json", "console"] = Field("json", description="form of the lines in the file")
    tensorboard: NonEmpty | None = Field(None, description="folder for TensorBoard scalars of every step; none: no scalars are written")


class MetricsConfig(_Section):
    """[metrics]: figures of the running process for Prometheus."""

    port: int | None = Field(None, ge=1, le=65535, description="serve /metrics on this port; none: nothing is served")
    host: NonEmpty = Field("127.0.0.1", description="address to serve it on; 0.0.0.0 lets other machines read it")


class TracingConfig(_Section):
    """[tracing]: OpenTelemetry spans of steps and calls."""

    enabled: bool = Field(False, description="make spans, for the program's tracer provider or by the OTEL_* variables")


class Config(_Section):
    """All settings of a run."""

    run: RunConfig = RunConfig()
    scorer: ScorerConfig | None = None
    judge: JudgeConfig
    judges: dict[str, FurtherJudgeConfig] = {}
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig = BudgetConfig()
    routing: RoutingConfig = RoutingConfig()
    store: StoreConfig = StoreConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    tracing: TracingConfig = TracingConfig()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        routing = self.routing
        if routing.policy not in SCORERLESS and self.scorer is None:
            raise ValueError(
                f"[routing] policy: {routing.policy!r} ranks pairs by a scorer; name one as [scorer] path (`judgeflow train` makes it), or "
                f"set policy to {', '.join(SCORERLESS)}"
            )
        check_adaptive(routing, self.budget)
        check_steps(self.budget)
        check_ranking(routing)
        check_deadline(routing)
        check_scorer(routing, self.judge.orders, has_scorer=self.scorer is not None)
        check_room(self.limits, self.judge)
        for name, judge in self.judges.items():
            check_room(judge.limits, judge, f"judges.{name}")
        return self

    @model_validator(mode="after")
    def _priced(self) -> Self:
        check_prices([self.judge, *self.judges.values()], self.budget)
        return self

    @model_validator(mode="after")
    def _shared(self) -> Self:
        check_panel(self.routing, {"judge": self.judge} | {f"judges.{name}": judge for name, judge in self.judges.items()})
        return self

    def path(self, relative: str) -> Path:
        """Return a path of this configuration, taken from [run] directory."""
        return Path(self.run.directory).expanduser() / Path(relative).expanduser()


def check_adaptive(routing: RoutingConfig, budget: BudgetConfig) -> None:
    """Raise `ValueError` for an adaptive threshold that nothing would ever move."""
    if routing.policy in {"always", "never"} or routing.threshold != "adaptive":
        return
    if routing.step_deadline_s is None and routing.max_share is None and budget.steps is None:
        raise ValueError(
            "[routing] threshold: 'adaptive' has nothing to adapt to; set [routing] max_share or step_deadline_s, or [budget] steps, "
            "or give the threshold as a number"
        )


def check_steps(budget: BudgetConfig) -> None:
    """Raise `ValueError` for steps that nothing is to last for."""
    if budget.steps is not None and budget.stock == Stock():
        raise ValueError("[budget] steps: says how long a budget should last, and there is none; set requests, tokens or usd, or no steps")


def check_deadline(routing: RoutingConfig) -> None:
    """Raise `ValueError` for a word about what follows a deadline that there is not."""
    if routing.after_deadline == "keep" and routing.step_deadline_s is None:
        raise ValueError("[routing] after_deadline: 'keep' needs a deadline; set [routing] step_deadline_s, or take the key out")


def check_ranking(routing: RoutingConfig) -> None:
    """Raise `ValueError` for settings about a ranking that the policy does not make, or not in numbers that a cost could divide."""
    if routing.audit_fraction and routing.policy in SCORERLESS:
        raise ValueError(
            f"[routing] audit_fraction: policy {routing.policy!r} has no threshold to draw pairs below; take the key out, or set policy "
            "to error, uncertainty or margin"
        )
    if routing.cost_weighted and routing.policy not in {"error", "uncertainty"}:
        raise ValueError(
            f"[routing] cost_weighted: policy {routing.policy!r} has no positive acquisition to divide by a cost; take the key out, or set "
            "policy to error or uncertainty"
        )


def check_scorer(routing: RoutingConfig, orders: str, *, has_scorer: bool) -> None:
    """Raise `ValueError` for settings that go by a scorer's word where there is no scorer."""
    if has_scorer:
        return
    if routing.verdict_margin == "matched":
        raise ValueError(
            "[routing] verdict_margin: 'matched' is what the scorer says where it decides, and there is no scorer; name one as [scorer] "
            "path, or give the margin as a number"
        )
    if orders == "adaptive":
        raise ValueError(
            "[judge] orders: 'adaptive' spares the second order where it cannot outweigh the scorer's word, and there is no scorer; name "
            "one as [scorer] path, or set orders to both, random or first"
        )


def check_prices(judges: Sequence[JudgeConnection], budget: BudgetConfig) -> None:
    """Raise `ValueError` for a budget in dollars that nothing would ever be charged to."""
    if budget.usd is not None and not any(judge.prompt_usd_per_mtok or judge.completion_usd_per_mtok for judge in judges):
        raise ValueError(
            "[budget] usd: limits nothing while every reply costs 0; set [judge] prompt_usd_per_mtok and completion_usd_per_mtok to the "
            "judge's prices, or limit requests or tokens instead"
        )


def check_panel(routing: RoutingConfig, judges: Mapping[str, JudgeConnection]) -> None:
    """Raise `ValueError` for judges, by section, that cannot be told apart or do not share the work as somebody thinks they do."""
    for section, judge in judges.items():
        name = section.partition(".")[2]
        if section != "judge" and (not _JUDGE_NAME.fullmatch(name) or name == "judge"):
            raise ValueError(f"[judges] {name}: a judge is named with small letters, digits and single _, and not judge, which is [judge]")
        if judge.weight != 1.0 and routing.panel != "weights":
            raise ValueError(f'[{section}] weight: counts only where the judges share the pairs; set [routing] panel = "weights"')
    if routing.panel == "weights" and len(judges) == 1:
        raise ValueError("[routing] panel: 'weights' divides the pairs between several judges; add another one as [judges.NAME]")


def check_room(limits: LimitsConfig, judge: JudgeConnection, section: str = "judge") -> None:
    """Raise `ValueError` for a token limit that not a single question fits into."""
    if limits.tokens_per_minute is not None and limits.tokens_per_minute <= judge.max_completion_tokens:
        where = "limits" if section == "judge" else f"{section}.limits"
        raise ValueError(
            f"[{where}] tokens_per_minute: {limits.tokens_per_minute} admits no question at all, since one reply alone may take "
            f"[{section}] max_completion_tokens = {judge.max_completion_tokens}; raise the limit, or lower max_completion_tokens"
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """A checked configuration, and where its values come from."""

    config: Config
    origin: Origin

    def origin_of(self, *where: str) -> str | None:
        """Return where a key was set, given by the names that lead to it: `file:line`, a variable or a flag; None for a default."""
        holder: Any = self.config
        for part in where[:-1]:
            holder = holder[part] if isinstance(holder, dict) else getattr(holder, part)
        return self.origin.of(where, len(where)) if holder is not None and where[-1] in holder.model_fields_set else None


def load_config(
    path: str | Path = DEFAULT_FILE,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Read a configuration file, then the environment, then `overrides` ({"routing.policy": "always"}).

    Raises `ConfigurationError` naming the key, where it was set and what is accepted.
    """
    return settle(path, overrides, environ).config


def settle(
    path: str | Path = DEFAULT_FILE,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settled:
    """Read a configuration as `load_config` does, and remember where each value was set."""
    source = Path(path)
    text = _read(source)
    data = _parse(text, source)
    origins: dict[tuple[str, ...], str] = {}
    written = list(data["judges"]) if isinstance(data.get("judges"), dict) else []
    for where, raw, origin in _layers(os.environ if environ is None else environ, overrides or {}):
        _check_judge(where, written, origin)
        table: Any = data
        for part in where[:-1]:
            table = table.setdefault(part, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            break  # validation says that a section is expected
        table[where[-1]] = _value(raw, textual=where[-1] in _texts_of(where[:-1]))
        for depth in range(1, len(where)):
            origins.setdefault(where[:depth], origin)
        origins[where] = origin
    origins_of_all = Origin(source, text, origins)
    try:
        return Settled(Config.model_validate(data), origins_of_all)
    except ValidationError as error:
        problems = [describe(problem, Config, origins_of_all, _HINTS) for problem in error.errors()]
        raise ConfigurationError("\n".join(dict.fromkeys(problems))) from None


def _check_judge(where: tuple[str, ...], written: Sequence[str], origin: str) -> None:
    """Refuse a judge who is nearly one in the file: a slip of the pen would send questions to somebody else."""
    name = where[1] if where[0] == "judges" else None
    close = [] if name is None or name in written else difflib.get_close_matches(name, written, n=1)
    if close:
        raise ConfigurationError(f"{origin}: there is no [judges.{name}]; did you mean {close[0]}? Another judge needs a less similar name")


def _read(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        message = f'{source}: no such configuration file; a minimal one is\n\n[judge]\nmodel = "..."\n\n[routing]\npolicy = "always"'
        raise ConfigurationError(message) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{source}: cannot be read: {error}") from None


def _parse(text: str, source: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ConfigurationError(f"{source}{f':{line[1]}' if line else ''}: not valid TOML: {error}") from None


def _layers(environ: Mapping[str, str], overrides: Mapping[str, str]) -> list[tuple[tuple[str, ...], str, str]]:
    """(path of the key, raw value, where it was set), weakest first."""
    layers = []
    for name in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
        path = _path_of(name.removeprefix(ENVIRONMENT_PREFIX).lower(), "__")
        if path is None:
            raise ConfigurationError(_not_a_setting(name))
        layers.append((path, environ[name], f"environment variable {name}"))
    for name, raw in overrides.items():
        path = _path_of(name, ".")
        if path is None:
            raise ConfigurationError(f"--set {name}: {_expected(name, '.', 'SECTION.KEY=VALUE, for instance routing.policy=always')}")
        layers.append((path, raw, f"--set {name}"))
    return layers


def _path_of(name: str, separator: str) -> tuple[str, ...] | None:
    """SECTION and KEY, or judges, NAME and KEY, or judges, NAME, limits and KEY; None for anything else."""
    section, separated, key = name.partition(separator)
    if section != "judges":
        return (section, key) if separated else None
    path = (section, *key.split(separator))
    return path if len(path) == depth_of(Config, path) and all(path) else None


def _expected(name: str, separator: str, usual: str) -> str:
    if name.lower().partition(separator)[0] != "judges":
        return f"expected {usual}"
    return f"expected {separator.join(('judges', 'NAME', 'KEY'))} or {separator.join(('judges', 'NAME', 'limits', 'KEY'))}"


def _not_a_setting(name: str) -> str:
    """What to say about a variable that has our prefix and names no section and key: it would go unnoticed."""
    short = name.removeprefix(ENVIRONMENT_PREFIX)
    if short.partition("__")[0] == "JUDGES":
        return (
            f"environment variable {name}: expected {ENVIRONMENT_PREFIX}JUDGES__NAME__KEY or {ENVIRONMENT_PREFIX}JUDGES__NAME__LIMITS__KEY"
        )
    known = [f"{section}__{key}".upper() for section in sections() if section != "judges" for key in keys_of(section)]
    close = difflib.get_close_matches(short.upper(), known, n=1, cutoff=0.55)
    hint = f"did you mean {ENVIRONMENT_PREFIX}{close[0]}?" if close else f"for instance {ENVIRONMENT_PREFIX}ROUTING__POLICY=always"
    return f"environment variable {name}: expected {ENVIRONMENT_PREFIX}SECTION__KEY, with two underscores; {hint}"


def _value(raw: str, *, textual: bool) -> Any:
    """Read a value as TOML would, or a JSON object; what is neither is a string, and so is everything where only a text will do."""
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = _json_object(raw)
    return raw if textual and not isinstance(value, str) else value


def _json_object(raw: str) -> Any:
    """The JSON object that `raw` is; `raw` itself if it is none."""
    if not raw.lstrip().startswith("{"):
        return raw
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return raw


def _texts_of(section: Sequence[str]) -> set[str]:
    """Keys of a section whose value is a text: a run named 2024-05-01 is no date, a model named 4 no number."""
    model = model_of(Config, section)
    fields = model.model_fields.items() if model else ()
    return {key for key, field in fields if field.annotation is str or NonEmpty in get_args(field.annotation)}


def sections() -> list[str]:
    """Return the names of all sections."""
    return list(Config.model_fields)


def keys_of(section: str) -> list[str]:
    """Return the keys of one section; empty for an unknown one."""
    model = section_type(section)
    return list(model.model_fields) if model else []


def section_type(section: str) -> type[BaseModel] | None:
    """Return the model of one section, whose fields are its keys, of [judges] that of each judge; None for an unknown one."""
    return model_of(Config, [section]) or model_of(Config, [section, "NAME"])


def run_fingerprint_fields(config: Config) -> dict[str, Any]:
    """Return the settings that make a run what it is: they, and the input, name a run that has no name of its own.

    Limits, timeouts, logs and files may change without making it another run.
    """
    routing = config.routing.model_dump(mode="json")
    routing = {key: value for key, value in routing.items() if key not in _UNSAID or value != _UNSAID[key]}
    fields = {"judge": _asked(config.judge, config.routing), "budget": config.budget.model_dump(mode="json"), "routing": routing}
    others = [[name, _asked(judge, config.routing)] for name, judge in config.judges.items()]
    return fields | {"judges": others} if others else fields


def _asked(judge: JudgeConnection, routing: RoutingConfig) -> dict[str, Any]:
    """What of a judge's settings decides what it is asked, or which pairs are."""
    transport = {"timeout_s", "connect_timeout_s", "retry_attempts", "retry_for_s", "api_key_env", "base_url", "limits"}
    prices = {"prompt_usd_per_mtok", "completion_usd_per_mtok"}
    weight = set() if routing.panel == "weights" else {"weight"}
    return judge.model_dump(mode="json", exclude=transport | prices | weight) | {"id": judge.name}


_UNSAID: dict[str, Any] = {"audit_fraction": 0.0, "cost_weighted": False, "panel": "fallback", "after_deadline": "drop"}
"""Settings that came later: where they change nothing, a run goes by the name it had before they were there."""
