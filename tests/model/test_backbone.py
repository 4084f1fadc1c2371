"""Backbones are loaded whole, or named with what is wrong with them."""

import logging
import sys

import pytest
import torch
import transformers
from backbones import FAMILIES, TOKENIZER, chat_tokenizer, save, small_bert

from judgeflow.errors import ConfigurationError
from judgeflow.model.backbone import load_backbone, merge_lora, with_lora
from judgeflow.model.encoder import Encoder
from judgeflow.model.layout import Layout


def test_a_backbone_without_a_config_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigurationError, match=r"has no config\.json"):
        load_backbone(str(tmp_path))


def test_a_tokenizer_that_knows_more_tokens_than_the_model_is_refused(tmp_path):
    small_bert(8, 64).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="do not belong together"):
        load_backbone(str(tmp_path))


def test_a_name_that_is_neither_a_folder_nor_on_the_hub_is_a_clear_error():
    with pytest.raises(ConfigurationError, match="no such model: cannot be loaded as a transformers model"):
        load_backbone("no such model")


@pytest.mark.parametrize("path", ["./no-such-model", "/no/such/model", "models/no/such"])
def test_a_folder_that_is_not_there_is_said_to_be_none(path):
    with pytest.raises(ConfigurationError, match=f"{path}: there is no such folder"):
        load_backbone(path)


def test_weights_that_are_no_numbers_name_the_tensor(tmp_path):
    body = small_bert(len(TOKENIZER), 64, layers=1)
    with torch.no_grad():
        body.embeddings.word_embeddings.weight[3, 2] = float("nan")
    body.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=r"its embeddings\.word_embeddings\.weight holds NaN"):
        load_backbone(str(tmp_path))


def backbone(folder, layers=1):
    small_bert(len(TOKENIZER), 64, layers=layers).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def test_weights_that_are_cut_off_are_told(tmp_path):
    weights = backbone(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match="cannot be loaded as a transformers model"):
        load_backbone(str(tmp_path))


def test_weights_that_do_not_fill_the_model_are_told_instead_of_made_up(tmp_path):
    config = (backbone(tmp_path) / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"num_hidden_layers": 1', '"num_hidden_layers": 3'))
    with pytest.raises(ConfigurationError, match=r"its weights lack encoder\.layer\.1\."):
        load_backbone(str(tmp_path))


def test_a_backbone_without_its_tokenizer_is_told(tmp_path):
    small_bert(len(TOKENIZER), 64).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="tokenizer"):
        load_backbone(str(tmp_path))


def test_a_whole_backbone_is_loaded(tmp_path):
    body, tokenizer = load_backbone(str(backbone(tmp_path)))
    assert body.config.num_hidden_layers == 1
    assert len(tokenizer) == len(TOKENIZER)


@pytest.mark.parametrize("name", ["bert-reward", "llama-reward"])
def test_of_a_reward_model_the_body_is_taken_with_its_weights_and_nothing_is_said_about_its_head(tmp_path, caplog, monkeypatch, name):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    torch.manual_seed(0)
    reward = FAMILIES[name]()
    reward.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    caplog.clear()
    body, _ = load_backbone(str(tmp_path))
    assert caplog.text == ""
    assert type(body) is type(reward.base_model)
    expected = reward.base_model.state_dict()
    assert body.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in body.state_dict().items())


def test_a_reward_model_that_lacks_weights_of_its_body_is_told(tmp_path):
    config = (save("bert-reward", tmp_path) / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(ConfigurationError, match=r"its weights lack encoder\.layer\.2\."):
        load_backbone(str(tmp_path))


def test_a_body_whose_tokenizer_has_no_padding_is_read(tmp_path):
    tokenizer = chat_tokenizer()
    body, loaded = load_backbone(str(save("llama", tmp_path, tokenizer)))
    layout = Layout(loaded, 64)
    assert loaded.pad_token_id is None
    assert Encoder(body, layout.padding, "last")(layout.rows([("why", ("so",)), ("a", ("longer",))])).isfinite().all()


@pytest.mark.parametrize(("rank", "alpha", "dropout"), [(0, None, 0.0), (2, 0.0, 0.0), (2, None, 1.0)])
def test_adapters_that_could_not_learn_are_refused(rank, alpha, dropout):
    with pytest.raises(ConfigurationError, match="rank of at least 1"):
        with_lora(FAMILIES["llama"](), rank, alpha=alpha, dropout=dropout)


@pytest.mark.parametrize("alpha", [0.5, 3.0])
def test_adapters_are_scaled_by_alpha_over_rank(alpha):
    torch.manual_seed(0)
    body = FAMILIES["llama"]()
    layer = with_lora(body, 2, alpha=alpha).layers[0].mlp.up_proj
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    before = layer.get_base_layer().weight.detach().clone()
    product = layer.lora_B["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
    merge_lora(body)
    assert torch.allclose(body.layers[0].mlp.up_proj.weight, before + alpha / 2 * product, atol=1e-6)


def test_every_adapter_has_a_part_in_the_last_hidden_states():
    body = with_lora(FAMILIES["bert"](), 2)
    body(input_ids=torch.ones(1, 4, dtype=torch.long)).last_hidden_state.sum().backward()
    assert all(parameter.grad is not None for parameter in body.parameters() if parameter.requires_grad)


def test_without_peft_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigurationError, match=r'pip install "judgeflow\[lora\]"'):
        with_lora(FAMILIES["llama"](), 2)


def test_an_encoder_decoder_is_told(tmp_path):
    config = transformers.T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5Model(config).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="t5 is an encoder-decoder; name an encoder or a decoder"):
        load_backbone(str(tmp_path))
