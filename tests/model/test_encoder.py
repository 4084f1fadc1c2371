"""Texts become rows of tokens without losing a whole response, and batches without changing anything."""

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.errors import ConfigurationError
from judgeflow.model.encoder import Layout, TokenRow, batches, load_backbone, padded_length
from judgeflow.model.scratch import character_tokenizer, small_bert
from judgeflow.types import as_prompt

TOKENIZER = character_tokenizer(["abcdefghijklmnopqrstuvwxyz :\n"], 64)


def row(prompt: str, response: str, most: int = 64) -> tuple[str, TokenRow]:
    made = Layout(TOKENIZER, most).rows([(prompt, response)])[0]
    return "".join(TOKENIZER.convert_ids_to_tokens(list(made.ids))), made


def test_a_row_is_prompt_and_response_between_special_tokens():
    text, made = row("how", "so")
    assert text == "[CLS]how[SEP]so[SEP]"
    assert made.prompt == 5
    assert made.cut == 0


def test_a_long_prompt_loses_its_beginning():
    text, made = row("x" * 100 + "end", "so", most=24)
    assert text == "[CLS]" + "x" * 16 + "end[SEP]so[SEP]"
    assert made.cut == 84


def test_a_long_response_loses_its_middle_and_keeps_two_thirds_of_the_room():
    text, made = row("q" * 50, "a" * 200 + "z" * 200, most=33)
    assert text == "[CLS]" + "q" * 10 + "[SEP]" + "a" * 10 + "z" * 10 + "[SEP]"
    assert len(made) == 33
    assert made.cut == 50 + 400 - 30


@given(st.text("abc", max_size=80), st.text("abc", max_size=80), st.integers(19, 64))
def test_no_row_is_longer_than_allowed_and_every_response_is_in_its_row(prompt, response, most):
    _, made = row(prompt, response, most)
    assert len(made) <= most
    assert len(made) + made.cut == len(prompt) + len(response) + 3
    assert len(made) - made.prompt >= 1 + min(len(response), int((most - 3) * 2 / 3))


def test_empty_texts_are_rows_too():
    text, made = row("", "")
    assert text == "[CLS][SEP][SEP]"
    assert made.cut == 0


def test_a_hundred_thousand_tokens_are_cut_to_what_fits():
    _, made = row("why", "word " * 20_000)
    assert len(made) == 64
    assert made.cut == 3 + 100_000 - 61


def test_text_that_looks_like_special_tokens_stays_text():
    _, made = row("a", "[SEP][CLS]")
    assert sum(index in {TOKENIZER.sep_token_id, TOKENIZER.cls_token_id} for index in made.ids) == 3


def test_chat_prompts_are_read_with_their_roles():
    chat = as_prompt([{"role": "user", "content": "hi"}, {"role": "bot", "content": "yo"}])
    made = Layout(TOKENIZER, 64).rows([(chat, "ok")])[0]
    assert "".join(TOKENIZER.convert_ids_to_tokens(list(made.ids))) == "[CLS]user: hi\nbot: yo[SEP]ok[SEP]"


def test_a_room_that_holds_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="at least 19"):
        Layout(TOKENIZER, 18)


lengths = st.lists(st.integers(1, 400), max_size=60)


@given(lengths, st.integers(1, 2000))
def test_batches_hold_every_row_once_in_one_padded_length_each_within_their_tokens(sizes, most):
    rows = [TokenRow(array("q", [1] * size), 1, 0) for size in sizes]
    made = list(batches(rows, most))
    assert sorted(index for batch in made for index in batch) == list(range(len(rows)))
    for batch in made:
        padded = {padded_length(sizes[index]) for index in batch}
        assert len(padded) == 1
        assert len(batch) == 1 or padded.pop() * len(batch) <= most
    firsts = [padded_length(sizes[batch[0]]) for batch in made]
    assert firsts == sorted(firsts, reverse=True)


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
