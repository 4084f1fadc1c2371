"""Backbones are loaded whole, or named with what is wrong with them."""

import pytest
import transformers
from backbones import TOKENIZER, save, small_bert

from judgeflow.errors import ConfigurationError
from judgeflow.model.backbone import load_backbone


def test_a_backbone_without_a_config_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigurationError, match=r"has no config\.json"):
        load_backbone(str(tmp_path))


def test_a_tokenizer_that_knows_more_tokens_than_the_model_is_refused(tmp_path):
    small_bert(8, 64).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="do not belong together"):
        load_backbone(str(tmp_path))


def test_a_name_that_is_neither_a_folder_nor_on_the_hub_is_a_clear_error():
    with pytest.raises(ConfigurationError, match="no/such/model/anywhere: cannot be loaded as a transformers model"):
        load_backbone("no/such/model/anywhere")


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
def test_of_a_reward_model_the_body_is_taken(tmp_path, name):
    body, _ = load_backbone(str(save(name, tmp_path)))
    assert type(body).__name__ in {"BertModel", "LlamaModel"}


def test_an_encoder_decoder_is_told(tmp_path):
    config = transformers.T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5Model(config).save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="t5 is an encoder-decoder; name an encoder or a decoder"):
        load_backbone(str(tmp_path))
