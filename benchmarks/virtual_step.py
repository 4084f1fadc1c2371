"""Steps of the reference workload in virtual time: the real scheduler, a judge in memory that keeps a log, and nobody who waits.

What is real: `Scheduler` with everything behind it (plan, dispatcher, budget, single flight), `WindowGate`, the packaged template, token
counts, and a judge that enforces its limits in windows of its own.  What is not: scoring and hashing take no time, since the clock stands
still while threads work, and a store in memory takes `COMMIT_S` for whatever it is asked.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from judgeflow import Group, Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import LimitsConfig, RoutingConfig
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, JudgeLimits, Opinions, ScriptedJudge
from judgeflow.types import Question, Reply, StepStatistics

PROMPTS, RESPONSES = 256, 4
"""The reference workload: 1,536 pairs a step."""

LATENCY = "lognormal:34.64:0.334"
"""Nine calls in ten take 20 to 60 s: median sqrt(20 * 60), sigma ln(60 / 20) / 2 over the normal's 95 % quantile 1.645."""

STRAGGLERS, STRAGGLE_S = 0.02, 90.0
"""One call in fifty takes a minute and a half longer."""

TIMEOUT_S = 600.0
WORDS = 250
MOST_COMPLETION_TOKENS = 1024

COMMIT_S = 0.01
"""How long a store takes for a read or a commit; SQLite's group commit takes about that (99 % quantile)."""

MAX_IN_FLIGHT = 1000
"""More than any step of the reference workload sends, so that nothing but the rate limits holds it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is played: a run of `steps` steps, each followed by `pause_s` seconds of training; `routing` is passed on as it stands."""

    requests_per_minute: int
    share: float
    deadline_s: float | None = None
    tokens_per_minute: int | None = None
    max_in_flight: int = MAX_IN_FLIGHT
    steps: int = 3
    pause_s: float = 0.0
    stragglers: float = STRAGGLERS
    prompts: int = PROMPTS
    seed: int = 0
    routing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> LimitsConfig:
        """What judgeflow is told about the judge."""
        return LimitsConfig(requests_per_minute=self.requests_per_minute, tokens_per_minute=self.tokens_per_minute)


@dataclass(slots=True)
class Sent:
    """One request as the judge saw it: when it came (seconds), how long its answer took, and tokens.

    `reserved` is prompt and longest reply, `used` prompt and reply.  `latency_s` and `used` are 0 until the answer is given.
    """

    at: float
    reserved: int
    latency_s: float = 0.0
    used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step as its trainer saw it, and which requests came to the judge until the next one, in order."""

    started: float
    seconds: float
    statistics: StepStatistics
    sent: tuple[Sent, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """All steps of a run, everything that came to the judge, and what it turned away.

    `late` has, by step, how many of its pairs the judge has spoken about after the step had returned, as the scheduler tells it.
    """

    steps: tuple[Step, ...]
    log: tuple[Sent, ...]
    late: Mapping[int, int]
    most_in_flight: int
    turned_away: int


def play(setting: Setting) -> Run:
    """Play a run in virtual time."""
    clock = VirtualClock()
    return clock.run(_Player(setting, clock).play())


class LoggingJudge(ScriptedJudge):
    """A judge that writes down when each request came and how long its answer took."""

    def __init__(self, clock: VirtualClock, setting: Setting) -> None:
        super().__init__(
            Opinions(words=WORDS, seed=setting.seed),
            clock=clock,
            latency=LATENCY,
            faults=f"slow:{setting.stragglers}",
            slow_s=STRAGGLE_S,
            limits=JudgeLimits(requests_per_minute=setting.requests_per_minute),
            max_completion_tokens=MOST_COMPLETION_TOKENS,
            timeout_s=TIMEOUT_S,
            seed=setting.seed,
        )
        self.log: list[Sent] = []

    async def ask(self, question: Question) -> Reply:
        sent = Sent(at=self._clock.now(), reserved=self.cost(question).tokens)
        self.log.append(sent)
        reply = await super().ask(question)
        sent.latency_s, sent.used = self._clock.now() - sent.at, reply.usage.total
        return reply


class SlowStore(MemoryStore):
    """A store in memory that takes its time for what a database would read or commit."""

    async def _wait(self) -> None:
        await asyncio.sleep(COMMIT_S)

    async def read(self, call_keys: Sequence[bytes]) -> Any:
        await self._wait()
        return await super().read(call_keys)

    async def record_plan(self, run: str, step: int, decisions: Any, pacing: Any = None) -> None:
        await self._wait()
        await super().record_plan(run, step, decisions, pacing)

    async def record_step(self, statistics: StepStatistics, decisions: Any) -> None:
        await self._wait()
        await super().record_step(statistics, decisions)

    async def reserve(self, run: str, reservation: Any, stock: Any) -> Any:
        await self._wait()
        return await super().reserve(run, reservation, stock)

    async def settle(self, run: str, reservation: Any, question: Question, call: Any) -> None:
        await self._wait()
        await super().settle(run, reservation, question, call)


class _Player:
    def __init__(self, setting: Setting, clock: VirtualClock) -> None:
        self._setting = setting
        self._clock = clock
        self._judge = LoggingJudge(clock, setting)

    async def play(self) -> Run:
        setting, judge = self._setting, self._judge
        scheduler = Scheduler(
            judge=judge,
            store=SlowStore(),
            scorer=FakeScorer(seed=setting.seed),
            gate=WindowGate(setting.limits, self._clock, longest_reply=MOST_COMPLETION_TOKENS),
            routing=RoutingConfig(policy="error", max_share=setting.share, step_deadline_s=setting.deadline_s, **setting.routing),
            max_in_flight=setting.max_in_flight,
            timeout_s=TIMEOUT_S,
            clock=self._clock,
        )
        async with scheduler:
            steps = [await self._step(scheduler, number) for number in range(setting.steps)]
        return Run(
            steps=tuple(steps),
            log=tuple(judge.log),
            late=_late(scheduler),
            most_in_flight=judge.statistics.max_concurrency,
            turned_away=judge.statistics.provoked_429,
        )

    async def _step(self, scheduler: Scheduler, number: int) -> Step:
        groups = reference_groups(self._setting.prompts, f"{self._setting.seed}/{number}")
        started, seen = self._clock.now(), len(self._judge.log)
        result = await scheduler.route_groups(groups, step=number)
        seconds = self._clock.now() - started
        await self._clock.sleep(self._setting.pause_s)
        return Step(started=started, seconds=seconds, statistics=result.statistics, sent=tuple(self._judge.log[seen:]))


def _late(scheduler: Scheduler) -> Mapping[int, int]:
    """Count what came late by step.  A scheduler without `late_outcomes` keeps none."""
    take = getattr(scheduler, "late_outcomes", list)
    return Counter(late.step for late in take())


_TEXT = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz     ", k=20_000))


def reference_groups(prompts: int, name: str) -> list[Group]:
    """Return groups of four responses: prompts of 200 to 1,400 characters (50 to 350 tokens), responses of 600 to 1,800."""
    dice = random.Random(name)

    def text(low: int, high: int) -> str:
        begin = dice.randrange(10_000)
        return f"{dice.getrandbits(64):x} {_TEXT[begin : begin + dice.randint(low, high)]}"

    return [
        Group(id=f"{name}/{index}", prompt=text(200, 1400), responses=tuple(text(600, 1800) for _ in range(RESPONSES)))
        for index in range(prompts)
    ]
