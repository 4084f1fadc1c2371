"""One order, and the other where it can still outweigh the scorer's word; and margins that match what the scorer says."""

import asyncio
import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow import ConfigurationError, Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, RoutingConfig
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge, arithmetic_pairs
from judgeflow.types import Cost

EVERYBODY = RoutingConfig(policy="error", threshold=-1.0)
PAIRS = arithmetic_pairs(60)


def scheduling(clock, *, opinions=None, latency=1.0, faults="", **settings):
    judge = ScriptedJudge(opinions or Opinions(truth=Opinions.truths(PAIRS), accuracy=1.0), clock=clock, latency=latency, faults=faults)
    chosen = {"store": MemoryStore(), "scorer": FakeScorer(PAIRS), "routing": EVERYBODY, "orders": "adaptive"} | settings
    return Scheduler(judge=judge, clock=clock, **chosen), judge


def route(pairs=PAIRS, **settings):
    async def main(clock):
        scheduler, judge = scheduling(clock, **settings)
        async with scheduler:
            step = await scheduler.route(pairs)
            return step, judge.statistics.answered, scheduler._session._planning._budget.planned

    clock = VirtualClock()
    return clock.run(main(clock))


def sign(number):
    return (number > 0) - (number < 0)


def test_the_second_order_is_asked_where_the_first_contradicts_the_scorer_and_nowhere_else():
    step, asked, planned = route()
    contradicted = [outcome for outcome in step.outcomes if sign(outcome.preference.logit) != sign(outcome.logit)]
    assert 0 < len(contradicted) < len(PAIRS) / 2
    assert asked == len(PAIRS) + len(contradicted)
    assert all(outcome.verdict.swapped_agree for outcome in contradicted)
    assert {(abs(outcome.logit), outcome.status, outcome.source) for outcome in step.outcomes} == {(2.0, "ok", "judge")}
    assert planned == Cost()


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(
    accuracy=st.floats(0.0, 1.0),
    position_bias=st.floats(0.0, 1.0),
    tie_rate=st.floats(0.0, 0.5),
    scorer=st.floats(0.0, 1.0),
    seed=st.integers(0, 1000),
)
def test_no_pair_is_preferred_otherwise_than_with_both_orders(accuracy, position_bias, tie_rate, scorer, seed):
    truths = Opinions.truths(PAIRS)
    opinions = Opinions(truth=truths, accuracy=accuracy, position_bias=position_bias, tie_rate=tie_rate, seed=seed)
    parts = {"opinions": opinions, "scorer": FakeScorer(PAIRS, accuracy=scorer, seed=seed)}
    spared, asked, planned = route(**parts)
    both, asked_both, _ = route(**parts, orders="both")
    assert [sign(outcome.logit) for outcome in spared.outcomes] == [sign(outcome.logit) for outcome in both.outcomes]
    assert len(PAIRS) <= asked <= asked_both == 2 * len(PAIRS)
    assert planned == Cost()


def test_where_a_contradiction_counts_as_zero_both_orders_are_asked():
    _, asked, _ = route(routing=EVERYBODY.model_copy(update={"on_inconsistent": "zero"}))
    assert asked == 2 * len(PAIRS)


def test_a_first_order_that_cannot_be_read_is_made_up_for_by_the_second_with_half_its_weight():
    step, asked, planned = route(pairs=PAIRS[:1], faults=["no-tag", *["ok"] * 10])
    assert asked == 2
    assert [(outcome.status, abs(outcome.logit)) for outcome in step.outcomes] == [("one_order", 1.0)]
    assert planned == Cost()


def test_what_is_stored_in_one_order_answers_again_for_nothing():
    store = MemoryStore()
    first, asked, _ = route(store=store)
    again, asked_again, _ = route(store=store.reopen())
    assert asked > 0
    assert asked_again == 0
    assert [outcome.logit for outcome in again.outcomes] == [outcome.logit for outcome in first.outcomes]
    assert again.statistics.sources == {"store": len(PAIRS)}


@pytest.mark.parametrize("requests", [0, 1, 17, 70])
def test_a_budget_holds_to_the_last_request(requests):
    step, asked, planned = route(budget=BudgetConfig(requests=requests))
    assert asked <= requests
    assert step.statistics.calls == asked
    assert all(math.isfinite(outcome.logit) for outcome in step.outcomes)
    assert planned == Cost()


@pytest.mark.parametrize(("deadline_s", "latency"), [(0.5, 1.0), (1.5, "uniform:0.5:2")])
def test_at_a_deadline_orders_that_would_have_been_asked_later_cost_nothing(deadline_s, latency):
    routing = EVERYBODY.model_copy(update={"step_deadline_s": deadline_s})
    step, asked, planned = route(routing=routing, latency=latency, max_in_flight=1000)
    assert step.statistics.statuses["deadline"] > 0
    assert asked <= 2 * len(PAIRS)
    assert planned == Cost()


