"""Texts in which every character comes back, also the one that PostgreSQL does not take.

A text there cannot contain U+0000, but a reply that was paid for may, and the keys of a pair are hashes of its exact texts.  So
what goes to PostgreSQL is written with two escapes: U+0000 as U+001A 0, and U+001A, hardly ever seen, as U+001A 1.  Every other
text stands there as it is.  SQLite takes them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Table, Text, func
from sqlalchemy.types import TypeDecorator

_ESCAPE, _NUL = "\x1a", "\x00"


def escaped(text: str | None) -> str | None:
    """Return what to store for `text` where U+0000 is refused."""
    if not isinstance(text, str) or (_NUL not in text and _ESCAPE not in text):
        return text  # what is no text at all is the driver's to refuse
    return text.replace(_ESCAPE, _ESCAPE + "1").replace(_NUL, _ESCAPE + "0")


def unescaped(text: str | None) -> str | None:
    """Return the text that `escaped` was given."""
    if text is None or _ESCAPE not in text:
        return text
    return text.replace(_ESCAPE + "0", _NUL).replace(_ESCAPE + "1", _ESCAPE)


class AnyText(TypeDecorator[str]):
    """A column of texts with any characters."""

    impl = Text
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """Escape on the way to PostgreSQL; elsewhere nothing is to be done."""
        return escaped if _refuses_nul(dialect) else None

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:  # noqa: ARG002  # SQLAlchemy's signature
        """Take the escapes out again."""
        return unescaped if _refuses_nul(dialect) else None


HOLDS = "judgeflow_holds"
"""What `holds_folded` is called in SQL."""


def sought(dialect: Dialect, words: str) -> str:
    """Return words as `holds` takes them."""
    return words.casefold() if dialect.name == "sqlite" else words


def holds(dialect: Dialect, column: ColumnElement[str], words: Any) -> ColumnElement[bool]:
    """Whether a text holds what `sought` has made of some words, upper case or lower.

    On SQLite, whose own LIKE folds ASCII alone, `holds_folded` tells, and the words may be a parameter of a statement.
    """
    if dialect.name == "sqlite":
        found: ColumnElement[bool] = getattr(func, HOLDS)(column, words) == 1
        return found
    return column.icontains(words, autoescape=True)


def holds_folded(text: str, folded: str) -> bool:
    """Whether a text holds `folded`, which `str.casefold` has made."""
    return folded in text.casefold()


def for_driver(
    dialect: Dialect, table: Table, columns: tuple[str, ...], values: Sequence[tuple[Any, ...]]
) -> tuple[tuple[str, ...], Sequence[tuple[Any, ...]]]:
    """Return rows of these columns as a driver takes them that is used without SQLAlchemy's types."""
    if not _refuses_nul(dialect):
        return columns, values
    are_texts = [isinstance(table.c[name].type, AnyText) for name in columns]
    return columns, [tuple(escaped(value) if is_text else value for is_text, value in zip(are_texts, row, strict=True)) for row in values]


def _refuses_nul(dialect: Dialect) -> bool:
    return dialect.name == "postgresql"
