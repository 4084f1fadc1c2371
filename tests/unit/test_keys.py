import dataclasses
import datetime as dt
import json
import math
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.keys import (
    KEY_BYTES,
    NONCE_DIGITS,
    Hashes,
    call_key,
    canonical_json,
    digest,
    pair_key,
    pair_keys,
    prompt_body,
    prompt_from_body,
    prompt_hash,
    question_nonce,
    questions,
    text_hash,
)
from judgeflow.types import Message, Pair

unhurried = settings(deadline=None)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
prompts = texts | st.lists(st.builds(Message, role=texts, content=texts), min_size=1, max_size=3).map(tuple)
pairs = st.builds(Pair, prompt=prompts, response_a=texts, response_b=texts)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
JUDGE, OTHER_JUDGE = digest("judge/1", {"id": "one"}), digest("judge/1", {"id": "other"})


# These values stand in users' databases.  A change here makes every stored verdict unreachable: raise the version in the key's
# kind and migrate instead.


def test_keys_never_change_silently():
    keys = pair_keys(Pair(prompt="What is 2 + 2?", response_a="4", response_b="fünf 🖐"))
    assert text_hash("4").hex() == "d50483939cac3050d69a70d0d0bef620b75daf1df9c4d3587aa5c45de50c5ca5"
    assert keys.prompt.hex() == "d65ad4da5c0df557854ead66fa6c0f0319bfc5c8eb0c76578b095fe6e87f2294"
    assert keys.pair.hex() == "c9197d27d9329c113cdf7f49fe3e8709ed9cf533067502e69e6dc8ea79880e3f"
    assert (
        digest("judge/1", {"model": "m", "temperature": 0.5, "seed": None}).hex()
        == "a49cfcd1a252cd5e17f6ca985637e5dd2cb59f340c6238cdb4bc0e34a195c1c4"
    )


def test_conversation_keys_never_change_silently():
    prompt = (Message(role="system", content="Be brief."), Message(role="user", content="Hi"))
    assert prompt_body(prompt) == '[{"content":"Be brief.","role":"system"},{"content":"Hi","role":"user"}]'
    assert prompt_hash(prompt).hex() == "d4921381325b9abe30b877c8d406466fee9186a3047bc89cbc4ba9f150ac8998"


def test_question_keys_never_change_silently():
    pair = Pair(prompt="What is 2 + 2?", response_a="4", response_b="fünf 🖐")
    forward, backward = questions(pair, pair_keys(pair), bytes(32))
    assert (forward.nonce, backward.nonce) == ("9d57d099cb699310", "bab81a1195725ed4")
    assert forward.call_key.hex() == "575e985943ab027d453655b7efbdcc757926c879aac95e354ebb49c74247693c"
    assert backward.call_key.hex() == "2d5697a8560fc44b9a35a118f959e6618cbba39292374b432a043538fb6b487f"
    assert (
        questions(pair, pair_keys(pair), bytes(32), sample=1)[0].call_key.hex()
        == "f6838617e2035619429bbd1a6c77c098f4ac8f47a7c7e54c87e3eedbdae8c238"
    )


def test_canonical_json_is_sorted_compact_and_unescaped():
    assert canonical_json({"b": [1, 2.5, None, True], "a": "ü"}) == '{"a":"ü","b":[1,2.5,null,true]}'.encode()


@unhurried
@given(st.dictionaries(texts, json_values, max_size=6))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value):
    backwards = dict(reversed(value.items()))
    assert canonical_json(backwards) == canonical_json(value)
    assert digest("k/1", backwards) == digest("k/1", value)


@unhurried
@given(json_values)
def test_canonical_json_is_json_of_the_same_value(value):
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: {"a": {"b": x}}, lambda x: (1, [x])])
def test_canonical_json_refuses_numbers_that_are_not_finite(value, wrap):
    with pytest.raises(ValueError, match="no canonical JSON for"):
        canonical_json(wrap(value))


@dataclasses.dataclass
class Something:
    name: str = "x"


@pytest.mark.parametrize(
    "value", [{1: "x"}, {"x"}, b"x", object(), dt.date(2024, 5, 1), uuid.UUID(int=7), Something(), [Something()], 2**70]
)
def test_canonical_json_refuses_what_json_has_no_word_for(value):
    with pytest.raises(ValueError, match="no canonical JSON"):
        canonical_json(value)


def test_text_that_is_not_valid_unicode_has_no_key():
    with pytest.raises(ValueError, match="no canonical JSON"):
        canonical_json("\ud800")
    with pytest.raises(ValueError, match="surrogates not allowed"):
        text_hash("\ud800")
    with pytest.raises(ValueError, match="surrogates not allowed"):
        pair_keys(Pair(prompt="p", response_a="fine", response_b="\udfff"))


