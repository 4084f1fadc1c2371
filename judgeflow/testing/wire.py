"""The OpenAI chat-completions protocol as a judge speaks it: bodies in, bodies out.  Pure but for the time of day."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import Any

import orjson

from judgeflow.testing.desk import Answer
from judgeflow.testing.opinions import Asked, understand

ERRORS: Mapping[str, tuple[int, str, str]] = {
    "429": (429, "rate_limit_exceeded", "Rate limit reached, as scripted."),
    "429-bare": (429, "rate_limit_exceeded", "Rate limit reached, as scripted."),
    "quota": (429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details."),
    "400": (400, "invalid_request", "This request is not acceptable, as scripted."),
    "500": (500, "server_error", "The server had an error while processing your request, as scripted."),
    "503": (503, "overloaded", "The server is overloaded, as scripted."),
    "504": (504, "gateway_timeout", "The gateway gave up waiting, as scripted."),
    "error-200": (200, "502", "The provider returned an error, as scripted."),
}
"""Status, code and message of every fault that is an error in words."""

ODD = frozenset({"content-parts", "surrogate", "odd-usage", "odd-fields"})
"""Faults that say the right thing in an odd way."""


def parse_request(body: bytes) -> tuple[str, Asked]:
    """Return model and question of a request body.  Raises `ValueError` saying what is wrong with it."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("model"), str):
        raise ValueError("you must provide a model parameter")
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise ValueError("messages must be a list of at least one message object")
    limit = data.get("max_completion_tokens", data.get("max_tokens"))
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise ValueError("max_completion_tokens must be an integer of at least 1")
    return data["model"], understand(messages, limit)


def completion_body(answer: Answer, model: str, request_id: str, *, fault: str = "ok") -> bytes:
    """Return the JSON of a chat completion, which a `fault` of `ODD` makes odd."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    usage: dict[str, Any] = {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
    if answer.reasoning_tokens:
        usage["completion_tokens_details"] = {"reasoning_tokens": answer.reasoning_tokens}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    body = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": usage,
    }
    if fault in ODD:
        _make_odd(fault, choice, message, usage)
        return json.dumps(body).encode()  # which writes what orjson refuses: -Infinity, and half characters
    return orjson.dumps(body)


def _make_odd(fault: str, choice: dict[str, Any], message: dict[str, Any], usage: dict[str, Any]) -> None:
    match fault:
        case "content-parts":
            message["content"] = [{"type": "thinking", "thinking": "Which one?"}, {"type": "text", "text": message["content"]}]
        case "surrogate":
            message["content"] = f"\ud83d {message['content']}"
        case "odd-usage":
            usage |= {"prompt_tokens": -500_000, "completion_tokens": 2**64}
        case _:
            message |= {"refusal": False, "reasoning": {"steps": []}}
            choice |= {"finish_reason": {"type": choice["finish_reason"]}, "logprobs": {"content": [{"logprob": -math.inf}]}}


def error_body(status: int, code: str, message: str) -> bytes:
    """Return the JSON of an error."""
    kind = "server_error" if status >= 500 else code if status == 429 else "invalid_request_error"
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})
