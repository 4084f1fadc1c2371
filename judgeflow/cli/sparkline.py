"""Many numbers in a line of text."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 40
_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int = WIDTH) -> str:
    """Return bars from the least to the largest value, each the mean of its part where there are more values than places.

    A part without a value is a space; where all values are equal, bars are half as high as they could be.
    """
    places = range(min(width, len(values)))
    shown = [_mean(values[place * len(values) // len(places) : (place + 1) * len(values) // len(places)]) for place in places]
    known = [value for value in shown if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    return "".join(" " if value is None else _bar(value, low, high) for value in shown)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _bar(value: float, low: float, high: float) -> str:
    if high <= low:
        return _BARS[len(_BARS) // 2 - 1]
    return _BARS[min(len(_BARS) - 1, int((value - low) / (high - low) * len(_BARS)))]
