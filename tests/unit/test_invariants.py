"""What must hold whatever the judge does: the real scheduler, in virtual time, against judges that fail at random."""

import asyncio
import math
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import StoreUnavailable
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, JudgeLimits, ScriptedJudge, arithmetic_pairs
from judgeflow.types import StepResult

FAULTS = ["429", "429-bare", "500", "hang", "reset", "garbage", "length", "refusal", "no-tag", "slow"]
faults = st.dictionaries(st.sampled_from(FAULTS), st.floats(0.01, 0.3), max_size=3).map(
    lambda rates: ",".join(f"{name}:{rate:.3f}" for name, rate in rates.items())
)
virtual = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(main):
    clock = VirtualClock()
    return clock.run(main(clock))


@virtual
@given(faults, st.integers(0, 9), st.integers(1, 80), st.one_of(st.none(), st.floats(1, 300)), st.integers(1, 12))
def test_every_pair_has_a_finite_labelled_outcome_by_its_deadline_within_budget_and_limits(spec, seed, requests, deadline, in_flight):
    pairs = arithmetic_pairs(25, seed=seed)

    async def main(clock):
        limits = JudgeLimits(requests_per_minute=30)
        judge = ScriptedJudge(clock=clock, faults=spec, latency="lognormal:20:0.5", limits=limits, seed=seed)
        store = MemoryStore()
        scheduler = Scheduler(
            store=store,
            judge=judge,
            gate=WindowGate(LimitsConfig(requests_per_minute=30), clock),
            routing=RoutingConfig(policy="always", step_deadline_s=deadline),
            budget=BudgetConfig(requests=requests),
            retry=RetryPolicy(attempts=3, for_s=400.0),
            max_in_flight=in_flight,
            clock=clock,
        )
        async with scheduler:
            step = await scheduler.route([*pairs, pairs[0].swapped()])
        state = await store.run_state("default")
        return step, judge.statistics, state

    step, seen, state = run(main)
    assert [outcome.pair for outcome in step.outcomes[:25]] == pairs
    assert all(math.isfinite(outcome.logit) for outcome in step.outcomes)
    assert all((outcome.source == "fallback") == (outcome.verdict is None) for outcome in step.outcomes)
    assert deadline is None or step.statistics.seconds <= deadline + 1e-6
    assert seen.provoked_429 == 0
    assert seen.answered <= requests
    assert max(seen.question_answers.values(), default=0) <= 1
    assert seen.answered <= state.spent.requests <= requests
    assert state.reserved.requests == 0


@virtual
@given(faults, st.integers(0, 9), st.integers(1, 60))
def test_concurrent_steps_and_a_stop_in_the_middle_lose_nothing_and_overspend_nothing(spec, seed, stop_after):
    pairs = arithmetic_pairs(20, seed=seed)

    async def main(clock):
        store = MemoryStore()
        judge = ScriptedJudge(clock=clock, faults=spec, latency="uniform:5:40", seed=seed)
        common = {"store": store, "judge": judge, "routing": RoutingConfig(policy="always"), "clock": clock, "max_in_flight": 5}
        async with Scheduler(**common, budget=BudgetConfig(requests=70)) as scheduler:
            steps = [asyncio.ensure_future(scheduler.route(pairs[start : start + 12])) for start in (0, 4, 8)]
            await clock.sleep(stop_after)
            scheduler.stop()
            results = await asyncio.gather(*steps)
        stopped = await store.run_state("default")
        async with Scheduler(**common, budget=BudgetConfig(requests=70)) as scheduler:
            again = await scheduler.route(pairs)
        return results, again, stopped, judge.statistics

    results, again, stopped, seen = run(main)
    assert all(len(result.outcomes) == 12 for result in results)
    assert stopped.reserved.requests == 0
    assert max(seen.question_answers.values(), default=0) <= 1
    assert seen.answered <= 70
    assert all(math.isfinite(logit) for logit in again.logits)


def test_the_reference_makespan_under_a_rate_limit_is_what_the_windows_allow():
    """100 calls a minute of 50: 50 at once, 50 one window and its margin later."""
    pairs = arithmetic_pairs(50)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=20.0, limits=JudgeLimits(requests_per_minute=50))
        gate = WindowGate(LimitsConfig(requests_per_minute=50), clock)
        async with Scheduler(store=MemoryStore(), judge=judge, gate=gate, routing=RoutingConfig(policy="always"), clock=clock) as scheduler:
            return (await scheduler.route(pairs)).statistics

    statistics = run(main)
    assert statistics.calls == 100
    assert abs(statistics.seconds - (60.5 + 20.0)) < 0.01


def test_a_judges_retry_after_holds_every_question_back_not_only_its_own():
    pairs = arithmetic_pairs(10)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, faults=["429"], retry_after_s=30.0)
        async with Scheduler(
            store=MemoryStore(),
            judge=judge,
            gate=WindowGate(LimitsConfig(), clock),
            routing=RoutingConfig(policy="always"),
            clock=clock,
            max_in_flight=1,
        ) as scheduler:
            step = await scheduler.route(pairs)
        return step.statistics, judge.statistics

    statistics, seen = run(main)
    assert 30.0 <= statistics.seconds < 31.0
    assert seen.requests == 21
    assert statistics.sources == {"judge": 10}


