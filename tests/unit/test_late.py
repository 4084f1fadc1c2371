"""Steps that return at their deadline while their questions go on: late verdicts, and what becomes of the next step."""

import asyncio

import pytest
from pydantic import ValidationError

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, Config, LimitsConfig, RoutingConfig
from judgeflow.engine.late import KEPT, LateOutcomes
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import ConfigurationError, JudgeOverloaded
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, ScriptedJudge, arithmetic_pairs
from judgeflow.types import Cost, LateOutcome, Outcome

KEEP = RoutingConfig(policy="always", step_deadline_s=10.0, after_deadline="keep")


def run(main):
    clock = VirtualClock()
    return clock.run(main(clock))


def scheduling(clock, judge, **settings):
    return Scheduler(judge=judge, clock=clock, **{"store": MemoryStore(), "routing": KEEP} | settings)


def test_a_step_returns_at_its_deadline_and_its_verdicts_come_while_the_next_one_runs():
    """Six pairs, two orders, four questions at a time, 8 s each: 4 answers are there after 10 s, 12 after 24 s."""
    pairs, others = arithmetic_pairs(6), arithmetic_pairs(2, seed=1)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=8.0)
        async with scheduling(clock, judge, max_in_flight=4) as scheduler:
            first = await scheduler.route(pairs)
            returned_at, early = clock.now(), scheduler.late_outcomes()
            await clock.sleep(15.0)
            late = scheduler.late_outcomes()
            again = await scheduler.route([*pairs, *others])
            return first, returned_at, early, late, again, scheduler.late_outcomes(), judge.statistics

    first, returned_at, early, late, again, rest, seen = run(main)
    assert returned_at == pytest.approx(10.0, abs=0.5)
    assert first.statistics.statuses == {"ok": 2, "deadline": 4}
    assert (early, rest) == ([], [])
    assert [outcome.status for outcome in first.outcomes].count("deadline") == len(late)
    assert all(item.step == 0 and first.outcomes[item.index].status == "deadline" for item in late)
    assert all(item.outcome.pair is pairs[item.index] for item in late)
    assert all(item.outcome.source == "judge" and item.outcome.verdict.swapped_agree is not None for item in late)
    assert [outcome.source for outcome in again.outcomes] == ["store"] * 6 + ["judge"] * 2
    assert [again.outcomes[item.index].logit for item in late] == [item.outcome.logit for item in late]
    assert max(seen.question_answers.values()) == 1


def test_without_keep_nothing_is_sent_after_the_deadline():
    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=8.0)
        routing = RoutingConfig(policy="always", step_deadline_s=10.0)
        async with scheduling(clock, judge, routing=routing, max_in_flight=4) as scheduler:
            await scheduler.route(arithmetic_pairs(6))
            await clock.sleep(30.0)
            return judge.statistics.requests, scheduler.late_outcomes()

    assert run(main) == (8, [])


def test_a_swapped_pair_is_late_in_its_own_order_and_once_for_each_place():
    pair = arithmetic_pairs(1)[0]

    async def main(clock):
        async with scheduling(clock, ScriptedJudge(clock=clock, latency=12.0)) as scheduler:
            await scheduler.route([pair, pair.swapped()])
            await clock.sleep(10.0)
            return scheduler.late_outcomes()

    one, other = run(main)
    assert (one.index, one.outcome.pair, other.index, other.outcome.pair) == (0, pair, 1, pair.swapped())
    assert one.outcome.logit == -other.outcome.logit != 0.0


def test_a_question_that_fails_late_brings_no_outcome_and_the_outcome_handed_out_stays():
    class Failing(ScriptedJudge):
        async def ask(self, question):
            await super().ask(question)
            raise JudgeOverloaded("late, and of no use")

    async def main(clock):
        judge = Failing(clock=clock, latency=12.0)
        async with scheduling(clock, judge, retry=RetryPolicy(attempts=1), budget=BudgetConfig(requests=100)) as scheduler:
            step = await scheduler.route(arithmetic_pairs(3))
            await clock.sleep(60.0)
            return step.statistics.statuses, scheduler.late_outcomes(), scheduler._session._planning._budget.planned

    assert run(main) == ({"deadline": 3}, [], Cost())


def test_a_fixed_rule_drops_late_questions_that_would_push_its_own_beyond_the_deadline():
    """60 requests a minute, paced: 10 pairs fit into a step of 22 s with 2 s of latency.  The first step leaves 40 pairs behind."""
    pairs, newer = arithmetic_pairs(50), arithmetic_pairs(8, seed=1)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=2.0)
        gate = WindowGate(LimitsConfig(requests_per_minute=60, start="paced"), clock)
        routing = RoutingConfig(policy="always", step_deadline_s=22.0, after_deadline="keep")
        async with scheduling(clock, judge, gate=gate, routing=routing) as scheduler:
            first = await scheduler.route(pairs)
            second = await scheduler.route(newer)
            third = await scheduler.route(arithmetic_pairs(1, seed=2))
            return first.statistics.statuses, second.statistics.statuses, third.statistics.statuses, scheduler.late_outcomes()

    first, second, third, late = run(main)
    assert first["deadline"] >= 38
    assert second == {"ok": 8}
    assert third == {"ok": 1}
    assert 0 < len(late) < 8
    assert {item.step for item in late} == {0}


