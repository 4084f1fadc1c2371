"""Labelled pairs as training takes them: what can be learned from, whole prompts held out, targets and strengths."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeflow.errors import UsageError
from judgeflow.keys import prompt_hash
from judgeflow.model.config import ModelConfig
from judgeflow.model.reading import Comparisons, compare_pairs
from judgeflow.plurals import plural
from judgeflow.types import Pair

TARGETS = {"a": 1.0, "tie": 0.5, "b": 0.0}


def labelled(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with a label.  Raises `UsageError` if there is nothing to learn from them."""
    found = [pair for pair in pairs if pair.label is not None]
    if not found:
        raise UsageError(f"{_none(len(pairs), 'pair')} has a label; a training record needs label: a, b or tie")
    if all(pair.label == "tie" for pair in found):
        raise UsageError(
            f"{'the only label is a tie' if len(found) == 1 else f'all {len(found):,} labels are ties'}: there is no preference to learn"
        )
    if not any(map(prefers, found)):
        raise UsageError(f"{_none(len(found), 'label')} prefers one of two different responses: there is no preference to learn")
    return found


def prefers(pair: Pair) -> bool:
    """Whether a pair's label prefers one of two different responses: about identical ones there is nothing to be right or wrong about."""
    return pair.label in {"a", "b"} and pair.response_a != pair.response_b


def _none(number: int, what: str) -> str:
    return f"not even the only {what}" if number == 1 else f"none of the {number:,} {what}s"


def split_by_prompt(pairs: Sequence[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Return (training, validation): every prompt's pairs stand on one side, about `share` of the prompts on the second.

    The split depends on the seed and the prompts alone.  Raises `UsageError` if either side would have no preference in it.
    """
    hashes = [prompt_hash(pair.prompt) for pair in pairs]
    prompts = sorted(set(hashes))
    random.Random(seed).shuffle(prompts)  # noqa: S311  # a split, not a secret
    held_out = set(prompts[: max(1, round(share * len(prompts)))])
    training = [pair for pair, key in zip(pairs, hashes, strict=True) if key not in held_out]
    validation = [pair for pair, key in zip(pairs, hashes, strict=True) if key in held_out]
    for name, side in (("training", training), ("validation", validation)):
        if not any(map(prefers, side)):
            few = f"{plural(len(pairs), 'labelled pair')} of {plural(len(prompts), 'prompt')}"
            raise UsageError(f"{few} are too few: whole prompts are held out for validation, and {name} would have no preference in it")
    return training, validation


def halves_by_prompt(pairs: Sequence[Pair], seed: int) -> list[bool]:
    """Return which half each pair belongs to: all pairs of a prompt to one, half the prompts to each, by the seed and the prompts alone."""
    hashes = [prompt_hash(pair.prompt) for pair in pairs]
    prompts = sorted(set(hashes))
    random.Random(seed).shuffle(prompts)  # noqa: S311  # a split, not a secret
    first = set(prompts[: len(prompts) // 2])
    return [key in first for key in hashes]


def strength(pair: Pair) -> float:
    """Return how much a pair's label counts in the loss: its `strength`, 1 without.  Raises `UsageError` for what is no such number."""
    value = pair.metadata.get("strength")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        name = f"pair {pair.id!r}" if pair.id is not None else "a pair"
        raise UsageError(f"{name} has strength {value!r}; a positive number is expected")
    return float(value)


@dataclass(frozen=True, slots=True)
class Examples:
    """Pairs as positions of their two texts among the distinct texts, their targets in [0, 1] and their strengths; all n."""

    first: Tensor
    second: Tensor
    target: Tensor
    strength: Tensor

    def __len__(self) -> int:
        return len(self.target)

    @property
    def decided(self) -> Tensor:
        """Which of them prefer one of two different responses: those that a scorer can be right or wrong about."""
        return (self.target != TARGETS["tie"]) & (self.first != self.second)

    def part(self, chosen: slice | Tensor) -> Examples:
        """Return some of them."""
        return Examples(self.first[chosen], self.second[chosen], self.target[chosen], self.strength[chosen])

    def evenly(self, most: int) -> Examples:
        """Return at most `most` of them, spread over all."""
        return self.part(torch.linspace(0, len(self) - 1, min(most, len(self)), dtype=torch.float64).round().long())


def make_examples(pairs: Sequence[Pair], config: ModelConfig) -> tuple[Comparisons, Examples]:
    """Return the texts of labelled pairs, and the pairs as examples.  Strengths are scaled to a mean of 1."""
    compared = compare_pairs(pairs, config)
    strengths = torch.tensor([strength(pair) for pair in pairs])
    targets = torch.tensor([TARGETS[pair.label or "tie"] for pair in pairs])
    return compared, Examples(torch.tensor(compared.first), torch.tensor(compared.second), targets, strengths / strengths.mean())


def orders(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield positions in batches, every position once per pass, in an order that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(size)
