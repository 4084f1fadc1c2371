"""From texts to rows of token ids: what stands where, what is cut, and which rows share a batch.

A text is a prompt with one response (siamese) or two (concat).  Without a chat template it is laid out as [CLS] prompt [SEP] response
[SEP], two responses each after a marker of its own; a tokenizer with a chat template has it as a conversation.  What is too long is cut
in the middle of things: of the prompt its beginning goes, of a response its middle, and responses keep at least two thirds of the room.
Special tokens and template pieces are never cut, and a text never contains any: "[SEP]" in a response is five characters.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from judgeflow.dialogue import transcript, turns
from judgeflow.errors import ConfigurationError
from judgeflow.types import Prompt

Text = tuple[Prompt, tuple[str, ...]]

SMALLEST_ROOM = 16
MARKERS = ("Response 1: ", "Response 2: ")
_RESPONSE_SHARE = 2 / 3
_CONTENT_SHARE = 1 / 2
"""A conversation of many short messages is read plainly when its template would leave its contents less than this of a row."""
_TEXTS_AT_ONCE = 4096
_INT64 = "q"
_SHORT, _SHORT_STEP, _LONG_STEP = 128, 8, 32
_OPEN, _CLOSE = "\ue000", "\ue001"
"""From Unicode's private use area: no template has a meaning for them."""
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
"""What templates know.  A template writes a role as it is, so any other could be, or complete, a special token."""
_SAME_DAY = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}{{ '' }}"
"""Before a template that asks for the date: a text must have the same score on any day.  The day is Llama's default."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One text, ready for the encoder: token ids, the first `prompt` of them of the prompt's segment.  `cut` tokens did not fit."""

    ids: array[int]
    prompt: int
    cut: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What stands around the contents of a text: `fixed[i]` before content i, the last at the end.  `prompts` contents come first."""

    fixed: tuple[tuple[int, ...], ...]
    prompts: int

    @property
    def size(self) -> int:
        return sum(map(len, self.fixed))


class Layout:
    """Turns texts into rows of token ids.  `max_tokens` bounds a row, special tokens included.

    The tokens that its chat template is made of become special tokens of `tokenizer`, where they are not: their ids stay.
    Raises `ConfigurationError` for a tokenizer without special tokens, and for a bound that leaves no room for texts.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._most = max_tokens
        self._start = _first_of(tokenizer.cls_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
        self._end = _first_of(tokenizer.sep_token_id, tokenizer.eos_token_id)
        self.padding = _first_of(tokenizer.pad_token_id, 0)
        if self._start is None or self._end is None:
            raise ConfigurationError("the tokenizer has neither [CLS] and [SEP] nor beginning and end tokens; texts cannot be laid out")
        self._frames: dict[tuple[tuple[str, ...], int], _Frame | None] = {}
        self._plain_frames: dict[int, _Frame] = {}
        self._plain(1)
        _make_template_tokens_special(tokenizer)

    def rows(self, texts: Sequence[Text]) -> list[TokenRow]:
        """Return one row per text.  A prompt or response that several texts share is tokenised once, if they stand together."""
        return [row for start in range(0, len(texts), _TEXTS_AT_ONCE) for row in self._some(texts[start : start + _TEXTS_AT_ONCE])]

    def longest(self) -> TokenRow:
        """Return a row of the greatest length, with nothing in it."""
        return TokenRow(array(_INT64, [self._end] * self._most), 2, 0)

    def _some(self, texts: Sequence[Text]) -> list[TokenRow]:
        framed = [self._framed(prompt, responses) for prompt, responses in texts]
        contents = list(dict.fromkeys(content for _, parts in framed for content in parts))
        ids = dict(zip(contents, self._ids(contents), strict=True))
        return [self._row(frame, [ids[part] for part in parts]) for frame, parts in framed]

    def _framed(self, prompt: Prompt, responses: tuple[str, ...]) -> tuple[_Frame, tuple[str, ...]]:
        """Return a text's frame, and its contents in order."""
        messages = turns(prompt)
        frame = self._conversation(tuple(message.role for message in messages), len(responses))
        if frame is None:
            return self._plain(len(responses)), (transcript(prompt), *responses)
        return frame, (*(message.content for message in messages), *responses)

    def _conversation(self, roles: tuple[str, ...], responses: int) -> _Frame | None:
        """Return the frame of a conversation with these roles, by the chat template; None where there is none that can be used."""
        if not self._tokenizer.chat_template or not _ROLES.issuperset(roles):
            return None
        if (roles, responses) not in self._frames:
            self._frames[roles, responses] = self._by_template(roles, responses)
        return self._frames[roles, responses]

    def _by_template(self, roles: tuple[str, ...], responses: int) -> _Frame | None:
        places = [f"{_OPEN}{number}{_CLOSE}" for number in range(len(roles) + responses)]
        shown = places[len(roles) :]
        answer = shown[0] if responses == 1 else "\n\n".join(marker + place for marker, place in zip(MARKERS, shown, strict=True))
        messages = [{"role": role, "content": place} for role, place in zip(roles, places, strict=False)]
        try:
            template = _SAME_DAY * ("strftime_now" in (own := self._tokenizer.get_chat_template())) + own
            messages.append({"role": "assistant", "content": answer})
            rendered = self._tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
        except Exception:  # a template is a program: whatever it raises for these roles, it has no form for them
            return None
        pieces = _split_at(str(rendered), places)
        if pieces is None:
            return None
        frame = _Frame(tuple(tuple(self._special_ids(piece)) for piece in pieces), len(roles))
        return frame if self._most - frame.size >= max(SMALLEST_ROOM, self._most * _CONTENT_SHARE) else None

    def _plain(self, responses: int) -> _Frame:
        if responses not in self._plain_frames:
            self._plain_frames[responses] = self._by_markers(responses)
        return self._plain_frames[responses]

    def _by_markers(self, responses: int) -> _Frame:
        markers = [()] if responses == 1 else [tuple(ids) for ids in self._ids(list(MARKERS))]
        frame = _Frame(((self._start,), *((self._end, *marker) for marker in markers), (self._end,)), 1)
        if self._most - frame.size < SMALLEST_ROOM:
            raise ConfigurationError(f"max_tokens is {self._most}; at least {SMALLEST_ROOM + frame.size} are needed")
        return frame

    def _special_ids(self, piece: str) -> list[int]:
        ids: list[int] = self._tokenizer(piece, add_special_tokens=False)["input_ids"] if piece else []
        return ids

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
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

    def _row(self, frame: _Frame, contents: list[list[int]]) -> TokenRow:
        prompts, responses = contents[: frame.prompts], contents[frame.prompts :]
        room = self._most - frame.size
        said = sum(map(len, prompts))
        shares = _fair_shares([len(response) for response in responses], max(room - said, int(room * _RESPONSE_SHARE)))
        kept = [_head_and_tail(response, share) for response, share in zip(responses, shares, strict=True)]
        tail = _without_beginning(prompts, said - (room - sum(map(len, kept))))
        ids = array(_INT64)
        for fixed, content in zip(frame.fixed, [*tail, *kept], strict=False):
            ids.extend(fixed)
            ids.extend(content)
        ids.extend(frame.fixed[-1])
        before = sum(map(len, frame.fixed[: frame.prompts + 1])) + sum(map(len, tail))
        return TokenRow(ids, before, frame.size + sum(map(len, contents)) - len(ids))


def _make_template_tokens_special(tokenizer: Any) -> None:
    """Let a tokenizer split in texts whatever its chat template is made of: some, as DeepSeek's, have "<|User|>" as an ordinary token.

    White space stays as it is; templates and texts mean the same by it.
    """
    template = str(tokenizer.chat_template or "")
    ordinary = [token for token in tokenizer.added_tokens_decoder.values() if not token.special and token.content.strip()]
    tokenizer.add_tokens([token.content for token in ordinary if token.content in template], special_tokens=True)


def _split_at(rendered: str, places: Sequence[str]) -> list[str] | None:
    """Return what stands around the places of contents; None unless each is there once, in order."""
    pieces, rest = [], rendered
    for place in places:
        before, found, rest = rest.partition(place)
        if not found:
            return None
        pieces.append(before)
    pieces.append(rest)
    return None if any(_OPEN in piece for piece in pieces) else pieces


def _fair_shares(lengths: Sequence[int], room: int) -> list[int]:
    """Return how many tokens each response keeps: an equal share, and what shorter ones leave free."""
    shares, left = [0] * len(lengths), room
    for rank, index in enumerate(sorted(range(len(lengths)), key=lengths.__getitem__)):
        shares[index] = min(lengths[index], left // (len(lengths) - rank))
        left -= shares[index]
    return shares


def _head_and_tail(ids: list[int], room: int) -> list[int]:
    if len(ids) <= room:
        return ids
    tail = room // 2
    return ids[: room - tail] + ids[len(ids) - tail :]


def _without_beginning(contents: list[list[int]], excess: int) -> list[list[int]]:
    """Return contents without their first `excess` tokens."""
    kept = []
    for content in contents:
        dropped = min(max(excess, 0), len(content))
        kept.append(content[dropped:])
        excess -= dropped
    return kept


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
