"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from judgeflow.report.figures import PairFigures, Share, SideReply

UNKNOWN = "–"  # noqa: RUF001 - a dash as wide as a digit

_UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
"""Seconds of a unit and of the one below it, with their names, the largest first."""


def count(value: float | None) -> str:
    """Thousands apart: 12,345."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A share between 0 and 1 as a percentage, with a digit behind the point where it is small."""
    if value is None:
        return UNKNOWN
    return f"{100 * value:.1f}%" if 0 < abs(value) < 0.0995 else f"{100 * value:.0f}%"


def interval(share: Share | None) -> str:
    """A share with its interval and of how many it is: 88% (81 to 93%, of 320)."""
    if share is None:
        return UNKNOWN
    return f"{percent(share.value)} ({100 * share.low:.0f} to {percent(share.high)}, of {count(share.of)})"


def money(value: float | None) -> str:
    """US dollars, with as many digits as small sums need."""
    if value is None:
        return UNKNOWN
    if value == 0 or abs(value) >= 100:
        return f"${value:,.0f}"
    return f"${value:,.2f}" if abs(value) >= 0.1 else f"${value:#.2g}" if abs(value) >= 1e-4 else f"${value:.1e}"


def duration(seconds: float | None) -> str:
    """Seconds, as the two largest units that say it."""
    if seconds is None:
        return UNKNOWN
    if seconds < 59.95:
        return f"{seconds * 1000:.0f} ms" if 0 < seconds < 0.9995 else f"{seconds:.1f} s"
    size, unit, smaller, below = next(each for each in _UNITS if seconds >= each[0] - each[2] / 2)
    whole, rest = divmod(round(seconds / smaller), size // smaller)
    return f"{whole} {unit} {rest} {below}" if rest else f"{whole} {unit}"


def number(value: float | None, digits: int = 3) -> str:
    """So many significant digits, and more only where they stand before the point."""
    if value is None:
        return UNKNOWN
    return count(value) if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def moment(unix_s: float | None) -> str:
    """A Unix time as date and time, UTC."""
    return UNKNOWN if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def by_judge(pair: PairFigures, say: Callable[[SideReply], str], between: str = ", ") -> str:
    """What the replies to a pair are said to be, in the order they stand in; with the names of their judges where there are several."""
    return grouped(((reply.judge, say(reply)) for reply in pair.replies), between)


def grouped(said: Iterable[tuple[str, str]], between: str = ", ") -> str:
    """What each of several judges says: `one: A, then B; two: A`; with one judge without its name."""
    words: dict[str, list[str]] = {}
    for judge, word in said:
        words.setdefault(judge, []).append(word)
    return "; ".join(f"{judge}: {between.join(each)}" if len(words) > 1 else between.join(each) for judge, each in words.items())


def sentence(text: str) -> str:
    """A text as a sentence of its own."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
