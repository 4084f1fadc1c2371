"""Keys of a record of somebody else's, with what stands there checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def require(record: Record, *keys: str) -> None:
    """Raise `ValueError` naming the keys that a record lacks."""
    missing = [key for key in keys if key not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing; a record needs {', '.join(keys)}")


def name_of(record: Record, key: str) -> str:
    """Return what names a record.  Raises `ValueError` for anything but a text or a whole number."""
    value = record[key]
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise ValueError(f"{key} is {value!r}; a string or a whole number is expected")
    return str(value)


def text(record: Record, key: str) -> str:
    """Return a text that says something.  Raises `ValueError` for anything else."""
    value = record[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is {type(value).__name__}; it should be a string")
    if not value.strip():
        raise ValueError(f"{key} is empty")
    return value


def texts(record: Record, key: str, *, names: Sequence[str] = ()) -> Sequence[str]:
    """Return a list of texts, one for each of `names` if there are any.  Raises `ValueError` for anything else."""
    value = record[key]
    if not isinstance(value, list) or not value:
        raise ValueError(f"{key} should be a list of responses")
    if names and len(value) != len(names):
        raise ValueError(f"{key} has {len(value)} responses; {len(names)} are expected: {', '.join(names)}")
    return [text({f"{key}[{place}]": each}, f"{key}[{place}]") for place, each in enumerate(value)]


def is_texts(value: object) -> bool:
    """Whether a value is a list of texts, at least one."""
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
