"""Surface features are what their names say, always finite, quick on any text, and pinned to their version."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.model.surface import FEATURES, NAMES, SURFACE_VERSION, PromptSurface, surface_features
from judgeflow.types import Message

LONG = 100_000
CHAT = (Message(role="user", content="Compare green apples with pears"), Message(role="user", content="briefly"))
LIST = (
    '# Fruit\n\n1. **Apples** may be `green`: "crisp"\n2. pears | soft, soft, soft, soft\n\n- see http://x.y, for example, or ask me ($5)?'
)
PINNED = {
    ("Why is the sky blue?", "Great question! I'm sorry, but I cannot say why."): {
        "characters": 3.891820,
        "words": 2.397895,
        "lines": 0.693147,
        "paragraphs": 0.693147,
        "sentences": 1.098612,
        "sentence_length": 1.791759,
        "word_length": 3.6,
        "relative_length": 0.606136,
        "capitals": 0.0625,
        "marks": 0.083333,
        "exclamations": 0.693147,
        "first_person": 1.098612,
        "long_words": 0.1,
        "distinct_words": 0.9,
        "distinct_trigrams": 1.0,
        "prompt_covered": 0.2,
        "prompt_end_covered": 0.2,
        "from_prompt": 0.111111,
        "refusal": 1.0,
        "greeting": 1.0,
        "finished": 1.0,
    },
    (CHAT, LIST): {
        "characters": 4.859812,
        "words": 3.178054,
        "lines": 1.609438,
        "paragraphs": 1.386294,
        "sentences": 1.386294,
        "sentence_length": 2.159484,
        "word_length": 3.304348,
        "relative_length": 0.980829,
        "bullets": 0.693147,
        "numbers": 1.098612,
        "headings": 0.693147,
        "bold": 1.098612,
        "code": 1.098612,
        "tables": 0.693147,
        "mathematics": 0.693147,
        "link": 1.0,
        "digits": 0.023438,
        "capitals": 0.015625,
        "marks": 0.210938,
        "questions": 0.693147,
        "quotes": 1.098612,
        "parentheses": 0.693147,
        "colons": 1.098612,
        "first_person": 0.693147,
        "signposts": 0.693147,
        "distinct_words": 0.869565,
        "distinct_trigrams": 0.952381,
        "prompt_covered": 0.428571,
        "prompt_long_covered": 0.6,
        "prompt_end_covered": 0.428571,
        "from_prompt": 0.15,
        "hedges": 0.693147,
        "finished": 1.0,
        "ends_asking": 1.0,
    },
    ("", " \n"): {"characters": 1.098612, "sentences": 0.693147, "sentence_length": 0.693147, "nearly_empty": 1.0},
}


def named(prompt, response):
    return dict(zip(NAMES, surface_features(prompt, response), strict=True))


@pytest.mark.parametrize(("texts", "values"), PINNED.items())
def test_the_definition_of_this_version_is_pinned(texts, values):
    assert SURFACE_VERSION == 2
    assert named(*texts) == pytest.approx(dict.fromkeys(NAMES, 0.0) | values, abs=1e-6)


def test_every_feature_has_a_name_of_its_own_and_says_what_it_counts():
    assert len(set(NAMES)) == len(NAMES) == len(FEATURES)
    assert all(feature.counts for feature in FEATURES)


def test_every_feature_tells_some_texts_apart():
    seen = [surface_features(*texts) for texts in [*PINNED, ("p", "¿Qué? ```x``` $a$ so: perhaps (I think) hi"), ("p", "Do you?")]]
    assert [name for name, column in zip(NAMES, zip(*seen, strict=True), strict=True) if len(set(column)) == 1] == []


@given(st.text(), st.text())
def test_any_text_has_finite_features(prompt, response):
    assert all(math.isfinite(value) for value in surface_features(prompt, response))


@pytest.mark.parametrize("response", ["", " \n\t", "😀", "😀" * 50, "\ud800", "\x00", "。", "```"])
def test_odd_texts_have_finite_features(response):
    assert all(math.isfinite(value) for value in surface_features(response, response))


@pytest.mark.parametrize(
    "text",
    [
        "The fox, you know, jumps over 12 dogs.\n\n- item\n" * (LONG // 49),
        "." * LONG + "x",
        "\n" * LONG,
        " " * LONG,
        "#" * LONG,
        "1" * LONG,
        "a " * (LONG // 2),
        "\n " * (LONG // 2) + "x",
        "😀" * LONG,
    ],
    ids=["prose", "dots", "newlines", "spaces", "hashes", "digits", "letters", "blank lines", "emoji"],
)
def test_a_text_of_100_000_characters_takes_less_than_50_ms(text):
    def seconds():
        started = time.thread_time()
        surface_features(text[-1000:], text)
        return time.thread_time() - started

    assert min(seconds() for _ in range(3)) < 0.05


def test_a_prompt_in_messages_counts_like_its_text_with_roles():
    text = "\n".join(f"{message.role}: {message.content}" for message in CHAT)
    assert surface_features(CHAT, "Green apples are tart.") == surface_features(text, "Green apples are tart.")


def test_the_work_on_a_prompt_is_shared_without_a_difference():
    about = PromptSurface("Name a fruit")
    assert [about.of(response) for response in ("A pear", "", "A pear")] == [
        surface_features("Name a fruit", response) for response in ("A pear", "", "A pear")
    ]


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("bullets", "* one\n  - two\n• three", "one - two * three"),
        ("numbers", "1. one\n2) two", "1 one, version 2.0"),
        ("headings", "## Fruit", "#fruit"),
        ("paragraphs", "one\n \ntwo", "one\ntwo"),
        ("sentences", "One... two?! Three. 四。", "One.two 3.14"),
        ("refusal", "I\u2019m sorry, no.", "No problem." + " " * 300 + "I'm sorry"),
        ("greeting", "  Of course!", "It is, of course, so."),
        ("finished", "It is so.", "It is so and"),
        ("signposts", "Overall, for example", "overalls"),
        ("distinct_trigrams", "a b c d e f", "a b c a b c"),
        ("prompt_long_covered", "a banana", "a fig"),
        ("prompt_end_covered", "a banana", "a fig"),
    ],
)
def test_a_feature_sees_what_it_counts(name, more, less):
    prompt = "fig " * 200 + "banana " * 60
    assert named(prompt, more)[name] > named(prompt, less)[name]