def test_a_question_shared_by_two_steps_stays_wanted_until_the_later_deadline():
    """One call takes 10 s and one is out at a time: the first step's 45 s are enough for half of the eight calls."""
    pairs = arithmetic_pairs(4)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=10.0)
        routing = RoutingConfig(policy="always", step_deadline_s=45.0)
        async with Scheduler(store=MemoryStore(), judge=judge, routing=routing, clock=clock, max_in_flight=1) as scheduler:
            first = asyncio.ensure_future(scheduler.route(pairs))
            await clock.sleep(40.0)
            second = await scheduler.route(pairs)
            return (await first).statistics.statuses, second.statistics.statuses, judge.statistics.requests

    first, second, requests = run(main)
    assert first == {"ok": 2, "deadline": 2}
    assert second == {"ok": 4}
    assert requests == 8


class FlakyStore(MemoryStore):
    """Fails about `share` of its writes in the first `until` seconds, before or after they are made, and takes up to 3 s for each."""

    def __init__(self, clock, share, until, seed):
        super().__init__()
        self.clock, self.share, self.until, self.random = clock, share, until, random.Random(seed)

    async def _maybe(self):
        await asyncio.sleep(self.random.choice([0.0, 0.0, 0.1, 3.0]))
        if self.clock.now() < self.until and self.random.random() < self.share:
            raise StoreUnavailable("locked")

    async def reserve(self, *arguments):
        await self._maybe()
        return await super().reserve(*arguments)

    async def settle(self, *arguments):
        await self._maybe()
        await super().settle(*arguments)
        await self._maybe()

    async def charge(self, *arguments):
        await self._maybe()
        await super().charge(*arguments)

    async def release(self, *arguments):
        await self._maybe()
        await super().release(*arguments)


@virtual
@given(
    faults,
    st.integers(0, 99),
    st.floats(0, 0.3),
    st.lists(st.tuples(st.integers(0, 20), st.floats(0.5, 90), st.booleans()), min_size=1, max_size=6),
    st.one_of(st.none(), st.floats(5, 120)),
    st.integers(1, 9),
    st.one_of(st.none(), st.integers(1_500, 60_000)),
    st.booleans(),
    st.booleans(),
)
def test_whatever_stores_judges_and_callers_do_nothing_paid_is_lost_or_paid_again_and_no_budget_stays_put_aside(
    spec, seed, share, callers, deadline, in_flight, tokens, keeps, scores
):
    """Callers come one after another, wait as long as they like, and may be cancelled; the store recovers before the end."""
    pairs = arithmetic_pairs(50, seed=seed)

    async def main(clock):
        store = FlakyStore(clock, share, until=300.0, seed=seed)
        judge = ScriptedJudge(clock=clock, faults=spec, latency="uniform:2:20", seed=seed)
        scheduler = Scheduler(
            store=store,
            judge=judge,
            gate=WindowGate(LimitsConfig(requests_per_minute=40, tokens_per_minute=100_000), clock),
            scorer=FakeScorer(pairs) if scores else None,
            routing=RoutingConfig(
                policy="error" if scores else "always",
                threshold=0.02,
                step_deadline_s=deadline,
                after_deadline="keep" if keeps and deadline else "drop",
            ),
            budget=BudgetConfig(tokens=tokens),
            retry=RetryPolicy(attempts=3, for_s=100.0),
            max_in_flight=in_flight,
            clock=clock,
        )
        async with scheduler:
            steps = []
            for start, patience, cancelled in callers:
                steps.append(asyncio.ensure_future(scheduler.route(pairs[start : start + 30])))
                await asyncio.wait(steps, timeout=patience)
                if cancelled:
                    steps[-1].cancel()
            done = await asyncio.wait_for(asyncio.gather(*steps, return_exceptions=True), 20_000.0)
            await clock.sleep(max(0.0, 400.0 - clock.now()))
            budget, dispatcher = scheduler._session._planning._budget, scheduler._session.panel._dispatchers[0]
        state = await store.reopen().run_state("default")
        return done, budget.planned, dispatcher.books.queued, state, len(store._contents.calls), judge.statistics

    done, planned, queued, state, stored, seen = run(main)
    for step in done:
        assert isinstance(step, StepResult | asyncio.CancelledError)
        assert not isinstance(step, StepResult) or len(step.outcomes) == 30
    assert (planned.requests, planned.tokens) == (queued.requests, queued.tokens) == (0, 0)
    assert (state.reserved.requests, state.reserved.tokens) == (0, 0)
    assert tokens is None or state.spent.tokens <= tokens
    assert max(seen.question_answers.values(), default=0) <= 1
    assert stored == seen.answered <= state.spent.requests
