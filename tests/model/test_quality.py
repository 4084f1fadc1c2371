"""Figures about a scorer are what their definitions say."""

import dataclasses
import math

import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.model.quality import (
    ReliabilityBin,
    auroc,
    expected_calibration_error,
    gains,
    judged_accuracy,
    quality,
    random_accuracy,
    reliability,
)

scored = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40)


@given(scored)
def test_auroc_is_the_probability_that_a_positive_scores_higher(rows):
    scores, positive = torch.tensor([float(score) for score, _ in rows]), torch.tensor([flag for _, flag in rows])
    pairs = [(p, n) for p, is_p in rows if is_p for n, is_n in rows if not is_n]
    expected = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs) if pairs else None
    assert auroc(scores, positive) == (None if expected is None else pytest.approx(expected))


def test_a_scorer_that_is_as_sure_as_it_is_right_has_no_calibration_error():
    confidence = torch.tensor([0.75] * 4 + [0.5] * 2, dtype=torch.float64)
    right = torch.tensor([1, 1, 1, 0, 1, 0], dtype=torch.float64)
    assert expected_calibration_error(reliability(confidence, right)) == pytest.approx(0.0)
    sure = reliability(torch.tensor([1.0, 1.0]).double(), torch.tensor([1.0, 0.0]).double())
    assert expected_calibration_error(sure) == pytest.approx(0.5)


def test_quality_counts_a_logit_of_zero_as_half_right():
    found = quality([2.0, -1.0, 0.0, 3.0], [1.0, 1.0, 1.0, 2.0], [True, True, True, False])
    assert found.pairs == 4
    assert found.accuracy == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert set(found.error_auroc) == {"error", "uncertainty", "margin"}


def test_without_a_single_error_there_is_no_error_auroc():
    assert quality([1.0, 2.0], [1.0, 1.0], [True, True]).error_auroc == {"error": None, "uncertainty": None, "margin": None}


def test_nothing_cannot_be_measured():
    with pytest.raises(ValueError, match="no labelled pair"):
        quality([], [], [])


def logit(probability):
    return math.log(probability / (1 - probability))


def test_the_bins_are_ten_of_equal_width_and_empty_ones_are_left_out():
    confidence = torch.tensor([0.5, 0.54, 0.56, 0.97, 1.0], dtype=torch.float64)
    bins = reliability(confidence, torch.tensor([1.0, 0.0, 1.0, 1.0, 0.5], dtype=torch.float64))
    assert [each.pairs for each in bins] == [2, 1, 2]
    assert [each.confidence for each in bins] == pytest.approx([0.52, 0.56, 0.985])
    assert [each.accuracy for each in bins] == pytest.approx([0.5, 1.0, 0.75])


def test_brier_score_and_log_loss_are_about_the_probability_of_the_label():
    found = quality([logit(0.8), logit(0.3), logit(0.6)], [1.0] * 3, [True, False, False])
    assert found.brier == pytest.approx((0.2**2 + 0.3**2 + 0.6**2) / 3)
    assert found.log_loss == pytest.approx(-(math.log(0.8) + math.log(0.7) + math.log(0.4)) / 3)
    assert found.ece == pytest.approx((0.2 + 0.3 + 0.6) / 3)
    assert found.reliability[0] == ReliabilityBin(confidence=pytest.approx(0.6), accuracy=0.0, pairs=1)


WRONG_FIRST = torch.tensor([3.0, 2.0, 1.0, 0.0, 0.5, 0.2, 0.1, 0.3, 0.4, 0.6])
TWO_WRONG = torch.tensor([0.0, 0.0] + [1.0] * 8)


def test_an_acquisition_that_ranks_every_error_first_gains_all_there_is():
    assert judged_accuracy(WRONG_FIRST, TWO_WRONG, [0.0, 0.1, 0.15, 0.2, 0.4, 1.0]) == pytest.approx([0.8, 0.9, 0.95, 1.0, 1.0, 1.0])
    assert gains(WRONG_FIRST, TWO_WRONG) == pytest.approx({"0.1": 0.08, "0.2": 0.16, "0.4": 0.12})


def test_an_acquisition_that_ranks_every_error_last_loses_as_much_as_it_can():
    assert judged_accuracy(-WRONG_FIRST, TWO_WRONG, [0.4, 0.8, 0.9]) == pytest.approx([0.8, 0.8, 0.9])
    assert gains(-WRONG_FIRST, TWO_WRONG) == pytest.approx({"0.1": -0.02, "0.2": -0.04, "0.4": -0.08})


def test_an_acquisition_that_knows_nothing_is_random():
    shares = [0.0, 0.1, 0.25, 0.4, 1.0]
    assert judged_accuracy(torch.ones(10), TWO_WRONG, shares) == pytest.approx(random_accuracy(TWO_WRONG, shares))
    assert random_accuracy(TWO_WRONG, shares) == pytest.approx([0.8, 0.82, 0.85, 0.88, 1.0])
    assert gains(torch.ones(10), TWO_WRONG) == pytest.approx({"0.1": 0.0, "0.2": 0.0, "0.4": 0.0})


def test_equal_acquisitions_are_drawn_among_each_other_at_random():
    acquisition, right = torch.tensor([2.0, 1.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert judged_accuracy(acquisition, right, [0.25, 0.5, 0.75]) == pytest.approx([0.75, 0.875, 1.0])


@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=30), st.randoms())
def test_no_figure_depends_on_the_order_of_the_pairs(rows, dice):
    shuffled = dice.sample(rows, len(rows))
    one, other = (quality([g / 2 for g, _ in each], [1 + abs(g) for g, _ in each], [a for _, a in each]) for each in (rows, shuffled))
    assert orjson.loads(orjson.dumps(dataclasses.asdict(one))) == nearly(orjson.loads(orjson.dumps(dataclasses.asdict(other))))


def nearly(value):
    if isinstance(value, dict):
        return {key: nearly(each) for key, each in value.items()}
    if isinstance(value, list):
        return [nearly(each) for each in value]
    return pytest.approx(value, abs=1e-9) if isinstance(value, float) else value


def test_the_curves_start_at_the_accuracy_end_at_1_and_pass_through_the_gains():
    found = quality([2.0, -1.0, 0.5, 3.0, 0.1], [1.0, 2.0, 1.5, 1.1, 1.2], [True, True, True, True, False])
    place = found.curves.shares.index(0.4)
    assert len(found.curves.shares) == 21
    for name, curve in found.curves.acquisitions.items():
        assert (curve[0], curve[-1]) == pytest.approx((found.accuracy, 1.0))
        assert curve[place] - found.curves.random[place] == pytest.approx(found.gain_at[name]["0.4"])
