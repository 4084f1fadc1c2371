"""Content keys: the same question has the same key on every machine, in every run.

A key is blake2b-256 over canonical JSON (sorted keys, UTF-8, no spaces, finite numbers) that begins with a kind and a version.
`pair_key` is the same for (a, b) and (b, a); `call_key` is not: it names one question, in one order, to one judge.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import orjson

from judgeflow.types import Message, Pair, Prompt, Question

KEY_BYTES = 32
NONCE_DIGITS = 16


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of `value`: sorted keys, compact, UTF-8.

    Raises `ValueError` for NaN, infinity, other types than JSON's, and text that is not valid Unicode.
    """
    _require_json(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise ValueError(f"no canonical JSON: {error}") from error


def _require_json(value: Any) -> None:
    """Refuse what orjson would write although JSON has no word for it: NaN as null, dates, UUIDs and dataclasses as text."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"no canonical JSON for {value}")
    if isinstance(value, dict):
        for item in value.values():
            _require_json(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_json(item)
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"no canonical JSON for a {type(value).__name__}")


def digest(kind: str, value: Any) -> bytes:
    """Return the 32-byte key of `value` among keys of this `kind` (for instance "judge/1")."""
    return hashlib.blake2b(canonical_json([kind, value]), digest_size=KEY_BYTES).digest()


def _digest_of(written: str) -> bytes:
    """Return the key of canonical JSON that is written out: what is made of hashes alone needs no serializer."""
    return hashlib.blake2b(written.encode(), digest_size=KEY_BYTES).digest()


def text_hash(text: str) -> bytes:
    """Return the key of one response body.  Raises `ValueError` for text with lone surrogates."""
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES, person=b"jf-text-1").digest()


def prompt_body(prompt: Prompt) -> str:
    """Return the prompt as one text: itself, or the canonical JSON of its messages."""
    if isinstance(prompt, str):
        return prompt
    return canonical_json([{"role": message.role, "content": message.content} for message in prompt]).decode()


def prompt_from_body(body: str, *, conversational: bool) -> Prompt:
    """Return the prompt that `prompt_body` was made from."""
    if not conversational:
        return body
    return tuple(Message(role=item["role"], content=item["content"]) for item in orjson.loads(body))


def prompt_hash(prompt: Prompt) -> bytes:
    """Return the key of a prompt; a text and a conversation of the same characters differ."""
    person = b"jf-text-1" if isinstance(prompt, str) else b"jf-chat-1"
    return hashlib.blake2b(prompt_body(prompt).encode(), digest_size=KEY_BYTES, person=person).digest()


class Hashes(dict[Prompt, bytes]):
    """The keys of prompts and responses, each hashed once: the texts of a group come back in every pair of it.

    It keeps every text that it has hashed, so make one for a step or a batch, and let it go.
    """

    def __missing__(self, text: Prompt) -> bytes:
        key = self[text] = prompt_hash(text)  # a response's key is that of a prompt of the same text
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class PairKeys:
    """Every hash that a pair needs, computed once.

    `canonical` tells that response_a has the smaller hash, so that (a, b) is already the canonical order.
    """

    prompt: bytes
    response_a: bytes
    response_b: bytes
    pair: bytes

    @property
    def canonical(self) -> bool:
        """Whether the pair stands in its canonical order."""
        return self.response_a <= self.response_b

    @property
    def identical(self) -> bool:
        """Whether both responses are the same text."""
        return self.response_a == self.response_b


def pair_keys(pair: Pair, hashes: Hashes | None = None) -> PairKeys:
    """Hash a pair; `hashes` remembers the texts of others.  Raises `ValueError` for text that is not valid Unicode."""
    hashes = Hashes() if hashes is None else hashes
    prompt, first, second = hashes[pair.prompt], hashes[pair.response_a], hashes[pair.response_b]
    low, high = (first, second) if first <= second else (second, first)
    return PairKeys(prompt=prompt, response_a=first, response_b=second, pair=pair_key(prompt, low, high))


def pair_key(prompt: bytes, low: bytes, high: bytes) -> bytes:
    """Return the key of a pair from the hashes of its texts, the smaller hash of the two responses first."""
    return _digest_of(f'["pair/1",["{prompt.hex()}","{low.hex()}","{high.hex()}"]]')


def question_nonce(prompt: bytes, first: bytes, second: bytes) -> str:
    """Return the 16 hex digits that delimit and name one directed question, whoever is asked."""
    return _digest_of(f'["question/1",["{prompt.hex()}","{first.hex()}","{second.hex()}"]]').hex()[:NONCE_DIGITS]


def call_key(judge: bytes, prompt: bytes, first: bytes, second: bytes, sample: int = 0) -> bytes:
    """Return the key of one directed question to one judge, from the judge's fingerprint and the hashes of the three texts."""
    return _digest_of(f'["call/1",["{judge.hex()}","{prompt.hex()}","{first.hex()}","{second.hex()}",{sample}]]')


def questions(pair: Pair, keys: PairKeys, judge: bytes, sample: int = 0) -> tuple[Question, Question]:
    """Return the pair's two directed questions: response_a shown first, then response_b shown first."""
    return question(pair, keys, judge, sample=sample), question(pair, keys, judge, swapped=True, sample=sample)


def question(pair: Pair, keys: PairKeys, judge: bytes, *, swapped: bool = False, sample: int = 0) -> Question:
    """Return one directed question: response_a is shown first, or where it is `swapped` response_b."""
    texts, hashes = (pair.response_a, pair.response_b), (keys.response_a, keys.response_b)
    (first, second), (one, other) = (texts[::-1], hashes[::-1]) if swapped else (texts, hashes)
    return Question(
        prompt=pair.prompt,
        first=first,
        second=second,
        canonical=one <= other,
        nonce=question_nonce(keys.prompt, one, other),
        pair_key=keys.pair,
        call_key=call_key(judge, keys.prompt, one, other, sample),
        sample=sample,
    )
