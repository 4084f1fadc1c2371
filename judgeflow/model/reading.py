"""Pairs to what the network reads: the distinct texts of a call, and which two of them each pair compares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeflow.model.config import ModelConfig
from judgeflow.model.layout import Layout, Text, TokenRow
from judgeflow.model.surface import NAMES, PromptSurface
from judgeflow.types import Pair, Prompt


@dataclass(frozen=True, slots=True)
class Reading:
    """Texts as the network takes them: rows of token ids, and n x S surface features (S = 0 without; 2 S for two responses)."""

    rows: Sequence[TokenRow]
    surface: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, chosen: Sequence[int]) -> Reading:
        """Return some of them."""
        return Reading([self.rows[index] for index in chosen], self.surface[list(chosen)])


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Which texts pairs compare: positions `first` and `second` among `texts`, both n."""

    texts: list[Text]
    first: list[int]
    second: list[int]


def compare_pairs(pairs: Iterable[Pair], config: ModelConfig) -> Comparisons:
    """Return the distinct texts of pairs.

    A siamese pair compares its two responses, each after the prompt; a concat pair compares its two orders.
    """
    places: dict[Text, int] = {}
    first, second = [], []
    for pair in pairs:
        one, other = _texts_of(pair, config)
        first.append(places.setdefault(one, len(places)))
        second.append(places.setdefault(other, len(places)))
    return Comparisons(list(places), first, second)


def _texts_of(pair: Pair, config: ModelConfig) -> tuple[Text, Text]:
    a, b = pair.response_a, pair.response_b
    if config.encoder == "concat":
        return (pair.prompt, (a, b)), (pair.prompt, (b, a))
    return (pair.prompt, (a,)), (pair.prompt, (b,))


class Reader:
    """Turns texts into a `Reading`."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        self.layout = layout
        self._surface = config.surface
        self._responses = 2 if config.encoder == "concat" else 1

    def read(self, texts: Sequence[Text]) -> Reading:
        """Read texts, in order."""
        return Reading(self.layout.rows(texts), self._features(texts))

    def longest(self) -> Reading:
        """Return one row of the greatest length, with nothing in it."""
        width = self._responses * len(NAMES) if self._surface else 0
        return Reading([self.layout.longest()], torch.zeros(1, width))

    def _features(self, texts: Sequence[Text]) -> Tensor:
        if not self._surface or not texts:
            return torch.zeros(len(texts), 0)
        prompts: dict[Prompt, PromptSurface] = {}
        responses: dict[tuple[Prompt, str], tuple[float, ...]] = {}
        for prompt, shown in texts:
            for response in shown:
                if (prompt, response) not in responses:
                    about = prompts.get(prompt) or prompts.setdefault(prompt, PromptSurface(prompt))
                    responses[prompt, response] = about.of(response)
        return torch.tensor([[value for response in shown for value in responses[prompt, response]] for prompt, shown in texts])
