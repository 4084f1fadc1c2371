"""Texts of others, cut to what fits into a line."""

from __future__ import annotations

import re
from typing import NamedTuple

from judgeflow.report.safe import visible
from judgeflow.store.searching import Hit
from judgeflow.types import Prompt

_BLANKS = re.compile(r"\s+")

LINE = 120
AROUND = 100


def words_of(prompt: Prompt) -> str:
    """A prompt, or the last message of its conversation."""
    return prompt if isinstance(prompt, str) else prompt[-1].content if prompt else ""


def first_words(text: str) -> str:
    """The beginning of a text on one line."""
    short = " ".join(visible(text[: 2 * LINE]).split())
    return (short if len(short) <= LINE else short[: LINE - 1] + "…") or "(empty)"


class Spot(NamedTuple):
    """Where a text was found, and what stands there before and after it."""

    place: str
    judge: str
    before: str
    found: str
    after: str


def spots(hit: Hit, words: str) -> list[Spot]:
    """Return where the words are in a pair: in its prompt, its responses, and its judges' replies."""
    prompt = hit.texts.prompt
    messages = [prompt] if isinstance(prompt, str) else [message.content for message in prompt]
    texts = [("prompt", "", text) for text in messages]
    texts += [("response A", "", hit.texts.low), ("response B", "", hit.texts.high)]
    for reply in hit.replies:
        shown = f"{'A' if reply.shown == 'ab' else 'B'} shown first"
        texts += [(f"reply, {shown}", reply.judge, reply.text), (f"reasoning, {shown}", reply.judge, reply.reasoning)]
    found = [(place, judge, text, place_of(text, words)) for place, judge, text in texts]
    return [Spot(place, judge, *around(text, at, len(words))) for place, judge, text, at in found if at is not None]


def place_of(text: str, words: str) -> int | None:
    """Return where a text first has the words, upper case or lower; None where it has not."""
    if words.casefold() not in text.casefold():
        return None
    at = text.lower().find(words.lower())
    return at if at >= 0 else min(len(text), text.casefold().find(words.casefold()))  # about there: ß becomes ss


def around(text: str, at: int, length: int) -> tuple[str, str, str]:
    """A place in a text on one line: what stands before it, the place itself, and what stands after it."""
    start, stop = max(0, at - AROUND), at + length + AROUND
    before, found, after = _line(text[start:at]), _line(text[at : at + length]), _line(text[at + length : stop])
    return f"{'…' if start else ''}{before.lstrip()}", found, f"{after.rstrip()}{'…' if stop < len(text) else ''}"


def _line(text: str) -> str:
    """Made visible, with single blanks, also at its ends."""
    return _BLANKS.sub(" ", visible(text))
