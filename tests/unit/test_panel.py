"""Several judges behind one scheduler, in virtual time: who is asked, who stands in, and what is shared."""

import asyncio
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.engine.seat import Seat
from judgeflow.errors import ConfigurationError, JudgeRefusesService, JudgeUnreachable, QuestionTooLong
from judgeflow.judges.gate import WindowGate
from judgeflow.keys import pair_keys
from judgeflow.routing.policy import own_judge
from judgeflow.store import MemoryStore
from judgeflow.testing import JudgeLimits, ScriptedJudge, arithmetic_pairs

BY_WEIGHT = RoutingConfig(policy="always", panel="weights")
IN_ORDER = RoutingConfig(policy="always")


class Notes:
    def __init__(self):
        self.notices, self.calls, self.steps = [], [], []

    def call(self, event):
        self.calls.append(event)

    def step(self, statistics):
        self.steps.append(statistics)

    def notice(self, event, **fields):
        self.notices.append((event, fields.get("seat")))

    def close(self):
        pass


class Asked(ScriptedJudge):
    """Keeps which question was asked when, and fails while it is `down`."""

    def __init__(self, name, *, clock, down=(), error=JudgeUnreachable, **more):
        super().__init__(clock=clock, model=name, **{"latency": 2.0} | more)
        self.clock, self.down, self.error, self.asked = clock, down, error, []

    async def ask(self, question):
        self.asked.append((self.clock.now(), question))
        if any(start <= self.clock.now() < end for start, end in self.down):
            raise self.error("down")
        return await super().ask(question)

    @property
    def pairs(self):
        return {question.pair_key for _, question in self.asked}


def run(main):
    clock = VirtualClock()
    return clock.run(main(clock))


def scheduling(clock, judges, **more):
    return Scheduler(judges=judges, clock=clock, **{"store": MemoryStore(), "routing": IN_ORDER} | more)


def judges_of(step):
    return {outcome.verdict.judge.model for outcome in step.outcomes if outcome.verdict}


# By weights


def test_by_weights_each_judge_has_its_share_and_a_pair_always_has_the_same_judge():
    pairs = arithmetic_pairs(120)

    async def main(clock):
        chosen = []
        for seed in (0, 0, 1):
            one, two = Asked("one", clock=clock), Asked("two", clock=clock)
            routing = RoutingConfig(policy="always", panel="weights", seed=seed)
            async with scheduling(clock, [Seat(judge=one, weight=3.0), Seat(judge=two)], routing=routing) as scheduler:
                await scheduler.route(pairs)
            assert not one.pairs & two.pairs
            chosen.append(one.pairs)
        return chosen

    first, again, other = run(main)
    assert first == again != other
    assert 75 <= len(first) <= 105  # 90 expected, standard deviation 4.7


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), st.lists(st.floats(0.01, 100), min_size=2, max_size=5))
def test_a_judge_that_goes_moves_only_its_own_pairs_and_swapping_a_pair_moves_none(seed, number, weights):
    clock = VirtualClock()
    judges = [ScriptedJudge(clock=clock, model=f"judge {place}").identity for place in range(len(weights))]
    pair = arithmetic_pairs(1, seed=number)[0]
    own = own_judge(seed, pair_keys(pair).pair, judges, weights)
    assert own_judge(seed, pair_keys(pair.swapped()).pair, judges, weights) == own
    for gone in set(range(len(weights))) - {own}:
        rest = [place for place in range(len(weights)) if place != gone]
        moved = own_judge(seed, pair_keys(pair).pair, [judges[place] for place in rest], [weights[place] for place in rest])
        assert rest[moved] == own


