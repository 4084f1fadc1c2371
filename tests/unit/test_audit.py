"""Audits: who is drawn, with which probability, and what their verdicts tell about the router."""

import asyncio
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, RoutingConfig
from judgeflow.errors import ConfigurationError
from judgeflow.routing.agreement import Vote, agreement, interval, share, shares_by_decile, tally
from judgeflow.routing.audit import dearest, lot_of, spread
from judgeflow.routing.plan import Accept, Ask, Candidate, Decline, Means, asking_order, plan
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, ScriptedJudge, arithmetic_pairs
from judgeflow.types import Agreement, Cost, Decision, Stock

EVERYTHING = Means(allowance=Stock())
PAIR_COST = Cost(requests=2, tokens=1000, usd=0.01)
LOTS = range(1500)


def candidate(number: int, q: float, *, cost: Cost = PAIR_COST, decided: Decision | None = None) -> Candidate:
    return Candidate(pair_key=number.to_bytes(32, "big"), acquisition=q, cost=cost, decided=decided)


def graded(count: int) -> list[Candidate]:
    """Pairs 0, 1, ... with falling acquisitions."""
    return [candidate(n, 0.5 - n / 1000) for n in range(count)]


def adaptive(fraction: float, **settings) -> RoutingConfig:
    return RoutingConfig(policy="error", audit_fraction=fraction, **settings)


def fixed(fraction: float, threshold: float = 0.25, **settings) -> RoutingConfig:
    return RoutingConfig(policy="error", threshold=threshold, audit_fraction=fraction, **settings)


def audited(planned) -> list[int]:
    return [index for index, action in enumerate(planned.actions) if action == Ask(audit=True)]


def routed(planned) -> list[int]:
    return [index for index, action in enumerate(planned.actions) if action == Ask()]


# Who is drawn


def test_audits_take_their_share_of_what_may_be_asked_from_those_below_the_threshold():
    planned = plan(graded(100), adaptive(0.25, max_share=0.2), EVERYTHING)
    assert routed(planned) == list(range(15))
    assert len(audited(planned)) == 5
    assert min(audited(planned)) >= 15
    assert planned.threshold == graded(100)[15].acquisition
    assert planned.propensities == (1.0,) * 15 + (5 / 85,) * 85


def test_beside_a_fixed_threshold_that_has_what_it_wants_audits_come_on_top():
    pairs = [candidate(n, 0.4 if n < 12 else 0.1) for n in range(60)]
    planned = plan(pairs, fixed(0.25), EVERYTHING)
    assert routed(planned) == list(range(12))
    assert len(audited(planned)) == 4
    assert planned.propensities[12:] == (4 / 48,) * 48


def test_beside_a_fixed_threshold_that_cannot_be_paid_audits_take_the_last_places():
    pairs = [candidate(n, 0.4 - n / 1000 if n < 30 else 0.1) for n in range(60)]
    planned = plan(pairs, fixed(0.25), Means(allowance=Stock(requests=40)))
    assert routed(planned) == list(range(15))
    assert len(audited(planned)) == 5
    assert min(audited(planned)) >= 30
    assert planned.actions.count(Decline("budget")) == 15


def test_where_everybody_above_the_floor_is_asked_there_is_nobody_to_audit():
    planned = plan(graded(10), adaptive(0.5, max_share=1.0), EVERYTHING)
    assert planned.actions == (Ask(),) * 10
    assert planned.propensities == (1.0,) * 10


@pytest.mark.parametrize("routing", [adaptive(0.5, max_share=0.2, floor=0.47), fixed(0.5, threshold=0.48, floor=0.47)])
def test_nobody_below_the_floor_is_drawn(routing):
    pairs = graded(100)
    for lot in range(50):
        planned = plan(pairs, routing, EVERYTHING, lot)
        assert audited(planned)
        assert all(pairs[index].acquisition >= 0.47 for index in audited(planned))
    assert all(planned.propensities[index] == 0.0 for index in range(100) if pairs[index].acquisition < 0.47)


def test_what_is_stored_accepted_before_or_too_long_is_not_drawn():
    stored = [candidate(n, 0.1, cost=Cost()) for n in range(100, 110)]
    before = [candidate(n, 0.1, decided=Decision(pair_key=b"", asked=False, source="scorer")) for n in range(110, 120)]
    long = [Candidate(pair_key=bytes([n]) * 32, acquisition=0.1, cost=PAIR_COST, obstacle="too_long") for n in range(120, 130)]
    for lot in range(50):
        planned = plan([*graded(20), *stored, *before, *long], adaptive(0.5, max_share=0.2), EVERYTHING, lot)
        assert planned.asked == 10
        assert audited(planned)
        assert max(routed(planned) + audited(planned)) < 20


