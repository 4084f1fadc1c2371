"""Gains, intervals and rates against cases worked out by hand."""

import numpy as np
import pytest

from benchmarks.statistics import overlap
from judgeflow.estimates import Estimate
from judgeflow.replay.statistics import accuracy, credit, estimate, gains, mean_estimate, prompt_counts, rate_by_decile

ONCE = np.ones((1, 4))


def gain(right, judged, acquisition, share, counts):
    return gains(right, judged, acquisition, [share], counts)[0]


def test_a_logit_of_exactly_zero_earns_half_a_credit():
    assert credit([2.0, -1.0, 0.0, 0.5], [True, True, True, False]).tolist() == [1.0, 0.0, 0.5, 0.0]


def test_accuracy_is_the_mean_credit_and_weighs_pairs_by_how_often_they_were_drawn():
    assert accuracy([1.0, 0.0, 1.0, 1.0], np.array([[1, 1, 1, 1], [0, 3, 1, 0]])).tolist() == [0.75, 0.25]


def test_judging_the_one_wrong_pair_of_four_gains_what_random_would_have_missed():
    # accuracy .75 -> 1.0 with a quarter judged; random finds the wrong pair in one case of four: .75 + .25 * .25.
    assert gain([1, 1, 0, 1], [1, 1, 1, 1], [0.1, 0.2, 0.9, 0.3], 0.25, ONCE).tolist() == pytest.approx([1.0 - 0.8125])


def test_judging_only_right_pairs_is_worse_than_random():
    assert gain([1, 1, 0, 1], [1, 1, 1, 1], [0.9, 0.2, 0.1, 0.3], 0.25, ONCE).tolist() == pytest.approx([-0.0625])


def test_a_judge_that_is_wrong_where_the_scorer_is_right_costs_accuracy():
    # The asked pair turns from right to wrong: -.25; random loses that in one case of four.
    assert gain([1, 1, 1, 1], [1, 1, 0, 1], [0.1, 0.2, 0.9, 0.3], 0.25, ONCE).tolist() == pytest.approx([-0.25 + 0.0625])


def test_an_acquisition_that_ranks_nobody_is_exactly_as_good_as_random():
    assert gain([1, 0, 0, 1], [1, 1, 1, 1], [1.0, 1.0, 1.0, 1.0], 0.4, ONCE).tolist() == pytest.approx([0.0])


def test_pairs_that_tie_for_the_last_place_share_it():
    # Half of the pairs is asked: the first for sure, the second place is shared by the wrong pair and a right one.
    assert gain([0, 0, 1, 1], [1, 1, 1, 1], [0.9, 0.5, 0.5, 0.1], 0.5, ONCE).tolist() == pytest.approx([(1 + 0.5) / 4 - 0.5 * 2 / 4])


def test_a_resample_is_ranked_anew_with_its_own_number_of_pairs():
    counts = np.array([[1, 1, 1, 1], [0, 2, 2, 0]])
    # Of the resample's four pairs two are asked: both copies of the third, which are wrong; random would find one of the two.
    assert gain([1, 1, 0, 1], [1, 1, 1, 1], [0.1, 0.2, 0.9, 0.3], 0.5, counts).tolist() == pytest.approx([0.25 - 0.125, 0.5 - 0.25])


def test_all_pairs_of_a_prompt_are_drawn_together_and_the_first_row_is_the_data():
    counts = prompt_counts(["p", "q", "p", "r"], seed=0, resamples=50)
    assert counts.shape == (51, 4)
    assert counts[0].tolist() == [1, 1, 1, 1]
    assert (counts[:, 0] == counts[:, 2]).all()
    assert ((counts[1:, 0] + counts[1:, 1] + counts[1:, 3]) == 3).all()
    assert len(np.unique(counts[1:], axis=0)) > 1


def test_the_same_seed_draws_the_same_prompts():
    assert (prompt_counts("abc", seed=3) == prompt_counts("abc", seed=3)).all()
    assert (prompt_counts("abc", seed=3) != prompt_counts("abc", seed=4)).any()


def test_an_interval_of_copies_of_one_prompt_has_no_width_and_one_of_many_prompts_has():
    right = [1, 0] * 50
    alike = estimate(accuracy(right, prompt_counts(["p"] * 100, seed=0)))
    apart = estimate(accuracy(right, prompt_counts(range(100), seed=0)))
    assert alike == Estimate(value=0.5, low=0.5, high=0.5)
    # The textbook interval of 100 independent pairs is .5 +- 1.96 * .05.
    assert (apart.low, apart.high) == pytest.approx((0.402, 0.598), abs=0.02)


def test_an_estimate_takes_the_figure_of_the_data_and_the_percentiles_of_the_resamples():
    assert estimate(np.array([7.0, *np.arange(101.0)])) == Estimate(value=7.0, low=2.5, high=97.5)


def test_the_mean_over_seeds_is_that_of_figures_and_of_both_ends():
    assert mean_estimate([Estimate(value=1.0, low=0.0, high=4.0), Estimate(value=2.0, low=1.0, high=8.0)]) == Estimate(
        value=1.5, low=0.5, high=6.0
    )


def test_overlap_is_twice_the_common_words_over_all_words():
    assert overlap("a b b c", "b b d") == pytest.approx(4 / 7)
    assert overlap("same words", "words same") == 1.0
    assert overlap("one", "two") == 0.0
    assert overlap("", " ") == 1.0


def test_rates_are_counted_in_tenths_from_the_least_acquisition_up():
    happens = [False] * 18 + [True, False]
    assert rate_by_decile(happens, range(20)) == [0.0] * 9 + [0.5]
    assert rate_by_decile(happens, [-n for n in range(20)])[0] == 0.5


def test_judging_everybody_or_nobody_gains_nothing_over_random():
    nobody, everybody = gains([1, 1, 0, 1], [1, 1, 1, 1], [0.1, 0.2, 0.9, 0.3], [0.0, 1.0], ONCE)
    assert [nobody.tolist(), everybody.tolist()] == [[0.0], pytest.approx([0.0])]
