"""Texts that others wrote, made fit to be shown: whole where they are short, cut with their length said where they are not."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

LONGEST_TEXT = 20_000
"""Characters of one text on a page: several screens, while the longest replies of a whole page stay below a megabyte."""

LONGEST_NAME, LONGEST_LABEL = 60, 30

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]")
"""Control characters, marks that turn the direction of what follows, and what is no character: none may act on the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The beginning of a text, and how many characters of it are not shown."""

    text: str
    cut: int = 0


def visible(text: str) -> str:
    """The text with every character that would act instead of being seen spelled out, as in ⟨U+202E⟩; newlines and tabs stay."""
    plain = _ANSI.sub(lambda found: f"⟨ESC{found.group()[1:]}⟩", text.replace("\r\n", "\n"))
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", plain)


def excerpt(text: str, longest: int = LONGEST_TEXT) -> Excerpt:
    """The first `longest` characters, made visible."""
    return Excerpt(text=visible(text[:longest]), cut=max(0, len(text) - longest))


def label(text: str) -> str:
    """A name for plotly, which reads some HTML in texts: escaped, and short enough for the side of a chart on a phone."""
    return html.escape(shortened(text, LONGEST_LABEL), quote=False)


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """A name on one line, made visible, without its middle where it is long: its end often says more."""
    tail = longest // 3
    short = text if len(text) <= longest else f"{text[: longest - tail - 1]}…{text[-tail:]}"
    return " ".join(visible(short).split())


def json_for_script(value: object) -> str:
    """JSON that can stand inside a `<script>` element: nothing in it ends the element or begins a comment."""
    text = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def plain_config(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """A configuration as lines (section.key, value as JSON), in its own order."""
    lines: list[tuple[str, str]] = []
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            lines += [(f"{name}.{inner}", text) for inner, text in plain_config(value)]
        else:
            lines.append((name, json.dumps(value, default=str, ensure_ascii=False)))
    return lines
