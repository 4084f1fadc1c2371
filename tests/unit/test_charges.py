"""What questions will be charged in tokens, predicted from replies."""

import random

import pytest

from judgeflow.routing.charges import ENOUGH, Charges, Moments
from judgeflow.types import Usage


def taught(charge: str, usages: list[tuple[int, int, int]], longest: int | None = 500) -> Charges:
    """Charges that have heard of (worst case, prompt, completion)."""
    charges = Charges(charge, longest)
    for worst, prompt, completion in usages:
        charges.learn(worst, Usage(prompt=prompt, completion=completion))
    return charges


@pytest.mark.parametrize("charge", ["reserved", "actual"])
def test_before_enough_replies_the_worst_case_counts(charge):
    charges = taught(charge, [(1500, 400, 100)] * (ENOUGH - 1))
    assert charges.expect(1500).safe == 1500


def test_a_judge_that_charges_on_arrival_is_expected_to_charge_the_whole_reply():
    expected = taught("reserved", [(1500, 400, 20)] * ENOUGH).expect(2500)
    assert (expected.tokens, expected.safe) == (800 + 500, 800 + 500)


def test_a_judge_that_charges_real_usage_is_expected_to_charge_what_replies_usually_take():
    expected = taught("actual", [(1500, 400, 20)] * ENOUGH).expect(2500)
    assert (expected.tokens, expected.safe) == (800 + 20, 800 + 20)


def test_what_a_reply_teaches_is_charged_at_once():
    assert Charges("reserved", 500).learn(1500, Usage(prompt=400, completion=20)) == 900
    assert Charges("actual", 500).learn(1500, Usage(prompt=400, completion=20)) == 420
    assert Charges("reserved", None).learn(1500, Usage(prompt=400, completion=20)) == 1500


def test_questions_of_an_earlier_process_count_for_what_they_may_have_been_charged():
    assert Charges("reserved", 500).bound(420, answered=True) == 920
    assert Charges("reserved", 500).bound(1500, answered=False) == 1500
    assert Charges("actual", 500).bound(420, answered=True) == 420


@pytest.mark.parametrize("charge", ["reserved", "actual"])
def test_what_is_kept_free_covers_many_questions_under_way_and_never_more_than_their_worst_cases(charge):
    dice = random.Random(7)

    def question() -> tuple[int, int, int]:
        bound = dice.randrange(500, 1500)
        return bound + 500, int(bound * dice.uniform(0.4, 0.8)), min(500, int(80 * dice.lognormvariate(0, 0.6)))

    charges, short = taught(charge, [question() for _ in range(200)]), 0
    for _ in range(500):
        under_way = [question() for _ in range(20)]
        expected = [charges.expect(worst) for worst, _, _ in under_way]
        real = sum(prompt + (500 if charge == "reserved" else completion) for _, prompt, completion in under_way)
        variance, slack = sum(item.variance for item in expected), sum(item.slack for item in expected)
        kept = sum(item.tokens for item in expected) + min(5 * variance**0.5, slack)
        short += real > kept
        assert kept <= sum(worst for worst, _, _ in under_way) + len(under_way)
    assert short == 0


def test_old_observations_are_forgotten():
    moments = Moments()
    for value in [100.0] * 500 + [10.0] * 1000:
        moments.add(value)
    assert moments.mean == pytest.approx(10.0, rel=0.01)
    assert moments.variance < 1.0
