"""What of a judge's own words may stand in an error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.judges.quoting import LONGEST_QUOTED, quotable

unhurried = settings(deadline=None)
PROMPT = "Please compare the two contracts of our client, Mr. Smith,\nwho lives in 12 Hidden Lane."


def test_an_ordinary_message_is_quoted_as_it_is():
    message = "This model's maximum context length is 8192 tokens; you asked for 9000."
    assert quotable(message, sent=[PROMPT]) == message


def test_a_text_that_was_sent_is_taken_out_and_what_stands_around_it_stays():
    said = quotable(f"Invalid value: '{PROMPT}'. Shorten it.", sent=["Be fair.", PROMPT])
    assert said == "Invalid value: '[...]'. Shorten it."


@pytest.mark.parametrize(
    "echo",
    [
        PROMPT[:40],
        PROMPT[20:75],
        PROMPT.replace("\n", "\\n"),
        repr(PROMPT),
        f"input_value={PROMPT[:30]!r}...{PROMPT[-30:]!r}",
        PROMPT.replace(" ", "  "),
    ],
)
def test_a_piece_of_what_was_sent_is_recognised_however_it_was_cut_and_escaped(echo):
    said = quotable(f"bad input: {echo}!", sent=[PROMPT])
    assert said.startswith("bad input: ")
    assert "[...]" in said
    assert not any(word in said for word in ("contracts of our client", "Hidden Lane"))


@unhurried
@given(st.text(min_size=60, max_size=200), st.text(max_size=40), st.text(max_size=40), st.data())
def test_no_stretch_of_24_characters_of_what_was_sent_is_ever_repeated(sent, before, after, data):
    start = data.draw(st.integers(0, len(sent) - 30))
    said = quotable(before + sent[start:] + after, sent=[sent])
    plain = " ".join("".join(character if character.isprintable() else " " for character in sent).split())
    assert not any(plain[index : index + 24] in said for index in range(len(plain) - 23))


def test_a_long_message_is_cut_short():
    assert len(quotable("no " * 20_000, sent=[])) == LONGEST_QUOTED + 3


def test_a_secret_is_replaced_even_where_it_would_have_been_cut():
    secret = "sk-very-secret-key"
    said = quotable("x" * (LONGEST_QUOTED - 5) + secret, sent=[], secret=secret)
    assert "sk-" not in said


def test_a_judge_cannot_paint_the_terminal():
    assert quotable("\x1b[31mred\x1b[0m\r\n\nand\x07 blue", sent=[]) == "[31mred [0m and blue"
