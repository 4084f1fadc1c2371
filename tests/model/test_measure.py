"""Figures that the pairs they were measured on have not flattered."""

import pytest
import torch

from judgeflow.model.calibration import Calibration, calibrate
from judgeflow.model.data import Examples, halves_by_prompt
from judgeflow.model.measure import cross_fitted
from judgeflow.model.network import RawScores
from judgeflow.model.quality import quality
from judgeflow.types import Pair


def noisy(count: int, seed: int = 0):
    """(raw scores, targets) of pairs whose labels are right three times in four, with a tie now and then."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 1, generator=generator) * 4
    right = torch.rand(count, generator=generator) < 0.75
    targets = ((logits[:, 0] > 0) == right).float()
    targets[::10] = 0.5
    return RawScores(logits, torch.rand(count, 1, generator=generator)), targets


def examples(targets, identical=()):
    """Pairs with these targets, of two texts each; those at the places in `identical` have one."""
    first = torch.arange(0, 2 * len(targets), 2)
    second = first + 1
    second[list(identical)] = first[list(identical)]
    return Examples(first, second, targets, torch.ones(len(targets)))


def test_identical_responses_are_neither_right_nor_wrong():
    raw, targets = noisy(60)
    identical = [1, 11, 21]
    raw.logits[identical] = 0.0
    half = [place % 2 == 0 for place in range(60)]
    _, found = cross_fitted(raw, examples(targets, identical), half, sampled=False)
    there = torch.ones(60, dtype=torch.bool)
    there[identical] = False
    assert found.pairs == 51
    right = ((raw.logits[:, 0] > 0) == (targets == 1))[there & (targets != 0.5)]
    assert found.accuracy == pytest.approx(float(right.double().mean()))


def test_each_half_is_calibrated_by_the_other():
    raw, targets = noisy(60)
    half = torch.arange(60) % 3 == 0
    s, u = torch.empty(60, dtype=torch.float64), torch.empty(60, dtype=torch.float64)
    for here in (half, ~half):
        there = ~here
        s[here], u[here] = calibrate(raw.logits[there], raw.variances[there], targets[there]).apply(raw.logits[here], raw.variances[here])
    decided = targets != 0.5
    expected = quality(s[decided].tolist(), u[decided].tolist(), (targets[decided] == 1).tolist())
    calibration, found = cross_fitted(raw, examples(targets), half.tolist(), sampled=False)
    assert found == expected
    assert found.pairs == int(decided.sum()) == 54
    assert calibration == calibrate(raw.logits, raw.variances, targets)


def test_a_half_says_nothing_about_its_own_calibration():
    """Labels that all agree with the scores make a half sure of itself; the other half, which is wrong, is what counts."""
    raw, _ = noisy(80)
    half = [True] * 40 + [False] * 40
    agree = (raw.logits[:, 0] > 0).float()
    targets = torch.cat([agree[:40], 1 - agree[40:]])
    _, found = cross_fitted(raw, examples(targets), half, sampled=False)
    fitted = [calibrate(raw.logits[:40], raw.variances[:40], targets[:40]), calibrate(raw.logits[40:], raw.variances[40:], targets[40:])]
    assert fitted[0].temperature < fitted[1].temperature
    assert found.accuracy == 0.5
    assert found.ece > 0.4


def test_pairs_of_one_prompt_are_measured_with_a_calibration_that_has_seen_nothing():
    raw, targets = noisy(30)
    _, found = cross_fitted(raw, examples(targets), [False] * 30, sampled=False)
    s, u = Calibration().apply(raw.logits, raw.variances)
    decided = targets != 0.5
    assert found == quality(s[decided].tolist(), u[decided].tolist(), (targets[decided] == 1).tolist())


@pytest.mark.parametrize("prompts", [1, 2, 7, 40])
def test_halves_keep_a_prompts_pairs_together(prompts):
    pairs = [Pair(prompt=f"p{number % prompts}", response_a="a", response_b="b", label="a") for number in range(80)]
    half = halves_by_prompt(pairs, seed=1)
    sides = {
        prompt: {side for pair, side in zip(pairs, half, strict=True) if pair.prompt == prompt} for prompt in {p.prompt for p in pairs}
    }
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {True} for side in sides.values()) == prompts // 2
    assert halves_by_prompt(list(reversed(pairs)), seed=1) == list(reversed(half))
