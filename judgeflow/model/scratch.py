"""A backbone without a download: characters as tokens, and a small BERT that starts from random weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

MAX_CHARACTERS = 4000
"""More different characters than this are not one vocabulary any more; the rarest become [UNK]."""

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def character_tokenizer(texts: Iterable[str], max_tokens: int) -> Any:
    """Return a tokenizer whose tokens are the characters of `texts`."""
    from collections import Counter

    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    characters = sorted(character for character, _ in counts.most_common(MAX_CHARACTERS))
    vocabulary = {token: index for index, token in enumerate((*_SPECIAL, *characters))}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106  # a token of text, not a secret
    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), behavior="isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_tokens,
        pad_token="[PAD]",  # noqa: S106
        unk_token="[UNK]",  # noqa: S106
        cls_token="[CLS]",  # noqa: S106
        sep_token="[SEP]",  # noqa: S106
    )


def small_bert(vocabulary: int, max_tokens: int, *, layers: int = 2, width: int = 64, heads: int = 4, dropout: float = 0.0) -> nn.Module:
    """Return a randomly initialised BERT body; `dropout` is that of its hidden states."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=max_tokens,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
    )
    body: nn.Module = BertModel(config)
    return body
