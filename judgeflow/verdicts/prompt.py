"""Prompt templates as data, and texts that cannot break out of their delimiters.

A template is a TOML file: `system` (optional), `user`, and a table `[verdicts]` that maps each final tag to what it means::

    user = "Which response is better? {prompt} {response_a} {response_b} End with [[A]], [[B]] or [[C]]."

    [verdicts]
    "[[A]]" = "first"
    "[[B]]" = "second"
    "[[C]]" = "tie"

`{prompt}`, `{response_a}` (shown first) and `{response_b}` (shown second) stand exactly once each and become blocks such as
`<response_a-9f0c...>` ... `</response_a-9f0c...>`.  The digits are a hash of everything shown, so no response can contain its own
closing delimiter, and a judge that replays recorded replies can tell which question it is asked.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from judgeflow.dialogue import transcript
from judgeflow.errors import ConfigurationError
from judgeflow.keys import NONCE_DIGITS, digest
from judgeflow.types import Message, Question

SLOTS = ("prompt", "response_a", "response_b")
_SLOT = re.compile(r"\{(" + "|".join(SLOTS) + r")\}")
_OPENING = re.compile(rf"<(?:{'|'.join(SLOTS)})-([0-9a-f]{{{NONCE_DIGITS}}})>\n")
_KEYS = {"system", "user", "verdicts", "description"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """What a final tag means: +1 the response shown first, -1 the second, 0 a tie; `strong` unless only slightly better."""

    preferred: int
    strong: bool = True


MEANINGS: Mapping[str, Grade] = {
    "first": Grade(preferred=1),
    "slightly first": Grade(preferred=1, strong=False),
    "tie": Grade(preferred=0),
    "slightly second": Grade(preferred=-1, strong=False),
    "second": Grade(preferred=-1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a question is put, and how the answer's final tag is to be read."""

    name: str
    user: str
    verdicts: Mapping[str, Grade]
    system: str | None = None
    hash: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a rendered prompt shows: the question's nonce and the three texts."""

    nonce: str
    prompt: str
    response_a: str
    response_b: str


def packaged_templates() -> list[str]:
    """Return the names of the templates that come with judgeflow."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def _folder() -> Any:
    return resources.files("judgeflow.verdicts") / "templates"


def load_template(name: str, folder: Path = Path()) -> Template:
    """Load a packaged template by its name, or a user's own from a path ending in .toml (relative to `folder`).

    Raises `ConfigurationError` naming the template and what is wrong with it.
    """
    if name in packaged_templates():
        return parse_template((_folder() / f"{name}.toml").read_text(encoding="utf-8"), name)
    if not name.endswith(".toml"):
        known = ", ".join(packaged_templates())
        raise ConfigurationError(f"[judge] template: no template {name!r}; packaged are {known}, or give the path of a .toml file")
    path = folder / name
    try:
        return parse_template(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"[judge] template: {path} cannot be read: {error}") from None


def parse_template(text: str, name: str) -> Template:
    """Return the template of a TOML text; `name` is used in messages only.  Raises `ConfigurationError`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"template {name}: not valid TOML: {error}") from None
    unknown = sorted(set(data) - _KEYS)
    if unknown:
        raise ConfigurationError(f"template {name}: unknown key {unknown[0]!r}; accepted are {', '.join(sorted(_KEYS))}")
    system, user = data.get("system"), data.get("user")
    if not isinstance(user, str) or not isinstance(system, str | None):
        raise ConfigurationError(f"template {name}: user must be there, and user and system must be strings")
    _require_slots(name, (system or "") + user)
    verdicts = _verdicts(name, data.get("verdicts"))
    meanings = {tag: [grade.preferred, grade.strong] for tag, grade in verdicts.items()}
    key = digest("template/1", {"system": system, "user": user, "verdicts": meanings})
    return Template(name=name, system=system, user=user, verdicts=verdicts, hash=key)


def _require_slots(name: str, text: str) -> None:
    found = _SLOT.findall(text)
    for slot in SLOTS:
        if found.count(slot) != 1:
            raise ConfigurationError(f"template {name}: {{{slot}}} must stand exactly once, not {found.count(slot)} times")


def _verdicts(name: str, table: Any) -> dict[str, Grade]:
    if not isinstance(table, dict) or not table:
        raise ConfigurationError(f'template {name}: a table [verdicts] is needed, for instance "[[A]]" = "first"')
    seen: dict[str, str] = {}
    for tag, meaning in table.items():
        bare = "".join(tag.split()).casefold()
        if not bare:
            raise ConfigurationError(f"template {name}: {tag!r} is no tag: every reply would contain it")
        if seen.setdefault(bare, tag) != tag:
            raise ConfigurationError(f"template {name}: {seen[bare]!r} and {tag!r} cannot be told apart: case and white space do not count")
        if not isinstance(meaning, str) or meaning not in MEANINGS:
            raise ConfigurationError(f"template {name}: {tag!r} means {meaning!r}; accepted are {', '.join(MEANINGS)}")
    missing = {1, -1} - {MEANINGS[meaning].preferred for meaning in table.values()}
    if missing:
        raise ConfigurationError(f"template {name}: [verdicts] must have a tag for each of the two responses")
    return {tag: MEANINGS[meaning] for tag, meaning in table.items()}


def render(template: Template, question: Question) -> tuple[Message, ...]:
    """Return the chat messages that put `question` to a judge."""
    texts = {"prompt": transcript(question.prompt), "response_a": question.first, "response_b": question.second}
    blocks = {slot: f"<{slot}-{question.nonce}>\n{text}\n</{slot}-{question.nonce}>" for slot, text in texts.items()}
    return tuple(
        Message(role=role, content="".join(blocks[part] if place % 2 else part for place, part in enumerate(parts)))
        for role, parts in _pieces(template.system, template.user)
    )


@functools.lru_cache(maxsize=64)
def _pieces(system: str | None, user: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The messages of a template as role and pieces, of which every second one names a slot."""
    messages = [("user", user)] if system is None else [("system", system), ("user", user)]
    return tuple((role, tuple(_SLOT.split(text))) for role, text in messages)


def find_question(messages: Sequence[Mapping[str, Any]]) -> Shown | None:
    """Return what rendered messages show, or None if they were not made by `render`.  For judges that replay.

    The first delimiter is the template's own, whatever the texts behind it contain.
    """
    text = "\n".join(str(message.get("content")) for message in messages)
    opening = _OPENING.search(text)
    if opening is None:
        return None
    blocks = {slot: _block(text, f"{slot}-{opening[1]}") for slot in SLOTS}
    found = {slot: body for slot, body in blocks.items() if body is not None}
    return Shown(nonce=opening[1], **found) if len(found) == len(SLOTS) else None


def _block(text: str, tag: str) -> str | None:
    _, opened, rest = text.partition(f"<{tag}>\n")
    body, closed, _ = rest.partition(f"\n</{tag}>")
    return body if opened and closed else None
