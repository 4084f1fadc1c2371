"""From texts to embeddings: a tokenizer, a transformers encoder, and the mean over a prompt and one of its responses.

A text is laid out as [CLS] prompt [SEP] response [SEP].  What is too long is cut in the middle of things: of the prompt its
beginning goes, of the response its middle, and the response keeps at least two thirds of the room.
"""

from __future__ import annotations

import itertools
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from judgeflow.errors import ConfigurationError
from judgeflow.types import Prompt

SPECIAL_TOKENS = 3
SMALLEST_ROOM = 16
FEWEST_TOKENS = 2
"""A tokenizer that knows less than two tokens beside its special ones was made up for a folder that has none."""
_RESPONSE_SHARE = 2 / 3
_TEXTS_AT_ONCE = 4096
_INT64 = "q"
_SHORT, _SHORT_STEP, _LONG_STEP = 128, 8, 32


Text = tuple[Prompt, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One prompt with one response, ready for the encoder: token ids, the first `prompt` of them of the prompt's segment.

    `cut` tokens did not fit.
    """

    ids: array[int]
    prompt: int
    cut: int

    def __len__(self) -> int:
        return len(self.ids)


def prompt_text(prompt: Prompt) -> str:
    """Return a prompt as one text: chat messages one below the other, each after its role."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{message.role}: {message.content}" for message in prompt)


class Layout:
    """Turns texts into rows of token ids.  `max_tokens` bounds a row, special tokens included."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._room = max_tokens - SPECIAL_TOKENS
        self._start = _first_of(tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
        self._end = _first_of(tokenizer.sep_token_id, tokenizer.eos_token_id)
        self.padding = _first_of(tokenizer.pad_token_id, 0)
        if self._start is None or self._end is None:
            raise ConfigurationError("the tokenizer has neither [CLS] and [SEP] nor beginning and end tokens; texts cannot be laid out")
        if self._room < SMALLEST_ROOM:
            raise ConfigurationError(f"max_tokens is {max_tokens}; at least {SMALLEST_ROOM + SPECIAL_TOKENS} are needed")

    def rows(self, texts: Sequence[Text]) -> list[TokenRow]:
        """Return one row per (prompt, response).  A prompt that many responses share is tokenised once, if they stand together."""
        return [row for start in range(0, len(texts), _TEXTS_AT_ONCE) for row in self._some(texts[start : start + _TEXTS_AT_ONCE])]

    def _some(self, texts: Sequence[Text]) -> list[TokenRow]:
        prompts = {prompt: index for index, prompt in enumerate(dict.fromkeys(prompt for prompt, _ in texts))}
        prompt_ids = self._ids([prompt_text(prompt) for prompt in prompts])
        responses = self._ids([' | '.join(response) for _, response in texts])
        return [self._row(prompt_ids[prompts[prompt]], response) for (prompt, _), response in zip(texts, responses, strict=True)]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        # split_special_tokens: a response that writes "[SEP]" has written five characters, and nothing that ends a text.
        encoded = self._tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _row(self, prompt: list[int], response: list[int]) -> TokenRow:
        response_room = max(self._room - len(prompt), int(self._room * _RESPONSE_SHARE))
        kept = _head_and_tail(response, response_room)
        tail = prompt[max(0, len(prompt) - (self._room - len(kept))) :]
        ids = array(_INT64, (self._start, *tail, self._end, *kept, self._end))
        return TokenRow(ids, len(tail) + 2, len(prompt) - len(tail) + len(response) - len(kept))

    def longest(self) -> TokenRow:
        """Return a row of the greatest length, with nothing in it."""
        return TokenRow(array(_INT64, [self._end] * (self._room + SPECIAL_TOKENS)), 2, 0)


def _head_and_tail(ids: list[int], room: int) -> list[int]:
    if len(ids) <= room:
        return ids
    tail = room // 2
    return ids[: room - tail] + ids[len(ids) - tail :]


def _first_of(*candidates: int | None) -> Any:
    return next((candidate for candidate in candidates if candidate is not None), None)


def padded_length(length: int) -> int:
    """Return the length that a row is padded to.

    It depends on the row alone, never on who shares its batch: sums over other lengths round differently, and a score would depend on
    the company it was computed in.
    """
    step = _SHORT_STEP if length <= _SHORT else _LONG_STEP
    return -(-length // step) * step


def batches(rows: Sequence[TokenRow], most_tokens: int) -> Iterator[list[int]]:
    """Return positions of `rows` in batches of one padded length each, longest first, at most `most_tokens` with the padding.

    The longest first, so that a batch that does not fit into memory fails at once.  A row longer than that is a batch alone.
    """
    order = sorted(range(len(rows)), key=lambda index: (-padded_length(len(rows[index])), index))
    for length, alike in itertools.groupby(order, key=lambda index: padded_length(len(rows[index]))):
        same = list(alike)
        size = max(1, most_tokens // length)
        for start in range(0, len(same), size):
            yield same[start : start + size]


