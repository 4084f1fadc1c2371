"""Texts of others, cut to what fits into a line."""

from __future__ import annotations

from judgeflow.report.safe import visible
from judgeflow.types import Prompt

LINE = 120
AROUND = 100


def words_of(prompt: Prompt) -> str:
    """A prompt, or the last message of its conversation."""
    return prompt if isinstance(prompt, str) else prompt[-1].content if prompt else ""


def first_words(text: str) -> str:
    """The beginning of a text on one line."""
    short = " ".join(visible(text[: 2 * LINE]).split())
    return (short if len(short) <= LINE else short[: LINE - 1] + "…") or "(empty)"


def around(texts: tuple[str, ...], words: str) -> str:
    """What stands around the first place where one of the texts contains the words; upper case or lower."""
    wanted = words.lower()
    for text in texts:
        at = text.lower().find(wanted)
        if at >= 0:
            start, stop = max(0, at - AROUND), at + len(words) + AROUND
            inside = " ".join(visible(text[start:stop]).split())
            return f"{'…' if start else ''}{inside}{'…' if stop < len(text) else ''}"
    return ""