def test_one_judge_through_two_accounts_has_its_work_divided_too():
    async def main(clock):
        one, same = Asked("one", clock=clock), Asked("one", clock=clock)
        seats = [Seat(judge=one, name="account a"), Seat(judge=same, name="account b", weight=3.0)]
        async with scheduling(clock, seats, routing=BY_WEIGHT) as scheduler:
            step = await scheduler.route(arithmetic_pairs(100))
            again = await scheduler.route(arithmetic_pairs(100))
        return step.statistics, again.statistics, len(one.pairs), len(same.pairs)

    step, again, one, same = run(main)
    assert (step.statuses, again.sources) == ({"ok": 100}, {"store": 100})
    assert one + same == 100
    assert 10 <= one <= 40


def test_by_weights_nobody_stands_in_for_a_judge_that_is_down():
    async def main(clock):
        one, two = Asked("one", clock=clock, down=[(0.0, 1e9)]), Asked("two", clock=clock)
        async with scheduling(clock, [one, two], routing=BY_WEIGHT) as scheduler:
            step = await scheduler.route(arithmetic_pairs(60))
            return step, one.pairs, two.pairs, scheduler.refusal

    step, one, two, refusal = run(main)
    assert step.statistics.statuses == {"ok": len(two), "unreachable": 60 - len(two)}
    assert not one & two
    assert judges_of(step) == {"two"}
    assert refusal is None


# In order of preference


def test_the_first_judge_is_asked_as_long_as_it_is_there():
    async def main(clock):
        one, two = Asked("one", clock=clock), Asked("two", clock=clock)
        async with scheduling(clock, [one, two]) as scheduler:
            step = await scheduler.route(arithmetic_pairs(30))
        return step, len(two.asked)

    step, of_two = run(main)
    assert (step.statistics.statuses, judges_of(step), of_two) == ({"ok": 30}, {"one"}, 0)


@pytest.mark.parametrize(("error", "wasted"), [(JudgeUnreachable, 24), (JudgeRefusesService, 20)])
def test_when_the_first_judge_goes_down_the_next_one_answers_the_rest_of_the_step(error, wasted):
    notes = Notes()

    async def main(clock):
        one, two = Asked("one", clock=clock, down=[(5.0, 1e9)], error=error), Asked("two", clock=clock)
        seats = [Seat(judge=one, max_in_flight=20, name="first"), Seat(judge=two, name="second")]
        async with scheduling(clock, seats, observers=[notes]) as scheduler:
            step = await scheduler.route(arithmetic_pairs(100))
            return step, sum(at >= 5.0 for at, _ in one.asked), scheduler.refusal

    step, asked, refusal = run(main)
    assert step.statistics.statuses == {"ok": 100}
    assert judges_of(step) == {"one", "two"}
    assert step.statistics.seconds < 30.0
    assert asked <= wasted
    assert refusal is None
    assert notes.notices[:2] == [("judge_opened", "first"), ("judge_stopped", "first")]
    assert {seat for _, seat in notes.notices} == {"first"}


def test_both_orders_of_every_verdict_are_one_judges_and_the_statistics_name_who_was_paid():
    notes = Notes()

    async def main(clock):
        one = Asked("one", clock=clock, down=[(5.0, 1e9)], latency="uniform:1:4")
        two = Asked("two", clock=clock, latency="uniform:1:4")
        async with scheduling(clock, [Seat(judge=one, max_in_flight=7), Seat(judge=two)], observers=[notes]) as scheduler:
            return await scheduler.route(arithmetic_pairs(60)), one.statistics.answered, two.statistics.answered

    step, one, two = run(main)
    for outcome in step.outcomes:
        assert {call.judge for call in outcome.verdict.calls} == {outcome.verdict.judge.fingerprint}
        assert len(outcome.verdict.calls) == 2
    assert {name: cost.requests for name, cost in step.statistics.judges.items()} == {"scripted one": one, "scripted two": two}
    assert step.statistics.calls == one + two
    assert {event.judge for event in notes.calls} == {"scripted one", "scripted two"}


