"""The decision of one step, case by case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.config import RoutingConfig
from judgeflow.routing.plan import Accept, Ask, Candidate, Decline, Means, asking_order, plan
from judgeflow.types import Cost, Decision, Stock

EVERYTHING = Means(allowance=Stock())
PAIR_COST = Cost(requests=2, tokens=1000, usd=0.01)


def candidate(number: int, q: float | None = 0.5, *, cost: Cost = PAIR_COST, obstacle=None, decided=None) -> Candidate:
    return Candidate(pair_key=number.to_bytes(32, "big"), acquisition=q, cost=cost, obstacle=obstacle, decided=decided)


def earlier(*, asked: bool, source=None) -> Decision:
    return Decision(pair_key=b"", asked=asked, source=source)


ALWAYS = RoutingConfig(policy="always")
HALF = RoutingConfig(policy="random", max_share=0.5)


def test_what_is_stored_is_accepted_whatever_the_policy():
    for policy in ("always", "never", "random"):
        routing = RoutingConfig(policy=policy, max_share=0.5)
        assert plan([candidate(1, cost=Cost())], routing, EVERYTHING).actions == (Accept(),)


def test_always_asks_about_everything_and_never_about_nothing():
    pairs = [candidate(n) for n in range(5)]
    assert plan(pairs, ALWAYS, EVERYTHING).asked == 5
    assert plan(pairs, RoutingConfig(policy="never"), EVERYTHING).asked == 0


def test_an_obstacle_declines_with_its_status():
    decided = plan([candidate(1, obstacle="too_long"), candidate(2)], ALWAYS, EVERYTHING)
    assert decided.actions == (Decline("too_long"), Ask())


def test_max_share_asks_about_the_highest_acquisitions_and_reports_the_threshold():
    decided = plan([candidate(1, 0.1), candidate(2, 0.9), candidate(3, 0.5), candidate(4, 0.3)], HALF, EVERYTHING)
    assert decided.actions == (Accept(), Ask(), Ask(), Accept())
    assert decided.threshold == 0.3


def test_a_numeric_threshold_asks_strictly_above_it():
    routing = RoutingConfig(policy="uncertainty", threshold=1.4)
    decided = plan([candidate(1, 1.4), candidate(2, 1.41)], routing, EVERYTHING)
    assert decided.actions == (Accept(), Ask())
    assert decided.threshold == 1.4


def test_the_floor_keeps_certain_pairs_from_being_asked_merely_because_there_is_budget():
    routing = RoutingConfig(policy="error", max_share=1.0, floor=0.2)
    assert plan([candidate(1, 0.1), candidate(2, 0.3)], routing, EVERYTHING).actions == (Accept(), Ask())


@pytest.mark.parametrize("threshold", ["adaptive", 0.1])
def test_a_pair_at_the_floor_is_asked_about_and_one_below_it_is_not(threshold):
    routing = RoutingConfig(policy="error", threshold=threshold, max_share=1.0, floor=0.2)
    assert plan([candidate(1, 0.2), candidate(2, 0.199)], routing, EVERYTHING).actions == (Ask(), Accept())


def test_of_pairs_level_with_an_adaptive_threshold_as_many_are_asked_about_as_can_be_borne_by_pair_key():
    pairs = [candidate(3, 0.4), candidate(1, 0.4), candidate(2, 0.4), candidate(4, 0.9)]
    decided = plan(pairs, HALF.model_copy(update={"policy": "error"}), EVERYTHING)
    assert decided.actions == (Accept(), Ask(), Accept(), Ask())
    assert decided.threshold == 0.4


def test_beyond_the_budget_a_fixed_rule_declines_and_an_adaptive_one_accepts():
    pairs = [candidate(n, 0.9 - n / 10) for n in range(3)]
    one_pair = Means(allowance=Stock(requests=3))
    assert plan(pairs, ALWAYS, one_pair).actions.count(Decline("budget")) == 2
    assert plan(pairs, RoutingConfig(policy="error", max_share=1.0), one_pair).actions == (Ask(), Accept(), Accept())


@pytest.mark.parametrize("stock", [Stock(requests=4), Stock(tokens=2999), Stock(usd=0.021)])
def test_every_kind_of_budget_cuts_the_ranking(stock):
    pairs = [candidate(n, 1.0 - n / 10) for n in range(5)]
    assert plan(pairs, RoutingConfig(policy="error", max_share=1.0), Means(allowance=stock)).asked == 2


def test_a_cheap_pair_does_not_overtake_a_dear_one_that_cannot_be_paid():
    pairs = [candidate(1, 0.9, cost=Cost(requests=2, tokens=5000)), candidate(2, 0.8, cost=Cost(requests=2, tokens=10))]
    routing = RoutingConfig(policy="error", max_share=1.0)
    assert plan(pairs, routing, Means(allowance=Stock(tokens=1000))).asked == 0


def test_before_a_deadline_only_what_the_rate_limits_admit_is_asked():
    pairs = [candidate(n, 1.0 - n / 10) for n in range(5)]
    routing = RoutingConfig(policy="error", step_deadline_s=30.0)
    for in_time in (Stock(requests=7), Stock(tokens=3500)):
        assert plan(pairs, routing, Means(allowance=Stock(), in_time=in_time)).asked == 3


def test_a_fixed_rule_is_cut_by_requests_alone():
    pairs = [candidate(n, 0.9 - n / 10) for n in range(5)]
    scarce = Means(allowance=Stock(requests=8, tokens=1, usd=0.0), in_time=Stock(requests=2))
    for routing in (ALWAYS, RoutingConfig(policy="error", threshold=0.1)):
        assert plan(pairs, routing, scarce).asked == 4


def test_pairs_are_asked_in_the_order_of_the_ranking_after_those_that_were_promised():
    pairs = [candidate(1, 0.2), candidate(2, 0.9), candidate(3, 0.5), candidate(4, 0.1, decided=earlier(asked=True))]
    routing = RoutingConfig(policy="error", max_share=1.0)
    assert plan(pairs, routing, EVERYTHING).ranking == (3, 1, 2, 0)


@given(st.integers(0, 2**32 - 1))
def test_a_process_with_company_shuffles_no_further_than_a_fixed_rules_ranking(seed):
    pairs = [candidate(n, q) for n, q in enumerate([0.2, 0.2, 0.9, 0.5, 0.2])]
    fixed, adaptive = RoutingConfig(policy="error", threshold=0.1), RoutingConfig(policy="error", max_share=1.0)
    for routing in (fixed, adaptive, ALWAYS):
        planned = plan(pairs, routing, EVERYTHING)
        order = asking_order(pairs, planned, routing, seed)
        assert sorted(order) == [0, 1, 2, 3, 4]
        assert routing is not fixed or order[:2] == (2, 3)
        assert asking_order(pairs, planned, routing, None) == planned.ranking


def test_a_pair_that_was_declined_or_answered_from_the_store_in_this_step_before_is_open_again():
    for decided in (Decision(pair_key=b"", asked=False, status="budget"), earlier(asked=False, source="store")):
        assert plan([candidate(1, decided=decided)], ALWAYS, EVERYTHING).actions == (Ask(),)


def test_a_pair_that_was_accepted_in_this_step_before_is_not_asked_now():
    pairs = [candidate(1, 0.9, decided=earlier(asked=False, source="scorer")), candidate(2, 0.1)]
    assert plan(pairs, ALWAYS, EVERYTHING).actions == (Accept(), Ask())


def test_a_pair_that_lacked_budget_in_this_step_before_gets_another_chance():
    pairs = [candidate(1, decided=earlier(asked=False, source="fallback"))]
    assert plan(pairs, ALWAYS, EVERYTHING).actions == (Ask(),)


def test_what_was_to_be_asked_before_an_interruption_goes_first_and_nobody_else_joins_in():
    accepted = [candidate(n, 0.9, decided=earlier(asked=False)) for n in range(3)]
    promised = candidate(7, 0.1, decided=earlier(asked=True))
    assert plan([*accepted, promised], HALF, EVERYTHING).actions == (Accept(), Accept(), Accept(), Ask())


def test_what_was_promised_and_cannot_be_paid_any_more_is_given_up_like_everybody_else():
    pairs = [candidate(n, decided=earlier(asked=True)) for n in range(3)]
    one_pair = Means(allowance=Stock(requests=3))
    assert plan(pairs, ALWAYS, one_pair).actions == (Ask(), Decline("budget"), Decline("budget"))
    assert plan(pairs, HALF, one_pair).actions == (Ask(), Accept(), Accept())


def test_every_decision_has_the_probability_it_was_made_with():
    pairs = [candidate(n, n / 10) for n in range(10)]
    lottery = plan(pairs, RoutingConfig(policy="random", max_share=0.3), EVERYTHING)
    assert lottery.propensities == (0.3,) * 10
    ranked = plan(pairs, RoutingConfig(policy="error", max_share=0.3), EVERYTHING)
    assert ranked.propensities == (0.0,) * 7 + (1.0,) * 3


costs = st.builds(Cost, requests=st.integers(0, 2), tokens=st.integers(0, 500), usd=st.floats(0, 1))
candidates = st.lists(st.tuples(st.floats(0, 1), costs), max_size=30).map(
    lambda rows: [candidate(n, q, cost=cost) for n, (q, cost) in enumerate(rows)]
)


@given(candidates, st.integers(0, 40), st.integers(0, 5000), st.floats(0.01, 1))
def test_the_plan_never_passes_allowance_or_share(pairs, requests, tokens, share):
    routing = RoutingConfig(policy="error", max_share=share)
    decided = plan(pairs, routing, Means(allowance=Stock(requests=requests, tokens=tokens)))
    asked = [pair for pair, action in zip(pairs, decided.actions, strict=True) if action == Ask()]
    assert sum(pair.cost.requests for pair in asked) <= requests
    assert sum(pair.cost.tokens for pair in asked) <= tokens
    assert len(asked) <= share * len(pairs) + 1e-6


@given(candidates, st.randoms(use_true_random=False), st.integers(0, 40))
def test_the_input_order_does_not_matter(pairs, rng, requests):
    means, routing = Means(allowance=Stock(requests=requests)), RoutingConfig(policy="error", max_share=0.5)
    shuffled = rng.sample(pairs, len(pairs))
    by_key = dict(zip([pair.pair_key for pair in shuffled], plan(shuffled, routing, means).actions, strict=True))
    assert [by_key[pair.pair_key] for pair in pairs] == list(plan(pairs, routing, means).actions)


@given(candidates)
def test_with_more_budget_nobody_loses_their_question(pairs):
    routing = RoutingConfig(policy="error", max_share=1.0)
    little, much = (plan(pairs, routing, Means(allowance=Stock(requests=n))).actions for n in (6, 20))
    assert all(more == Ask() for less, more in zip(little, much, strict=True) if less == Ask())
