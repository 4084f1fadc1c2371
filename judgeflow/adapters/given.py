"""Settings of adapters, checked where they are given: before anything is sampled."""

from __future__ import annotations

import math
from typing import SupportsFloat, SupportsIndex

from judgeflow.errors import UsageError


def size_of(value: object, name: str) -> int:
    """Return how many responses a group has; errors call it `name`.  Raises `UsageError` for what is no whole number of two or more."""
    size = value.__index__() if isinstance(value, SupportsIndex) else 0
    if size < 2:
        raise UsageError(f"{name} is {value!r}; responses are compared with their siblings, so a prompt needs two or more")
    return size


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
