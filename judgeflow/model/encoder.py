from __future__ import annotations
import sys
from collections.abc import Sequence
import torch
from torch import Tensor, nn
from judgeflow.model.layout import TokenRow, padded_length


def default_pooling(body):
    return "mean"


class Encoder(nn.Module):
    """A transformers body and the mean of its last hidden states over each row."""

    def __init__(self, body: nn.Module, padding: int, pooling='mean') -> None:
        super().__init__()
        self.body = body
        self._padding = padding
        self._typed = getattr(body.config, "type_vocab_size", 0) > 1
        self._longest = longest_input(body) or sys.maxsize

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return int(self.body.config.hidden_size)  # type: ignore[union-attr, arg-type]  # transformers' bodies carry their config

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
        return self._pooled(*(part.to(self.device, non_blocking=True) for part in (ids, types, mask)))

    def _pooled(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        typed = {"token_type_ids": types} if self._typed else {}
        hidden = self.body(input_ids=ids, attention_mask=mask, **typed).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        mean: Tensor = (hidden * weights).sum(1) / weights.sum(1)
        return mean


def longest_input(body: nn.Module) -> int | None:
    """Return how many tokens a body has positions for; None if there is no such bound.

    A table of positions with a padding row counts from behind it, as RoBERTa and its kin do.
    """
    for name, module in body.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    positions = getattr(body.config, "max_position_embeddings", None)
    return int(positions) if positions is not None and int(positions) > 0 else None


