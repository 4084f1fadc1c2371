"""What an answer that is no reply means: by its status, by the codes in its body, and by its words where a gateway keeps neither.

Pure.  Gateways such as the litellm proxy write error bodies of their own: they keep a provider's status and its words, drop its
codes, and pass its headers on under other names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from judgeflow.errors import GatewayFailed, JudgeBusy, JudgeOverloaded, RateLimited
from judgeflow.judges.completion import ErrorBody
from judgeflow.judges.rates import PASSED_ON, retry_after_s

Cause = Literal["quota", "credit", "key", "model"]
"""Why a judge answers no question at all: its quota or credit is used up, it does not take the key, or has no such model."""

_QUOTA_CODES = frozenset({"insufficient_quota", "budget_exceeded"})
_KEY_CODES = frozenset({"no_db_connection"})
"""The litellm proxy without a database says this, with a 400, to every key but its master key."""

_QUOTA_WORDS = re.compile(r"insufficient_quota|exceeded your current quota", re.IGNORECASE)
_PASSES = re.compile(r"retry in|try again in|rate-limit|RESOURCE_EXHAUSTED", re.IGNORECASE)
"""Gemini says "exceeded your current quota" of limits a minute long, too, and then when to come back or where limits are explained."""

_NO_MODEL = re.compile(r"invalid model name|not a valid model|unknown model|model \S+ (does not exist|not found)", re.IGNORECASE)
_NO_MODEL_AT_ALL = re.compile(r"\W*model not (exist|found)\W*", re.IGNORECASE)
"""DeepSeek says no more than that."""

_GATEWAY_HEADER = "x-litellm-"

BAD_GATEWAY = 502
_GATEWAY = frozenset({408, BAD_GATEWAY, 504, 520, 524})
_BUSY = frozenset({503, 529})
_TRANSIENT_4XX = frozenset({409, 425})
_CAUSES: Mapping[int, Cause] = {401: "key", 402: "credit", 403: "key", 404: "model"}


def refused_because(error: ErrorBody, status: int, headers: Mapping[str, str], quoted: str, model: str) -> Cause | None:
    """Return why no question to `model` would be answered; None where the error concerns this question, or this moment.

    `quoted` is the error's message without what was sent, so that no text under judgement stops a run by its words.
    """
    if error.code in _QUOTA_CODES or (status == 429 and _is_quota(error, headers, quoted)):
        return "quota"
    if error.code in _KEY_CODES:
        return "key"
    if status == 403 and error.flagged:
        return None
    if status == 400 and _lacks_model(error, quoted, model):
        return "model"
    return _CAUSES.get(status)


def _lacks_model(error: ErrorBody, quoted: str, model: str) -> bool:
    """Whether a 400 says so by its code, or in words that name the model, or that are all it says."""
    named = model in quoted and _NO_MODEL.search(quoted)
    return error.code == "model_not_found" or bool(named or _NO_MODEL_AT_ALL.fullmatch(quoted))


def _is_quota(error: ErrorBody, headers: Mapping[str, str], quoted: str) -> bool:
    """Whether a 429 says in words only that the account's quota is used up, and not when it will do again."""
    return bool(_QUOTA_WORDS.search(quoted)) and not _PASSES.search(error.message) and retry_after_s(headers) is None


def transient(status: int, headers: Mapping[str, str]) -> type[JudgeOverloaded] | None:
    """Return the error of a status that another attempt may mend."""
    if status == 429:
        return RateLimited
    if status in _GATEWAY or (status == 500 and _is_gateways_own(headers)):
        return GatewayFailed
    if status in _BUSY:
        return JudgeBusy
    return JudgeOverloaded if status >= 500 or status in _TRANSIENT_4XX else None


def is_passed_on(headers: Mapping[str, str]) -> bool:
    """Return whether a gateway passes on what its provider answered."""
    return _any_begins(headers, PASSED_ON)


def _is_gateways_own(headers: Mapping[str, str]) -> bool:
    """Whether a gateway failed without an answer of its provider's, which may have been at work all the same."""
    return _any_begins(headers, _GATEWAY_HEADER) and not is_passed_on(headers)


def _any_begins(headers: Mapping[str, str], beginning: str) -> bool:
    return any(name.lower().startswith(beginning) for name in headers)