def test_kinds_of_keys_do_not_collide():
    assert digest("judge/1", ["x"]) != digest("template/1", ["x"])
    assert digest("judge/1", ["x"]) != digest("judge/2", ["x"])


def test_a_prompt_and_a_response_with_one_text_share_its_body():
    assert prompt_hash("the same text") == text_hash("the same text")


@unhurried
@given(prompts)
def test_a_prompt_comes_back_from_its_body(prompt):
    assert prompt_from_body(prompt_body(prompt), conversational=not isinstance(prompt, str)) == prompt


@unhurried
@given(st.lists(st.builds(Message, role=texts, content=texts), min_size=1, max_size=3).map(tuple))
def test_a_conversation_and_its_body_given_as_text_have_different_keys(prompt):
    assert prompt_hash(prompt) != prompt_hash(prompt_body(prompt))


@unhurried
@given(pairs)
def test_swapped_pairs_share_their_key(pair):
    keys, swapped = pair_keys(pair), pair_keys(pair.swapped())
    assert keys.pair == swapped.pair
    assert len(keys.pair) == KEY_BYTES
    assert (keys.response_a, keys.response_b) == (swapped.response_b, swapped.response_a)
    assert keys.identical == swapped.identical == (pair.response_a == pair.response_b)
    assert keys.identical or keys.canonical != swapped.canonical


@unhurried
@given(pairs, pairs)
def test_pairs_share_a_key_exactly_when_their_texts_do(one, other):
    same = one.prompt == other.prompt and {one.response_a, one.response_b} == {other.response_a, other.response_b}
    assert (pair_keys(one).pair == pair_keys(other).pair) == same


@unhurried
@given(pairs, st.integers(0, 3))
def test_a_pair_makes_one_question_for_each_order(pair, sample):
    keys = pair_keys(pair)
    forward, backward = questions(pair, keys, JUDGE, sample)
    assert (forward.first, forward.second) == (pair.response_a, pair.response_b)
    assert (backward.first, backward.second) == (pair.response_b, pair.response_a)
    assert forward.pair_key == backward.pair_key == keys.pair
    assert forward.sample == backward.sample == sample
    assert len(forward.nonce) == NONCE_DIGITS
    distinct = pair.response_a != pair.response_b
    assert (forward.call_key != backward.call_key) == distinct
    assert (forward.nonce != backward.nonce) == distinct
    assert (forward.canonical != backward.canonical) == distinct


@unhurried
@given(pairs)
def test_the_swapped_pair_asks_the_same_two_questions_in_the_other_order(pair):
    forward, backward = questions(pair, pair_keys(pair), JUDGE)
    swapped = pair.swapped()
    assert questions(swapped, pair_keys(swapped), JUDGE) == (backward, forward)


def test_another_judge_or_sample_is_another_call_about_the_same_pair():
    pair = Pair(prompt="p", response_a="x", response_b="y")
    keys = pair_keys(pair)
    asked = [questions(pair, keys, JUDGE), questions(pair, keys, OTHER_JUDGE), questions(pair, keys, JUDGE, sample=1)]
    assert len({question.call_key for both in asked for question in both}) == 6
    assert len({question.nonce for both in asked for question in both}) == 2
    assert len({question.pair_key for both in asked for question in both}) == 1


def test_what_describes_a_pair_is_no_part_of_its_key():
    plain = Pair(prompt="p", response_a="x", response_b="y")
    described = Pair(prompt="p", response_a="x", response_b="y", id="7", group="g", label="a", metadata={"category": "code"})
    assert pair_keys(plain) == pair_keys(described)


keys_ = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


@given(keys_, keys_, keys_, keys_, st.integers(min_value=0, max_value=8))
def test_keys_of_keys_are_digests_of_their_hexadecimal_digits(judge, prompt, first, second, sample):
    shown = [key.hex() for key in (prompt, first, second)]
    assert pair_key(prompt, first, second) == digest("pair/1", shown)
    assert question_nonce(prompt, first, second) == digest("question/1", shown).hex()[:NONCE_DIGITS]
    assert call_key(judge, prompt, first, second, sample) == digest("call/1", [judge.hex(), *shown, sample])


@unhurried
@given(st.lists(pairs, max_size=4))
def test_hashes_that_are_remembered_are_the_same(several):
    hashes = Hashes()
    for pair in several + [pair.swapped() for pair in several]:
        assert pair_keys(pair, hashes) == pair_keys(pair)
    assert hashes == {text: prompt_hash(text) for pair in several for text in (pair.prompt, pair.response_a, pair.response_b)}
