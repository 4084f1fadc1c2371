"""A trained scorer: exact where it must be, independent of company and order, and loud when it is broken."""

import random

import pytest
import torch
from torch import nn

from judgeflow.errors import ConfigurationError, ScorerError
from judgeflow.model.scorer import SngpScorer, batch_tokens, choose_device
from judgeflow.ports import Scorer
from judgeflow.types import Pair


def rebuilt(scorer: SngpScorer, folder, **kwargs) -> SngpScorer:
    return SngpScorer.load(folder, device="cpu", **kwargs)


def test_it_is_a_scorer(trained):
    assert isinstance(trained[1], Scorer)


def test_swapping_a_pair_negates_its_logit_and_keeps_its_uncertainty_exactly(trained, unseen):
    scorer = trained[1]
    forward, backward = scorer.score(unseen), scorer.score([pair.swapped() for pair in unseen])
    assert [p.logit for p in forward] == [-p.logit for p in backward]
    assert [p.uncertainty for p in forward] == [p.uncertainty for p in backward]
    assert any(p.logit for p in forward)


def test_a_score_does_not_depend_on_batch_order_or_company(trained, unseen):
    folder, scorer, _ = trained
    together = scorer.score(unseen)
    small = rebuilt(scorer, folder, max_batch_tokens=200)
    order = random.Random(0).sample(range(len(unseen)), len(unseen))
    shuffled = small.score([unseen[index] for index in order])
    alone = [small.score([pair])[0] for pair in unseen[:20]]
    for position, index in enumerate(order):
        assert shuffled[position].logit == pytest.approx(together[index].logit, rel=0, abs=1e-5)
        assert shuffled[position].uncertainty == pytest.approx(together[index].uncertainty, rel=0, abs=1e-5)
    assert [p.logit for p in alone] == pytest.approx([p.logit for p in together[:20]], rel=0, abs=1e-5)


def test_identical_responses_are_even(trained):
    (preference,) = trained[1].score([Pair(prompt="a to z, abc", response_a="same", response_b="same")])
    assert preference.logit == 0.0


def test_the_responses_of_a_group_are_read_once_each(trained):
    folder, scorer, _ = trained
    fresh = rebuilt(scorer, folder)
    four = ["one", "two", "three", "four"]
    fresh.score([Pair(prompt="p", response_a=a, response_b=b) for i, a in enumerate(four) for b in four[:i]])
    assert fresh.seen.texts == 4


def test_empty_and_very_long_texts_are_scored_and_cuts_are_counted(trained):
    folder, scorer, _ = trained
    fresh = rebuilt(scorer, folder)
    long = "no end " * 15_000
    scored = fresh.score([Pair(prompt="", response_a="", response_b="b"), Pair(prompt="p", response_a=long, response_b="b")])
    assert len(scored) == 2
    assert fresh.seen.cut_texts == 1
    assert fresh.seen.cut_tokens > 100_000


def test_no_pairs_are_no_preferences(trained):
    assert trained[1].score([]) == []


class NarrowBody(nn.Module):
    """A body that runs out of memory for more than `most` rows, as a GPU would."""

    def __init__(self, body: nn.Module, most: int) -> None:
        super().__init__()
        self.inner, self.config, self.most, self.refused = body, body.config, most, 0

    def forward(self, input_ids, **kwargs):
        if len(input_ids) > self.most:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(input_ids=input_ids, **kwargs)


def test_a_batch_that_does_not_fit_into_memory_is_halved_and_tried_again(trained, unseen):
    folder, scorer, _ = trained
    expected = scorer.score(unseen)
    narrow = rebuilt(scorer, folder)
    body = narrow._network.encoder.body = NarrowBody(narrow._network.encoder.body, most=7)
    found = narrow.score(unseen)
    assert body.refused > 0
    assert [p.logit for p in found] == pytest.approx([p.logit for p in expected], rel=0, abs=1e-5)


def test_a_text_that_does_not_fit_alone_is_the_error_it_is(trained, unseen):
    folder, scorer, _ = trained
    narrow = rebuilt(scorer, folder)
    narrow._network.encoder.body = NarrowBody(narrow._network.encoder.body, most=0)
    with pytest.raises(torch.OutOfMemoryError):
        narrow.score(unseen[:2])


def test_weights_that_went_wrong_in_memory_are_a_scorer_error(trained, unseen):
    folder, scorer, _ = trained
    broken = rebuilt(scorer, folder)
    with torch.no_grad():
        broken._network.heads[0].beta[0] = float("nan")
    with pytest.raises(ScorerError, match="no finite number"):
        broken.score(unseen[:3])


def test_a_score_that_only_double_precision_can_hold_is_a_scorer_error(trained, unseen):
    folder, scorer, _ = trained
    broken = rebuilt(scorer, folder)
    with torch.no_grad():
        broken._network.heads[0].beta.fill_(torch.finfo(torch.float32).max)
    with pytest.raises(ScorerError, match="no finite number"):
        broken.score(unseen[:3])


def test_a_device_that_is_not_here_is_a_clear_error():
    with pytest.raises(ConfigurationError, match="device 'warp' cannot be used here"):
        choose_device("warp")
    assert choose_device("cpu").type == "cpu"


def test_a_dtype_that_does_not_exist_is_a_clear_error(trained):
    with pytest.raises(ConfigurationError, match="dtype is 'float8'; one of auto, float32, bfloat16 is expected"):
        rebuilt(trained[1], trained[0], dtype="float8")


def test_the_batch_size_suits_the_device_unless_it_is_given():
    assert batch_tokens(torch.device("cpu")) == 4096
    assert batch_tokens(torch.device("cuda")) == 65_536
    assert batch_tokens(torch.device("cuda"), 100) == 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_on_a_gpu_single_precision_gives_what_the_cpu_gives(trained, unseen):
    folder, scorer, _ = trained
    there = SngpScorer.load(folder, device="cuda", dtype="float32").score(unseen)
    assert [p.logit for p in there] == pytest.approx([p.logit for p in scorer.score(unseen)], abs=1e-3)


def test_half_precision_is_another_fingerprint_and_nearly_the_same_score(trained, unseen):
    folder, scorer, _ = trained
    half = rebuilt(scorer, folder, dtype="bfloat16")
    assert half.fingerprint != scorer.fingerprint
    agree = sum((a.logit > 0) == (b.logit > 0) for a, b in zip(half.score(unseen), scorer.score(unseen), strict=True))
    assert agree >= 0.9 * len(unseen)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("default")  # of torch's compiler, about itself
def test_a_compiled_body_is_another_fingerprint_and_the_same_score(trained, unseen):
    folder, scorer, _ = trained
    compiled = rebuilt(scorer, folder, compiled=True)
    assert compiled.fingerprint == f"{scorer.fingerprint}-compiled"
    assert [p.logit for p in compiled.score(unseen)] == pytest.approx([p.logit for p in scorer.score(unseen)], rel=1e-4, abs=1e-4)
