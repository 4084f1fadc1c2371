"""A body of realistic size and groups of random texts, for cases that measure time: what weights and texts say does not matter there."""

from __future__ import annotations

import random
from typing import Any

LETTERS = "abcdefghij"
MAX_TOKENS = 512
RESPONSES = 4


def sentence_encoder(dropout: float = 0.0) -> Any:
    """Return a body of the shape of a 22M-parameter sentence encoder (6 layers, width 384) with random weights."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=30_522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
    )
    # Plain matrix products: the FLOP counter sees them all.
    config._attn_implementation = "eager"  # noqa: SLF001
    return BertModel(config)


def make_scorer(**settings: Any) -> Any:
    """Return an untrained scorer over such bodies; `settings` are those of its `ModelConfig`."""
    from judgeflow.model.calibration import Calibration
    from judgeflow.model.config import ModelConfig
    from judgeflow.model.layout import Layout
    from judgeflow.model.network import Network
    from judgeflow.model.reading import Reader
    from judgeflow.model.scorer import SngpScorer
    from judgeflow.model.scratch import character_tokenizer

    config = ModelConfig(max_tokens=MAX_TOKENS, **settings)
    count = config.members if config.uncertainty == "ensemble" else 1
    bodies = [sentence_encoder(config.dropout if config.uncertainty == "mc-dropout" else 0.0) for _ in range(count)]
    reader = Reader(Layout(character_tokenizer([LETTERS], MAX_TOKENS), MAX_TOKENS), config)
    return SngpScorer(Network(bodies, reader.layout.padding, config), reader, Calibration(), name="benchmark")


def random_groups(count: int, seed: int) -> list[Any]:
    """Return groups of four responses; a prompt has 20 to 80 characters (tokens), a response 40 to 200."""
    from judgeflow import Group

    dice = random.Random(seed)

    def words(low: int, high: int) -> str:
        return "".join(dice.choice(LETTERS) for _ in range(dice.randint(low, high)))

    return [Group(id=str(n), prompt=words(20, 80), responses=tuple(words(40, 200) for _ in range(RESPONSES))) for n in range(count)]


def random_pairs(groups: int, seed: int) -> list[Any]:
    """Return the six pairs of each of so many groups."""
    return [pair for group in random_groups(groups, seed) for pair in group.pairs()]
