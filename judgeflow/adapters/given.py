"""Settings of adapters, checked where they are given: before anything is sampled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import SupportsFloat, SupportsIndex

from judgeflow.errors import UsageError


def size_of(value: object, name: str) -> int:
    """Return how many responses a group has; errors call it `name`.  Raises `UsageError` for what is no whole number of two or more."""
    size = value.__index__() if isinstance(value, SupportsIndex) else 0
    if size < 2:
        raise UsageError(f"{name} is {value!r}; responses are compared with their siblings, so a prompt needs two or more")
    return size


def name_of(value: object, name: str) -> str:
    """Return what something is to be called; errors call it `name`.  Raises `UsageError` for what is no text, or empty."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} is {value!r}; expected is a text")
    return value


def token_ids(value: object, name: str) -> frozenset[int]:
    """Return ids of tokens, none for (); errors call it `name`.  Raises `UsageError` for what is no collection of whole numbers."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageError(f"{name} is {value!r}; expected is a list such as [tokenizer.eos_token_id]")
    ids = tuple(value)
    for each in ids:
        if not isinstance(each, SupportsIndex):
            raise UsageError(f"{name} holds {each!r}; expected are whole numbers, such as [tokenizer.eos_token_id]")
    return frozenset(each.__index__() for each in ids)


def finite(value: object, name: str) -> float:
    """Return a number; errors call it `name`.  Raises `UsageError` for what is none, or is not finite."""
    number = float(value) if isinstance(value, SupportsFloat) else math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name} is {value!r}; expected is a finite number")
    return number


def seconds_of(value: object, name: str) -> float:
    """Return a time; errors call it `name`.  Raises `UsageError` for what is no finite number above 0."""
    seconds = finite(value, name)
    if seconds <= 0.0:
        raise UsageError(f"{name} is {value!r}; expected are seconds, more than 0")
    return seconds
