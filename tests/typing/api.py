"""Type-checked by mypy --strict, never run: what users may write, and what types they get."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, assert_type

from judgeflow import (
    Config,
    ConfigurationError,
    Group,
    JudgeflowError,
    Message,
    Outcome,
    Pair,
    Preference,
    RecordError,
    Scheduler,
    Seat,
    StepResult,
    StepStatistics,
    Verdict,
    load_config,
    read_pairs,
)
from judgeflow.adapters.trl import PairwiseJudge, judge_reward, judge_reward_sync, online_dpo_reward
from judgeflow.client import RouteClient, elect
from judgeflow.observe.metrics import MetricsObserver, exposition
from judgeflow.observe.tracing import TracingObserver
from judgeflow.ports import BeginningObserver, FollowingObserver, Gate, Judge, Store
from judgeflow.types import CallEvent, Choice, Cost, JudgeState, Label, Prompt, Source

# Pairs and groups: prompts as text or as messages.

pair = Pair(prompt="Which?", response_a="this", response_b="that")
described = Pair(
    prompt=(Message(role="user", content="Which?"),),
    response_a="this",
    response_b="that",
    id="7",
    group="g",
    label="tie",
    metadata={"category": "code"},
)
assert_type(pair.swapped(), Pair)
assert_type(pair.prompt, Prompt)
assert_type(described.label, Label | None)
assert_type(described.metadata, Mapping[str, Any])

group = Group(prompt="Which?", responses=("zero", "one", "two"), id="g", mask=(True, True, False))
assert_type(group.pairs(), tuple[Pair, ...])
assert_type(group.indexes(), tuple[tuple[int, int], ...])
assert_type(group.members, tuple[int, ...])

Pair(prompt=7, response_a="this", response_b="that")  # type: ignore[arg-type]
Pair("Which?", "this", "that")  # type: ignore[call-arg]
Pair(prompt="Which?", response_a="this", response_b="that", label="A")  # type: ignore[arg-type]
Group(prompt="Which?", responses="zero", id="g")  # type: ignore[arg-type]
pair.response_a = "changed"  # type: ignore[misc]


# Records and settings.

pairs, bad = read_pairs("pairs.jsonl", on_bad_record="skip")
assert_type(pairs, list[Pair])
for each in bad:
    assert_type(each.line, int)
    assert_type(each.reason, str)
read_pairs("pairs.jsonl", on_bad_record="ignore")  # type: ignore[arg-type]

config = load_config("judgeflow.toml", overrides={"routing.policy": "always"})
assert_type(config, Config)
assert_type(config.limits.requests_per_minute, int | None)
assert_type(config.judge.model, str)
assert_type(config.routing.verdict_margin, float | Literal["matched"])


def explain(error: JudgeflowError) -> str:
    if isinstance(error, ConfigurationError | RecordError):
        return f"mend your input: {error}"
    return str(error)


# Judges: one, or several with limits of their own.


def judged_by(one: Judge, other: Judge, gate: Gate, store: Store) -> None:
    Scheduler(store=store, judge=one, gate=gate, max_in_flight=8)
    Scheduler(store=store, judges=[one, Seat(judge=other, gate=gate, weight=2.0)])
    Scheduler(store=store, judges=[Seat(one)])  # type: ignore[call-arg]


# Who watches.


class Own:
    def call(self, event: CallEvent) -> None: ...

    def step(self, statistics: StepStatistics) -> None: ...

    def notice(self, event: str, **fields: object) -> None: ...

    def close(self) -> None: ...


def watched(judge: Judge, store: Store) -> None:
    metrics = MetricsObserver()
    following: FollowingObserver = metrics
    beginning: BeginningObserver = TracingObserver()
    scheduler = Scheduler(store=store, judge=judge, observers=[Own(), following, beginning])
    assert_type(scheduler.judge_states, tuple[JudgeState, ...])
    assert_type(exposition(metrics.registry), tuple[bytes, str])


# What a step gives back.


def believe(preference: Preference) -> None:
    assert_type(preference.logit, float)
    assert_type(preference.probability, float)
    assert_type(preference.uncertainty, float | None)
    assert_type(preference.swapped(), Preference)


def listen(verdict: Verdict) -> None:
    assert_type(verdict.choice, Choice)
    assert_type(verdict.logit, float)
    assert_type(verdict.swapped_agree, bool | None)
    assert_type(verdict.swapped(), Verdict)


def learn(step: StepResult) -> None:
    assert_type(step.outcomes, tuple[Outcome, ...])
    assert_type(step.logits, tuple[float, ...])
    assert_type(step.statistics, StepStatistics)
    assert_type(step.advantages(), dict[str, tuple[float, ...]])
    assert_type(step.advantages(scale=0.5), dict[str, tuple[float, ...]])
    for outcome in step.outcomes:
        assert_type(outcome.pair, Pair)
        assert_type(outcome.logit, float)
        assert_type(outcome.probability, float)
        assert_type(outcome.source, Source)
        assert_type(outcome.status, str)
        assert_type(outcome.choice, Choice | None)
        if outcome.preference is not None:
            believe(outcome.preference)
        if outcome.verdict is not None:
            listen(outcome.verdict)


def account(statistics: StepStatistics) -> None:
    assert_type(statistics.calls, int)
    assert_type(statistics.spent.usd, float)
    assert_type(statistics.threshold, float | None)
    assert_type(statistics.sources, Mapping[str, int])
    assert_type(statistics.agreement, float | None)
    assert_type(statistics.latency_s, Mapping[str, float])
    assert_type(statistics.remaining, Mapping[str, float | None])
    assert_type(statistics.judges, Mapping[str, Cost])


def reward(scheduler: Scheduler) -> None:
    assert_type(judge_reward("judgeflow.toml", scale=0.5, num_generations=4), Callable[..., Awaitable[list[float | None]]])
    assert_type(judge_reward_sync("http://127.0.0.1:8765")(["p"] * 2, ["a", "b"]), list[float | None])
    assert_type(elect("judgeflow.toml"), RouteClient)
    assert_type(judge_reward_sync(scheduler)(["p"] * 2, ["a", "b"]), list[float | None])
    assert_type(online_dpo_reward(scheduler)(["p"] * 2, ["a", "b"]), list[float | None])
    assert_type(PairwiseJudge(scheduler).judge(["p"], [("a", "b")]), list[int])
