"""Every reply that can be read is read, whatever stands beside its text."""

import json
import math

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.judges.completion import ErrorBody, parse_json, read_completion, read_error
from judgeflow.types import Usage

unhurried = settings(deadline=None)
SAID = "<verdict>A</verdict>"


def body(message=None, **fields):
    choice = {"message": {"content": SAID} if message is None else message, "finish_reason": "stop"}
    return {"model": "m", "choices": [choice | fields.pop("choice", {})], "usage": {"prompt_tokens": 100, "completion_tokens": 5}} | fields


def read(data, asked_bytes=400):
    completion = read_completion(data, asked_bytes)
    assert completion is not None
    return completion


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(body(choice={"logprobs": {"content": [{"logprob": -math.inf}]}})).encode(),
        json.dumps(body(system_fingerprint=math.nan)).encode(),
        json.dumps(body(system_fingerprint="\ud83d")).encode(),
        b"\xef\xbb\xbf" + json.dumps(body()).encode(),
        json.dumps(body(system_fingerprint="?")).encode().replace(b"?", b"\xff\x00\n"),
        json.dumps(body(system_fingerprint=2**70)).encode(),
    ],
)
def test_a_body_that_strict_json_refuses_is_read_if_its_text_is_sound(payload):
    assert read(parse_json(payload)).text == SAID


@pytest.mark.parametrize("payload", [b"", b"<html>", b'{"choices": [', b"[" * 100_000])
def test_a_body_that_is_no_json_is_told_as_such(payload):
    with pytest.raises(ValueError):
        parse_json(payload)


def test_half_a_character_costs_that_character_and_not_the_reply():
    completion = read(body({"content": f"half \ud83d {SAID}", "reasoning": "\udc00", "refusal": ""}, choice={"finish_reason": "\ud800"}))
    assert completion.text == f"half ? {SAID}"
    assert (completion.reasoning, completion.finish_reason) == ("?", "?")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": SAID}],
        [{"type": "text", "text": SAID[:9]}, {"type": "text", "text": SAID[9:]}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "B?"}]}, {"type": "text", "text": SAID}],
        [{"type": "reasoning", "text": "B?"}, {"type": "output_text", "text": SAID, "annotations": []}],
        [{"type": "image", "url": "x"}, {"text": SAID}],
        [SAID],
        {"type": "text", "text": SAID},
    ],
)
def test_content_in_parts_is_the_text_of_those_that_are_said_aloud(content):
    assert read(body({"content": content})).text == SAID


@pytest.mark.parametrize("content", [7, True, {"answer": SAID}, [[SAID]], [{"answer": SAID}], [{"type": {}, "text": 3}]])
def test_content_that_is_no_text_is_kept_where_no_verdict_is_looked_for(content):
    completion = read(body({"content": content}))
    assert completion.text == ""
    assert json.loads(completion.reasoning) == content


@pytest.mark.parametrize("message", [{"content": None}, {}, None])
def test_a_message_that_says_nothing_is_an_empty_reply(message):
    choice = {"choices": [{"message": message, "finish_reason": "stop"}]}
    assert read(choice).text == ""


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ({"content": SAID, "refusal": False}, None),
        ({"content": SAID, "refusal": ""}, None),
        ({"content": SAID, "refusal": {}}, None),
        ({"content": None, "refusal": "I cannot."}, "I cannot."),
        ({"content": None, "refusal": True}, "true"),
        ({"content": [{"type": "refusal", "refusal": "I cannot."}]}, "I cannot."),
    ],
)
def test_a_refusal_is_a_text_and_nothing_empty_refuses(message, refusal):
    assert read(body(message)).refusal == refusal


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_of_any_shape_is_kept_as_text(field):
    assert read(body({"content": SAID, field: {"steps": ["one"]}})).reasoning == '{"steps": ["one"]}'


