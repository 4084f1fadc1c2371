"""The head: two responses' embeddings to a raw logit that is odd in them, and to the context of their uncertainty, which is even."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from judgeflow.model.config import ModelConfig
from judgeflow.model.random_features import OddFeatures
from judgeflow.model.spectral import BoundedLinear

_MOMENTUM = 0.05
_SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Judged:
    """What the head says of a batch: `logit` (g, batch) and `context` (standardised c, batch x m)."""

    logit: Tensor
    context: Tensor


class PreferenceHead(nn.Module):
    """g = scale * beta . phi(c, d) with d = P (e_a - e_b) and c = standardised Q (e_a + e_b) / 2.

    Swapping the responses negates d and leaves c, so g(b, a) = -g(a, b), and g = 0 for equal embeddings.  P and Q are bounded
    (`BoundedLinear`).  While training, c is standardised with running statistics; `standardise_by` replaces them by exact ones.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.difference = BoundedLinear(width, config.projection, config.spectral_bound)
        self.context = BoundedLinear(width, config.projection, config.spectral_bound)
        self.features = OddFeatures(
            config.projection, config.features, context_scale=config.context_scale, difference_scale=config.difference_scale
        )
        self.beta = nn.Parameter(torch.zeros(config.features))
        self.scale = config.logit_scale
        self.register_buffer("mean", torch.zeros(config.projection))
        self.register_buffer("variance", torch.ones(config.projection))

    def forward(self, first: Tensor, second: Tensor) -> Judged:
        """Compare embeddings, both batch x width."""
        raw = self.context((first + second) / 2)
        if self.training:
            self._follow(raw.detach())
        context = self.standardise(raw)
        phi = self.features(context, self.difference(first - second))
        return Judged(self.scale * (phi @ self.beta), context)

    def standardise(self, raw: Tensor) -> Tensor:
        """Return contexts, batch x m, with the training data's mean taken off and in units of its standard deviation."""
        return (raw - self.mean) * torch.rsqrt(self.variance)

    def standardise_by(self, raw: Tensor) -> None:
        """Make the standardisation exact: that of these contexts, n x m."""
        self.mean, self.variance = raw.mean(0), raw.var(0, correction=0).clamp(min=_SMALLEST_VARIANCE)

    def _follow(self, raw: Tensor) -> None:
        # New tensors, not in place: see BoundedLinear.
        self.mean = torch.lerp(self.mean, raw.mean(0), _MOMENTUM)
        self.variance = torch.lerp(self.variance, raw.var(0, correction=0), _MOMENTUM).clamp(min=_SMALLEST_VARIANCE)

    def settle(self) -> None:
        """End training: bounds become exact."""
        self.difference.settle()
        self.context.settle()
        self.eval()
