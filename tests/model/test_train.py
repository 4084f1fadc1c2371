"""Training learns what can be learned, repeats itself, and says what is wrong with the pairs."""

import dataclasses
from dataclasses import replace

import pytest
import torch
from sizes import QUICK, SMALL
from torch import nn
from transformers import MPNetConfig, MPNetModel, T5Config, T5Model

from judgeflow.errors import ConfigurationError, UsageError
from judgeflow.model.data import labelled, split_by_prompt
from judgeflow.model.layout import Layout
from judgeflow.model.network import Network
from judgeflow.model.reading import Reader
from judgeflow.model.scorer import SngpScorer
from judgeflow.model.scratch import character_tokenizer, small_bert
from judgeflow.model.train import train
from judgeflow.model.trainer import Trainer, gather
from judgeflow.types import Pair


def pair(number: int, label="a", one="yes", other="no") -> Pair:
    return Pair(prompt=f"prompt {number}", response_a=f"{one} {number}", response_b=f"{other} {number}", label=label)


def test_it_learns_the_familiar_families_and_reports_what_it_found(trained, learned):
    _, scorer, report = trained
    assert report.validation.accuracy > 0.6
    assert report.validation.ece < 0.15
    assert report.pairs + report.validation_pairs == len(learned)
    assert 0 < report.known_share <= 0.2 + 1e-9
    assert report.steps == round(report.pairs / QUICK.batch)
    assert scorer.device == report.device == "cpu"


def test_unfamiliar_pairs_are_more_uncertain_than_familiar_ones(trained, unseen):
    scored = list(zip(unseen, trained[1].score(unseen), strict=True))
    mean = {}
    for kind in ("familiar", "unfamiliar"):
        values = [preference.uncertainty for pair, preference in scored if pair.metadata["kind"] == kind]
        mean[kind] = sum(values) / len(values)
    assert mean["unfamiliar"] > 1.2 * mean["familiar"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_scorer_and_another_seed_another(tmp_path, learned):
    few = learned[:400]
    names = []
    for number, seed in enumerate((0, 0, 1)):
        scorer, _ = train(few, tmp_path / str(number), model=SMALL, training=replace(QUICK, seed=seed), device="cpu")
        names.append(scorer.fingerprint)
    assert names[0] == names[1] != names[2]


def test_training_leaves_the_callers_randomness_alone(tmp_path, learned):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(learned[:200], tmp_path / "s", model=SMALL, training=QUICK, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_a_frozen_backbone_keeps_its_weights_and_its_head_learns(tmp_path, trained, learned):
    scorer = trained[1]
    body = scorer._network.encoder.body
    body.save_pretrained(tmp_path / "body")
    scorer._reader.layout._tokenizer.save_pretrained(tmp_path / "body")
    before = {name: value.clone() for name, value in body.state_dict().items()}
    frozen = replace(QUICK, backbone_lr=None, epochs=5.0)
    _, report = train(learned[:1500], tmp_path / "s", backbone=str(tmp_path / "body"), model=SMALL, training=frozen, device="cpu")
    after = SngpScorer.load(tmp_path / "s", device="cpu")._network.encoder.body.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert report.validation.accuracy > 0.55


def test_every_prompt_stands_on_one_side_of_the_split():
    pairs = [pair(number % 40) for number in range(200)]
    training, validation = split_by_prompt(pairs, 0.25, seed=3)
    prompts = {p.prompt for p in training}, {p.prompt for p in validation}
    assert not prompts[0] & prompts[1]
    assert len(prompts[1]) == 10
    assert len(training) + len(validation) == 200
    assert split_by_prompt(list(reversed(pairs)), 0.25, seed=3)[1] == list(reversed(validation))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([pair(n, None) for n in range(5)], "none of the 5 pairs has a label"),
        ([pair(n, "tie") for n in range(5)], "all 5 labels are ties"),
        ([pair(n, "a", "same", "same") for n in range(5)], "none of the 5 labels prefers one of two different responses"),
    ],
)
def test_pairs_without_a_preference_are_refused(pairs, message):
    with pytest.raises(UsageError, match=message):
        labelled(pairs)


