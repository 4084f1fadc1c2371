"""What a judge's headers say about its limits: x-ratelimit-* as OpenAI words them, retry-after and retry-after-ms.

Pure.  Headers come from servers, gateways and whoever stands between, so each is read by itself, and one that makes no sense is as
good as none.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from judgeflow.types import RateHeaders, Standing

PASSED_ON = "llm_provider-"
"""What the litellm proxy puts before the names of its provider's headers; some of them come under no other name."""

LONGEST_S = 86_400.0
"""Limits of a day are the longest that judges have: a header that names more time than that is an error of the server."""

_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,12})?"
_PART = re.compile(rf"({_NUMBER})(d|h|ms|m|s|us|µs|ns)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_COUNT = re.compile(r"[0-9]{1,18}")


def duration_s(text: str) -> float | None:
    """Return a duration in seconds: `6m0s`, `1s`, `20ms`, `1h2m`, `1.5s`, or a bare number of seconds.

    None for anything else, and for more than `LONGEST_S`.
    """
    text = text.strip()
    if re.fullmatch(_NUMBER, text):
        seconds = float(text)
    elif _WHOLE.fullmatch(text):
        seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    else:
        return None
    return seconds if seconds <= LONGEST_S else None


_NAMES = tuple(f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens"))


def read_rates(headers: Mapping[str, str]) -> RateHeaders | None:
    """Return what x-ratelimit-{limit,remaining,reset}-{requests,tokens} say; None where they say nothing that makes sense."""
    if not any(name in headers or PASSED_ON + name in headers for name in _NAMES):
        return None
    rates = RateHeaders(requests=_standing(headers, "requests"), tokens=_standing(headers, "tokens"))
    return None if rates == RateHeaders() else rates


def _standing(headers: Mapping[str, str], kind: str) -> Standing:
    limit = _count(_header(headers, f"x-ratelimit-limit-{kind}"))
    return Standing(
        limit=limit or None,  # a limit of nothing is no limit that anybody sells
        remaining=_count(_header(headers, f"x-ratelimit-remaining-{kind}")),
        reset_s=duration_s(_header(headers, f"x-ratelimit-reset-{kind}")),
    )


def _header(headers: Mapping[str, str], name: str) -> str:
    """A header of the server's, or else of the provider's behind it; "" for neither."""
    return headers.get(name, headers.get(PASSED_ON + name, ""))


def _count(text: str) -> int | None:
    text = text.strip()
    return int(text) if _COUNT.fullmatch(text) else None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long the judge asks to wait, in seconds: retry-after-ms, or retry-after as seconds or an HTTP date.

    What a gateway says itself counts before what it passes on.  None if nobody says, or says what is no length of time.
    """
    said = _asked_to_wait_s(headers.get("retry-after-ms", ""), headers.get("retry-after", ""))
    if said is not None:
        return said
    return _asked_to_wait_s(headers.get(PASSED_ON + "retry-after-ms", ""), headers.get(PASSED_ON + "retry-after", ""))


def _asked_to_wait_s(in_ms: str, in_s: str) -> float | None:
    milliseconds = _number(in_ms)
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    seconds = _number(in_s)
    if seconds is None:
        seconds = _seconds_until(in_s)
    return None if seconds is None else max(0.0, seconds)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
