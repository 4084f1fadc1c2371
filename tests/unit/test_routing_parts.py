"""Acquisitions, the run's budget, and when to ask again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import JudgeOverloaded, JudgeRefusesService, QuestionRejected, RateLimited, ReplyLost
from judgeflow.routing.budget import Budget
from judgeflow.routing.policy import acquisition, uniform
from judgeflow.types import Cost, Preference, RunState, Stock

KEY = bytes(range(32))


def test_the_mean_field_error_is_largest_where_the_scorer_is_undecided():
    assert acquisition("error", Preference(logit=0.0), KEY, 0) == 0.5
    assert acquisition("error", Preference(logit=2.0), KEY, 0) == pytest.approx(1 - 0.8807970779778823)


def test_the_margin_policy_undoes_the_mean_field_shrinkage():
    assert acquisition("margin", Preference(logit=-1.5, uncertainty=2.0), KEY, 0) == -3.0
    assert acquisition("margin", Preference(logit=1.5), KEY, 0) == -1.5


def test_the_uncertainty_policy_ranks_by_u_and_not_at_all_without_it():
    assert acquisition("uncertainty", Preference(logit=0.1, uncertainty=1.7), KEY, 0) == 1.7
    assert acquisition("uncertainty", Preference(logit=0.1), KEY, 0) is None


@pytest.mark.parametrize("policy", ["error", "uncertainty", "margin"])
def test_a_ranking_policy_cannot_rank_a_pair_that_was_not_scored(policy):
    assert acquisition(policy, None, KEY, 0) is None


def test_random_acquisitions_are_uniform_and_depend_on_seed_and_pair_alone():
    values = [uniform(3, n.to_bytes(32, "big")) for n in range(4000)]
    assert values == [uniform(3, n.to_bytes(32, "big")) for n in range(4000)]
    assert all(0 <= value < 1 for value in values)
    for tenth in range(10):
        assert 320 < sum(tenth / 10 <= value < (tenth + 1) / 10 for value in values) < 480
    assert uniform(3, KEY) != uniform(4, KEY)


def test_a_step_may_spend_everything_that_is_neither_paid_nor_put_aside_nor_planned():
    budget = Budget(Stock(requests=100, tokens=1000, usd=1.0))
    state = RunState(name="r", spent=Cost(requests=30, tokens=100, usd=0.25), reserved=Cost(requests=10))
    budget.plan(Cost(requests=4, tokens=50, usd=0.25))
    assert budget.allowance(state, 0) == Stock(requests=56, tokens=850, usd=0.5)
    budget.unplan(Cost(requests=4, tokens=50, usd=0.25))
    assert budget.allowance(state, 0).requests == 60


def test_steps_share_what_is_left_so_that_savings_carry_over():
    budget = Budget(Stock(requests=100), steps=10)
    assert budget.allowance(RunState(name="r"), 0).requests == 10
    assert budget.allowance(RunState(name="r", spent=Cost(requests=10)), 5).requests == 18
    assert budget.allowance(RunState(name="r", spent=Cost(requests=40)), 25).requests == 60


def test_what_is_left_counts_what_is_put_aside_and_not_what_is_only_planned():
    budget = Budget(Stock(requests=100, usd=1.0))
    budget.plan(Cost(requests=40, usd=0.5))
    assert budget.left(RunState(name="r", spent=Cost(requests=30), reserved=Cost(requests=10, usd=0.25))) == Stock(requests=60, usd=0.75)


def test_a_step_may_bring_the_run_to_what_it_has_taken_and_its_own_share():
    budget, state = Budget(Stock(requests=100, tokens=1000), steps=10), RunState(name="r", spent=Cost(requests=10, tokens=100))
    assert budget.ceiling(state, 5) == Stock(requests=10 + 18, tokens=100 + 180)
    assert Budget(Stock(tokens=1000)).ceiling(state, 5) == Stock(tokens=1000)
    for budget in (Budget(Stock(tokens=1000)), Budget(Stock(tokens=1000), steps=10)):
        budget.plan(Cost(tokens=5000))
        assert budget.ceiling(state, 5) == Stock(tokens=1000)


@given(st.lists(st.integers(0, 40), max_size=30))
def test_paced_steps_never_spend_more_than_the_stock(wishes):
    budget, spent = Budget(Stock(requests=97), steps=12), 0
    for step, wish in enumerate(wishes):
        spent += min(wish, budget.allowance(RunState(name="r", spent=Cost(requests=spent)), step).requests)
    assert spent <= 97


def test_an_overdrawn_run_has_nothing_left_rather_than_less_than_nothing():
    left = Budget(Stock(requests=10)).remaining(RunState(name="r", spent=Cost(requests=12)))
    assert left.requests == 0


def delay(error, *, failures=1, limited=0, elapsed_s=0.0, jitter=0.5, policy=None):
    chosen = policy or RetryPolicy(attempts=3, for_s=100.0)
    return chosen.delay_s(error, failures=failures, limited=limited, elapsed_s=elapsed_s, jitter=jitter)


def test_backoff_doubles_with_each_failure_up_to_its_cap():
    policy = RetryPolicy(attempts=100, for_s=1e9)
    assert [delay(ReplyLost(), failures=n, policy=policy) for n in (1, 2, 3, 20)] == [0.5, 1.0, 2.0, 30.0]


def test_permanent_errors_are_never_retried():
    assert delay(QuestionRejected()) is None
    assert delay(JudgeRefusesService()) is None


def test_attempts_are_capped_in_count():
    assert delay(ReplyLost(), failures=2) is not None
    assert delay(ReplyLost(), failures=3) is None


def test_rate_limits_do_not_use_up_attempts_but_time():
    assert delay(RateLimited(), failures=0, limited=50) is not None
    assert delay(RateLimited(), failures=0, limited=1, elapsed_s=99.9) is None


def test_a_judges_own_retry_after_is_obeyed_and_still_capped_in_time():
    assert delay(RateLimited(retry_after_s=7.0), failures=0, limited=1) == 7.0
    assert delay(RateLimited(retry_after_s=3600.0), failures=0, limited=1) is None


def test_a_judge_that_fails_and_says_not_to_wait_is_backed_off_from_all_the_same():
    policy = RetryPolicy(attempts=100, for_s=1e9)
    for asked in (0.0, -3.0, math.nan):
        assert delay(JudgeOverloaded(retry_after_s=asked), failures=3, policy=policy) == 2.0
        assert delay(RateLimited(retry_after_s=asked), failures=0, limited=3, policy=policy) == 2.0


def test_the_error_of_a_very_sure_scorer_is_small_but_never_lost_and_the_same_both_ways():
    sure, surer = (acquisition("error", Preference(logit=logit), b"", 0) for logit in (40.0, 45.0))
    assert sure > surer > 0
    assert acquisition("error", Preference(logit=-40.0), b"", 0) == sure
