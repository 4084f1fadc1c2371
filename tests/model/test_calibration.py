"""Calibration finds what the data hold."""

import math
import random

import pytest
import torch

from judgeflow.model.calibration import PAPER_AMPLITUDE, Calibration, calibrate


def drawn(temperature, amplitude, far, count=20_000):
    dice = random.Random(1)
    g = torch.tensor([dice.gauss(0, 3) for _ in range(count)], dtype=torch.float64).unsqueeze(1)
    v = torch.tensor([dice.random() * far for _ in range(count)], dtype=torch.float64).unsqueeze(1)
    s, _ = Calibration(temperature=temperature, amplitude=amplitude).apply(g, v)
    y = torch.tensor([float(dice.random() < p) for p in torch.sigmoid(s).tolist()], dtype=torch.float64)
    return g, v, y


def test_calibration_finds_the_temperature_and_amplitude_that_made_the_labels():
    found = calibrate(*drawn(temperature=0.5, amplitude=100.0, far=1.0))
    assert found.temperature == pytest.approx(0.5, rel=0.2)
    assert found.amplitude == pytest.approx(100.0, rel=0.4)


def test_where_nothing_is_far_the_papers_amplitude_stays():
    found = calibrate(*drawn(temperature=1.0, amplitude=300.0, far=1e-6))
    assert found.amplitude == pytest.approx(PAPER_AMPLITUDE, rel=0.15)


def test_the_mean_field_logit_is_g_over_temperature_and_uncertainty():
    s, u = Calibration(temperature=2.0, amplitude=10.0).apply(torch.tensor([[3.0]]), torch.tensor([[0.8]]))
    assert u.item() == pytest.approx(math.sqrt(1 + 10 * 0.8))
    assert s.item() == pytest.approx(3.0 / 2.0 / 3.0)


def test_a_pair_that_was_read_in_both_orders_has_the_mean_of_its_views():
    calibration = Calibration(temperature=1.0, amplitude=8.0)
    s, u = calibration.apply(torch.tensor([[2.0, 6.0]]), torch.tensor([[0.0, 1.0]]))
    assert u.item() == pytest.approx((1 + 3) / 2)
    assert s.item() == pytest.approx((2.0 + 6.0 / 3.0) / 2)


def test_a_sampled_variance_is_taken_in_units_of_the_logits_where_the_data_are_silent():
    g, v, y = drawn(temperature=1.0, amplitude=1.0, far=1e-6)
    found = calibrate(g, v, y, sampled=True)
    assert found.amplitude == pytest.approx(math.pi / 8 / float(g.abs().mean()) ** 2, rel=0.15)


@pytest.mark.parametrize("values", [{"temperature": 0.0}, {"amplitude": -1.0}, {"amplitude": math.nan}, {"temperature": "1"}])
def test_an_impossible_calibration_names_the_value(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Calibration(**values)


@pytest.mark.parametrize("all_right", [True, False])
def test_a_few_pairs_that_are_all_right_or_all_wrong_make_nobody_infinitely_sure_or_unsure(all_right):
    g = torch.tensor([0.5, -1.0, 2.0, -0.2, 1.5, 0.7])
    found = calibrate(g.unsqueeze(1), torch.zeros(6, 1), ((g > 0) == all_right).double())
    assert 0.02 < found.temperature < 50.0


def test_logits_of_nothing_leave_the_calibration_alone():
    assert calibrate(torch.zeros(5, 1), torch.ones(5, 1), torch.ones(5)) == Calibration()