def test_a_cancelled_step_leaves_nothing_planned():
    async def main(clock):
        scheduler, _ = scheduling(clock, latency=10.0)
        async with scheduler:
            routing = asyncio.ensure_future(scheduler.route(PAIRS))
            await clock.sleep(15.0)  # the first orders are there, second ones under way
            routing.cancel()
            await asyncio.wait([routing])
            await clock.sleep(60.0)
            return scheduler._session._planning._budget.planned

    clock = VirtualClock()
    assert clock.run(main(clock)) == Cost()


def test_without_a_scorer_there_is_nothing_to_outweigh():
    with pytest.raises(ConfigurationError, match=r"\[judge\] orders: 'adaptive'"):
        Scheduler(judge=ScriptedJudge(), store=MemoryStore(), routing=RoutingConfig(policy="always"), orders="adaptive")


# Margins


MATCHED = RoutingConfig(policy="error", max_share=0.25, verdict_margin="matched")


def test_a_matched_margin_is_the_median_of_what_was_left_to_the_scorer():
    step, _, _ = route(pairs=PAIRS, routing=MATCHED, orders="both")
    left = [abs(outcome.logit) for outcome in step.outcomes if outcome.source == "scorer"]
    judged = {abs(outcome.logit) for outcome in step.outcomes if outcome.source == "judge" and outcome.verdict.choice in {"a", "b"}}
    assert len(left) == 45
    assert judged == {statistics.median(left)}


def test_a_run_that_goes_on_has_the_margin_of_its_last_step():
    store = MemoryStore()
    step, _, _ = route(pairs=PAIRS[:40], routing=MATCHED, orders="both", store=store)
    left = [abs(outcome.logit) for outcome in step.outcomes if outcome.source == "scorer"]

    async def main(clock):
        scheduler, _ = scheduling(clock, routing=MATCHED, orders="both", store=store.reopen())
        async with scheduler:
            return scheduler._rules.margin.value

    clock = VirtualClock()
    assert clock.run(main(clock)) == statistics.median(left)


def test_a_margin_matches_nobody_without_a_scorer():
    routing = RoutingConfig(policy="always", verdict_margin="matched")
    with pytest.raises(ConfigurationError, match=r"\[routing\] verdict_margin: 'matched'"):
        Scheduler(judge=ScriptedJudge(), store=MemoryStore(), routing=routing)


@pytest.mark.parametrize("after", ["drop", "keep"])
@pytest.mark.parametrize(("deadline_s", "are_spared"), [(15.0, False), (25.0, True)])
def test_a_deadline_lets_verdicts_pass_that_contradict_the_scorer_as_well_as_those_that_agree(deadline_s, are_spared, after):
    async def main(clock):
        routing = RoutingConfig(policy="error", threshold=-1.0, step_deadline_s=deadline_s, after_deadline=after)
        scheduler, judge = scheduling(clock, routing=routing, latency=10.0, max_in_flight=200)
        async with scheduler:
            steps = [await scheduler.route(part) for part in (PAIRS[:30], PAIRS[30:])]
            return steps, judge.statistics.answered, scheduler._session._planning._budget.planned

    clock = VirtualClock()
    steps, asked, planned = clock.run(main(clock))
    for step in steps:
        assert step.statistics.sources == {"judge": 30}
        assert any(sign(outcome.preference.logit) != sign(outcome.logit) for outcome in step.outcomes)
    assert (asked < 2 * len(PAIRS)) == are_spared
    assert planned == Cost()


def test_of_two_orders_asked_at_once_one_that_agrees_is_enough_when_the_deadline_comes():
    async def main(clock):
        routing = RoutingConfig(policy="error", threshold=-1.0, step_deadline_s=15.0, after_deadline="keep")
        scheduler, judge = scheduling(clock, routing=routing, latency="uniform:5:25", max_in_flight=200)
        async with scheduler:
            step = await scheduler.route(PAIRS)
            await clock.sleep(60.0)
            late = scheduler.late_outcomes()
        return step, judge.statistics.answered, late

    clock = VirtualClock()
    step, asked, late = clock.run(main(clock))
    agreeing = [outcome for outcome in step.outcomes if outcome.verdict and len(outcome.verdict.calls) == 1]
    assert agreeing
    assert all(sign(outcome.preference.logit) == sign(outcome.logit) for outcome in agreeing)
    assert asked == 2 * len(PAIRS)
    assert sorted(item.index for item in late) == [n for n, outcome in enumerate(step.outcomes) if outcome.source == "fallback"]
