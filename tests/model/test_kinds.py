"""Every kind of scorer keeps what a scorer promises: exact symmetry, independence of company, and itself on disk."""

from dataclasses import replace

import pytest
from sizes import QUICK, SMALL

from judgeflow.model.scorer import SngpScorer
from judgeflow.model.train import train

SHORT = replace(QUICK, epochs=0.5)
KINDS = {
    "concat": {"encoder": "concat", "max_tokens": 96},
    "surface": {"surface": True},
    "concat-surface": {"encoder": "concat", "max_tokens": 96, "surface": True},
    "relative": {"evidence": "relative"},
    "fisher": {"weights": "fisher"},
    "mc-dropout": {"uncertainty": "mc-dropout", "passes": 3},
    "laplace": {"uncertainty": "last-layer-laplace"},
    "ensemble": {"uncertainty": "ensemble", "members": 2},
    "none": {"uncertainty": "none"},
}


EVERY_TIME = {"concat", "mc-dropout", "ensemble"}


@pytest.fixture(scope="module", params=[pytest.param(kind, marks=() if kind in EVERY_TIME else pytest.mark.slow) for kind in KINDS])
def made(request, tmp_path_factory, learned):
    folder = tmp_path_factory.mktemp("kind") / request.param
    return request.param, folder, *train(learned[:900], folder, model=replace(SMALL, **KINDS[request.param]), training=SHORT, device="cpu")


def test_swapping_a_pair_negates_its_logit_and_keeps_its_uncertainty_exactly(made, unseen):
    _, _, scorer, _ = made
    forward, backward = scorer.score(unseen), scorer.score([pair.swapped() for pair in unseen])
    assert [p.logit for p in forward] == [-p.logit for p in backward]
    assert [p.uncertainty for p in forward] == [p.uncertainty for p in backward]
    assert len({p.logit for p in forward}) > len(unseen) / 2


def test_a_loaded_scorer_is_the_trained_one_in_any_company(made, unseen):
    _, folder, scorer, _ = made
    loaded = SngpScorer.load(folder, device="cpu", max_batch_tokens=300)
    assert loaded.fingerprint == scorer.fingerprint
    expected = scorer.score(unseen)
    for size in (1, 7):
        found = loaded.score(unseen[:size])
        assert [p.logit for p in found] == pytest.approx([p.logit for p in expected[:size]], rel=0, abs=1e-5)
        assert [p.uncertainty for p in found] == pytest.approx([p.uncertainty for p in expected[:size]], rel=0, abs=1e-5)


def test_its_uncertainty_says_something_where_it_has_one(made, unseen):
    kind, _, scorer, report = made
    spread = {round(p.uncertainty, 4) for p in scorer.score(unseen)}
    assert spread == {1.0} if kind == "none" else len(spread) > len(unseen) / 4
    assert (report.known_share is None) == (kind in {"mc-dropout", "ensemble", "none"})


def test_texts_are_read_as_often_as_the_kind_says(made, unseen):
    kind, folder, _, _ = made
    fresh = SngpScorer.load(folder, device="cpu")
    four = ["one", "two", "three", "four"]
    fresh.score([replace(unseen[0], response_a=a, response_b=b) for i, a in enumerate(four) for b in four[:i]])
    assert fresh.seen.texts == (12 if kind.startswith("concat") else 4)
