"""What the pacing case compares: runs on paper that cost milliseconds."""

import numpy as np
import pytest

from benchmarks.cases import pacing


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    for name, value in {"STEPS": 40, "PAIRS": 60, "CAP": 15}.items():
        monkeypatch.setattr(pacing, name, value)


@pytest.mark.parametrize("kind", pacing.KINDS)
def test_nobody_judges_more_than_hindsight_and_nobody_overspends(kind):
    found = pacing.captured(kind, 3)
    assert all(found[name] <= 1.0 for name in pacing.CONTENDERS)
    assert found["equal share"] > 0.5
    assert found["overspend"] == 0.0
    assert found["unspent"] < 0.02


def test_hindsight_takes_the_highest_pairs_that_the_steps_can_ask_about():
    q = np.array([[0.5, 0.4, 0.3, 0.2, 0.1]] * 2 + [[0.05] * 5] * 2)
    pacing.CAP, pacing.BUDGET_SHARE, before = 2, 0.3, pacing.BUDGET_SHARE
    try:
        assert pacing.stock(q) == 6
        assert pacing.hindsight(q) == pytest.approx(2 * 0.9 + 2 * 0.05)
        assert pacing.equal_share(q) == pytest.approx(0.5 + 0.5 + 2 * 0.05 + 2 * 0.05)
    finally:
        pacing.BUDGET_SHARE = before


def test_runs_of_one_kind_and_seed_are_the_same_and_differ_from_others():
    one = pacing.acquisitions("bursty", 1)
    assert one.shape == (40, 60)
    assert (one == pacing.acquisitions("bursty", 1)).all()
    assert not (one == pacing.acquisitions("bursty", 2)).all()
    assert (np.diff(one, axis=1) <= 0).all()
