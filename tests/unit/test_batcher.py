"""Scoring on its thread: one piece after the other, and what becomes of those that fail or take too long."""

import asyncio
import math
import threading

import pytest

from judgeflow import Group, Scheduler
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
    assert max(sizes) == 256
    assert 0 < statuses["scorer_failed"] <= 64
    assert statuses["ok"] == 3000 - statuses["scorer_failed"]


class _Reader(FakeScorer):
    """Keeps the sizes of its calls, and counts the responses that it reads: each once a call."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.sizes, self.read = [], 0

    def score(self, pairs):
        self.sizes.append(len(pairs))
        self.read += len({(pair.prompt, response) for pair in pairs for response in (pair.response_a, pair.response_b)})
        return super().score(pairs)


def _scored_in_groups(groups, responses):
    pairs = [
        pair
        for number in range(groups)
        for pair in Group(id=f"{number}", prompt=f"ask {number}", responses=tuple(f"{number}.{k}" for k in range(responses))).pairs()
    ]

    async def main(clock):
        scorer = _Reader(pairs)
        async with Scheduler(store=MemoryStore(), scorer=scorer, routing=RoutingConfig(policy="never"), clock=clock) as scheduler:
            step = await scheduler.route(pairs)
            assert step.statistics.sources == {"scorer": len(pairs)}
            return scorer

    return run(main)


@pytest.mark.parametrize("responses", [2, 4, 8])
def test_a_group_is_handed_to_the_scorer_whole_so_that_each_response_is_read_once(responses):
    scorer = _scored_in_groups(64, responses)
    assert scorer.read == 64 * responses
    assert scorer.sizes[0] <= 32
    assert max(scorer.sizes) <= 256


def test_groups_longer_than_a_call_are_cut():
    scorer = _scored_in_groups(2, 40)  # 780 pairs each
    assert sum(scorer.sizes) == 1560
    assert scorer.sizes[:4] == [16, 32, 64, 128]
    assert max(scorer.sizes) == 256


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


class _StuckOnce(_Counting):
    """Takes as long as it is not set free over the second piece that it is given."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.free = threading.Event()

    def score(self, pairs):
        if len(self.sizes) == 1:
            self.free.wait(timeout=60)
        return super().score(pairs)


@pytest.mark.slow
def test_pairs_scored_before_time_is_up_keep_their_preference_and_are_asked_about():
    pairs = arithmetic_pairs(500)

    async def main():
        scorer, routing = _StuckOnce(pairs), RoutingConfig(policy="error", threshold=0.0, step_deadline_s=8.0)
        async with Scheduler(store=MemoryStore(), judge=ScriptedJudge(), scorer=scorer, routing=routing) as scheduler:
            step = await scheduler.route(pairs)
            scorer.free.set()
            return step

    step = asyncio.run(main())
    assert step.statistics.statuses == {"ok": 16, "deadline": 484}
    assert step.statistics.sources == {"judge": 16, "fallback": 484}
    assert [outcome.preference is not None for outcome in step.outcomes] == [True] * 16 + [False] * 484


@pytest.mark.slow
def test_a_step_that_was_given_up_while_it_was_scored_holds_the_next_one_up_for_one_piece_only():
    pairs = arithmetic_pairs(3010)

    async def main():
        scorer, routing = _StuckOnce(pairs), RoutingConfig(policy="never")
        async with Scheduler(store=MemoryStore(), scorer=scorer, routing=routing) as scheduler:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(scheduler.route(pairs[:3000]), 3.0)
            scorer.free.set()
            step = await scheduler.route(pairs[3000:])
            return step.statistics.statuses, scorer.sizes

    assert asyncio.run(main()) == ({"ok": 10}, [16, 32, 10])


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
