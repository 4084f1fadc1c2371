"""What `judgeflow doctor` looks at.  Loads everything that it looks at, but for torch."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from judgeflow.build import build_scorer, build_seats, key_of, store_url, watchers
from judgeflow.cli.watch import Watch
from judgeflow.clock import LoopClock
from judgeflow.config import Config, JudgeConnection, RoutingConfig
from judgeflow.engine.scheduler import Scheduler
from judgeflow.engine.seat import Seat
from judgeflow.errors import ConfigurationError, JudgeflowError
from judgeflow.judges.gate import ThrottleGate
from judgeflow.judges.reach import reach
from judgeflow.plurals import plural
from judgeflow.ports import Permit
from judgeflow.report.survey import TRIAL
from judgeflow.store import SqlStore, migrate
from judgeflow.store.engines import database_at
from judgeflow.tokens import ESTIMATE_REMEDY, ESTIMATE_RULE, TokenCounter
from judgeflow.types import Outcome, Pair, RateHeaders
from judgeflow.verdicts.prompt import load_template

TIMED_PAIRS = 8
_ESTIMATED = f"{ESTIMATE_RULE}. {ESTIMATE_REMEDY}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `ok` is None for what is neither good nor bad."""

    check: str
    ok: bool | None
    detail: str


async def examine(config: Config, *, ask: bool) -> list[Finding]:
    """Look at everything a configuration needs; with `ask`, questions are asked and paid for."""
    looks = [_judges, _tokens, _database, _scorer, _watchers, *([_questions] if ask else [])]
    return [finding for look in looks async for finding in look(config)]


def _sections(config: Config) -> dict[str, JudgeConnection]:
    return {"judge": config.judge} | {f"judges.{name}": judge for name, judge in config.judges.items()}


async def _judges(config: Config) -> AsyncIterator[Finding]:
    """Keys, templates, and whether the server is there."""
    for section, judge in _sections(config).items():
        try:
            load_template(judge.template, config.path("."))
            key = key_of(judge, section)
        except ConfigurationError as error:
            yield Finding(check=section, ok=False, detail=str(error))
            continue
        found = await reach(judge, key)
        yield Finding(check=section, ok=found.ok, detail=found.detail)


async def _tokens(config: Config) -> AsyncIterator[Finding]:
    for section, judge in _sections(config).items():
        if TokenCounter(judge.model).exact:
            yield Finding(check="tokens", ok=True, detail=f"{judge.model} of [{section}] is counted with its own vocabulary, offline")
        else:
            yield Finding(check="tokens", ok=None, detail=f"{judge.model} of [{section}] is estimated: {_ESTIMATED}")


async def _database(config: Config) -> AsyncIterator[Finding]:
    """Whether the database is there, has our schema, and can be written; a missing one is not created."""
    address, shown = store_url(config), config.store.model_dump()["url"]  # which is without a password
    try:
        state = await migrate.inspect(address)
        if state.kind == "missing":
            database_at(address).require_writable()
        if state.kind in {"missing", "empty"}:
            yield Finding(check="database", ok=None, detail=f"{shown} holds nothing yet; the first run creates it")
            return
        store = await SqlStore.open(address)
        await store.aclose()
    except JudgeflowError as error:
        yield Finding(check="database", ok=False, detail=str(error))
    else:
        yield Finding(
            check="database",
            ok=True,
            detail=f"{shown} can be read and written (schema {state.revision}); `judgeflow db check` proves it sound",
        )


async def _scorer(config: Config) -> AsyncIterator[Finding]:
    """Whether the scorer loads, on which device, and how long a pair takes."""
    if config.scorer is None:
        yield Finding(check="scorer", ok=None, detail=f"none; policy {config.routing.policy} needs none")
        return
    try:
        scorer = build_scorer(config)
        if scorer is None:
            return
        pairs = [_pair(f"{number}") for number in range(TIMED_PAIRS)]
        scorer.score(pairs)
        started = time.perf_counter()
        scorer.score(pairs)
    except JudgeflowError as error:
        yield Finding(check="scorer", ok=False, detail=str(error))
        return
    each = 1000 * (time.perf_counter() - started) / TIMED_PAIRS
    device = getattr(scorer, "device", "an unknown device")
    yield Finding(check="scorer", ok=True, detail=f"{config.scorer.path} scores on {device}, {each:.1f} ms a short pair")


async def _watchers(config: Config) -> AsyncIterator[Finding]:
    """Whether the log, spans, metrics and scalars can be had that the configuration wants."""
    for watcher in watchers(config):
        try:
            watcher.attempt()
        except ConfigurationError as error:
            yield Finding(check=watcher.name, ok=False, detail=str(error))
        else:
            yield Finding(check=watcher.name, ok=True, detail=watcher.told)


async def _questions(config: Config) -> AsyncIterator[Finding]:
    """Ask each judge one question through the whole engine: it is within every limit, and its replies are stored."""
    clock = LoopClock()
    limits = [config.limits, *(judge.limits for judge in config.judges.values())]
    for section, seat, limit in zip(_sections(config), build_seats(config, clock), limits, strict=True):
        yield await _question(section, seat, _Listening(limit, clock), store_url(config))


async def _question(section: str, seat: Seat, gate: _Listening, address: str) -> Finding:
    check = f"question to {section}"
    everything, store = RoutingConfig(policy="always"), functools.partial(SqlStore.open, address)
    watch = Watch(section, say=lambda _: None)
    try:
        async with Scheduler(
            judge=seat.judge, gate=gate, store=store, routing=everything, run=TRIAL, timeout_s=seat.timeout_s, observers=[watch]
        ) as scheduler:
            # A new question each time: a stored one would be free, and tell nothing.
            result = await scheduler.route([_pair(f"{time.time():.0f}")])
    except JudgeflowError as error:
        return Finding(check=check, ok=False, detail=str(error))
    outcome = result.outcomes[0]
    detail = "; ".join([_answer(outcome), gate.told(), *([watch.last_error] if watch.last_error and outcome.verdict is None else [])])
    return Finding(check=check, ok=outcome.verdict is not None, detail=detail)


class _Listening(ThrottleGate):
    """A judge's gate that keeps what the judge says about its limits."""

    heard: RateHeaders | None = None

    def heed(self, rates: RateHeaders, permit: Permit | None = None) -> Mapping[str, float]:
        self.heard = rates
        return super().heed(rates, permit)

    def told(self) -> str:
        """What the judge said, in words."""
        rates = self.heard
        said = {"requests": rates.requests.limit, "tokens": rates.tokens.limit} if rates else {}
        known = [f"{limit:,} {what}" for what, limit in said.items() if limit is not None]
        return f"its headers say that a window admits {' and '.join(known)}" if known else "its headers say nothing about limits"


def _answer(outcome: Outcome) -> str:
    verdict = outcome.verdict
    if verdict is None:
        return f"no verdict ({outcome.status})"
    slowest = max(call.reply.latency_s for call in verdict.calls)
    tokens = sum(call.reply.usage.total for call in verdict.calls)
    orders = "both orders" if len(verdict.calls) == 2 else f"one order ({outcome.status})"
    replies = plural(len(verdict.calls), "reply", "replies")
    return f"answers in {orders} and chooses {verdict.choice}; {slowest:.1f} s, {tokens:,} tokens for {replies}"


def _pair(name: str) -> Pair:
    return Pair(prompt=f"What is 2 + 2? (question {name})", response_a="2 + 2 = 4.", response_b="2 + 2 = 5.", label="a")
