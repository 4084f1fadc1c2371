"""How the texts of a batch become embeddings while a head is trained: looked up (frozen body), or read again (trained body)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from judgeflow.errors import ConfigurationError
from judgeflow.model.backbone import merge_lora, with_lora
from judgeflow.model.config import TrainingConfig
from judgeflow.model.network import Network
from judgeflow.model.reading import Reading


class Texts(Protocol):
    """Embeddings of texts, by their positions (n), as n x width."""

    def embed(self, chosen: Tensor) -> Tensor:
        """Return embeddings as they are trained through."""

    def embed_plain(self, chosen: Tensor) -> Tensor:
        """Return embeddings as they are measured: without dropout or gradients; the network is in evaluation mode."""

    def tokens(self, chosen: Tensor) -> int:
        """Return how many tokens `embed` reads for them."""


@dataclass(frozen=True, slots=True)
class FrozenTexts:
    """Texts of a body that stays as it is: read once, into `table` (texts x width)."""

    table: Tensor

    def embed(self, chosen: Tensor) -> Tensor:
        return self.table[chosen]

    def embed_plain(self, chosen: Tensor) -> Tensor:
        return self.table[chosen]

    def tokens(self, chosen: Tensor) -> int:
        del chosen
        return 0


@dataclass(frozen=True, slots=True)
class TrainedTexts:
    """Texts of the body of `member`, which is being trained."""

    network: Network
    reading: Reading
    member: int
    settings: TrainingConfig
    most_tokens: int

    def embed(self, chosen: Tensor) -> Tensor:
        """Return embeddings, n x width; with a micro-batch, read in parts of similar length whose activations are not kept.

        Each part is read again when its gradient is due (Gao et al. 2021, GradCache).  So the head, which follows statistics of whole
        batches, sees the whole batch at once, and the gradient is that without micro-batches.
        """
        size = 2 * (self.settings.micro_batch or len(chosen))
        if len(chosen) <= size:
            return self._read(chosen)
        lengths = torch.tensor([len(self.reading.rows[index]) for index in chosen.tolist()])
        order = lengths.argsort(descending=True, stable=True)
        # On the body's device, because `checkpoint` draws the same dropout again only on the devices of its arguments.
        device = self.network.encoder.device
        parts = [checkpoint(self._read, chosen[some].to(device), use_reentrant=False) for some in order.split(size)]
        return torch.cat(parts)[order.argsort().to(device)]

    def embed_plain(self, chosen: Tensor) -> Tensor:
        return self.network.embed_plain(self.reading.part(chosen.tolist()), self.most_tokens, member=self.member)

    def tokens(self, chosen: Tensor) -> int:
        return sum(len(self.reading.rows[index]) for index in chosen.tolist())

    def _read(self, chosen: Tensor) -> Tensor:
        device = self.network.encoder.device
        half = self.settings.dtype == "bfloat16" or (self.settings.dtype == "auto" and device.type == "cuda")
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            return self.network.encode(self.reading.part(chosen.tolist()), self.member)


def prepare_bodies(network: Network, settings: TrainingConfig) -> None:
    """Make bodies ready to be trained: adapters, gradient checkpointing.  Raises `ConfigurationError` for a body that has no such thing."""
    for encoder in network.encoders:
        body: Any = encoder.body
        if settings.lora_rank is not None:
            body = with_lora(body, settings.lora_rank, dropout=_LORA_DROPOUT).to(network.encoder.device)
        if settings.gradient_checkpointing:
            if not getattr(body, "supports_gradient_checkpointing", False):
                name = type(body).__name__
                raise ConfigurationError(f"--gradient-checkpointing: a {name} has none; train without it, or with --micro-batch")
            _checkpointing(body, "enable")({"use_reentrant": False})


def finish_bodies(network: Network, settings: TrainingConfig) -> None:
    """Undo `prepare_bodies`, keeping what was learned: the bodies are plain ones again."""
    for encoder in network.encoders:
        body: Any = encoder.body
        if settings.gradient_checkpointing:
            _checkpointing(body, "disable")()
        if settings.lora_rank is not None:
            merge_lora(body)


def _checkpointing(body: Any, switch: Literal["enable", "disable"]) -> Any:
    """Return the method that switches it: transformers has renamed it."""
    return getattr(body, f"activation_checkpointing_{switch}", None) or getattr(body, f"gradient_checkpointing_{switch}")


_LORA_DROPOUT = 0.05
