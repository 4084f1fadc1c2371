"""A stored reply as a record with its pair's texts, and back: what `judgeflow export --what calls` writes and `judgeflow import` reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from judgeflow.exchange.replies import amount, make_call, whole
from judgeflow.keys import KEY_BYTES, canonical_json
from judgeflow.parquet import Kind
from judgeflow.types import Call, JudgeIdentity, Question, Reading, ReadingStatus, Reply, Usage
from judgeflow.verdicts.parse import PARSER_VERSION

CANONICAL, SWAPPED = "canonical", "swapped"

CALL_COLUMNS: Mapping[str, Kind] = {
    "pair_key": "text",
    "prompt": "text",
    "conversational": "flag",
    "response_a": "text",
    "response_b": "text",
    "judge": "text",
    "judge_model": "text",
    "judge_fingerprint": "text",
    "judge_parameters": "text",
    "order": "text",
    "sample": "integer",
    "winner": "text",
    "status": "text",
    "preferred": "integer",
    "strong": "flag",
    "parser_version": "integer",
    "text": "text",
    "reasoning": "text",
    "refusal": "text",
    "finish_reason": "text",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "reasoning_tokens": "integer",
    "cached_tokens": "integer",
    "usd": "number",
    "latency_s": "number",
    "attempts": "integer",
    "model": "text",
    "request_id": "text",
    "created_at": "number",
}


def call_record(call: Call, judge: JudgeIdentity, pair: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a call; `pair` has its texts in canonical order.  `winner` is in terms of response_a and response_b."""
    reply, reading, usage = call.reply, call.reading, call.reply.usage
    return {
        "pair_key": call.pair_key.hex(),
        **pair,
        "judge": judge.id,
        "judge_model": judge.model,
        "judge_fingerprint": judge.fingerprint.hex(),
        "judge_parameters": canonical_json(dict(judge.parameters)).decode(),
        "order": CANONICAL if call.canonical else SWAPPED,
        "sample": call.sample,
        "winner": _winner(reading.preferred, canonical=call.canonical),
        "status": reading.status.value,
        "preferred": reading.preferred,
        "strong": reading.strong,
        "parser_version": reading.parser_version,
        "text": reply.text,
        "reasoning": reply.reasoning,
        "refusal": reply.refusal,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "reasoning_tokens": usage.reasoning,
        "cached_tokens": usage.cached,
        "usd": reply.usd,
        "latency_s": reply.latency_s,
        "attempts": reply.attempts,
        "model": reply.model,
        "request_id": reply.request_id,
        "created_at": call.created_at,
    }


def _winner(preferred: int | None, *, canonical: bool) -> str | None:
    if preferred is None:
        return None
    return {1: "a", -1: "b", 0: "tie"}[preferred if canonical else -preferred]


def is_call(record: Mapping[str, Any]) -> bool:
    """Whether a record is that of a call."""
    return record.get("order") in {CANONICAL, SWAPPED} and "judge_fingerprint" in record


def judge_of(record: Mapping[str, Any]) -> JudgeIdentity:
    """Return the judge of an exported call.  Raises `ValueError`."""
    try:
        fingerprint = bytes.fromhex(record["judge_fingerprint"])
        parameters = orjson.loads(record.get("judge_parameters") or "{}")
    except (TypeError, ValueError) as error:
        raise ValueError(f"judge_fingerprint or judge_parameters cannot be understood: {error}") from None
    if len(fingerprint) != KEY_BYTES or not isinstance(parameters, dict):
        raise ValueError("judge_fingerprint should have 64 hexadecimal digits, judge_parameters be the JSON text of an object")
    return JudgeIdentity(id=_text(record, "judge"), model=_text(record, "judge_model"), fingerprint=fingerprint, parameters=parameters)


def call_of(record: Mapping[str, Any], question: Question, judge: JudgeIdentity) -> Call:
    """Return an exported call, read as it was when it was stored.  Raises `ValueError`."""
    preferred = record.get("preferred")
    if isinstance(preferred, bool) or not isinstance(preferred, int | None):
        raise ValueError(f"preferred is {preferred!r}; accepted are 1, -1, 0 and null")
    reading = Reading(
        status=ReadingStatus(_text(record, "status")),
        preferred=preferred,
        strong=record.get("strong") is True,
        parser_version=whole(record, "parser_version") or PARSER_VERSION,
    )
    return make_call(question, judge, _reply(record), reading, amount(record, "created_at"))


def _reply(record: Mapping[str, Any]) -> Reply:
    return Reply(
        text=_text(record, "text"),
        reasoning=_text(record, "reasoning"),
        refusal=_text_or_none(record, "refusal"),
        finish_reason=_text_or_none(record, "finish_reason"),
        usage=Usage(
            prompt=whole(record, "prompt_tokens"),
            completion=whole(record, "completion_tokens"),
            reasoning=whole(record, "reasoning_tokens"),
            cached=whole(record, "cached_tokens"),
        ),
        usd=amount(record, "usd"),
        latency_s=amount(record, "latency_s"),
        attempts=whole(record, "attempts"),
        model=_text(record, "model"),
        request_id=_text_or_none(record, "request_id"),
    )


def _text_or_none(record: Mapping[str, Any], key: str) -> str | None:
    value = record.get(key)
    if not isinstance(value, str | None):
        raise ValueError(f"{key} is {value!r}; a string is expected")
    return value


def _text(record: Mapping[str, Any], key: str) -> str:
    return _text_or_none(record, key) or ""
