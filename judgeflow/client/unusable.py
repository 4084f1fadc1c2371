"""Finds what JSON cannot hold in a request: half a character, bytes that are no UTF-8, objects that are neither text nor number.

Pure, and slow beside a parser: it looks where one has failed already, which knows a column at best.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

from pydantic_core import PydanticSerializationError, to_json

Place = tuple[int | str, ...]
"""Names of fields and indexes, from the outside in."""


def unusable_in(body: bytes) -> tuple[Place, str] | None:
    """Return where the first text that is none stands in a JSON body, and what is wrong with it; None where something else is wrong."""
    try:
        return unusable(json.loads(body.decode(errors="surrogateescape"), strict=False))
    except (ValueError, RecursionError):
        return None


def unusable(request: object) -> tuple[Place, str] | None:
    """Return where the first thing stands that JSON cannot hold, and what is wrong with it; None if it can hold everything."""
    try:
        return _wrong(request)
    except RecursionError:
        return (), "it is nested too deeply, or contains itself"


def _wrong(value: object) -> tuple[Place, str] | None:
    parts = _parts(value)
    if parts is None:
        reason = _reason(value)
        return None if reason is None else ((), reason)
    for part, each in parts:
        found = None if isinstance(each, int | float | None) else _wrong(each)
        if found is not None:
            return (*part, *found[0]), found[1]
    return None


def _parts(value: object) -> Iterator[tuple[Place, object]] | None:
    """What a value is made of, and where in it; None for one that has no parts.  Names stand where their mapping does."""
    if is_dataclass(value):
        return (((field.name,), getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return (part for name, each in value.items() for part in (((), name), ((str(name),), each)))
    if isinstance(value, list | tuple):
        return (((index,), each) for index, each in enumerate(value))
    return None


def _reason(value: object) -> str | None:
    if isinstance(value, str):
        return _broken(value)
    try:
        to_json(value)
    except PydanticSerializationError:
        return f"{type(value).__name__} is nothing that JSON can hold"
    return None


def _broken(text: str) -> str | None:
    """What is wrong with a text that is no Unicode; bytes that are no UTF-8 stand in it as `surrogateescape` has them."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        what = f"a byte that is no UTF-8 (0x{code - 0xDC00:02x})" if 0xDC80 <= code <= 0xDCFF else f"half a character (U+{code:04X})"
        return f"there is {what} at position {error.start}, so it is no text; cut texts between characters"
    return None
