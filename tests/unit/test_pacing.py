"""The pace of a run: hard steps spend what easy ones have saved, nobody overspends, and what was learnt survives."""

import asyncio
import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, RoutingConfig
from judgeflow.errors import StoreUnavailable
from judgeflow.routing.budget import Budget
from judgeflow.routing.demand import PAIRS, Demand, compressed
from judgeflow.routing.pacing import Pacer, decide
from judgeflow.routing.plan import Ask, Candidate, Means
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, ScriptedJudge, arithmetic_pairs
from judgeflow.types import Cost, Decision, RunState, Stock

PAIR_COST = Cost(requests=2, tokens=1000, usd=0.01)
ADAPTIVE = RoutingConfig(policy="error")


def candidate(number, q, *, cost=PAIR_COST, decided=None):
    return Candidate(pair_key=number.to_bytes(32, "big"), acquisition=q, cost=cost, decided=decided)


def step_of(values, start=0, cost=PAIR_COST):
    return [candidate(start + number, value, cost=cost) for number, value in enumerate(values)]


class Run:
    """A run on paper: steps are decided one after the other and paid from one stock."""

    def __init__(self, routing, budget, *, in_time=None, pacer=None):
        self.routing, self.budget, self.in_time = routing, Budget(budget.stock, budget.steps), in_time or Stock()
        self.pacer = pacer or Pacer(routing, budget)
        self.spent, self.number, self.pairs, self.asked = Cost(), 0, 0, []

    def route(self, candidates):
        """Decide one step and return its plan."""
        left = self.budget.remaining(RunState(name="", spent=self.spent))
        planned = decide(
            candidates, self.routing, Means(allowance=left, in_time=self.in_time), pacer=self.pacer, step=self.number, lot=self.number
        )
        self.spent = sum((candidates[index].cost for index in planned.ranking), self.spent)
        self.asked.append([candidates[index].acquisition for index in planned.ranking])
        self.number, self.pairs = self.number + 1, self.pairs + len(candidates)
        return planned

    @property
    def mass(self):
        return sum(map(sum, self.asked))


