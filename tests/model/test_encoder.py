"""Hidden states become embeddings: nothing that stands beside a row changes them, and every family of bodies can be read."""

import pytest
import torch
from backbones import FAMILIES, TOKENIZER, save

from judgeflow.model.backbone import load_backbone, merge_lora, with_lora
from judgeflow.model.encoder import Encoder, default_pooling, is_decoder
from judgeflow.model.layout import Layout

TEXTS = [("why", ("so",)), ("a long question, and more", ("b" * 90,)), ("", ("",)), ("w", ("abc def",))]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """(name, body, tokenizer) of a small random model that was saved and loaded."""
    folder = save(request.param, tmp_path_factory.mktemp("backbone"))
    return (request.param, *load_backbone(str(folder)))


def embedded(body, tokenizer, texts, pooling=None):
    layout = Layout(tokenizer, 64)
    encoder = Encoder(body.eval(), layout.padding, pooling or default_pooling(body))
    with torch.inference_mode():
        return encoder(layout.rows(texts))


def test_an_embedding_does_not_depend_on_its_company(family):
    _, body, tokenizer = family
    together = embedded(body, tokenizer, TEXTS)
    alone = torch.cat([embedded(body, tokenizer, [text]) for text in TEXTS])
    assert together.shape == (4, 32)
    assert torch.allclose(together, alone, atol=1e-5)


def test_texts_that_differ_have_embeddings_that_differ(family):
    _, body, tokenizer = family
    first, second = embedded(body, tokenizer, [("q", ("yes",)), ("q", ("no",))])
    assert float((first - second).abs().max()) > 1e-3


def test_decoders_are_told_from_encoders(family):
    name, body, _ = family
    decoder = name in {"llama", "qwen2", "gemma", "gpt2", "llama-reward"}
    assert is_decoder(body) is decoder
    assert default_pooling(body) == ("last" if decoder else "mean")


def test_the_side_on_which_a_tokenizer_would_pad_does_not_matter(family):
    _, body, tokenizer = family
    expected = embedded(body, tokenizer, TEXTS)
    side = tokenizer.padding_side
    tokenizer.padding_side = "left" if side == "right" else "right"
    try:
        assert torch.equal(embedded(body, tokenizer, TEXTS), expected)
    finally:
        tokenizer.padding_side = side


def test_the_last_tokens_state_is_that_of_the_last_token_and_not_of_padding(family):
    _, body, tokenizer = family
    layout = Layout(tokenizer, 64)
    (row,) = layout.rows([("why", ("so",))])
    encoder = Encoder(body.eval(), layout.padding, "last")
    with torch.inference_mode():
        ids = torch.tensor([list(row.ids)])
        types = torch.zeros_like(ids)
        types[0, row.prompt :] = 1
        typed = {"token_type_ids": types} if encoder._typed else {}
        hidden = body(input_ids=ids, **typed).last_hidden_state[0, -1]
        assert torch.allclose(encoder([row])[0], hidden, atol=1e-5)


def test_the_first_tokens_state_can_be_the_embedding():
    torch.manual_seed(0)
    body = FAMILIES["bert"]()
    mean, first = (embedded(body, TOKENIZER, TEXTS, pooling) for pooling in ("mean", "first"))
    assert not torch.allclose(mean, first, atol=1e-3)


def test_adapters_alone_are_trained_and_fold_into_the_weights(family):
    _, body, tokenizer = family
    before = embedded(body, tokenizer, TEXTS)
    kind, names = type(body), {name for name, _ in body.named_parameters()}
    with_lora(body, rank=2)
    trained = [parameter for parameter in body.parameters() if parameter.requires_grad]
    assert 0 < sum(p.numel() for p in trained) < sum(p.numel() for p in body.parameters()) / 2
    assert torch.allclose(embedded(body, tokenizer, TEXTS), before, atol=1e-6)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.05 * torch.randn_like(parameter))
    adapted = embedded(body, tokenizer, TEXTS)
    assert not torch.allclose(adapted, before, atol=1e-4)
    assert merge_lora(body) is body
    assert torch.allclose(embedded(body, tokenizer, TEXTS), adapted, atol=1e-4)
    assert type(body) is kind
    assert {name for name, _ in body.named_parameters()} == names
    assert all(parameter.requires_grad for parameter in body.parameters())
