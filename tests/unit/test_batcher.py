"""Scoring on its thread: large batches, and what becomes of those that fail."""

import math

import pytest

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import RoutingConfig
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, ScriptedJudge, arithmetic_pairs


class Notices(list):
    """An observer that keeps the names of notices."""

    def call(self, event):
        pass

    def step(self, statistics):
        pass

    def notice(self, event, **fields):
        self.append(event)

    def close(self):
        pass


def run(main):
    clock = VirtualClock()
    return clock.run(main(clock))


class _Counting(FakeScorer):
    """Keeps how many pairs it was given a call; `bad` pairs spoil theirs."""

    def __init__(self, pairs, bad=(), **settings):
        super().__init__(pairs, **settings)
        self.sizes, self.bad = [], set(bad)

    def score(self, pairs):
        self.sizes.append(len(pairs))
        if self.bad & {pair.id for pair in pairs}:
            raise RuntimeError("cannot be tokenised")
        return super().score(pairs)


def test_one_pair_that_cannot_be_scored_costs_at_most_63_others_their_preference():
    pairs = arithmetic_pairs(3000)

    async def main(clock):
        scorer = _Counting(pairs, bad=[pairs[700].id])
        async with Scheduler(store=MemoryStore(), scorer=scorer, routing=RoutingConfig(policy="never"), clock=clock) as scheduler:
            step = await scheduler.route(pairs)
            return step.statistics.statuses, scorer.sizes

    statuses, sizes = run(main)
    assert max(sizes) == 2048
    assert 0 < statuses["scorer_failed"] <= 64
    assert statuses["ok"] == 3000 - statuses["scorer_failed"]


def test_a_scorer_that_always_fails_is_given_up_after_a_few_calls():
    pairs = arithmetic_pairs(3000)

    async def main(clock):
        scorer, seen = _Counting(pairs, bad=[pair.id for pair in pairs]), Notices()
        settings = {"routing": RoutingConfig(policy="never"), "observers": [seen], "clock": clock}
        async with Scheduler(store=MemoryStore(), scorer=scorer, **settings) as scheduler:
            step = await scheduler.route(pairs)
            return step.statistics.statuses, len(scorer.sizes), list(seen)

    statuses, calls, notices = run(main)
    assert statuses == {"scorer_failed": 3000}
    assert calls <= 12
    assert notices == ["scorer_failed"] * 3


@pytest.mark.parametrize("strange", [None, 0.3, "yes"])
def test_a_scorer_that_returns_no_preferences_has_failed(strange):
    class Strange(FakeScorer):
        def score(self, pairs):
            return [strange] * len(pairs)

    async def main(clock):
        routing = RoutingConfig(policy="error", threshold=0.1)
        async with Scheduler(
            store=MemoryStore(), judge=ScriptedJudge(clock=clock), scorer=Strange(), routing=routing, clock=clock
        ) as scheduler:
            return await scheduler.route(arithmetic_pairs(3))

    step = run(main)
    assert step.statistics.statuses == {"scorer_failed": 3}
    assert all(math.isfinite(logit) for logit in step.logits)
    assert all(outcome.preference is None for outcome in step.outcomes)
