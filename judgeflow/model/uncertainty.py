"""How far a pair is from everything the scorer was trained on: the variance of a Bayesian linear model on context features.

    L = tau I + sum_i psi_i psi_i^T          precision after the training pairs
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

from judgeflow.model.random_features import ContextFeatures

_DISTANCE_SAMPLE = 1000


class ContextUncertainty(nn.Module):
    """Contexts, batch x m, to variances v, batch.  Knows nothing (v = |psi|^2) before `fit`."""

    root: Tensor

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.features = ContextFeatures(inputs, features, 1.0)
        self.register_buffer("root", torch.eye(features))

    def forward(self, context: Tensor) -> Tensor:
        projected: Tensor = self.features(context) @ self.root.T
        return projected.square().sum(1)

    @torch.no_grad()
    def fit(self, contexts: Tensor, *, length_scale: float, prior_precision: float, known_share: float) -> Posterior:
        """Learn which contexts are known: one exact pass over `contexts`, n x m.

        `length_scale` is in units of their median distance.  tau is `prior_precision`, or as much more as it takes to keep the
        effective number of known directions, d_eff = sum_k lambda_k / (lambda_k + tau), within `known_share` of D: with a smaller
        tau nearly every direction counts as known, and u says nothing.
        """
        median = median_distance(contexts)
        self.features.rescale(length_scale * median)
        data = gram(self.features(chunk) for chunk in contexts.split(4096))
        eigenvalues = torch.linalg.eigvalsh(data).clamp(min=0.0)
        tau = max(prior_precision, _tau_for(eigenvalues, known_share * len(data)))
        factor = torch.linalg.cholesky(data + tau * torch.eye(len(data), dtype=data.dtype))
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(data), dtype=data.dtype), upper=False)
        self.root = (math.sqrt(tau) * inverse).to(self.root)
        return Posterior(tau, length_scale * median, _effective(eigenvalues, tau) / len(data))


@dataclass(frozen=True, slots=True)
class Posterior:
    """What `ContextUncertainty.fit` found: tau, the length scale in units of c, and the known share d_eff / D."""

    tau: float
    length_scale: float
    known_share: float


def gram(batches: Iterable[Tensor]) -> Tensor:
    """Return sum psi psi^T over batches of features, each n x D, as a D x D matrix in double precision on the CPU."""
    total: Tensor | None = None
    for batch in batches:
        features = batch.double().cpu()
        product = features.T @ features
        total = product if total is None else total.add_(product)
    if total is None:
        raise ValueError("no features to learn from")
    return total


def median_distance(contexts: Tensor) -> float:
    """Return the median distance between two rows, from a thousand rows spread over all of them; 1.0 if they are all equal."""
    stride = max(1, len(contexts) // _DISTANCE_SAMPLE)
    median = float(torch.pdist(contexts[::stride].float().cpu()).median()) if len(contexts) > 1 else 0.0
    return median if median > 0 else 1.0


def _effective(eigenvalues: Tensor, tau: float) -> float:
    return float((eigenvalues / (eigenvalues + tau)).sum())


def _tau_for(eigenvalues: Tensor, most: float) -> float:
    """Return the smallest tau for which at most `most` directions are known, by bisection over its logarithm."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _effective(eigenvalues, math.exp(middle)) > most else (low, middle)
    return math.exp(high)
