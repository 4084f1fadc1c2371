"""Parts for tests of replays: a run of the real scheduler in virtual time, and the trace of everything that its judge would say."""

import dataclasses
from dataclasses import dataclass

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, RoutingConfig
from judgeflow.judges.gate import WindowGate
from judgeflow.keys import pair_keys
from judgeflow.replay.gather import Gathering
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge, arithmetic_pairs
from judgeflow.types import StepResult

LATENCY = "lognormal:34.6:0.33"
LONGEST = 200


@dataclass(frozen=True, kw_only=True)
class Live:
    """What the real scheduler did: its steps, the time that each took, and when each question came to the judge."""

    steps: list[StepResult]
    seconds: list[float]
    calls: int

    @property
    def outcomes(self):
        return [outcome for step in self.steps for outcome in step.outcomes]


def judge(clock, seed=0, latency=LATENCY, model="judge"):
    return ScriptedJudge(
        Opinions(words=20, seed=seed),
        clock=clock,
        latency=latency,
        max_completion_tokens=LONGEST,
        prompt_usd_per_mtok=2.0,
        completion_usd_per_mtok=8.0,
        timeout_s=120.0,
        seed=seed,
        model=model,
    )


def chunks(pairs, size):
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]


def live(what_if, pairs, latency=LATENCY):
    """Route `pairs` with the settings of a what-if, step by step, with the real scheduler."""
    clock = VirtualClock()

    async def main():
        asked = judge(clock, latency=latency)
        limited = what_if.requests_per_minute is not None or what_if.tokens_per_minute is not None
        steps = chunks(pairs, what_if.step_size)
        gate = {"gate": WindowGate(what_if.limits, clock, longest_reply=LONGEST)} if limited else {}
        scheduler = Scheduler(
            judge=asked,
            store=MemoryStore(),
            scorer=FakeScorer(pairs),
            routing=what_if.routing,
            budget=BudgetConfig(
                requests=what_if.budget_requests, tokens=what_if.budget_tokens, usd=what_if.budget_usd, steps=what_if.steps
            ),
            orders=what_if.orders,
            run=what_if.run,
            max_in_flight=what_if.max_in_flight,
            timeout_s=what_if.timeout_s,
            clock=clock,
            **gate,
        )
        results, seconds = [], []
        async with scheduler:
            for number, part in enumerate(steps):
                started = clock.now()
                results.append(await scheduler.route(part, step=number))
                seconds.append(clock.now() - started)
                await clock.sleep(what_if.pause_s)
        return Live(steps=results, seconds=seconds, calls=asked.statistics.requests)

    return clock.run(main())


def everything_judged(pairs, latency=LATENCY, seed=0, model="judge"):
    """Return the trace of `pairs`, with the same judge's replies to all of them in both orders; it is called as its model."""
    clock = VirtualClock()

    async def main():
        asked = judge(clock, seed, latency, model)
        async with Scheduler(
            judge=asked, store=MemoryStore(), routing=RoutingConfig(policy="always"), max_in_flight=9999, clock=clock
        ) as all_:
            return asked.identity, await all_.route(pairs)

    identity, result = clock.run(main())
    gathered, scorer = Gathering(), FakeScorer(pairs)
    for pair, outcome, belief in zip(pairs, result.outcomes, scorer.score(pairs), strict=True):
        keys = pair_keys(pair)
        gathered.add(keys.pair, keys.prompt, swapped=not keys.canonical)
        gathered.believe(keys.pair, belief if keys.canonical else belief.swapped())
        if pair.label:
            gathered.label(keys.pair, {"a": 1, "b": -1, "tie": 0}[pair.label] * (1 if keys.canonical else -1), None)
        for call in outcome.verdict.calls:
            reply = call.reply
            gathered.hear(
                dataclasses.replace(identity, id=model),
                keys.pair,
                canonical=call.canonical,
                reading=call.reading,
                usage=reply.usage,
                usd=reply.usd,
                latency_s=reply.latency_s,
            )
    return gathered.trace("a test", "fake")


def some_pairs(count):
    """Return labelled pairs, all different."""
    found = {pair_keys(pair).pair: pair for pair in arithmetic_pairs(2 * count) if not pair_keys(pair).identical}
    return list(found.values())[:count]
