"""The siamese SNGP network: one pass of the body per response, then pairs are compared by their embeddings alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from judgeflow.model.config import ModelConfig
from judgeflow.model.encoder import Encoder, TokenRow, batches
from judgeflow.model.preference import PreferenceHead
from judgeflow.model.uncertainty import ContextUncertainty

PAIRS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class RawScores:
    """Raw logits g and relative variances v, both n, on the CPU."""

    logits: Tensor
    variances: Tensor


class Network(nn.Module):
    """Body, preference head and uncertainty.  Rows of texts become embeddings, embeddings of two responses become (g, v)."""

    def __init__(self, body: nn.Module, padding: int, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Encoder(body, padding)
        self.head = PreferenceHead(self.encoder.width, config)
        self.uncertainty = ContextUncertainty(config.projection, config.features)

    @torch.inference_mode()
    def embed(
        self, rows: Sequence[TokenRow], most_tokens: int, *, half: bool = False, tell: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """Return one embedding per row, n x width, wherever the weights are.

        Batches hold rows of similar length and at most `most_tokens`; one that does not fit into memory is halved and tried again.
        With `half` the body computes in bfloat16.  `tell` is told (rows done, rows) after every batch.
        """
        done = 0
        embeddings = torch.empty(len(rows), self.encoder.width, device=self.encoder.device)
        with torch.autocast(self.encoder.device.type, dtype=torch.bfloat16, enabled=half):
            for chosen in batches(rows, most_tokens):
                embeddings[chosen] = self._embed_batch([rows[index] for index in chosen])
                done += len(chosen)
                if tell is not None:
                    tell(done, len(rows))
        return embeddings

    def _embed_batch(self, rows: list[TokenRow]) -> Tensor:
        try:
            return self.encoder(rows)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
        except (MemoryError, RuntimeError) as error:
            if len(rows) == 1 or not out_of_memory(error):
                raise
        half = len(rows) // 2
        return torch.cat([self._embed_batch(rows[:half]), self._embed_batch(rows[half:])])

    @torch.inference_mode()
    def compare(self, embeddings: Tensor, first: Tensor, second: Tensor) -> RawScores:
        """Compare rows `first` and `second` of `embeddings` (both n); the network must be in evaluation mode."""
        logits, variances = [], []
        for one, other in zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True):
            judged = self.head(embeddings[one], embeddings[other])
            logits.append(judged.logit.cpu())
            variances.append(self.uncertainty(judged.context).cpu())
        return RawScores(torch.cat(logits), torch.cat(variances))

    @torch.no_grad()
    def raw_contexts(self, embeddings: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the contexts of pairs before they are standardised, n x m."""
        return self.head.context((embeddings[first] + embeddings[second]) / 2)  # type: ignore[no-any-return]


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU (where torch raises a plain RuntimeError)."""
    signs = ("can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)
