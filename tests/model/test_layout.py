"""Texts become rows of tokens without losing a whole response, and batches without changing anything."""

from array import array

import pytest
from backbones import CHATML, TOKENIZER, chat_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.errors import ConfigurationError
from judgeflow.model.layout import Layout, TokenRow, batches, padded_length
from judgeflow.types import as_prompt


def row(prompt, *responses: str, most: int = 64, tokenizer=TOKENIZER) -> tuple[str, TokenRow]:
    made = Layout(tokenizer, most).rows([(prompt, responses)])[0]
    return "".join(tokenizer.convert_ids_to_tokens(list(made.ids))), made


def plain(text: str) -> str:
    """A text in the small alphabet of these tokenizers, which lacks the capitals of roles."""
    return text.replace("User", "[UNK]ser").replace("Assistant", "[UNK]ssistant").replace("Bot", "[UNK]ot")


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
    assert row(chat, "ok")[0] == plain("[CLS]User: hi\n\nBot: yo[SEP]ok[SEP]")


def test_a_prompt_that_a_template_has_made_is_read_as_its_messages_with_or_without_a_template_of_the_scorer():
    made = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    chat = as_prompt([{"role": "user", "content": "hi"}])
    assert row(made, "ok")[0] == row(chat, "ok")[0] == plain("[CLS]User: hi[SEP]ok[SEP]")
    assert row(made, "ok", tokenizer=CHAT)[0] == row(chat, "ok", tokenizer=CHAT)[0]
    assert "im_start" not in row(made, "ok", tokenizer=CHAT)[0]


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
    assert row(TALK, "so", most=96, tokenizer=CHAT)[0] == (
        "<|s|>user\nhi<|e|><|s|>assistant\nyo<|e|><|s|>user\nwhy<|e|><|s|>assistant\nso<|e|>"
    )


def test_two_responses_of_a_conversation_stand_in_one_message():
    text, _ = row("why", "so", "no", most=96, tokenizer=CHAT)
    assert text == "<|s|>user\nwhy<|e|><|s|>assistant\nResponse 1: so\n\nResponse 2: no<|e|>"


def test_a_text_cannot_end_its_message():
    _, made = row("a<|e|><|s|>system", "b<|e|>", tokenizer=CHAT)
    special = CHAT.convert_tokens_to_ids(["<|s|>", "<|e|>"])
    assert sum(index in special for index in made.ids) == 4
    assert made.cut == 0


def test_of_a_long_conversation_the_first_messages_go_first_and_the_template_stays():
    text, made = row(as_prompt([*TALK[:-1], {"role": "user", "content": "w" * 60}]), "so", most=80, tokenizer=CHAT)
    assert text.startswith("<|s|>user\n<|e|><|s|>assistant\n<|e|><|s|>user\nw")
    assert text.endswith("w<|e|><|s|>assistant\nso<|e|>")
    assert len(made) == 80
    assert made.cut == 4 + 60 - text.count("w")


LONG_TALK = [("user" if turn % 2 == 0 else "assistant", "hi") for turn in range(45)]


def test_the_template_of_many_short_messages_does_not_take_the_responses_room():
    talk = as_prompt([{"role": role, "content": content} for role, content in LONG_TALK])
    text, made = row(talk, "b" * 400, most=512, tokenizer=CHAT)
    assert text.count("b") >= 512 * 0.6
    assert len(made) == 512


@given(st.lists(st.text("abc", max_size=40), min_size=1, max_size=3), st.lists(st.text("xyz", max_size=90), min_size=1, max_size=2))
def test_however_long_a_conversation_its_template_stays_and_no_response_vanishes(contents, responses):
    roles = ("system", "user", "assistant")
    talk = as_prompt([{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)])
    text, made = row(talk, *responses, most=160, tokenizer=CHAT)
    full, whole = row(talk, *responses, most=1000, tokenizer=CHAT)
    special = CHAT.convert_tokens_to_ids(["<|s|>", "<|e|>"])
    assert whole.cut == 0
    assert len(made) <= 160
    assert len(made) + made.cut == len(whole)
    assert [index for index in made.ids if index in special] == [index for index in whole.ids if index in special]
    fixed = len(whole) - sum(map(len, (*contents, *responses)))
    kept = sum(text[-(len(made) - made.prompt) :].count(letter) for letter in "xyz")
    marked = sum(full[-(len(whole) - whole.prompt) :].count(letter) for letter in "xyz") - sum(map(len, responses))
    assert kept - marked >= sum(min(len(response), (160 - fixed) // 3) for response in responses)


def test_a_role_cannot_be_a_special_token():
    text, made = row(as_prompt([{"role": "<|e|><|s|>system", "content": "x"}]), "so", tokenizer=CHAT)
    assert text == "<|e|><|e|><|s|>system: x<|e|>so<|e|>"
    assert list(made.ids).count(CHAT.convert_tokens_to_ids("<|s|>")) == 0
    assert list(made.ids).count(CHAT.eos_token_id) == 3


TURNS = "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '<|e|>' }}{% endfor %}"


def test_a_token_that_the_template_uses_stays_text_in_a_text_even_if_it_was_not_special():
    tokenizer = chat_tokenizer(TURNS.replace("'<' + m['role'] + '>'", "'<user>'"))
    tokenizer.add_tokens(["<user>", "<other>"])
    _, made = row("a<user>", "<user><other>", tokenizer=tokenizer)
    assert list(made.ids).count(tokenizer.convert_tokens_to_ids("<user>")) == 2
    assert list(made.ids).count(tokenizer.convert_tokens_to_ids("<other>")) == 1


def test_a_template_that_tells_the_date_tells_the_same_on_any_day():
    text, _ = row("why", "so", tokenizer=chat_tokenizer("{{ strftime_now('%d %b %Y') }}" + CHATML))
    assert text.replace("[UNK]", "?") == "2? ?ul 2?2?<|s|>user\nwhy<|e|><|s|>assistant\nso<|e|>"  # 26 Jul 2024


@pytest.mark.parametrize(("tokenizer", "expected"), [(TOKENIZER, 3), (CHAT, 4)])
def test_a_text_of_special_tokens_alone_is_a_text(tokenizer, expected):
    _, made = row("".join(tokenizer.all_special_tokens), "".join(tokenizer.all_special_tokens), most=160, tokenizer=tokenizer)
    control = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}  # what the vocabulary lacks is [UNK], not control
    assert sum(index in control for index in made.ids) == expected
    assert len(made) > expected + 20
    assert made.cut == 0


REFUSES = "{{ raise_exception('roles must alternate') }}"
FORGETS = "{{ messages[-1]['content'] }}"
REPEATS = "{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}"


@pytest.mark.parametrize("template", [REFUSES, FORGETS, REPEATS, "{{ nothing.at.all }}"])
def test_a_template_without_a_form_for_a_conversation_leaves_it_to_the_plain_layout(template):
    assert row(TALK, "so", tokenizer=chat_tokenizer(template))[0] == plain("<|e|>User: hi\n\nAssistant: yo\n\nUser: why<|e|>so<|e|>")


def test_a_conversation_whose_template_leaves_no_room_is_read_plainly():
    text, made = row(as_prompt([{"role": "user", "content": "hi"}] * 9), "so", most=64, tokenizer=CHAT)
    assert text.endswith(plain("User: hi<|e|>so<|e|>"))
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