def levels(kind, steps):
    return {
        "steady": [0.5] * steps,
        "alternating": [0.9 if step // 5 % 2 else 0.3 for step in range(steps)],
        "rising": [0.2 + 0.8 * step / steps for step in range(steps)],
        "falling": [1.0 - 0.8 * step / steps for step in range(steps)],
    }[kind]


def played(kind, steps=100, pairs=100, share=0.1):
    """Return the masses that the pacer, the equal share and hindsight judge with a budget for a `share` of all pairs."""
    dice = random.Random(7)
    values = [[level * 0.5 * dice.random() for _ in range(pairs)] for level in levels(kind, steps)]
    stock = int(share * steps * pairs)
    run = Run(ADAPTIVE, BudgetConfig(requests=2 * stock, steps=steps))
    for number, row in enumerate(values):
        run.route(step_of(row, number * pairs))
    assert run.spent.requests <= 2 * stock
    equal = sum(sum(sorted(row, reverse=True)[: stock // steps]) for row in values)
    best = sum(sorted((value for row in values for value in row), reverse=True)[:stock])
    return run.mass, equal, best


# Demand


def test_a_price_asks_about_as_many_as_the_target_says_in_steps_like_those_that_were_seen():
    dice, demand = random.Random(1), Demand(0.9)
    steps = [[dice.gauss(0, 1) for _ in range(500)] for _ in range(40)]
    for values in steps:
        demand.learn(compressed(sorted(((value, 1.0) for value in values), reverse=True)), steps=1, pairs=500)
    weights = [0.9**age for age in reversed(range(40))]
    for target in (1.0, 7.5, 50.0, 200.0, 480.0):
        price = demand.price(demand.reach([(PAIRS, target)]))
        asked = sum(weight * sum(value > price for value in values) for weight, values in zip(weights, steps, strict=True))
        assert asked / sum(weights) == pytest.approx(target, rel=0.05, abs=0.5)


def test_a_curve_stays_small_and_keeps_every_pair():
    points = [(float(-number), 1.0, 3.0) for number in range(5000)]
    few = compressed(points)
    assert 50 <= len(few) <= 125
    assert sum(point[1] for point in few) == pytest.approx(5000)
    assert sum(point[2] for point in few) == pytest.approx(15000)


def test_beyond_what_was_seen_everybody_may_ask_and_nothing_seen_is_no_obstacle():
    demand = Demand(0.5)
    assert demand.price(demand.reach([(PAIRS, 3.0)])) == -math.inf
    demand.learn([(0.5, 1.0)], steps=1, pairs=1)
    assert demand.price(demand.reach([(PAIRS, 1.0)])) == -math.inf


# Steps


@pytest.mark.parametrize("kind", ["steady", "alternating", "rising", "falling"])
def test_a_run_never_loses_noticeably_to_the_equal_share(kind):
    ours, equal, _ = played(kind)
    assert ours >= 0.98 * equal


def test_hard_steps_spend_what_easy_ones_have_saved():
    ours, equal, best = played("alternating")
    assert equal < 0.9 * best
    assert ours > 0.94 * best


def test_pairs_that_are_all_alike_are_asked_about_at_an_even_pace():
    run = Run(ADAPTIVE, BudgetConfig(requests=400, steps=20))
    for number in range(20):
        run.route(step_of([0.25] * 100, 100 * number))
    assert [len(asked) for asked in run.asked] == [10] * 20


def test_whichever_of_requests_tokens_and_dollars_is_short_sets_the_pace():
    dice = random.Random(3)
    for budget in (BudgetConfig(requests=400, steps=20), BudgetConfig(tokens=200_000, steps=20), BudgetConfig(usd=2.0, steps=20)):
        both = budget.model_copy(update={"requests": budget.requests or 100_000})
        run = Run(ADAPTIVE, both)
        for number in range(20):
            run.route(step_of([dice.random() / 2 for _ in range(100)], 100 * number))
        counts = [len(asked) for asked in run.asked]
        assert 195 <= sum(counts) <= 200
        assert max(counts) <= 25


def test_capacity_that_perishes_with_its_step_is_not_saved_for():
    """Every second step is so hard that it would spend everything, and may ask about 15 at most: the others get the rest at once."""
    dice = random.Random(5)
    run = Run(ADAPTIVE, BudgetConfig(requests=2 * 1000, steps=100), in_time=Stock(requests=30))
    for number in range(100):
        run.route(step_of([(0.5 if number % 2 else 0.3) * dice.random() for _ in range(100)], 100 * number))
    hard, easy = (sum(map(len, run.asked[start::2])) for start in (1, 0))
    assert run.spent.requests >= 1990
    assert max(map(len, run.asked)) == 15
    assert hard > 1.9 * easy


def test_stored_pairs_are_free_and_do_not_move_the_price():
    dice = random.Random(11)
    plain, mixed = (Run(ADAPTIVE, BudgetConfig(requests=400, steps=20)) for _ in range(2))
    for number in range(20):
        rows = step_of([dice.random() / 2 for _ in range(100)], 1000 * number)
        stored = [candidate(1000 * number + 500 + extra, 0.5, cost=Cost()) for extra in range(50)]
        plain.route(rows)
        mixed.route([*stored, *rows])
    assert mixed.asked == plain.asked


def test_a_pairs_cost_does_not_change_its_place():
    dice = random.Random(13)
    run = Run(ADAPTIVE, BudgetConfig(tokens=1_000_000, steps=10))
    for number in range(10):
        rows = [
            candidate(100 * number + pair, dice.random() / 2, cost=Cost(requests=2, tokens=dice.randint(100, 5000))) for pair in range(100)
        ]
        planned = run.route(rows)
        asked = [row.acquisition for row, action in zip(rows, planned.actions, strict=True) if action == Ask()]
        assert min(asked, default=1.0) >= max(row.acquisition for row in rows if row.acquisition not in asked)


# Small steps


def test_a_stream_of_single_pairs_is_decided_by_price_and_keeps_the_share():
    dice = random.Random(17)
    run = Run(RoutingConfig(policy="error", max_share=0.2), BudgetConfig())
    values = [dice.random() / 2 for _ in range(1500)]
    for number, value in enumerate(values):
        run.route([candidate(number, value)])
        assert sum(map(len, run.asked)) <= 0.2 * (number + 1) + 1
    asked = [value for row in run.asked for value in row]
    assert len(asked) == pytest.approx(300, abs=10)
    best = sorted(values, reverse=True)[: len(asked)]
    assert sum(asked) > 0.97 * sum(best)


def test_a_stream_of_single_pairs_spends_its_budget_on_the_best():
    dice = random.Random(19)
    run = Run(ADAPTIVE, BudgetConfig(requests=2 * 150, steps=1500))
    values = [dice.random() / 2 for _ in range(1500)]
    for number, value in enumerate(values):
        run.route([candidate(number, value)])
    asked = [value for row in run.asked for value in row]
    assert 140 <= len(asked) <= 150
    assert sum(asked) > 0.96 * sum(sorted(values, reverse=True)[: len(asked)])


def test_the_place_that_a_fraction_leaves_goes_to_a_later_step():
    run = Run(RoutingConfig(policy="error", max_share=0.5), BudgetConfig())
    for number in range(20):
        run.route(step_of([0.5, 0.3, 0.1], 3 * number))
    counts = [len(asked) for asked in run.asked]
    assert counts[0] == 1
    assert set(counts) == {1, 2}
    assert 28 <= sum(counts) <= 30


def test_a_fixed_threshold_has_the_share_of_single_pairs_too():
    run = Run(RoutingConfig(policy="error", threshold=0.1, max_share=0.25), BudgetConfig())
    for number in range(40):
        run.route([candidate(number, 0.4)])
    assert sum(map(len, run.asked)) == 10


# Properties

costs = st.builds(Cost, requests=st.integers(1, 2), tokens=st.integers(0, 500), usd=st.floats(0, 1))
pairs_of_a_step = st.lists(st.tuples(st.floats(0, 0.5), costs), max_size=50)
runs = st.lists(pairs_of_a_step, min_size=1, max_size=12)
budgets = st.builds(
    BudgetConfig,
    requests=st.none() | st.integers(0, 300),
    tokens=st.none() | st.integers(0, 30_000),
    usd=st.none() | st.floats(0, 50),
    steps=st.integers(1, 15),
)
routings = st.builds(
    RoutingConfig,
    policy=st.sampled_from(["error", "random"]),
    max_share=st.none() | st.floats(0.01, 1),
    floor=st.none() | st.floats(0, 0.3),
    cost_weighted=st.just(False),
)


def laid_out(steps):
    return [[candidate(1000 * number + place, q, cost=cost) for place, (q, cost) in enumerate(rows)] for number, rows in enumerate(steps)]


@settings(max_examples=40, deadline=None)
@given(runs, budgets, routings, st.none() | st.integers(0, 60))
def test_whatever_comes_no_limit_is_passed(steps, budget, routing, capacity):
    run = Run(routing, budget, in_time=Stock(requests=capacity))
    for rows in laid_out(steps):
        planned = run.route(rows)
        asked = [rows[index] for index in planned.ranking]
        assert budget.stock.admits(run.spent)
        assert run.in_time.admits(sum((row.cost for row in asked), Cost()))
        assert all(routing.floor is None or row.acquisition >= routing.floor for row in asked)
        if routing.max_share is not None:
            assert len(asked) <= math.ceil(routing.max_share * len(rows) - 1e-9)
            assert sum(map(len, run.asked)) <= routing.max_share * run.pairs + 1


@settings(max_examples=40, deadline=None)
@given(runs, budgets, routings)
def test_a_run_that_is_continued_from_its_state_decides_as_one_that_was_not_interrupted(steps, budget, routing):
    whole, parts = Run(routing, budget), Run(routing, budget)
    for rows in laid_out(steps):
        saved = json.loads(json.dumps(parts.pacer.state))
        parts.pacer = Pacer(routing, budget, saved)
        assert parts.pacer.state == saved
        assert whole.route(rows) == parts.route(rows)
    assert whole.pacer.state == parts.pacer.state


def test_what_is_remembered_does_not_grow_with_the_run():
    dice, sizes = random.Random(23), []
    run = Run(RoutingConfig(policy="error", max_share=0.3), BudgetConfig(requests=10**6, tokens=10**9, usd=10**4, steps=1000))
    for number in range(120):
        run.route(step_of([dice.random() / 2 for _ in range(200)], 200 * number))
        sizes.append(len(json.dumps(run.pacer.state)))
    assert max(sizes) < 32_000
    assert max(sizes[60:]) < 1.1 * max(sizes[20:60])


def test_the_state_of_another_policy_is_not_taken_up():
    budget = BudgetConfig(requests=100, steps=10)
    run = Run(ADAPTIVE, budget)
    run.route(step_of([n / 200 for n in range(100)]))
    fresh = Pacer(RoutingConfig(policy="margin"), budget)
    assert Pacer(RoutingConfig(policy="margin"), budget, run.pacer.state).state == fresh.state


def test_a_step_that_was_decided_before_is_neither_learnt_again_nor_decided_otherwise():
    budget = BudgetConfig(requests=200, steps=10)
    first = Run(ADAPTIVE, budget)
    rows = step_of([n / 200 for n in range(100)])
    planned = first.route(rows)
    saved = first.pacer.state
    again = Run(ADAPTIVE, budget, pacer=Pacer(ADAPTIVE, budget, saved))
    decided = [
        candidate(number, row.acquisition, decided=Decision(pair_key=row.pair_key, asked=isinstance(action, Ask), propensity=chance))
        for number, (row, action, chance) in enumerate(zip(rows, planned.actions, planned.propensities, strict=True))
    ]
    assert again.route(decided).actions == planned.actions
    assert again.pacer.state["windows"] == saved["windows"]


# Through the scheduler


def scheduling(clock, store, pairs, **settings_):
    common = {"routing": ADAPTIVE, "judge": ScriptedJudge(clock=clock, latency=1.0), "scorer": FakeScorer(pairs)}
    return Scheduler(store=store, clock=clock, **(common | settings_))


def test_a_run_that_is_opened_again_goes_on_at_its_pace():
    pairs, budget = arithmetic_pairs(600), BudgetConfig(requests=120, steps=6)

    def calls(reopen):
        clock, store = VirtualClock(), MemoryStore()

        async def main():
            counts, parts = [], [pairs[start : start + 100] for start in range(0, 600, 100)]
            for sitting in [[part] for part in parts] if reopen else [parts]:
                async with scheduling(clock, store, pairs, budget=budget) as scheduler:
                    counts += [(await scheduler.route(part)).statistics.calls for part in sitting]
            return counts, (await store.run_state("default")).pacing

        return clock.run(main())

    whole, parts = calls(reopen=False), calls(reopen=True)
    assert whole == parts
    assert sum(whole[0]) >= 116
    assert whole[1]["windows"][0][0] == 1.0


def test_a_step_that_was_interrupted_is_resumed_with_what_it_had_decided_and_counts_once():
    pairs, store, clock = arithmetic_pairs(200), MemoryStore(), VirtualClock()

    class Crashing(MemoryStore):
        async def reserve(self, run, reservation, stock):
            raise StoreUnavailable("the process died before anything was asked")

    crashing = Crashing()
    crashing._contents = store._contents

    async def main():
        settings_ = {"budget": BudgetConfig(requests=80, steps=4)}
        async with scheduling(clock, crashing, pairs, **settings_) as scheduler:
            await scheduler.route(pairs[:100], step=0)
        before, planned = (await store.run_state("default")).pacing, await store.decisions("default", 0)
        async with scheduling(clock, store, pairs, **settings_) as scheduler:
            resumed = await scheduler.route(pairs[:100], step=0)
        return before, planned, (await store.run_state("default")).pacing, resumed

    before, planned, after, resumed = clock.run(main())
    assert before["windows"] == after["windows"]
    assert sum(decision.asked for decision in planned.values()) == sum(outcome.source == "judge" for outcome in resumed.outcomes) == 10


def test_concurrent_steps_share_one_pace():
    pairs, clock = arithmetic_pairs(800), VirtualClock()

    async def main():
        async with scheduling(clock, MemoryStore(), pairs, budget=BudgetConfig(requests=160, steps=8)) as scheduler:
            parts = [pairs[start : start + 100] for start in range(0, 800, 100)]
            first = await asyncio.gather(*(scheduler.route(part) for part in parts[:4]))
            spent = sum(step.statistics.calls for step in first)
            rest = [outcome async for outcome in scheduler.stream(pairs[400:], chunk=100)]
            return spent, sum(outcome.source == "judge" for outcome in rest)

    first, rest = clock.run(main())
    assert 60 <= first <= 110
    assert 150 <= first + 2 * rest <= 160


def test_single_pairs_have_their_share_of_questions_through_the_scheduler():
    pairs, clock = arithmetic_pairs(120), VirtualClock()

    async def main():
        async with scheduling(clock, MemoryStore(), pairs, routing=RoutingConfig(policy="error", max_share=0.25)) as scheduler:
            return [(await scheduler.route([pair])).outcomes[0] for pair in pairs]

    outcomes = clock.run(main())
    judged = [outcome.acquisition for outcome in outcomes if outcome.source == "judge"]
    others = [outcome.acquisition for outcome in outcomes if outcome.source == "scorer"]
    assert 22 <= len(judged) <= 30
    assert sum(judged) / len(judged) > 1.5 * sum(others) / len(others)