@pytest.mark.parametrize(
    ("given_reason", "kept"),
    [("length", "length"), (None, None), ({"type": "length"}, "length"), ({"type": 3}, None), (["stop"], None), (3, None)],
)
def test_a_finish_reason_is_a_text_or_nothing(given_reason, kept):
    assert read(body(choice={"finish_reason": given_reason})).finish_reason == kept


ESTIMATED = Usage(prompt=100, completion=5)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "n/a",
        [],
        {},
        {"prompt_tokens": "n/a", "completion_tokens": {}},
        {"prompt_tokens": -500_000, "completion_tokens": -1},
        {"prompt_tokens": 2**63 + 5, "completion_tokens": 1e300},
        {"prompt_tokens": math.nan, "completion_tokens": math.inf},
        {"prompt_tokens": True, "completion_tokens": False},
    ],
)
def test_usage_that_counts_nothing_credible_is_estimated_from_what_went_back_and_forth(usage):
    assert read(body(usage=usage)).usage == ESTIMATED


def test_each_side_of_the_usage_counts_by_itself_and_no_part_is_larger_than_its_whole():
    assert read(body(usage={"prompt_tokens": "70", "completion_tokens": None})).usage == Usage(prompt=70, completion=5)
    assert read(body(usage={"prompt_tokens": -1, "completion_tokens": 9.0})).usage == Usage(prompt=100, completion=9)
    details = {"completion_tokens_details": {"reasoning_tokens": 999}, "prompt_tokens_details": {"cached_tokens": -3}}
    assert read(body(usage={"prompt_tokens": 8, "completion_tokens": 4} | details)).usage == Usage(prompt=8, completion=4, reasoning=4)
    odd = {"completion_tokens_details": "none", "prompt_tokens_details": {"cached_tokens": 9**99}}
    assert read(body(usage={"prompt_tokens": 8, "completion_tokens": 4} | odd)).usage == Usage(prompt=8, completion=4)


@pytest.mark.parametrize("data", [None, 3, "ok", [], {}, {"choices": []}, {"choices": None}, {"choices": ["A"]}, {"error": "down"}])
def test_what_holds_no_choice_is_no_completion(data):
    assert read_completion(data, 0) is None


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "text", "refusal", "content"]), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["content", "refusal", "reasoning", "reasoning_content"]


@unhurried
@given(st.dictionaries(st.sampled_from(FIELDS), junk), junk, junk, junk)
def test_no_junk_in_any_field_loses_a_reply_or_makes_one_that_cannot_be_stored(message, finish_reason, usage, model):
    completion = read({"choices": [{"message": message, "finish_reason": finish_reason}], "usage": usage, "model": model})
    texts = [completion.text, completion.reasoning, completion.refusal or "", completion.finish_reason or "", completion.model]
    assert orjson.loads(orjson.dumps(texts)) == texts
    assert 0 <= completion.usage.prompt < 2**53
    assert 0 <= completion.usage.completion < 2**53


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 401, "message": "No auth"}, ErrorBody(message="No auth", code="401", status=401)),
        ({"code": "rate_limit_exceeded", "message": "slow"}, ErrorBody(message="slow", code="rate_limit_exceeded", status=429)),
        ({"code": "odd", "type": "server_error", "message": "m"}, ErrorBody(message="m", code="odd", status=500)),
        ({"code": None, "type": "insufficient_quota", "message": "m"}, ErrorBody(message="m", code="insufficient_quota", status=429)),
        ({"code": 200, "message": "m"}, ErrorBody(message="m", code="200")),
        ({"code": "429", "type": "budget_exceeded", "message": "m"}, ErrorBody(message="m", code="budget_exceeded", status=429)),
        (
            {"code": 403, "message": "m", "metadata": {"reasons": ["violence"], "flagged_input": "..."}},
            ErrorBody(message="m", code="403", status=403, flagged=True),
        ),
        ({"detail": 3}, ErrorBody(message='{"detail": 3}')),
        ("down", ErrorBody(message="down")),
        (None, None),
        ({}, None),
    ],
)
def test_an_error_in_a_body_is_known_by_its_code(error, expected):
    assert read_error({"error": error}) == expected
