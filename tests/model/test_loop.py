"""The loop: gradients without and with micro-batches, schedules, the early stop, and what it tells."""

import copy
from dataclasses import replace

import pytest
import torch
from sizes import QUICK, SMALL
from torch import nn

from judgeflow.errors import ConfigurationError, UsageError
from judgeflow.model import texts
from judgeflow.model.config import TrainingConfig
from judgeflow.model.layout import Layout
from judgeflow.model.loop import Descent, Lesson, schedule_factor
from judgeflow.model.network import Network
from judgeflow.model.reading import Reader
from judgeflow.model.resume import Keeper
from judgeflow.model.scratch import character_tokenizer, small_bert
from judgeflow.model.texts import TrainedTexts, prepare_bodies
from judgeflow.model.trainer import Trainer, gather
from judgeflow.model.watch import Watch

TOKENIZER = character_tokenizer(["abcdefghijklmnopqrstuvwxyz0123456789 +=?:<>[](){},"], 48)
MOST_TOKENS = 4096


def small_network(**shape) -> Network:
    torch.manual_seed(0)
    return Network([small_bert(len(TOKENIZER), 48)], Layout(TOKENIZER, 48).padding, replace(SMALL, **shape))


def material(pairs, settings=QUICK):
    return gather(pairs, Reader(Layout(TOKENIZER, 48), SMALL), SMALL, settings)


def gradients(network, settings, found) -> dict[str, torch.Tensor]:
    """The gradient of one batch, in a copy of `network`."""
    network = copy.deepcopy(network).train()
    read = TrainedTexts(network, found.reading, 0, settings, MOST_TOKENS)
    descent = Descent(network, settings, Lesson(0, found.known, found.new, read), Watch(), Keeper(None, "", 0.0))
    batch = found.known.part(slice(20))
    chosen, places = torch.cat([batch.first, batch.second]).unique(return_inverse=True)
    descent.loss(batch, chosen, places).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.fixture(scope="module")
def warm(learned):
    """(network, material): a network that has learned a little, so that no gradient is zero."""
    network, found = small_network(), material(learned[:200])
    Trainer(network, replace(QUICK, batch=16), MOST_TOKENS).fit(found)
    return network, found


@pytest.mark.parametrize("micro", [1, 3, 7, 500])
def test_micro_batches_give_the_gradient_of_the_whole_batch(warm, micro):
    network, found = warm
    whole = gradients(network, QUICK, found)
    parts = gradients(network, replace(QUICK, micro_batch=micro), found)
    assert whole.keys() == parts.keys()
    assert any(name.startswith("encoders.") for name in whole)
    largest = max(float(expected.norm()) for expected in whole.values())  # some are 0 but for rounding: that of a key's bias
    for name, expected in whole.items():
        assert torch.allclose(parts[name], expected, rtol=1e-5, atol=1e-5 * largest), name


def test_a_part_that_is_read_again_has_the_same_dropout(warm, monkeypatch):
    _, found = warm
    torch.manual_seed(0)
    network = Network([small_bert(len(TOKENIZER), 48, dropout=0.3)], 0, replace(SMALL, uncertainty="mc-dropout", dropout=0.3)).train()
    reading_twice, reading_once = [], []
    for found_gradients in (reading_twice, reading_once):
        torch.manual_seed(1)
        network.zero_grad()
        embeddings = TrainedTexts(network, found.reading, 0, replace(QUICK, micro_batch=3), MOST_TOKENS).embed(torch.arange(20))
        embeddings.square().sum().backward()
        found_gradients += [parameter.grad for parameter in network.encoder.parameters() if parameter.grad is not None]
        monkeypatch.setattr(texts, "checkpoint", lambda read, chosen, use_reentrant: read(chosen))
    assert reading_twice
    assert all(torch.equal(one, other) for one, other in zip(reading_twice, reading_once, strict=True))


def test_a_loss_that_is_no_number_is_told(warm):
    network, found = warm
    table = torch.full((len(found.reading), network.encoder.width), float("nan"))
    with pytest.raises(UsageError, match="training diverged: the loss of step 1 is nan; try a smaller --lr"):
        Trainer(copy.deepcopy(network), replace(QUICK, backbone_lr=None), MOST_TOKENS).fit(found, table=table)


