"""Prompts and completions as trainers hold them, plain or conversational, as the texts that a judge reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from judgeflow.types import Message, Prompt


def prompt_of(value: object) -> Prompt:
    """Return a prompt given as text or as chat messages.

    The content of a message may be text, or parts that are all text.  Raises `ValueError` for anything else, above all for images: a judge
    is shown text only.
    """
    if isinstance(value, str):
        return value
    messages = _messages(value, "a prompt")
    return tuple(Message(role=_role(message), content=_content(message)) for message in messages)


def response_of(value: object) -> str:
    """Return a completion given as text, or as the messages that the policy has added.

    One assistant message is its content.  Where tools were called, it is a transcript: each message below its role, calls as JSON.
    What a model thinks beside its content is not shown.  Raises `ValueError` for anything else.
    """
    if isinstance(value, str):
        return value
    messages = _messages(value, "a completion")
    if len(messages) == 1 and not messages[0].get("tool_calls"):
        return _content(messages[0])
    return "\n\n".join(f"[{_role(message)}]\n{_with_calls(message)}" for message in messages)


def is_conversational(value: object) -> bool:
    """Whether a prompt or a completion is a list of messages."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def _messages(value: object, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise ValueError(f"{what} is a text or a list of messages, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{what} given as messages needs at least one message")
    for message in value:
        if not isinstance(message, Mapping):
            raise ValueError(f"a message has 'role' and 'content', it is not {type(message).__name__}")
    return list(value)


def _role(message: Mapping[str, Any]) -> str:
    role = message.get("role")
    if not isinstance(role, str):
        raise ValueError("a message has no 'role'")
    return role


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if content is None and message.get("tool_calls"):
        return ""
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return "".join(_part(part) for part in content)
    raise ValueError(f"the content of a message is a text, not {type(content).__name__}")


def _part(part: object) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
    if isinstance(text, str):
        return text
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    raise ValueError(f"a message has a part of type {kind}; the judge is shown text only")


def _with_calls(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or ()
    shown = [orjson.dumps(call, option=orjson.OPT_SORT_KEYS, default=str).decode() for call in calls]
    return "\n".join(text for text in [_content(message), *shown] if text)
