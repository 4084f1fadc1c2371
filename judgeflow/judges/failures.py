"""What an answer that is no reply means: by its status, by the codes in its body, and by its words where a gateway keeps neither.

Pure.  Gateways such as the litellm proxy write error bodies of their own: they keep a provider's status and its words, drop its
codes, and pass its headers on under other names.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
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

_NO_MODEL = re.compile(r"(invalid model name|not a valid model|unknown model)|model \S+ (does not exist|not found)", re.IGNORECASE)
_NO_MODEL_AT_ALL = re.compile(r"\W*(model not (?:exist|found))\W*", re.IGNORECASE)
"""DeepSeek says no more than that.  What tells is the last group of a pattern, or all that it matches."""

_GATEWAY_HEADER = "x-litellm-"

BAD_GATEWAY = 502
_GATEWAY = frozenset({408, BAD_GATEWAY, 504, 520, 524})
_BUSY = frozenset({503, 529})
_TRANSIENT_4XX = frozenset({409, 425})
_CAUSES: Mapping[int, Cause] = {401: "key", 402: "credit", 403: "key", 404: "model"}


def refused_because(
    error: ErrorBody, status: int, headers: Mapping[str, str], *, quoted: str, model: str, sent: Sequence[str] = ()
) -> Cause | None:
    """Return why no question to `model` would be answered; None where the error concerns this question, or this moment.

    `quoted` is the error's message as it may be shown, and `sent` are the texts of the question.  No text under judgement stops a run by
    its words: where those that tell stand in one of them too, the judge may have quoted them, and another question has to find out.
    """
    if error.code in _QUOTA_CODES or (status == 429 and _is_quota(error, headers, quoted, sent)):
        return "quota"
    if error.code in _KEY_CODES:
        return "key"
    if status == 403 and error.flagged:
        return None
    if status == 400 and _lacks_model(error, quoted, model, sent):
        return "model"
    return _CAUSES.get(status)


def _lacks_model(error: ErrorBody, quoted: str, model: str, sent: Sequence[str]) -> bool:
    """Whether a 400 says so by its code, or in words that name the model, or that are all it says."""
    named = _NO_MODEL.search(quoted) if model in quoted else None
    return error.code == "model_not_found" or _says(named or _NO_MODEL_AT_ALL.fullmatch(quoted), sent)


def _is_quota(error: ErrorBody, headers: Mapping[str, str], quoted: str, sent: Sequence[str]) -> bool:
    """Whether a 429 says in words only that the account's quota is used up, and not when it will do again."""
    return _says(_QUOTA_WORDS.search(quoted), sent) and not _PASSES.search(error.message) and retry_after_s(headers) is None


def _says(words: re.Match[str] | None, sent: Sequence[str]) -> bool:
    """Whether words that were found tell something: not if they were sent, however the judge may have cut, cased or escaped them."""
    return words is not None and not any(_letters(words[words.lastindex or 0]) in _letters(text) for text in sent)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


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