def test_a_pair_that_was_drawn_before_an_interruption_stays_drawn_with_its_probability():
    before = Decision(pair_key=b"", asked=True, audit=True, propensity=0.05)
    rest = [candidate(n, 0.5, decided=Decision(pair_key=b"", asked=False, propensity=0.05)) for n in range(1, 9)]
    planned = plan([candidate(0, 0.1, decided=before), *rest], adaptive(0.5, max_share=0.5), EVERYTHING, lot=3)
    assert planned.actions == (Ask(audit=True), *[Accept()] * 8)
    assert planned.propensities == (0.05,) * 9


def test_the_same_lot_draws_the_same_pairs_whatever_their_order_and_another_lot_others():
    pairs, routing = graded(100), adaptive(0.25, max_share=0.2)
    chosen = {pairs[index].pair_key for index in audited(plan(pairs, routing, EVERYTHING, 7))}
    assert chosen == {pairs[::-1][index].pair_key for index in audited(plan(pairs[::-1], routing, EVERYTHING, 7))}
    assert chosen != {pairs[index].pair_key for index in audited(plan(pairs, routing, EVERYTHING, 8))}


def test_every_step_of_every_run_has_its_own_lot():
    lots = {lot_of(seed, run, step) for seed in (0, 1) for run in ("a", "b") for step in range(10)}
    assert len(lots) == 40
    assert lot_of(0, "a", 3) == lot_of(0, "a", 3)


def test_audits_are_asked_evenly_among_the_others_after_what_was_promised():
    assert spread([0, 1, 2, 3, 4, 5], [6, 7]) == (0, 1, 6, 2, 3, 4, 7, 5)
    promised = candidate(500, 0.0, decided=Decision(pair_key=b"", asked=True, propensity=1.0))
    planned = plan([promised, *graded(100)], adaptive(0.5, max_share=0.21), EVERYTHING)
    assert planned.ranking[0] == 0
    for reached in (4, 8, 12, 20):
        assert sum(planned.actions[index] == Ask(audit=True) for index in planned.ranking[1 : reached + 1]) == reached / 2


def test_a_process_with_company_keeps_audits_of_a_fixed_rule_among_those_they_follow():
    pairs = [candidate(n, 0.5 - n / 1000 if n < 12 else 0.1) for n in range(60)]
    planned = plan(pairs, fixed(0.25), EVERYTHING)
    order = asking_order(pairs, planned, fixed(0.25), seed=5)
    assert sorted(order) == sorted(planned.ranking)
    assert [index for index in order if index < 12] == list(range(12))
    assert sum(index >= 12 for index in order[:8]) == 2


# With which probability

costs = st.builds(Cost, requests=st.integers(1, 2), tokens=st.integers(0, 500), usd=st.floats(0, 1))
candidates = st.lists(st.tuples(st.floats(0, 0.5), costs), min_size=1, max_size=24).map(
    lambda rows: [candidate(n, q, cost=cost) for n, (q, cost) in enumerate(rows)]
)
routings = st.builds(
    RoutingConfig,
    policy=st.just("error"),
    threshold=st.just("adaptive") | st.floats(0, 0.5),
    max_share=st.none() | st.floats(0.1, 1),
    floor=st.none() | st.floats(0, 0.3),
    audit_fraction=st.floats(0, 0.9),
    cost_weighted=st.booleans(),
)
means = st.builds(
    Means,
    allowance=st.builds(Stock, requests=st.none() | st.integers(0, 40), tokens=st.none() | st.integers(0, 6000)),
    in_time=st.builds(Stock, requests=st.none() | st.integers(0, 40), tokens=st.none() | st.integers(0, 6000)),
)


@given(candidates, routings, means, st.integers(0, 2**63))
def test_whoever_is_drawn_the_plan_never_passes_allowance_rate_share_or_floor(pairs, routing, bounds, lot):
    planned = plan(pairs, routing, bounds, lot)
    asked = [pair for pair, action in zip(pairs, planned.actions, strict=True) if isinstance(action, Ask)]
    total = sum((pair.cost for pair in asked), Cost())
    limits = [bounds.allowance, bounds.in_time] if routing.threshold == "adaptive" else [Stock(requests=bounds.allowance.requests)]
    assert all(limit.admits(total) for limit in limits)
    assert len(asked) <= (routing.max_share or 1.0) * len(pairs) + 1e-6
    assert all(routing.floor is None or pair.acquisition >= routing.floor for pair in asked)
    assert sorted(planned.ranking) == [index for index, action in enumerate(planned.actions) if isinstance(action, Ask)]


