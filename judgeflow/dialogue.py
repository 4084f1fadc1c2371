"""Prompts and responses, however they are held: as texts, as chat messages, or as dialogues that one begins with the other.

Messages become text here and nowhere else: `transcript` is what the judge is shown, and what a scorer without a chat template reads;
`turns` is what a chat template is given.  A prompt's key (`judgeflow.keys`) is that of what was handed in: the same messages have
the same key whether they come from a file, a data set, a trainer or over HTTP, and a text has another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from judgeflow.rendered import ASSISTANT, rendered, without_ends
from judgeflow.types import Message, Prompt


def turns(prompt: Prompt) -> tuple[Message, ...]:
    """Return a prompt as messages: a text is the user's, unless a chat template has made it of messages already."""
    return _messages_in(prompt) or (Message(role="user", content=str(prompt)),)


def transcript(prompt: Prompt) -> str:
    """Return a prompt as one text: a conversation, also one in a template's tokens, becomes one block per turn."""
    messages = _messages_in(prompt)
    if messages is None:
        return str(prompt)
    return "\n\n".join(f"{message.role.capitalize()}: {message.content}" for message in messages)


def _messages_in(prompt: Prompt) -> tuple[Message, ...] | None:
    if not isinstance(prompt, str):
        return prompt
    found = rendered(prompt)
    return None if found is None else found.messages


def prompt_of(value: object) -> Prompt:
    """Return a prompt given as text or as chat messages.

    The content of a message may be text, or parts that are all text; calls of tools follow it as JSON.  Raises `ValueError` for anything
    else, above all for images: a judge is shown text only.
    """
    return value if isinstance(value, str) else tuple(message_of(message) for message in _messages(value, "a prompt"))


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
    shown = [message_of(message) for message in messages]
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in shown)


def is_conversational(value: object) -> bool:
    """Whether a prompt or a completion is a list of messages."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def message_of(message: Mapping[str, Any]) -> Message:
    """Return one message, calls of tools with its content.  Raises `ValueError` saying what it lacks."""
    role = message.get("role")
    if not isinstance(role, str):
        beside = f", only {', '.join(map(str, message))}" if message else ""
        raise ValueError(f"a message has no 'role'{beside}; expected are 'role' and 'content'")
    return Message(role=role, content=_with_calls(message))


def prompt_and_responses(prompt: object, sides: Mapping[str, object]) -> tuple[Prompt, str, str]:
    """Return the prompt of two responses, and their texts.  A message names a side by its name in `sides`.

    A side is a text; the messages of a response; or a whole dialogue, as messages or in the tokens of a chat template, that begins as the
    other does.  What two dialogues share is then the prompt, up to where the assistant says the one or the other; `prompt` may be None,
    and where it is a text beside dialogues, they say it better.  Raises `ValueError` for sides that do not answer one prompt.
    """
    (first, one), (second, other) = sides.items()
    if isinstance(one, str) and isinstance(other, str) and None in (rendered(one), rendered(other)):
        if prompt is None:
            begin = "; where both begin with it: --format implicit-prompt" if first == "chosen" else ""
            raise ValueError(f"prompt is missing; where another column holds it, say so: --columns prompt=NAME{begin}")
        return _of_texts(prompt, one, other)
    one, other = _dialogue(one, first), _dialogue(other, second)
    if prompt is not None and not isinstance(prompt, str):
        begun = [message_of(message) for message in _messages(prompt, "a prompt")]
        return tuple(begun), _answer(one, begun, first), _answer(other, begun, second)
    shared = _shared(one, other)
    if not shared and prompt is None:
        raise ValueError(f"prompt is missing, and {first} and {second} do not begin with the same messages")
    found = prompt_of(one[:shared] or prompt)
    return found, _answer(one[shared:], (), first), _answer(other[shared:], (), second)


def _of_texts(prompt: object, one: str, other: str) -> tuple[Prompt, str, str]:
    shown = prompt_of(prompt)
    if isinstance(shown, str) and (found := rendered(shown)) is not None and found.open:
        return shown, without_ends(one), without_ends(other)
    return shown, one, other


def _dialogue(side: object, name: str) -> list[Mapping[str, Any]]:
    """A side as messages, each of which can be read; a text that is no dialogue is the assistant's."""
    if isinstance(side, str):
        found = rendered(side)
        side = (Message(role=ASSISTANT, content=side),) if found is None else found.messages
    try:
        messages = _messages([side] if isinstance(side, Mapping) else side, "a completion")
        last = [message_of(message) for message in messages][-1]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if last.role != ASSISTANT:
        raise ValueError(f"{name} is a dialogue that does not end with a message of the assistant, but of the {last.role}")
    return messages


def _shared(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> int:
    """How many messages two dialogues begin with, before the assistant answers in each."""
    most = min(len(one), len(other)) - 1
    count = next((place for place in range(most) if message_of(one[place]) != message_of(other[place])), most)
    while count and not one[count].get("role") == other[count].get("role") == ASSISTANT:
        count -= 1
    return count


def _answer(messages: Sequence[Mapping[str, Any]], prompt: Sequence[Message], name: str) -> str:
    """What the assistant says after `prompt`, which the messages may begin with."""
    if prompt and [message_of(message) for message in messages[: len(prompt)]] == list(prompt):
        messages = messages[len(prompt) :]
    if not messages or messages[0].get("role") != ASSISTANT:
        raise ValueError(f"{name} begins neither with the assistant's answer nor with the messages of the prompt")
    return response_of(messages)


def _messages(value: object, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ValueError(f"{what} is a text or a list of messages, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{what} given as messages needs at least one message")
    for message in value:
        if not isinstance(message, Mapping | Message):
            raise ValueError(f"a message has 'role' and 'content', it is not {type(message).__name__}")
    return [message if isinstance(message, Mapping) else dataclasses.asdict(message) for message in value]


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
    return "\n".join(text for text in [_content(message), *shown] if text) if shown else _content(message)
