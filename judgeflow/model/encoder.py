"""A transformers body and how a text's embedding is made of its hidden states.

Rows are padded on the right, whichever side the tokenizer would choose: nothing that counts ever looks at padding.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from judgeflow.model.config import Pooling
from judgeflow.model.layout import TokenRow, padded_length


class Encoder(nn.Module):
    """Rows to embeddings: the mean of the last hidden states over a row, or that of its first or its last token."""

    def __init__(self, body: nn.Module, padding: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.body = body
        self._padding = padding
        self._pooling = pooling
        self._typed = getattr(body.config, "type_vocab_size", 0) > 1 and _takes(body, "token_type_ids")
        self._uncached = {"use_cache": False} if _takes(body, "use_cache") else {}
        self._longest = longest_input(body) or sys.maxsize

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return int(self.body.config.get_text_config().hidden_size)  # type: ignore[union-attr, operator]  # transformers' configuration

    @property
    def attention(self) -> str:
        """Which of transformers' attention kernels computes; they differ in the last digits."""
        return str(getattr(self.body.config, "_attn_implementation", None) or "eager")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.body.parameters()).device

    def forward(self, rows: Sequence[TokenRow]) -> Tensor:
        """Return one embedding per row, n x width, in single precision."""
        length = min(max(padded_length(len(row)) for row in rows), self._longest)
        ids = torch.full((len(rows), length), self._padding)
        types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.frombuffer(row.ids, dtype=torch.int64)
            types[index, row.prompt : len(row)] = 1
            mask[index, : len(row)] = 1
        return self._pooled(*self._moved(ids, types, mask))

    def _moved(self, *parts: Tensor) -> list[Tensor]:
        """Bring tensors to the weights; from pinned memory, a GPU fetches them while the CPU goes on."""
        if self.device.type == "cuda":
            return [part.pin_memory().to(self.device, non_blocking=True) for part in parts]
        return [part.to(self.device) for part in parts]

    def _pooled(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        typed = {"token_type_ids": types} if self._typed else {}
        hidden = self.body(input_ids=ids, attention_mask=mask, **typed, **self._uncached).last_hidden_state.float()
        if self._pooling == "first":
            first: Tensor = hidden[:, 0]
            return first
        if self._pooling == "last":
            last: Tensor = hidden[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
            return last
        weights = mask.unsqueeze(-1).float()
        mean: Tensor = (hidden * weights).sum(1) / weights.sum(1)
        return mean


def _takes(body: nn.Module, argument: str) -> bool:
    """Whether a body's forward names this argument."""
    return argument in inspect.signature(body.forward).parameters


def is_decoder(body: nn.Module) -> bool:
    """Whether a body's tokens see only what stands before them: a family that writes text, and does not fill gaps."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

    family = str(getattr(body.config, "model_type", ""))
    return family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and family not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def default_pooling(body: nn.Module) -> Pooling:
    """Return what suits a body: the last token of a decoder, which alone has seen the whole text, and the mean for an encoder."""
    return "last" if is_decoder(body) else "mean"


def longest_input(body: nn.Module) -> int | None:
    """Return how many tokens a body has positions for; None if there is no such bound.

    A table of positions with a padding row counts from behind it, as RoBERTa and its kin do.
    """
    for name, module in body.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    positions = getattr(body.config.get_text_config(), "max_position_embeddings", None)  # type: ignore[union-attr, operator]
    return int(positions) if positions is not None and int(positions) > 0 else None