def test_a_question_that_the_first_judge_fails_for_good_takes_its_pair_to_the_next_one():
    """Judge one fails one question in two; three attempts later it has failed an eighth of them for good, without being down."""

    async def main(clock):
        one = Asked("one", clock=clock, faults="500:0.5", seed=3)
        two = Asked("two", clock=clock)
        retry = RetryPolicy(attempts=3, for_s=100.0)
        async with scheduling(clock, [Seat(judge=one, retry=retry), Seat(judge=two)]) as scheduler:
            return await scheduler.route(arithmetic_pairs(40)), one, two

    step, one, two = run(main)
    assert step.statistics.statuses == {"ok": 40}
    by_two = {pair_keys(outcome.pair).pair for outcome in step.outcomes if outcome.verdict.judge.model == "two"}
    assert by_two == two.pairs < one.pairs


def test_what_a_judge_says_no_to_is_not_asked_of_another():
    async def main(clock):
        one, two = Asked("one", clock=clock, faults=["refusal", "refusal", "400", "400"]), Asked("two", clock=clock)
        async with scheduling(clock, [Seat(judge=one, max_in_flight=1), Seat(judge=two)]) as scheduler:
            step = await scheduler.route(arithmetic_pairs(2))
            return [outcome.status for outcome in step.outcomes], len(two.asked)

    statuses, of_two = run(main)
    assert of_two == 0
    assert sorted(statuses) == ["refused", "rejected"]


def test_a_pair_that_is_too_long_for_the_first_judge_goes_to_one_that_takes_it():
    class Short(Asked):
        def cost(self, question):
            if question.prompt == "long":
                raise QuestionTooLong("too long")
            return super().cost(question)

    async def main(clock):
        one, two = Short("one", clock=clock), Asked("two", clock=clock)
        pair = arithmetic_pairs(1)[0]
        longer = type(pair)(prompt="long", response_a="a", response_b="b")
        async with scheduling(clock, [one, two]) as scheduler:
            return [outcome.verdict.judge.model for outcome in (await scheduler.route([pair, longer])).outcomes]

    assert run(main) == ["one", "two"]


def test_a_judge_that_comes_back_is_found_by_one_pair_and_then_has_all_of_them():
    notes = Notes()

    async def main(clock):
        one, two = Asked("one", clock=clock, down=[(5.0, 250.0)]), Asked("two", clock=clock)
        async with scheduling(clock, [Seat(judge=one, name="first"), Seat(judge=two, name="second")], observers=[notes]) as scheduler:
            steps = []
            for number in range(5):
                steps.append(await scheduler.route(arithmetic_pairs(30, seed=number)))
                await clock.sleep(100.0)
            return [judges_of(step) for step in steps], [step.statistics.statuses for step in steps], one.asked

    who, statuses, asked = run(main)
    assert statuses == [{"ok": 30}] * 5
    assert who == [{"one"}, {"two"}, {"two"}, {"one", "two"}, {"one"}]
    assert sum(202.0 <= at < 250.0 for at, _ in asked) == 1
    events = [event for event, seat in notes.notices if seat == "first"]
    assert events == ["judge_opened", "judge_stopped", "judge_half_open", "judge_closed"]


def test_when_every_judge_is_down_each_pair_is_labelled_and_the_scheduler_says_so():
    async def main(clock):
        one = Asked("one", clock=clock, down=[(0.0, 1e9)])
        two = Asked("two", clock=clock, down=[(0.0, 1e9)], error=JudgeRefusesService)
        async with scheduling(clock, [one, two]) as scheduler:
            step = await scheduler.route(arithmetic_pairs(30))
            return step.statistics, scheduler.refusal

    statistics, refusal = run(main)
    assert statistics.statuses == {"judge_stopped": 30}
    assert isinstance(refusal, JudgeUnreachable)


