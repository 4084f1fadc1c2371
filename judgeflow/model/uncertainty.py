"""How far a pair is from everything the scorer was trained on: the variance of a Bayesian linear model on features of it.

    L = tau I + sum_i w_i psi_i psi_i^T      precision after the training pairs; w_i = 1, or p_i (1 - p_i), times the strength
    v = tau psi^T L^-1 psi                   posterior variance relative to the prior, in [0, |psi|^2]
    u = sqrt(1 + a v)                        the uncertainty; 1 is fully known

(SNGP: Liu et al. 2023, section 3.2; the mean-field logit g / u: their equation 8.)  L is summed and factored once, in double
precision: L = C C^T, and R = sqrt(tau) C^-1 is kept, so v = |R psi|^2 costs one product and is never negative.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from judgeflow.model.config import ModelConfig
from judgeflow.model.preference import Judged, median_distance, surface_width
from judgeflow.model.random_features import ContextFeatures

Weighted = tuple[Judged, Tensor]
"""Views of training pairs, and the strengths of these pairs (batch)."""

_CHUNK = 4096
_SMALLEST_NORM = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """What a fit found: tau, the kernel's length scale (None where it is not fitted here), the known share d_eff / D."""

    tau: float
    length_scale: float | None
    known_share: float


class Precision(nn.Module):
    """Features, batch x D, to v = |R features|^2, batch.  Knows nothing (R = I) before `fit`."""

    root: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("root", torch.eye(features))

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = features @ self.root.T
        return projected.square().sum(1)

    @torch.no_grad()
    def fit(self, data: Tensor, *, prior_precision: float, known_share: float) -> tuple[float, float]:
        """Learn from sum_i w_i psi_i psi_i^T, D x D in double precision; return (tau, d_eff / D).

        tau is `prior_precision`, or as much more as it takes to keep the effective number of known directions,
        d_eff = sum_k lambda_k / (lambda_k + tau), within `known_share` of D: with a smaller tau nearly every direction counts as
        known, and u says nothing.
        """
        eigenvalues = torch.linalg.eigvalsh(data).clamp(min=0.0)
        tau = max(prior_precision, _tau_for(eigenvalues, known_share * len(data)))
        identity = torch.eye(len(data), dtype=data.dtype)
        factor = torch.linalg.cholesky(data + tau * identity)
        self.root = (math.sqrt(tau) * torch.linalg.solve_triangular(factor, identity, upper=False)).to(self.root)
        return tau, _effective(eigenvalues, tau) / len(data)


class ContextVariance(nn.Module):
    """v from random features psi of the context: symmetric in the two responses, and not less for pairs that are alike."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.features = ContextFeatures(config.projection, config.features, 1.0)
        self.precision = Precision(config.features)
        self._config = config

    def forward(self, judged: Judged) -> Tensor:
        variance: Tensor = self.precision(self.features(judged.context))
        return variance

    def fit(self, training: Iterable[Weighted]) -> Posterior:
        """Learn which contexts are known, in one exact pass over the training pairs."""
        kept = [(judged.context, _weights(judged, strength, self._config)) for judged, strength in training]
        contexts, weights = (torch.cat(parts) for parts in zip(*kept, strict=True))
        length_scale = self._config.uncertainty_scale * median_distance(contexts)
        self.features.rescale(length_scale)
        parts = zip(contexts.split(_CHUNK), weights.split(_CHUNK), strict=True)
        data = gram((self.features(some), weight) for some, weight in parts)
        tau, known = self.precision.fit(data, prior_precision=self._config.prior_precision, known_share=self._config.known_share)
        return Posterior(tau=tau, length_scale=length_scale, known_share=known)


class FeatureVariance(nn.Module):
    """v from the head's own features; divided by their |phi|^2 where the config's evidence is "relative"."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.precision = Precision(width)
        self._config = config

    def forward(self, judged: Judged) -> Tensor:
        variance: Tensor = self.precision(judged.features)
        if self._config.evidence != "relative":
            return variance
        return variance / judged.features.square().sum(1).clamp(min=_SMALLEST_NORM)

    def fit(self, training: Iterable[Weighted]) -> Posterior:
        """Learn which features are known, in one exact pass over the training pairs."""
        data = gram((judged.features, _weights(judged, strength, self._config)) for judged, strength in training)
        tau, known = self.precision.fit(data, prior_precision=self._config.prior_precision, known_share=self._config.known_share)
        return Posterior(tau=tau, length_scale=None, known_share=known)


def make_variance(width: int, config: ModelConfig) -> ContextVariance | FeatureVariance | None:
    """Return what gives v in a model of this config, whose embeddings have this width; None where samples do, or nothing."""
    if config.uncertainty == "last-layer-laplace":
        return FeatureVariance(width + surface_width(config), config)
    if config.uncertainty != "sngp":
        return None
    if config.encoder == "siamese" and config.evidence == "context":
        return ContextVariance(config)
    return FeatureVariance(config.features, config)


def gram(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return sum w psi psi^T over batches of (features n x D, weights n), as a D x D matrix in double precision on the CPU."""
    total: Tensor | None = None
    for some, weights in batches:
        features = some.double().cpu() * weights.double().cpu().sqrt().unsqueeze(1)
        product = features.T @ features
        total = product if total is None else total.add_(product)
    if total is None:
        raise ValueError("no features to learn from")
    return total


def _weights(judged: Judged, strength: Tensor, config: ModelConfig) -> Tensor:
    """Return the weights of views in the precision: the pairs' strengths in the loss; a pair that is read in both orders counts once.

    Fisher weights take p = sigmoid(g), not the mean-field s: that would need the variance that is being fitted.
    """
    share = 0.5 if config.encoder == "concat" else 1.0
    if config.weights == "one" and config.uncertainty != "last-layer-laplace":
        return share * strength
    p = torch.sigmoid(judged.logit.double())
    return share * strength * p * (1.0 - p)


def _effective(eigenvalues: Tensor, tau: float) -> float:
    return float((eigenvalues / (eigenvalues + tau)).sum())


def _tau_for(eigenvalues: Tensor, most: float) -> float:
    """Return the smallest tau for which at most `most` directions are known, by bisection over its logarithm."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _effective(eigenvalues, math.exp(middle)) > most else (low, middle)
    return math.exp(high)
