"""What to say about settings that cannot be used: which key, where it was set, and what would be accepted.

Settings are pydantic models in models: a section is a field that holds a model, or a table of models by name.  Nothing here knows which
sections there are; `root` is the model of the whole.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

_SECRET = re.compile(r"\b(sk-|sk_|gsk_|hf_|AIza)[\w-]+|(?<=://)[^/@\s]+(?=@)")
_LONGEST_SHOWN = 80
_BRANCH = re.compile(r"(constrained-)?float|literal\[.*\]")
"""What pydantic calls the branches of a union, which are no keys."""

_TABLE = 'it should be a TOML inline table, for instance {top_p = 0.9}; from outside the file also a JSON object, {"top_p": 0.9}'


@dataclass(frozen=True, slots=True)
class Origin:
    """Where settings come from: a file and its text, and by path what else has set a key (a variable, a flag)."""

    source: Path
    text: str
    others: Mapping[tuple[str, ...], str]

    def of(self, where: tuple[str, ...], depth: int) -> str:
        """`file:line` of a key, or the variable or flag that set it; a key that is missing stands where its section does."""
        lines = (line_of(where[:length], self.text) for length in range(len(where), 0, -1))
        line = next((number for number in lines if number), None)
        setting = where[:depth]
        if setting in self.others and (len(setting) == depth or not line):
            return self.others[setting]
        if line:
            return f"{self.source}:{line}"
        opened = (self.others.get(setting[:length]) for length in range(len(setting), 0, -1))
        return next((other for other in opened if other), str(self.source))


def line_of(where: tuple[str, ...], text: str) -> int | None:
    """Return the line of a section's header, or of the key that holds what `where` names; None if it stands nowhere."""
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            section = tuple(part.strip(" \t\"'") for part in header[1].split("."))
        elif section and where[: len(section)] == section and _sets(line, where[len(section) :]):
            return number
        if header and section == where:
            return number
    return None


def _sets(line: str, keys: tuple[str, ...]) -> bool:
    return bool(keys) and re.match(rf"\s*\"?{re.escape(keys[0])}\"?\s*[.=]", line) is not None


def model_of(root: type[BaseModel], section: Sequence[str]) -> type[BaseModel] | None:
    """Return the model whose fields are the keys of a section, given by the names that lead to it; None if there is none."""
    kind: Any = root
    for part in section:
        kind = _inside(kind, part)
    return kind if _is_model(kind) else None


def depth_of(root: type[BaseModel], path: Sequence[str]) -> int:
    """Return how many names lead to a key of the section that `path` is in, or is."""
    kind: Any = root
    for depth, part in enumerate(path, start=1):
        kind = _inside(kind, part)
        if not _is_section(kind):
            return max(2, depth)
    return max(2, len(path) + 1)


def _inside(kind: Any, part: str) -> Any:
    """What stands under a name: the type of a field, without its None, or what a table holds."""
    if not _is_model(kind):
        return get_args(kind)[1] if _is_section(kind) else None
    field = kind.model_fields.get(part)
    annotation = field.annotation if field else None
    options = () if _is_section(annotation) else get_args(annotation)
    return next((option for option in options if _is_model(option)), annotation)


def _is_section(kind: Any) -> bool:
    return _is_model(kind) or (get_origin(kind) is dict and _is_model(get_args(kind)[1]))


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def describe(problem: Any, root: type[BaseModel], origin: Origin, hints: Mapping[tuple[str, ...], str]) -> str:
    """Return one line about one of pydantic's errors; `hints` say what keys accept that pydantic would explain at length."""
    where = tuple(str(part) for part in problem["loc"] if not _BRANCH.fullmatch(str(part)))
    if problem["type"] == "value_error":
        message = _addressed(str(problem["ctx"]["error"]), where)
        named = re.match(r"\[([\w.]+)\] (\w+)", message)
        where = (*named[1].split("."), named[2]) if named else where
        return f"{origin.of(where, depth_of(root, where))}: {message}"
    depth = depth_of(root, where)
    return f"{origin.of(where, depth)}: {_name(where, depth)}: {_explain(problem, where, root, hints)}"


def _addressed(message: str, where: tuple[str, ...]) -> str:
    """A message about a table's entry, whose model does not know its own name and calls itself by the section's singular."""
    if len(where) < 2 or not where[0].endswith("s"):
        return message
    return message.replace(f"[{where[0].removesuffix('s')}]", f"[{where[0]}.{where[1]}]")


def _name(where: tuple[str, ...], depth: int) -> str:
    """A key as messages call it: [section] key."""
    if not where:
        return "configuration"
    section = min(len(where), depth - 1)
    return f"[{'.'.join(where[:section])}] {'.'.join(where[section:])}".strip()


def _explain(problem: Any, where: tuple[str, ...], root: type[BaseModel], hints: Mapping[tuple[str, ...], str]) -> str:
    if problem["type"] == "extra_forbidden":
        return _unknown(where, root, problem["input"])
    if problem["type"] == "missing":
        return "is required" if len(where) == depth_of(root, where) else "this section is required"
    if problem["type"] == "model_type":
        return f"must be a section, written [{'.'.join(where)}]"
    if problem["type"] == "dict_type" and len(where) == 1:
        return f"must hold one section each, written [{where[0]}.NAME]"
    accepted = _TABLE if problem["type"] == "dict_type" else problem["msg"][0].lower() + problem["msg"][1:]
    return f"{shown(problem['input'])} is not accepted; {hints.get(where, accepted).replace('input should', 'it should')}"


def _unknown(where: tuple[str, ...], root: type[BaseModel], value: Any) -> str:
    model = model_of(root, where[:-1])
    known = list(model.model_fields) if model else []
    close = difflib.get_close_matches(where[-1], known, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    if isinstance(value, dict) and len(where) == 2 and model_of(root, (f"{where[0]}s", where[1])):
        hint = f"; one more {where[0]} is written [{where[0]}s.{where[1]}]."
    return f"unknown {'section' if len(where) == 1 else 'key'}{hint} Accepted: {', '.join(known)}"


def shown(value: Any) -> str:
    """Return a value as a message may show it: cut short, and without what looks like a secret."""
    text = _SECRET.sub("***", repr(value))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