def test_before_a_deadline_the_next_judge_takes_what_the_first_cannot_answer_in_time():
    async def main(clock):
        one, two = Asked("one", clock=clock, limits=JudgeLimits(requests_per_minute=20)), Asked("two", clock=clock)
        seats = [
            Seat(judge=one, gate=WindowGate(LimitsConfig(requests_per_minute=20), clock), timeout_s=10.0),
            Seat(judge=two, gate=WindowGate(LimitsConfig(requests_per_minute=30), clock), timeout_s=10.0),
        ]
        routing = RoutingConfig(policy="random", step_deadline_s=50.0)
        async with scheduling(clock, seats, routing=routing) as scheduler:
            step = await scheduler.route(arithmetic_pairs(200))
            return step.statistics, one, two

    statistics, one, two = run(main)
    assert statistics.statuses == {"ok": 200}
    assert statistics.sources == {"judge": 25, "scorer": 175}
    assert (len(one.asked), len(two.asked)) == (20, 30)
    assert one.statistics.provoked_429 == 0


def test_for_the_last_judge_a_step_waits_as_it_would_for_a_single_one():
    async def main(clock):
        one, two = Asked("one", clock=clock, down=[(0.0, 1e9)]), Asked("two", clock=clock, down=[(5.0, 11.0)])
        async with scheduling(clock, [one, two], max_in_flight=10) as scheduler:
            return (await scheduler.route(arithmetic_pairs(40))).statistics.statuses

    assert run(main) == {"ok": 40}


# What is shared


@pytest.mark.parametrize("routing", [IN_ORDER, BY_WEIGHT], ids=["in order", "by weights"])
def test_stored_verdicts_of_any_judge_are_used_and_the_preferred_judges_first(routing):
    pairs = arithmetic_pairs(30)

    async def main(clock):
        store = MemoryStore()
        for name, some in (("old", pairs[:20]), ("new", pairs[10:20])):
            async with scheduling(clock, [Asked(name, clock=clock)], store=store.reopen()) as scheduler:
                await scheduler.route(some)
        new, old = Asked("new", clock=clock), Asked("old", clock=clock)
        seats = [Seat(judge=new, weight=1e6), Seat(judge=old, weight=1e-6)]
        async with scheduling(clock, seats, store=store.reopen(), routing=routing, run="both") as scheduler:
            step = await scheduler.route([pair.swapped() for pair in pairs])
        return [outcome.verdict.judge.model for outcome in step.outcomes], step.statistics, len(new.pairs), len(old.pairs)

    who, statistics, of_new, of_old = run(main)
    assert who == ["old"] * 10 + ["new"] * 20
    assert statistics.sources == {"store": 20, "judge": 10}
    assert (of_new, of_old) == (10, 0)


def test_all_judges_spend_one_budget_each_at_its_own_prices():
    async def main(clock):
        store = MemoryStore()
        dear = Asked("dear", clock=clock, prompt_usd_per_mtok=100.0, completion_usd_per_mtok=100.0)
        cheap = Asked("cheap", clock=clock, prompt_usd_per_mtok=1.0, completion_usd_per_mtok=1.0)
        routing = RoutingConfig(policy="always", panel="weights")
        async with scheduling(clock, [dear, cheap], store=store, routing=routing, budget=BudgetConfig(usd=2.0)) as scheduler:
            step = await scheduler.route(arithmetic_pairs(100))
        return step.statistics, await store.reopen().run_state("default")

    statistics, state = run(main)
    assert state.spent.usd <= 2.0
    assert state.reserved.usd == 0.0
    assert set(statistics.judges) == {"scripted dear", "scripted cheap"}
    assert sum(cost.usd for cost in statistics.judges.values()) == pytest.approx(statistics.spent.usd) == pytest.approx(state.spent.usd)
    assert statistics.statuses["budget"] > 0


