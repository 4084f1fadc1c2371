"""What a chat completion says, read as tolerantly as money demands: a reply that was paid for is kept if it can be read at all.

Servers differ in everything beside the text.  So each field is read by itself, and one that makes no sense costs that field, not
the reply: usage that counts nothing is estimated, content in parts is joined, and content that is no text is kept in `reasoning`,
where no verdict is looked for.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import orjson

from judgeflow.tokens import ESTIMATE_BYTES_PER_TOKEN
from judgeflow.types import Usage

CREDIBLE_TOKENS = 10**9
"""No request or reply has more tokens: a larger count is an error of the server and is estimated instead."""

_LARGEST_ERROR = 2**16
_SPOKEN_PARTS = frozenset({None, "text", "output_text"})
_STATUS_OF_CODE = {
    "invalid_api_key": 401,
    "authentication_error": 401,
    "permission_denied": 403,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "context_length_exceeded": 400,
    "invalid_request": 400,
    "invalid_request_error": 400,
    "content_filter": 400,
    "server_error": 500,
    "api_error": 500,
    "overloaded": 503,
    "overloaded_error": 503,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The fields of a chat completion that a reply is made of.  All texts are valid Unicode."""

    text: str
    reasoning: str
    refusal: str | None
    finish_reason: str | None
    model: str
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBody:
    """An error as OpenAI-compatible servers word it.

    `code` is its code or type, one in words before one that is a number; `status` is the HTTP status that it stands for, if it is
    known.  `flagged`: a moderator has found something in this question (OpenRouter says so with a 403).
    """

    message: str
    code: str | None = None
    status: int | None = None
    flagged: bool = False


def parse_json(payload: bytes) -> Any:
    """Return the JSON value of a body.  Raises `ValueError` if there is none.

    NaN, infinities, lone surrogates, raw control characters and bytes that are no UTF-8 are forgiven: they stand in fields nobody
    reads, or spoil one character of a text.
    """
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        try:
            return json.loads(payload.decode("utf-8-sig", "replace"), strict=False)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None


def read_completion(data: Any, asked_bytes: int) -> Completion | None:
    """Return what a parsed body says, or None if it is no chat completion: no object, or one without a choice.

    `asked_bytes` is the size of the request, from which missing usage is estimated.
    """
    choice = _first_choice(data)
    if choice is None:
        return None
    message = choice.get("message")
    fields = message if isinstance(message, dict) else {"content": message}
    text = spoken(fields.get("content"))
    unread = "" if text is not None else _as_text(fields["content"])
    reasoning = _as_text(fields.get("reasoning_content")) or _as_text(fields.get("reasoning")) or unread
    refusal = _as_text(fields.get("refusal")) or _refused_part(fields.get("content")) or None
    return Completion(
        text=text or "",
        reasoning=reasoning,
        refusal=refusal,
        finish_reason=_finish_reason(choice.get("finish_reason")),
        model=_as_text(data.get("model")),
        usage=usage_of(data.get("usage"), asked_bytes, (text or "") + reasoning),
    )


def _first_choice(data: Any) -> dict[str, Any] | None:
    choices = data.get("choices") if isinstance(data, dict) else None
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None


def spoken(content: Any) -> str | None:
    """Return the text of a message's content: a string, null, or parts of which those of text are joined; None for anything else."""
    if content is None:
        return ""
    if isinstance(content, str):
        return readable(content)
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list) or not all(map(_is_part, parts)):
        return None
    return readable("".join(part if isinstance(part, str) else _text_of_part(part) for part in parts))


def _is_part(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and isinstance(part.get("type", part.get("text")), str))


def _text_of_part(part: dict[str, Any]) -> str:
    """What a part says aloud: parts of other kinds are thoughts, refusals or pictures."""
    text = part.get("text")
    return text if part.get("type") in _SPOKEN_PARTS and isinstance(text, str) else ""


def _refused_part(content: Any) -> str:
    """The refusal among the parts of a content, if there is one."""
    parts = content if isinstance(content, list) else [content]
    return "".join(_as_text(part.get("refusal")) for part in parts if isinstance(part, dict))


def _as_text(value: Any) -> str:
    """A field that should be a text: itself, nothing for what is empty or false, and JSON for the rest."""
    if isinstance(value, str):
        return readable(value)
    return readable(json.dumps(value, ensure_ascii=False)) if value else ""


def _finish_reason(value: Any) -> str | None:
    reason = value.get("type") if isinstance(value, dict) else value
    return readable(reason) if isinstance(reason, str) else None


def readable(text: str) -> str:
    """Return `text` with "?" for lone surrogates, which are half a character and can neither be stored nor shown."""
    return text.encode(errors="replace").decode()


def usage_of(usage: Any, asked_bytes: int, text: str) -> Usage:
    """Return the tokens that a reply is billed for; what the server does not count credibly is estimated by size."""
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = _tokens(counts.get("prompt_tokens")), _tokens(counts.get("completion_tokens"))
    prompt = _estimated(asked_bytes) if prompt is None else prompt
    completion = _estimated(len(text.encode())) if completion is None else completion
    return Usage(
        prompt=prompt,
        completion=completion,
        reasoning=min(_detail(counts, "completion_tokens_details", "reasoning_tokens"), completion),
        cached=min(_detail(counts, "prompt_tokens_details", "cached_tokens"), prompt),
    )


def _tokens(value: Any) -> int | None:
    """A count of tokens; None for what cannot be one."""
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= CREDIBLE_TOKENS:
        return None
    return int(value)


def _detail(counts: dict[str, Any], group: str, name: str) -> int:
    details = counts.get(group)
    return _tokens(details.get(name)) or 0 if isinstance(details, dict) else 0


def _estimated(size: int) -> int:
    return -(-size // ESTIMATE_BYTES_PER_TOKEN)


def read_error(data: Any) -> ErrorBody | None:
    """Return the error that a parsed body reports, or None if it reports none."""
    error = data.get("error") if isinstance(data, dict) else None
    if not error:
        return None
    if isinstance(error, dict):
        codes = [str(code) for code in (error.get("code"), error.get("type")) if isinstance(code, str | int) and code]
        metadata = error.get("metadata")
        return ErrorBody(
            message=_as_text(error.get("message")) or _as_text(error),
            code=next((code for code in codes if not code.isdigit()), codes[0] if codes else None),
            status=next((status for status in map(_status, codes) if status is not None), None),
            flagged=isinstance(metadata, dict) and "flagged_input" in metadata,
        )
    return ErrorBody(message=_as_text(error))


def error_of(payload: bytes) -> ErrorBody:
    """Return the error of a body that is no success: as OpenAI words it, or as the text that it is."""
    try:
        error = read_error(parse_json(payload))
    except ValueError:
        error = None
    return error or ErrorBody(message=payload[:_LARGEST_ERROR].decode("utf-8", "replace").strip() or "an empty body")


def _status(code: str) -> int | None:
    return int(code) if re.fullmatch("[45][0-9]{2}", code) else _STATUS_OF_CODE.get(code)
