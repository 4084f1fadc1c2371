"""What a remembering network says is what an ordinary one says; it only reads less."""

import pytest
import torch

from benchmarks.remembering import RememberingNetwork, RememberingReader
from judgeflow.model.config import ModelConfig
from judgeflow.model.layout import Layout
from judgeflow.model.network import Network
from judgeflow.model.reading import Reader
from judgeflow.model.scratch import character_tokenizer, small_bert

TEXTS = [("ask", ("one",)), ("ask", ("another",)), ("demand", ("one",))]


@pytest.fixture
def layout():
    return Layout(character_tokenizer(["abcdefghijklmnopqrstuvwxyz"], 32), 32)


def make(layout, kind):
    config = ModelConfig(uncertainty=kind, max_tokens=32, features=64, projection=8, surface=True)
    torch.manual_seed(0)
    body = small_bert(40, 32)
    torch.manual_seed(1)
    network = Network([body], layout.padding, config).eval()
    torch.manual_seed(1)
    remembering = RememberingNetwork(body, layout.padding, config, {}).eval()
    return Reader(layout, config), network, RememberingReader(layout, config), remembering


@pytest.mark.parametrize("kind", ["sngp", "mc-dropout"])
def test_it_embeds_as_an_ordinary_network_does(layout, kind):
    reader, network, remembering_reader, remembering = make(layout, kind)
    expected = network.embed(reader.read(TEXTS), 1000)
    remembering.embed(remembering_reader.read(TEXTS[:2]), 1000)
    found = remembering.embed(remembering_reader.read(TEXTS), 1000)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_no_text_passes_the_body_twice(layout):
    _, _, reader, network = make(layout, "sngp")
    rows = []
    network.encoder.body.register_forward_hook(lambda _module, _arguments, given: rows.append(len(given.last_hidden_state)))
    network.embed(reader.read(TEXTS[:2]), 1000)
    network.embed(reader.read(TEXTS), 1000)
    network.embed_plain(reader.read(TEXTS), 1000)
    assert sum(rows) == len(TEXTS)