def test_micro_batches_keep_the_activations_of_one_part_only(warm):
    network, found = warm
    kept = []
    for settings in (QUICK, replace(QUICK, micro_batch=2)):
        parts = TrainedTexts(network.train(), found.reading, 0, settings, MOST_TOKENS)
        sizes: list[int] = []

        def pack(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            parts.embed(torch.arange(40))
        kept.append(sum(sizes))
    network.eval()
    assert kept[1] < 0.1 * kept[0]


def test_gradient_checkpointing_gives_the_same_gradient(warm):
    network, found = warm
    whole = gradients(network, QUICK, found)
    settings = replace(QUICK, gradient_checkpointing=True)
    other = copy.deepcopy(network)
    prepare_bodies(other, settings)
    assert other.encoder.body.is_activation_checkpointing
    again = gradients(other, settings, found)
    assert all(torch.allclose(again[name], expected, rtol=1e-4, atol=1e-7) for name, expected in whole.items())


def test_training_leaves_a_body_without_gradient_checkpointing(learned):
    network = small_network()
    Trainer(network, replace(QUICK, gradient_checkpointing=True), MOST_TOKENS).fit(material(learned[:200]))
    assert not network.encoder.body.is_activation_checkpointing


def test_a_body_without_gradient_checkpointing_says_so():
    network = small_network()
    network.encoder.body = nn.Linear(2, 2)
    with pytest.raises(ConfigurationError, match="a Linear has none; train without it, or with --micro-batch"):
        prepare_bodies(network, replace(QUICK, gradient_checkpointing=True))


def test_learning_rates_rise_and_then_fall_as_the_schedule_says():
    factors = {name: [schedule_factor(name, step, warm=2, total=10) for step in range(10)] for name in ("cosine", "linear", "constant")}
    assert all(values[:3] == [0.5, 1.0, 1.0] for values in factors.values())
    assert factors["constant"][3:] == [1.0] * 7
    assert factors["linear"][6] == pytest.approx(0.5)
    assert factors["cosine"][6] == pytest.approx(0.5)
    assert factors["cosine"][3] > factors["linear"][3] > factors["linear"][9] > factors["cosine"][9] > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "steep"}, "schedule is 'steep'; one of cosine, linear, constant is expected"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"patience": 0}, "patience is 0; a positive number is expected"),
        ({"micro_batch": 8}, "micro_batch is for a body that is trained"),
        ({"lora_rank": 8}, "lora_rank is for a body that is trained"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing is for a body that is trained"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**values)


def records_of(settings, pairs):
    """(records, network) of one run with a trained body."""
    records: list[dict] = []
    network = small_network()
    Trainer(network, settings, MOST_TOKENS, watch=Watch(observe=lambda record: records.append(dict(record)))).fit(material(pairs, settings))
    return records, network


def test_every_step_tells_its_loss_rate_gradient_and_tokens(learned):
    records, _ = records_of(replace(QUICK, batch=32), learned[:200])
    steps = [record for record in records if record["event"] == "step"]
    assert [record["step"] for record in steps] == list(range(1, len(steps) + 1))
    assert all(record["gradient_norm"] > 0 and record["tokens"] > record["pairs"] > 0 and record["seconds"] > 0 for record in steps)
    assert max(record["lr"] for record in steps) == QUICK.backbone_lr
    assert steps[0]["loss"] == pytest.approx(0.693, abs=0.01)
    assert not [record for record in records if record["event"] == "evaluation"]


def test_training_stops_when_held_out_pairs_get_no_better(learned):
    """Labels that are noise: what is learned of the training pairs makes the held-out ones worse."""
    noise = [replace(pair, label="a" if hash_bit(pair.prompt) else "b") for pair in learned[:120]]
    settings = replace(
        QUICK, batch=8, epochs=20.0, patience=2, evaluate_every=5, schedule="constant", warmup=1e-6, lr=3e-2, validation_share=0.3
    )
    records, network = records_of(settings, noise)
    losses = [record["loss"] for record in records if record["event"] == "evaluation"]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 2
    assert len([record for record in records if record["event"] == "step"]) == 5 * len(losses) < 20 * 84 // 8
    shorter = replace(settings, patience=None, evaluate_every=None, epochs=5 * (best + 1) * 8 / 84)
    _, expected = records_of(shorter, noise)
    assert torch.equal(network.heads[0].beta, expected.heads[0].beta)
    assert all(torch.equal(one, other) for one, other in zip(network.encoder.parameters(), expected.encoder.parameters(), strict=True))


def hash_bit(prompt: str) -> bool:
    return sum(map(ord, prompt)) % 2 == 0


def test_evaluating_changes_nothing(learned):
    _, watched = records_of(replace(QUICK, batch=32, evaluate_every=2), learned[:200])
    _, alone = records_of(replace(QUICK, batch=32), learned[:200])
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in watched.state_dict().items())


def test_a_trained_body_can_compute_in_half_precision(learned):
    records, network = records_of(replace(QUICK, dtype="bfloat16"), learned[:300])
    _, exact = records_of(QUICK, learned[:300])
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert records[-1]["loss"] < 0.75
    assert not torch.equal(network.heads[0].beta, exact.heads[0].beta)