def test_an_adaptive_threshold_counts_late_questions_and_leaves_them_half():
    """30 requests a minute and 20 s of latency: 50 questions fit into 120 s.  The judge's account rests for all of the first step."""
    pairs = arithmetic_pairs(400)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=20.0)
        gate = WindowGate(LimitsConfig(requests_per_minute=30, start="paced"), clock)
        routing = RoutingConfig(policy="error", step_deadline_s=120.0, after_deadline="keep")
        settings = {"routing": routing, "scorer": FakeScorer(pairs), "gate": gate, "timeout_s": 20.0}
        async with scheduling(clock, judge, **settings) as scheduler:
            asyncio.get_running_loop().call_later(0.1, gate.pause, 119.0)
            first = await scheduler.route(pairs[:200])
            queued = scheduler._session.panel.questions(0)
            second = await scheduler.route(pairs[200:])
            return first.statistics, queued, second.statistics, scheduler.late_outcomes()

    first, queued, second, late = run(main)
    assert first.sources == {"scorer": 200 - first.statuses["deadline"], "fallback": first.statuses["deadline"]}
    assert queued in range(40, 50)
    assert second.statuses == {"ok": 200}
    assert second.calls in range(22, 30)
    assert len(late) in range(10, 16)


def test_closing_stores_what_is_in_flight_and_drops_what_is_queued():
    pairs, store = arithmetic_pairs(10), MemoryStore()

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=8.0)
        scheduler = scheduling(clock, judge, store=store, max_in_flight=4, budget=BudgetConfig(requests=100))
        async with scheduler:
            await scheduler.route(pairs)
        state = await store.reopen().run_state("default")
        return judge.statistics.answered, len(store._contents.calls), state, len(scheduler.late_outcomes())

    answered, stored, state, late = run(main)
    assert answered == stored == state.spent.requests == 8
    assert state.reserved == Cost()
    assert late == 2


def test_an_equal_question_of_the_next_step_joins_the_late_one():
    pairs = arithmetic_pairs(4)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=8.0)
        async with scheduling(clock, judge, max_in_flight=2) as scheduler:
            steps = [await scheduler.route(pairs) for _ in range(5)]
            return [step.statistics.sources for step in steps], scheduler.late_outcomes(), judge.statistics

    sources, late, seen = run(main)
    assert seen.requests == 8
    assert max(seen.question_answers.values()) == 1
    assert sources[-1] == {"store": 4}
    assert sorted((item.step, item.index) for item in late) == sorted({(item.step, item.index) for item in late})


def test_late_outcomes_that_nobody_takes_are_bounded():
    kept, pair = LateOutcomes(), arithmetic_pairs(1)[0]
    for step in range(KEPT + 5):
        kept.put(LateOutcome(step=step, index=0, outcome=Outcome(pair=pair, logit=0.0, source="judge")))
    taken = kept.take()
    assert (len(taken), taken[0].step, kept.take()) == (KEPT, 5, [])


def test_nothing_of_late_work_is_left_when_it_is_done():
    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=8.0)
        async with scheduling(clock, judge, max_in_flight=4) as scheduler:
            for seed in range(20):
                await scheduler.route(arithmetic_pairs(6, seed=seed))
            await clock.sleep(1000.0)
            await scheduler.route(arithmetic_pairs(1, seed=99))
            session, dispatcher = scheduler._session, scheduler._session.panel._dispatchers[0]
            return len(session._inquiry._late._open), len(dispatcher.line), len(dispatcher.line._lots), dispatcher.books.queued

    assert run(main) == (0, 0, 0, Cost())


def test_keeping_questions_needs_a_deadline():
    with pytest.raises(ConfigurationError, match="step_deadline_s"):
        Scheduler(store=MemoryStore(), judge=ScriptedJudge(), routing=RoutingConfig(policy="always", after_deadline="keep"))
    with pytest.raises(ValidationError, match="step_deadline_s"):
        Config.model_validate({"judge": {"model": "m"}, "routing": {"policy": "always", "after_deadline": "keep"}})


def test_a_trainer_in_pipelined_mode_is_blocked_for_no_longer_than_its_deadline():
    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency="lognormal:20:0.6")
        routing = RoutingConfig(policy="always", step_deadline_s=30.0, after_deadline="keep")
        blocked = []
        async with scheduling(clock, judge, routing=routing, max_in_flight=16) as scheduler:
            for seed in range(10):
                began = clock.now()
                step = await scheduler.route(arithmetic_pairs(20, seed=seed))
                blocked.append(clock.now() - began)
                assert len(step.outcomes) == 20
            await asyncio.sleep(200.0)
            return blocked, len(scheduler.late_outcomes())

    blocked, late = run(main)
    assert max(blocked) <= 30.5
    assert late > 0
