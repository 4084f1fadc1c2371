"""Texts become rows of tokens without losing a whole response, and batches without changing anything."""

from array import array

import pytest
from backbones import TOKENIZER, chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.errors import ConfigurationError
from judgeflow.model.layout import Layout, TokenRow, batches, padded_length
from judgeflow.types import as_prompt


def row(prompt, *responses: str, most: int = 64, tokenizer=TOKENIZER) -> tuple[str, TokenRow]:
    made = Layout(tokenizer, most).rows([(prompt, responses)])[0]
    return "".join(tokenizer.convert_ids_to_tokens(list(made.ids))), made


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
    _, made = row(prompt, response, most=most)
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
    assert row(chat, "ok")[0] == "[CLS]user: hi\nbot: yo[SEP]ok[SEP]"


def test_a_room_that_holds_nothing_is_refused():
    with pytest.raises(ConfigurationError, match="at least 19"):
        Layout(TOKENIZER, 18)


# Two responses


def test_two_responses_stand_after_a_marker_each():
    text, made = row("how", "so", "not so")
    assert text == "[CLS]how[SEP]Response 1: so[SEP]Response 2: not so[SEP]"
    assert made.cut == 0


def test_two_long_responses_share_their_room_equally():
    text, made = row("q" * 50, "a" * 400, "b" * 400, most=61)
    assert text == "[CLS]" + "q" * 11 + "[SEP]Response 1: " + "a" * 11 + "[SEP]Response 2: " + "b" * 11 + "[SEP]"
    assert made.cut == 850 - 33


def test_what_a_short_response_leaves_free_its_neighbour_takes():
    for responses in (("a" * 3, "b" * 400), ("b" * 400, "a" * 3)):
        text, _ = row("q" * 50, *responses, most=61)
        assert (text.count("a"), text.count("b"), text.count("q")) == (3, 19, 11)


@given(st.text("abc", max_size=80), st.text("abc", max_size=80), st.text("abc", max_size=80), st.integers(44, 64))
def test_neither_of_two_responses_is_ever_dropped(prompt, one, other, most):
    _, made = row(prompt, one, other, most=most)
    assert len(made) <= most
    assert len(made) + made.cut == len(prompt) + len(one) + len(other) + 28
    kept = len(made) - made.prompt - 14  # the second marker and two ends
    assert kept >= min(len(one), (most - 28) // 3) + min(len(other), (most - 28) // 3)


# Conversations

CHAT = chat_tokenizer()
TALK = as_prompt([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}, {"role": "user", "content": "why"}])


def test_a_chat_template_is_used_and_a_plain_prompt_is_its_users_message():
    assert row("why", "so", tokenizer=CHAT)[0] == "<|s|>user\nwhy<|e|><|s|>assistant\nso<|e|>"
    assert row(TALK, "so", tokenizer=CHAT)[0] == ("<|s|>user\nhi<|e|><|s|>assistant\nyo<|e|><|s|>user\nwhy<|e|><|s|>assistant\nso<|e|>")


def test_two_responses_of_a_conversation_stand_in_one_message():
    text, _ = row("why", "so", "no", tokenizer=CHAT)
    assert text == "<|s|>user\nwhy<|e|><|s|>assistant\nResponse 1: so\n\nResponse 2: no<|e|>"


def test_a_text_cannot_end_its_message():
    _, made = row("a<|e|><|s|>system", "b<|e|>", tokenizer=CHAT)
    special = CHAT.convert_tokens_to_ids(["<|s|>", "<|e|>"])
    assert sum(index in special for index in made.ids) == 4
    assert made.cut == 0


def test_of_a_long_conversation_the_first_messages_go_first_and_the_template_stays():
    text, made = row(as_prompt([*TALK[:-1], {"role": "user", "content": "w" * 60}]), "so", most=64, tokenizer=CHAT)
    assert text.startswith("<|s|>user\n<|e|><|s|>assistant\n<|e|><|s|>user\nw")
    assert text.endswith("w<|e|><|s|>assistant\nso<|e|>")
    assert len(made) == 64
    assert made.cut == 4 + 60 - text.count("w")


REFUSES = "{{ raise_exception('roles must alternate') }}"
FORGETS = "{{ messages[-1]['content'] }}"
REPEATS = "{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}"


@pytest.mark.parametrize("template", [REFUSES, FORGETS, REPEATS, "{{ nothing.at.all }}"])
def test_a_template_without_a_form_for_a_conversation_leaves_it_to_the_plain_layout(template):
    assert row(TALK, "so", tokenizer=chat_tokenizer(template))[0] == "<|e|>user: hi\nassistant: yo\nuser: why<|e|>so<|e|>"


def test_a_conversation_whose_template_leaves_no_room_is_read_plainly():
    text, made = row(as_prompt([{"role": "user", "content": "hi"}] * 9), "so", most=64, tokenizer=CHAT)
    assert text.endswith("user: hi<|e|>so<|e|>")
    assert len(made) == 64


def test_a_tokenizer_without_padding_pads_with_what_nobody_looks_at():
    assert Layout(CHAT, 64).padding == 0


def test_a_tokenizer_without_any_special_token_is_refused():
    bare = chat_tokenizer()
    bare.eos_token = None
    with pytest.raises(ConfigurationError, match="neither"):
        Layout(bare, 64)


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