@given(st.lists(costs, max_size=12), st.randoms(use_true_random=False), st.integers(0, 12))
def test_the_dearest_costs_are_as_much_as_any_draw_can_take_of_each_kind(given_costs, dice, count):
    most = sum(dearest(given_costs)[:count], Cost())
    draw = sum(dice.sample(given_costs, min(count, len(given_costs))), Cost())
    assert (draw.requests, draw.tokens) <= (most.requests, most.tokens)
    assert draw.tokens <= most.tokens
    assert draw.usd <= most.usd + 1e-9


def test_a_draw_of_the_dearest_pairs_still_fits_a_tight_budget():
    """Every fourth pair is dear: 18 cheap ones and both draws may take 1,800 + 2 x 5,000 tokens."""
    pairs = [candidate(n, 0.5 - n / 1000, cost=Cost(requests=2, tokens=5000 if n >= 18 and n % 4 == 3 else 100)) for n in range(200)]
    plans = [plan(pairs, adaptive(0.1, max_share=0.1), Means(allowance=Stock(tokens=12_000)), lot) for lot in range(300)]
    assert {(len(routed(planned)), len(audited(planned))) for planned in plans} == {(18, 2)}
    assert max(sum(pairs[index].cost.tokens for index in planned.ranking) for planned in plans) == 11_800


@given(candidates, routings, means, st.integers(0, 2**63))
def test_only_who_has_a_chance_is_asked_and_who_has_a_sure_one_is(pairs, routing, bounds, lot):
    planned = plan(pairs, routing, bounds, lot)
    for action, propensity in zip(planned.actions, planned.propensities, strict=True):
        assert 0.0 <= propensity <= 1.0 + 1e-9
        assert propensity > 0.0 or not isinstance(action, Ask)
        assert propensity < 1.0 - 1e-9 or isinstance(action, Ask)


@given(candidates, routings, means, st.integers(0, 2**63))
def test_without_a_fraction_nothing_is_drawn_and_the_lot_does_not_matter(pairs, routing, bounds, lot):
    routing = routing.model_copy(update={"audit_fraction": 0.0})
    planned = plan(pairs, routing, bounds, lot)
    assert planned == plan(pairs, routing, bounds)
    assert not audited(planned)
    assert planned.propensities == tuple(float(isinstance(action, Ask)) for action in planned.actions)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(candidates, routings, means)
def test_pairs_are_asked_about_as_often_as_their_propensity_says(pairs, routing, bounds):
    """The bound is one that a binomial count passes once in a billion."""
    asked: Counter[int] = Counter()
    for lot in LOTS:
        planned = plan(pairs, routing, bounds, lot)
        asked.update(index for index, action in enumerate(planned.actions) if isinstance(action, Ask))
    for index, propensity in enumerate(planned.propensities):
        expected = propensity * len(LOTS)
        assert abs(asked[index] - expected) <= 6 * math.sqrt(expected * max(0.0, 1 - propensity)) + 6


def test_a_step_too_small_for_a_whole_audit_has_one_now_and_then():
    pairs, routing = graded(10), adaptive(0.1, max_share=0.3)
    plans = [plan(pairs, routing, EVERYTHING, lot) for lot in LOTS]
    assert {planned.asked for planned in plans} == {3}
    assert sum(len(audited(planned)) for planned in plans) / len(plans) == pytest.approx(0.3, abs=0.06)
    assert plans[0].propensities[:2] == (1.0, 1.0)
    assert plans[0].propensities[2] == pytest.approx(0.7 + 0.3 / 8)
    assert plans[0].propensities[3:] == pytest.approx([0.3 / 8] * 7)


def test_a_pairs_cost_does_not_change_how_likely_it_is_drawn():
    pairs = [candidate(n, 0.5 - n / 1000, cost=Cost(requests=2, tokens=100 * (1 + n % 10))) for n in range(100)]
    planned = plan(pairs, adaptive(0.3, max_share=1.0), Means(allowance=Stock(tokens=12_000)))
    chances = set(planned.propensities[len(routed(planned)) + 1 :])
    assert len(chances) == 1
    assert 0 < chances.pop() < 1


# Ranking by cost


def test_a_cost_weighted_ranking_prefers_more_acquisition_per_token():
    pairs = [candidate(1, 0.4, cost=Cost(requests=2, tokens=4000)), candidate(2, 0.3, cost=Cost(requests=2, tokens=1000))]
    plain, weighted = RoutingConfig(policy="error", max_share=0.5), RoutingConfig(policy="error", max_share=0.5, cost_weighted=True)
    assert plan(pairs, plain, EVERYTHING).actions == (Ask(), Accept())
    assert plan(pairs, weighted, EVERYTHING).actions == (Accept(), Ask())
    assert plan(pairs, weighted, EVERYTHING).threshold == 0.4 / 4000


