"""Rivals are trained on the same pairs, and their costs are counted."""

import math
from dataclasses import replace

import pytest
from sizes import SMALL
from test_kinds import SHORT

from judgeflow.model.rivals import compare_rivals, flops_per_pair
from judgeflow.model.scorer import SngpScorer
from judgeflow.types import Pair

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rivals(tmp_path_factory, learned):
    out = tmp_path_factory.mktemp("rivals")
    told = []
    found = compare_rivals(
        learned[:700], out, model=replace(SMALL, members=3), training=SHORT, device="cpu", progress=lambda *about: told.append(about)
    )
    return out, {rival.kind: rival for rival in found}, told


def test_every_kind_becomes_a_scorer_measured_on_the_same_held_out_pairs(rivals):
    out, found, told = rivals
    assert set(found) == {"sngp", "mc-dropout", "last-layer-laplace", "ensemble", "none"}
    assert len({rival.report.validation.pairs for rival in found.values()}) == 1
    for kind in found:
        SngpScorer.load(out / kind, device="cpu")
    assert any(name == "mc-dropout: training" for name, _, _ in told)


def test_operations_grow_with_the_passes_and_members_and_hardly_with_the_head(rivals):
    plain = rivals[1]["none"].flops
    assert rivals[1]["mc-dropout"].flops == pytest.approx(10 * plain, rel=0.01)
    assert rivals[1]["ensemble"].flops == pytest.approx(3 * plain, rel=0.01)
    assert plain < rivals[1]["last-layer-laplace"].flops < 1.5 * plain
    assert plain < rivals[1]["sngp"].flops < 1.5 * plain
    assert all(math.isfinite(rival.seconds) and rival.seconds > 0 for rival in rivals[1].values())


def test_the_count_is_that_of_the_layers(rivals):
    """Two layers of width 64: projections, attention and feed-forward, two operations for each multiplication."""
    scorer = SngpScorer.load(rivals[0] / "none", device="cpu")
    length, width, inner = 16, 64, 128
    layer = 2 * (4 * length * width * width + 2 * length * length * width + 2 * length * width * inner)
    pooler = 2 * width * width
    pair = Pair(prompt="abcd", response_a="efghijkl", response_b="mnopqrst")  # rows of 15, padded to 16
    assert flops_per_pair(scorer, [pair]) == pytest.approx(2 * (2 * layer + pooler), rel=0.01)
