"""Counting tokens before they are paid for, without network.

tiktoken fetches its vocabularies at first use; here a vocabulary is used only where it is already on disk (TIKTOKEN_CACHE_DIR),
and only for models that it belongs to.  Everywhere else there are two numbers:

estimate   UTF-8 bytes / 4: within 0.6 to 1.3 of the truth for prose and code, and up to 4 times too low for anything else.
bound      what is put aside before asking: one token for each byte, but one for each plain word or run of spaces and one more for
           every third letter of it; and never less than 1.7 estimates.

A tokenizer that falls back to bytes needs at most one token a byte, so everything but plain words is bounded for certain: other
scripts, emoji, digits, symbols, capitals, and unbroken runs of 25 characters and more (base64, hashes, addresses).  For plain words
the bound is a measurement: of 1,949 real questions in five sets, counted with cl100k, o200k and an older SentencePiece vocabulary,
none took more than 0.75 of it, and half of it is usual.  Words of random letters pass it by up to 1.3, lone letters by up to 1.5.
Whatever a judge bills beyond the bound is charged all the same when the reply is settled.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ESTIMATE_BYTES_PER_TOKEN = 4
ESTIMATE_BOUND = 1.7
EXACT_BOUND = 1.05
ESTIMATE_RULE = "UTF-8 bytes / 4; put aside are at least 1.7 times that, and up to one token a byte for what is no plain words"
ESTIMATE_REMEDY = "OpenAI's models are counted exactly if TIKTOKEN_CACHE_DIR names a folder with tiktoken's vocabularies"
_NEWER = re.compile(r"(chat)?gpt-|o\d")
_VOCABULARIES = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"


_UNITS = re.compile(r"\S{25,}|( ?[A-Za-z][a-z]*(?![A-Za-z])| {2,})")
"""Unbroken runs, which are nothing special; and in the group what is: a plain word with the space before it, or a run of spaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """`count` is the number of tokens, or the estimate of it; the judge's own count is not expected to pass `bound`."""

    count: int
    bound: int


REMEMBERED = 16_384
"""Texts whose counts are kept.  A response comes back in both orders of every pair of its group, and its prompt with each of them."""


class TokenCounter:
    """Counts tokens for one model.  Thread-safe; call it off the event loop."""

    def __init__(self, model: str) -> None:
        encode = _encoder(model)
        self.exact = encode is not None
        self._encode = encode
        self._known: dict[tuple[int, int], TokenCount] = {}  # by hash and length: the texts themselves may be large

    def measure(self, text: str) -> TokenCount:
        """Return both numbers: exactly with a margin for the judge's own framing, or as estimate and bound (see the module)."""
        key = hash(text), len(text)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known = {}
            known = self._known[key] = self._measured(text)
        return known

    def _measured(self, text: str) -> TokenCount:
        if self._encode is not None:
            count = len(self._encode(text))
            return TokenCount(count=count, bound=int(count * EXACT_BOUND) + 1)
        size = len(text.encode("utf-8", "replace"))
        count = -(-size // ESTIMATE_BYTES_PER_TOKEN)
        return TokenCount(count=count, bound=max(int(count * ESTIMATE_BOUND), size - _spared(text)) + 1)

    def count(self, text: str) -> int:
        """Return the number of tokens in `text`, exactly or as an estimate (see `exact`)."""
        return self.measure(text).count

    def bound(self, text: str) -> int:
        """Return a number of tokens that `text` is not expected to pass in the judge's own count."""
        return self.measure(text).bound


def _spared(text: str) -> int:
    """By how many tokens plain words and runs of spaces stay below one token a byte."""
    return sum(len(unit) - 1 - len(unit.lstrip(" ") or unit) // 3 for unit in _UNITS.findall(text) if unit)


def _encoder(model: str) -> Callable[[str], list[int]] | None:
    name = _encoding_name(model.rpartition("/")[2])
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    return None if name is None else _cached_encoder(name, folder)


def _encoding_name(model: str) -> str | None:
    """The vocabulary of a model; None for models of other makers, whose vocabularies tiktoken does not have."""
    import tiktoken

    try:
        return tiktoken.encoding_name_for_model(model)
    except KeyError:
        return "o200k_base" if _NEWER.match(model) else None


@functools.lru_cache(maxsize=8)
def _cached_encoder(name: str, folder: str | None) -> Callable[[str], list[int]] | None:
    if folder == "":  # tiktoken's word for "keep nothing on disk": it would fetch the vocabulary every time
        return None
    cache = Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache")
    address = _VOCABULARIES.format(name)
    if not (cache / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()).is_file():
        return None
    import tiktoken

    try:
        return tiktoken.get_encoding(name).encode_ordinary
    except Exception:  # a damaged file makes tiktoken fetch a new one, which fails in many ways; an estimate never does
        return None