def test_cost_weighting_moves_neither_floor_nor_a_fixed_threshold():
    pairs = [candidate(n, q, cost=Cost(requests=2, tokens=1 + n)) for n, q in enumerate([0.1, 0.2, 0.3])]
    weighted = RoutingConfig(policy="error", max_share=1.0, floor=0.2, cost_weighted=True)
    assert plan(pairs, weighted, EVERYTHING).actions == (Accept(), Ask(), Ask())
    assert plan(pairs, weighted, EVERYTHING).threshold is None
    assert plan(pairs, weighted.model_copy(update={"threshold": 0.25, "floor": None}), EVERYTHING).actions == (Accept(), Accept(), Ask())


# What the verdicts tell


@pytest.mark.parametrize(
    ("logit", "choice", "agree"),
    [
        (0.3, "a", 1.0),
        (0.3, "b", 0.0),
        (-0.3, "b", 1.0),
        (0.0, "b", 0.5),
        (0.3, "tie", None),
        (0.3, "inconsistent", None),
        (0.3, None, None),
        (None, "a", None),
    ],
)
def test_scorer_and_judge_agree_where_both_prefer_the_same_response(logit, choice, agree):
    assert agreement(logit, choice) == agree


def test_tallies_add_up_over_steps():
    votes = [Vote(prompt=bytes([n]), propensity=0.1 + n / 20, agree=(n % 3) / 2) for n in range(12)]
    whole, parts = tally(votes), tally(votes[:5]) + tally(votes[5:])
    for name in Agreement.__dataclass_fields__:
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))


def test_a_pair_that_cannot_be_compared_counts_as_asked_alone():
    sums = tally([Vote(prompt=b"p", propensity=0.5, agree=None), Vote(prompt=b"q", propensity=0.5, agree=1.0)])
    assert (sums.asked, sums.compared, share(sums)) == (2, 1, 1.0)
    assert share(Agreement()) is None
    assert interval(Agreement()) is None


def population(count, dice):
    """Pairs whose scorer is wrong most often where it is least sure."""
    pairs = [candidate(n, dice.random() / 2, cost=Cost(requests=2, tokens=dice.randrange(100, 900))) for n in range(count)]
    return pairs, [float(dice.random() > pair.acquisition) for pair in pairs]


def votes_of(planned, agrees, *, audit):
    return [
        Vote(prompt=bytes([index]), propensity=planned.propensities[index], agree=agrees[index])
        for index, action in enumerate(planned.actions)
        if action == Ask(audit=audit)
    ]


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 0.6), st.floats(0.1, 0.6))
def test_over_many_draws_the_weighted_sums_are_those_of_all_pairs(seed, fraction, max_share):
    """Both slices together estimate the pairs that agree among all 60, and how many there are; the mean is within 6 standard errors."""
    pairs, agrees = population(60, random.Random(seed))
    routing = adaptive(fraction, max_share=max_share)
    agreed, weights = [], []
    for lot in range(600):
        planned = plan(pairs, routing, EVERYTHING, lot)
        sums = tally(votes_of(planned, agrees, audit=False)) + tally(votes_of(planned, agrees, audit=True))
        agreed.append(sums.agreed)
        weights.append(sums.weight)
    for estimates, truth in ((agreed, sum(agrees)), (weights, 60.0)):
        mean = sum(estimates) / len(estimates)
        error = math.sqrt(sum((value - mean) ** 2 for value in estimates)) / len(estimates)
        assert abs(mean - truth) <= 6 * error + 0.6


