"""Texts that a chat template has made, as the messages that it made them of.

A dialogue that carries its template's tokens already (`<|im_start|>user ...`) is read as messages again wherever it is shown or split, so
that no text is put through a second template.  Only a text that consists of nothing but one template's turns counts: a question about such
tokens stays a text.

    ChatML                 <|im_start|>role ... <|im_end|>
    Llama 3                <|start_header_id|>role<|end_header_id|> ... <|eot_id|>
    Gemma                  <start_of_turn>role ... <end_of_turn>
    Zephyr, Phi            <|role|> ... </s>, <|end|>
    Llama 2, Mistral       [INST] ... [/INST] ... </s>
    hh-rlhf                two line breaks, Human: or Assistant:
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from judgeflow.types import Message

BEGINNINGS = ("<|begin_of_text|>", "<|endoftext|>", "<bos>", "<s>")
"""What a text may begin with and is no part of its first turn."""

ENDS = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>", "<eos>", "</s>", "<pad>")
"""What a response may end with and is no part of it."""

ASSISTANT = "assistant"
_ROLES: Mapping[str, str] = {"Human": "user", "Assistant": ASSISTANT, "model": ASSISTANT, "[INST]": "user", "[/INST]": ASSISTANT}
_NOTHING_YET = re.compile(r"\s*(<think>\s*(</think>\s*)?)?")
"""What may stand where a response is asked for: nothing, or thoughts that are begun or left out."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a template writes turns: `opening` has the role as its group, and every turn but the last ends with one of `closings`, if any."""

    opening: re.Pattern[str]
    closings: tuple[str, ...] = ()
    may_close: tuple[str, ...] = ()
    spaces: str = field(default="")


HH = _Form(re.compile(r"\n\n(Human|Assistant): ?"))
_FORMS: Mapping[str, _Form] = {
    "<|im_start|>": _Form(re.compile(r"<\|im_start\|>(\w+)\n"), ("<|im_end|>",)),
    "<|start_header_id|>": _Form(re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\n\n"), ("<|eot_id|>",)),
    "<start_of_turn>": _Form(re.compile(r"<start_of_turn>(\w+)\n"), ("<end_of_turn>",)),
    **dict.fromkeys(
        ("<|system|>", "<|user|>"), _Form(re.compile(r"<\|(system|user|assistant)\|>\n"), ("</s>", "<|end|>", "<|endoftext|>"))
    ),
    "[INST]": _Form(re.compile(r"(\[/?INST\])"), may_close=("</s>",), spaces=" "),
    "\n\nHuman:": HH,
}
_STARTS = (*_FORMS, *BEGINNINGS)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The messages of a text that a template has made; `open` if a response is to follow, and there is no more of it than a prefix."""

    messages: tuple[Message, ...]
    open: bool


def rendered(text: str) -> Rendered | None:
    """Return the messages of a text that is a whole dialogue in one template's form; None for any other text."""
    if not text.startswith(_STARTS):
        return None
    for beginning in BEGINNINGS:
        text = text.removeprefix(beginning)
    form = next((form for start, form in _FORMS.items() if text.startswith(start)), None)
    return None if form is None else _read(text, form)


def without_ends(text: str) -> str:
    """Return a response without the special tokens that end it, and without the line breaks between and after those."""
    while (end := next((each for each in ENDS if text.rstrip("\n").endswith(each)), None)) is not None:
        text = text.rstrip("\n").removesuffix(end)
    return text


def _read(text: str, form: _Form) -> Rendered | None:
    openings = list(form.opening.finditer(text))
    if not openings or openings[0].start():
        return None
    ends = [opening.start() for opening in openings[1:]]
    bodies = [text[opening.end() : end] for opening, end in zip(openings, [*ends, len(text)], strict=True)]
    closed = [_closed(body, form) for body in bodies]
    if form.closings and not all(is_closed for _, is_closed in closed[:-1]):
        return None
    roles = [_ROLES.get(opening[1], opening[1]) for opening in openings]
    messages = [Message(role=role, content=content) for role, (content, _) in zip(roles, closed, strict=True)]
    is_open = roles[-1] == ASSISTANT and not closed[-1][1]
    if is_open and _NOTHING_YET.fullmatch(messages[-1].content):
        messages.pop()
    return Rendered(tuple(messages), is_open) if messages else None


def _closed(body: str, form: _Form) -> tuple[str, bool]:
    """The content of a turn, and whether its end is marked."""
    shown = body.rstrip() if form.closings or form.may_close else body
    end = next((each for each in (*form.closings, *form.may_close) if shown.endswith(each)), None)
    content = body if end is None else shown.removesuffix(end)
    return content.strip(form.spaces) if form.spaces else content, end is not None
