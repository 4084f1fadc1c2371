import pytest

from judgeflow.routing.margin import LEAST, REMEMBERED, UNMATCHED, Margin


def test_a_margin_that_is_set_stays_as_it_is():
    margin = Margin(1.5)
    margin.learn([9.0] * 100)
    assert margin.value == 1.5


def test_a_matched_margin_is_the_median_of_what_the_scorer_said_in_either_direction():
    margin = Margin("matched")
    margin.learn([-1.0] * 10 + [3.0] * 11)
    assert margin.value == 3.0


def test_a_matched_margin_is_the_usual_one_until_enough_is_known():
    margin = Margin("matched")
    margin.learn([0.5] * (LEAST - 1))
    assert margin.value == UNMATCHED
    margin.learn([0.5])
    assert margin.value == 0.5


def test_pairs_that_the_scorer_knows_nothing_about_do_not_count():
    margin = Margin("matched")
    margin.learn([0.0] * 1000)
    assert margin.value == UNMATCHED


@pytest.mark.parametrize("steps", [1, 50])
def test_a_matched_margin_forgets_how_the_scorer_spoke_long_ago(steps):
    margin = Margin("matched")
    for _ in range(steps):
        margin.learn([0.5] * 100)
    margin.learn([4.0] * REMEMBERED)
    assert margin.value == 4.0
