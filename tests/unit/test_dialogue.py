"""Dialogues in every way they are held become the same prompt and the same responses; texts become dialogues only where they are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.dialogue import prompt_and_responses, prompt_of, response_of, transcript, turns
from judgeflow.rendered import rendered, without_ends
from judgeflow.types import Message

USER, SYSTEM, BOT = "user", "system", "assistant"
SPOKEN = [(SYSTEM, "Be kind."), (USER, "Hi!\nHow are you?"), (BOT, "Fine."), (USER, "2 + 2?")]
TALK = tuple(Message(role=role, content=content) for role, content in SPOKEN)
HOW = {
    "chatml": ("<|im_start|>{}\n{}<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n"),
    "llama 3": (
        "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "zephyr": ("<|{}|>\n{}</s>\n", "<|assistant|>\n", "</s>"),
    "phi": ("<|{}|>\n{}<|end|>\n", "<|assistant|>\n", "<|end|>\n<|endoftext|>"),
}


def written(form, spoken=SPOKEN):
    turn, opening, _ = HOW[form]
    return "".join(turn.format(role, content) for role, content in spoken) + opening


def said(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize("form", HOW)
def test_what_a_chat_template_has_made_is_read_as_the_messages_it_was_made_of(form):
    found = rendered(written(form))
    assert (found.messages, found.open) == (TALK, True)
    assert rendered(f"<s>{written(form)}") == found
    assert transcript(written(form)) == transcript(TALK)
    assert turns(written(form)) == TALK


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", [("user", "Hi")]),
        ("<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nYo<end_of_turn>\n", [("user", "Hi"), ("assistant", "Yo")]),
        ("<s>[INST] Hi [/INST] Yo</s>[INST] 2 + 2? [/INST]", [("user", "Hi"), ("assistant", "Yo"), ("user", "2 + 2?")]),
        ("\n\nHuman: Hi\n\nAssistant: Yo\n\nHuman: 2 + 2?\n\nAssistant:", [("user", "Hi"), ("assistant", "Yo"), ("user", "2 + 2?")]),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", [("user", "Hi")]),
    ],
)
def test_other_templates_are_known_too(text, messages):
    assert [(message.role, message.content) for message in rendered(text).messages] == messages


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What does <|im_start|>user mean?",
        "<|im_start|>",
        "<|im_start|>user\nHi\n<|im_start|>assistant\n",
        "Human: Hi\n\nAssistant: Yo",
        "<s>",
        "<|user|> is a token",
        "[/INST] is a token",
    ],
)
def test_a_text_that_only_has_such_tokens_in_it_stays_as_it_is(text):
    assert rendered(text) is None
    assert transcript(text) == text
    assert turns(text) == (Message(role=USER, content=text),)


@given(st.text())
@settings(deadline=None)
def test_any_text_is_shown_as_it_is_or_as_the_turns_that_it_has(text):
    found = rendered(text)
    assert transcript(text) == (text if found is None else transcript(found.messages))
    assert prompt_of(text) == text


def test_ends_of_responses_are_taken_off_with_the_line_breaks_between_them():
    assert without_ends("yes\n<|im_end|>\n<|endoftext|>\n") == "yes\n"
    assert without_ends("what is <|im_end|> for?") == "what is <|im_end|> for?"


def test_parts_that_are_text_and_calls_of_tools_belong_to_a_message():
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    prompt = [said(USER, [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1?"}]), said(BOT, None) | {"tool_calls": [call]}]
    assert prompt_of(prompt) == (
        Message(role=USER, content="1 + 1?"),
        Message(role=BOT, content='{"function":{"arguments":{"a":1},"name":"add"}}'),
    )


# A prompt and two responses


def sides(chosen, rejected):
    return {"chosen": chosen, "rejected": rejected}


DIALOGUE = [said(role, content) for role, content in SPOKEN]
FORMS = {
    "explicit messages": (DIALOGUE, [said(BOT, "4")], [said(BOT, "5")]),
    "messages and texts": (DIALOGUE, "4", "5"),
    "implicit messages": (None, [*DIALOGUE, said(BOT, "4")], [*DIALOGUE, said(BOT, "5")]),
    "messages beside the text of the question": ("2 + 2?", [*DIALOGUE, said(BOT, "4")], [*DIALOGUE, said(BOT, "5")]),
    "messages twice": (DIALOGUE, [*DIALOGUE, said(BOT, "4")], [*DIALOGUE, said(BOT, "5")]),
    "one message each": (DIALOGUE, said(BOT, "4"), said(BOT, "5")),
    "rendered": (None, written("chatml") + "4<|im_end|>\n", written("chatml") + "5<|im_end|>\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_dialogue_in_every_form_has_one_prompt_and_the_same_responses(form):
    prompt, chosen, rejected = FORMS[form]
    assert prompt_and_responses(prompt, sides(chosen, rejected)) == (TALK, "4", "5")


def test_dialogues_that_part_early_are_told_to_their_ends():
    ends = [[said(USER, "Hi"), said(BOT, answer), said(USER, "Well?"), said(BOT, "ok")] for answer in ("yes", "no")]
    prompt, first, second = prompt_and_responses(None, sides(*ends))
    assert prompt == (Message(role=USER, content="Hi"),)
    assert first == "[assistant]\nyes\n\n[user]\nWell?\n\n[assistant]\nok"
    assert second.startswith("[assistant]\nno")
    assert first == response_of(ends[0][1:])


def test_dialogues_that_part_at_the_user_part_at_the_answer_before():
    ends = [[said(USER, "Hi"), said(BOT, "yes"), said(USER, more), said(BOT, "ok")] for more in ("Well?", "So?")]
    prompt, first, _ = prompt_and_responses(None, sides(*ends))
    assert prompt == (Message(role=USER, content="Hi"),)
    assert first.startswith("[assistant]\nyes\n\n[user]\nWell?")


def test_two_equal_dialogues_have_a_prompt_and_equal_responses():
    both = [*DIALOGUE, said(BOT, "4")]
    assert prompt_and_responses(None, sides(both, both)) == (TALK, "4", "4")


def test_responses_to_a_rendered_prompt_lose_the_tokens_that_end_them_and_others_do_not():
    asked = written("chatml")
    assert prompt_and_responses(asked, sides("4<|im_end|>\n", "5<|im_end|>")) == (asked, "4", "5")
    assert prompt_and_responses("p", sides("4<|im_end|>", "5")) == ("p", "4<|im_end|>", "5")


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "told"),
    [
        (None, "x", "y", "prompt is missing.*--columns prompt=NAME; where both begin with it: --format implicit-prompt"),
        (None, [said(BOT, "x")], [said(BOT, "y")], "prompt is missing, and chosen and rejected do not begin with the same messages"),
        (None, [said(USER, "a"), said(BOT, "x")], [said(USER, "b"), said(BOT, "y")], "do not begin with the same messages"),
        ("p", [said(USER, "a")], "y", "chosen is a dialogue that does not end with a message of the assistant, but of the user"),
        (
            DIALOGUE,
            [said(USER, "other"), said(BOT, "x")],
            "y",
            "chosen begins neither with the assistant's answer nor with the messages of",
        ),
        (
            "p",
            "x",
            [{"from": "gpt", "value": "y"}],
            "rejected: a message has no 'role', only from, value; expected are 'role' and 'content'",
        ),
        ("p", "x", [said(BOT, [{"type": "image"}])], "rejected: a message has a part of type image; the judge is shown text only"),
        ([], [said(BOT, "x")], [said(BOT, "y")], "a prompt given as messages needs at least one message"),
        (7, "x", "y", "a prompt is a text or a list of messages, not int"),
    ],
)
def test_what_does_not_answer_one_prompt_is_named(prompt, chosen, rejected, told):
    with pytest.raises(ValueError, match=told):
        prompt_and_responses(prompt, sides(chosen, rejected))