def test_limits_are_each_judges_own():
    async def main(clock):
        one, two = Asked("one", clock=clock), Asked("two", clock=clock)
        seats = [
            Seat(judge=one, gate=WindowGate(LimitsConfig(requests_per_minute=10), clock), max_in_flight=3),
            Seat(judge=two, max_in_flight=50),
        ]
        async with scheduling(clock, seats, routing=BY_WEIGHT) as scheduler:
            await scheduler.route(arithmetic_pairs(60))
        return one, two

    one, two = run(main)
    assert one.statistics.max_concurrency <= 3
    assert sum(at < 60.0 for at, _ in one.asked) == 10
    assert max(at for at, _ in two.asked) < 10.0


faults = st.dictionaries(st.sampled_from(["429", "500", "503", "hang", "reset", "refusal"]), st.floats(0.01, 0.5), max_size=2).map(
    lambda rates: ",".join(f"{name}:{rate:.3f}" for name, rate in rates.items())
)
outages = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 200)).map(lambda when: (when[0], sum(when))), max_size=2)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(faults, outages, st.sampled_from([JudgeUnreachable, JudgeRefusesService])), min_size=2, max_size=3),
    st.sampled_from(["fallback", "weights"]),
    st.integers(0, 99),
    st.one_of(st.none(), st.floats(5, 120)),
    st.integers(1, 80),
)
def test_whatever_judges_do_every_pair_has_an_outcome_of_one_judge_in_time_and_nothing_is_paid_twice_or_overspent(
    behaviours, panel, seed, deadline, requests
):
    pairs = arithmetic_pairs(24, seed=seed)

    async def main(clock):
        store = MemoryStore()
        judges = [
            Asked(f"judge {place}", clock=clock, faults=spec, down=down, error=error, latency="uniform:2:20", seed=seed + place)
            for place, (spec, down, error) in enumerate(behaviours)
        ]
        retry = RetryPolicy(attempts=3, for_s=100.0)
        routing = RoutingConfig(policy="always", panel=panel, step_deadline_s=deadline, seed=seed)
        more = {"store": store, "routing": routing, "budget": BudgetConfig(requests=requests), "retry": retry, "max_in_flight": 5}
        async with scheduling(clock, judges, **more) as scheduler:
            steps = [asyncio.ensure_future(scheduler.route(pairs[start : start + 12])) for start in (0, 6, 12)]
            results = await asyncio.wait_for(asyncio.gather(*steps), 20_000.0)
            planned = scheduler._session._planning._budget.planned
        return results, planned, await store.reopen().run_state("default"), store._contents.calls, judges

    results, planned, state, stored, judges = run(main)
    outcomes = [outcome for result in results for outcome in result.outcomes]
    assert len(outcomes) == 36
    assert all(math.isfinite(outcome.logit) for outcome in outcomes)
    assert all((outcome.source == "fallback") == (outcome.verdict is None) for outcome in outcomes)
    for outcome in outcomes:
        assert len({call.judge for call in outcome.verdict.calls} if outcome.verdict else "-") == 1
    assert deadline is None or max(result.statistics.seconds for result in results) <= deadline + 1e-6
    assert (planned.requests, state.reserved.requests) == (0, 0)
    assert len(stored) == sum(judge.statistics.answered for judge in judges) <= state.spent.requests <= requests
    if panel == "weights":
        assert sum(len(judge.pairs) for judge in judges) == len(set.union(*(judge.pairs for judge in judges)))


# What cannot go together


def test_judges_that_do_not_go_together_are_refused_with_what_to_do():
    clock = VirtualClock()
    one, same, two = (ScriptedJudge(clock=clock, model=name) for name in ("one", "one", "two"))
    common = {"store": MemoryStore(), "routing": IN_ORDER}
    for wrong, words in (
        ({"judge": one, "judges": [two]}, "judge= is for one judge alone"),
        ({"gate": WindowGate(LimitsConfig(), clock), "judges": [one, two]}, "gate= is for one judge alone"),
        ({"judges": [one, same]}, "two judges are called 'scripted one'; give their seats names"),
        ({"judges": [one, Seat(judge=two, weight=0.0)]}, "a weight is a positive number, not 0.0"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Scheduler(**common, **wrong)