@pytest.mark.parametrize(("truth", "size", "per_prompt"), [(0.5, 200, 6), (0.8, 60, 6), (0.95, 30, 1), (0.8, 20, 1)])
def test_the_interval_covers_the_truth_as_often_as_it_says(truth, size, per_prompt):
    """Pairs of a prompt agree together; weights differ fourfold."""
    dice = random.Random(1)
    covered = 0
    for _ in range(600):
        votes = []
        for prompt in range(size // per_prompt):
            chance = truth if per_prompt == 1 else dice.betavariate(4 * truth, 4 * (1 - truth))
            votes += [
                Vote(prompt=bytes([prompt]), propensity=dice.choice([0.05, 0.2]), agree=float(dice.random() < chance))
                for _ in range(per_prompt)
            ]
        low, high = interval(tally(votes))
        covered += low <= truth <= high
    assert 0.9 <= covered / 600 <= 0.995


def test_twenty_pairs_that_all_agree_do_not_prove_that_all_agree():
    low, high = interval(tally([Vote(prompt=bytes([n]), propensity=0.1, agree=1.0) for n in range(20)]))
    assert high == 1.0
    assert 0.8 < low < 0.9


def test_deciles_go_from_the_smallest_values_to_the_largest():
    assert shares_by_decile({n: (int(n >= 50), 1) for n in range(100)}) == [0.0] * 5 + [1.0] * 5
    assert shares_by_decile({}) == [None] * 10


def test_equal_values_share_alike_on_both_sides_of_a_border():
    assert shares_by_decile({7: (25, 100)}) == pytest.approx([0.25] * 10)
    assert shares_by_decile({1: (0, 5), 2: (15, 15)}) == pytest.approx([0.0] * 2 + [0.5] + [1.0] * 7)


# Through the scheduler


def routing_run(routing, store, *, budget=None, steps=1, pairs=60):
    clock = VirtualClock()
    everything = arithmetic_pairs(pairs * steps)

    async def main():
        async with Scheduler(
            store=store,
            judge=ScriptedJudge(clock=clock, latency=1.0),
            scorer=FakeScorer(everything),
            routing=routing,
            budget=budget,
            clock=clock,
        ) as scheduler:
            return [await scheduler.route(everything[start : start + pairs]) for start in range(0, len(everything), pairs)]

    return clock.run(main())


def test_audits_are_marked_in_the_store_and_in_outcomes_and_counted_in_statistics():
    store = MemoryStore()
    (result,) = routing_run(adaptive(0.25, max_share=0.4), store)
    decisions = asyncio.run(store.reopen().decisions("default", 0)).values()
    marked = [decision for decision in decisions if decision.audit]
    assert len(marked) == 6
    assert {(decision.asked, decision.source, decision.propensity) for decision in marked} == {(True, "judge", 6 / 42)}
    assert sum(outcome.audit for outcome in result.outcomes) == 6
    assert all(outcome.verdict for outcome in result.outcomes if outcome.audit)
    assert (result.statistics.audited.asked, result.statistics.routed.asked) == (6, 18)
    assert result.statistics.audited.weight == pytest.approx(42 * result.statistics.audited.compared / 6)


def test_a_run_that_is_routed_again_draws_the_same_pairs_and_another_run_others():
    def drawn(seed):
        (result,) = routing_run(adaptive(0.25, max_share=0.4, seed=seed), MemoryStore())
        return {outcome.pair.id for outcome in result.outcomes if outcome.audit}

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_a_step_that_is_routed_again_takes_its_audits_from_the_store_and_tells_the_same_of_them():
    """Every second pair stands the other way round the second time."""
    store, pairs, clock = MemoryStore(), arithmetic_pairs(60), VirtualClock()
    turned = [pair.swapped() if n % 2 else pair for n, pair in enumerate(pairs)]

    async def main():
        results = []
        for given_pairs in (pairs, turned):
            judge = ScriptedJudge(clock=clock, latency=1.0)
            settings = {"scorer": FakeScorer(pairs), "routing": adaptive(0.25, max_share=0.4)}
            async with Scheduler(store=store, judge=judge, clock=clock, **settings) as scheduler:
                results.append(await scheduler.route(given_pairs, step=0))
        return results

    first, again = clock.run(main())
    assert (first.statistics.calls, again.statistics.calls) == (48, 0)
    assert [outcome.audit for outcome in again.outcomes] == [outcome.audit for outcome in first.outcomes]
    assert first.statistics.audited.compared > 0
    assert 0 < first.statistics.routed.agreed < first.statistics.routed.weight
    assert again.statistics.audited == first.statistics.audited
    assert again.statistics.routed == first.statistics.routed


def test_audits_are_paid_from_the_runs_budget_like_everybody_else():
    store = MemoryStore()
    results = routing_run(adaptive(0.3), store, budget=BudgetConfig(requests=60, steps=3), steps=3)
    assert sum(result.statistics.spent.requests for result in results) <= 60
    assert sum(result.statistics.audited.asked for result in results) == pytest.approx(9, abs=3)


@pytest.mark.parametrize("policy", ["random", "always", "never"])
def test_a_scheduler_refuses_audits_of_a_policy_without_a_threshold(policy):
    routing = RoutingConfig(policy=policy, max_share=0.5, audit_fraction=0.1)
    with pytest.raises(ConfigurationError, match=rf"\[routing\] audit_fraction: policy '{policy}'"):
        Scheduler(store=MemoryStore(), judge=ScriptedJudge(clock=VirtualClock()), routing=routing)