def test_one_prompt_is_too_few(tmp_path):
    with pytest.raises(UsageError, match="too few"):
        train([pair(1), pair(1)], tmp_path / "s", model=SMALL, training=QUICK, device="cpu")


@pytest.mark.slow
def test_it_does_not_matter_which_response_stands_first_in_a_record(tmp_path, learned):
    """Chosen-and-rejected data always name the same one: the network is odd, so there is nothing to learn from that."""
    chosen_first = [p if p.label == "a" else p.swapped() for p in learned[:1500]]
    assert {p.label for p in chosen_first} == {"a"}
    scorer, report = train(chosen_first, tmp_path / "s", model=SMALL, training=QUICK, device="cpu")
    scored = scorer.score([p.swapped() for p in chosen_first[:200]])
    assert sum(p.logit < 0 for p in scored) > 110
    assert dataclasses.asdict(report)["validation"]["pairs"] == report.validation_pairs


def test_ties_pull_towards_zero(tmp_path, learned):
    ties = [replace(p, label="tie") for p in learned[:600]]
    scorer, report = train([*ties, *learned[600:700]], tmp_path / "s", model=SMALL, training=QUICK, device="cpu")
    assert report.ties == 600
    assert sum(abs(p.logit) for p in scorer.score(ties[:100])) / 100 < 0.7


def test_a_run_that_diverges_says_so(tmp_path, learned):
    with pytest.raises(UsageError, match="training diverged"):
        train(learned[:400], tmp_path / "s", model=SMALL, training=replace(QUICK, lr=1e30, clip=1e30, backbone_lr=1e30), device="cpu")
    assert not (tmp_path / "s").exists()


def test_progress_tells_what_is_going_on(tmp_path, learned):
    told: list[tuple[str, int, int]] = []
    train(learned[:300], tmp_path / "s", model=SMALL, training=QUICK, device="cpu", progress=lambda *about: told.append(about))
    assert list(dict.fromkeys(name for name, _, _ in told)) == ["training", "reading", "measuring"]
    assert all(done <= total for _, done, total in told)


def saved_backbone(folder, body):
    tokenizer = character_tokenizer(["abcdefghijklmnopqrstuvwxyz0123456789 +=?:<>[](){},"], 64)
    body.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_positions_that_begin_behind_the_padding_row_are_counted_as_the_body_counts_them(tmp_path, learned):
    config = MPNetConfig(vocab_size=120, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.max_position_embeddings = 34
    source = saved_backbone(tmp_path / "body", MPNetModel(config))
    scorer, _ = train(learned[:200], tmp_path / "s", backbone=source, model=SMALL, training=QUICK, device="cpu")
    assert scorer._reader.layout.longest().ids.buffer_info()[1] == 32


def test_a_backbone_that_is_no_encoder_is_told_before_training(tmp_path, learned):
    config = T5Config(vocab_size=120, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    source = saved_backbone(tmp_path / "body", T5Model(config))
    with pytest.raises(ConfigurationError, match="t5 is an encoder-decoder"):
        train(learned[:200], tmp_path / "s", backbone=source, model=SMALL, training=QUICK, device="cpu")


class SmallMemory(nn.Module):
    """A body on a machine that cannot hold the activations of a step."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.inner, self.config = body, body.config

    def forward(self, **inputs):
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(**inputs)


def test_a_training_step_that_does_not_fit_into_memory_says_what_to_change(learned):
    tokenizer = character_tokenizer(["abc"], 48)
    layout = Layout(tokenizer, 48)
    network = Network([SmallMemory(small_bert(len(tokenizer), 48))], layout.padding, SMALL)
    with pytest.raises(UsageError, match="smaller --batch or --max-tokens"):
        Trainer(network, QUICK, 4096).run(gather(learned[:200], Reader(layout, SMALL), SMALL, QUICK))
