"""Heads: embeddings of texts to a raw logit g, and to the features that its uncertainty is built on.

All heads have one interface.  A pair is two embeddings: of its two responses (siamese), or of its two orders (concat).  `views` compares
them and returns what the head says of the pair, always in the pair's own order: one view, or one for each order of reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from judgeflow.model.config import ModelConfig
from judgeflow.model.random_features import ContextFeatures, OddFeatures
from judgeflow.model.spectral import BoundedLinear
from judgeflow.model.surface import NAMES as SURFACE_NAMES

_MOMENTUM = 0.05
_SMALLEST_VARIANCE = 1e-6
_FURTHEST = 5.0
_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Judged:
    """What a head says of a batch: `logit` (g, batch), `features` (batch x D: what g, but for a surface term, is linear in), `context`
    (batch x m).

    The context is what the features were made of: where a pair lies, whichever of its responses is better.
    """

    logit: Tensor
    features: Tensor
    context: Tensor


class Head(Protocol):
    """What the network needs of a head; all are modules."""

    def views(self, first: Tensor, second: Tensor) -> list[Judged]:
        """Compare embeddings, both batch x width."""

    def prepare(self, first: Tensor, second: Tensor) -> None:
        """Fix what depends on the data before training; embeddings of training pairs, both n x width."""

    def settle(self, first: Tensor, second: Tensor) -> None:
        """End training: make bounds and standardisations exact, by embeddings of training pairs."""


class SurfaceTerm(nn.Module):
    """w . (f_a - f_b) for surface features f, standardised and kept within five standard deviations; nothing without features."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the term of pairs, batch, from features that are both batch x width."""
        return self.difference(first, second) @ self.weight

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        """Return what the term is linear in, batch x width."""
        return self._standardise(first) - self._standardise(second)

    def prepare(self, features: Tensor) -> None:
        """Standardise by these features, n x width."""
        if features.shape[1] == 0:
            return
        self.mean = features.mean(0)
        self.deviation = features.var(0, correction=0).clamp(min=_SMALLEST_VARIANCE).sqrt()

    def _standardise(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.deviation).clamp(-_FURTHEST, _FURTHEST)


class Standardise(nn.Module):
    """x to (x - mean) / deviation: by running statistics while training, by exact ones after `settle`."""

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise `x`, batch x width."""
        if self.training:
            # New tensors, not in place: see BoundedLinear.
            self.mean = torch.lerp(self.mean, x.detach().mean(0), _MOMENTUM)
            self.variance = torch.lerp(self.variance, x.detach().var(0, correction=0), _MOMENTUM).clamp(min=_SMALLEST_VARIANCE)
        return (x - self.mean) * torch.rsqrt(self.variance)

    def settle(self, x: Tensor) -> None:
        """Standardise by these, n x width."""
        self.mean, self.variance = x.mean(0), x.var(0, correction=0).clamp(min=_SMALLEST_VARIANCE)


def surface_width(config: ModelConfig) -> int:
    """Return how many surface features a response has in a model of this config."""
    return len(SURFACE_NAMES) if config.surface else 0


class SiameseHead(nn.Module):
    """g = scale * beta . phi(c, d) + w . (f_a - f_b) with d = P (e_a - e_b) and c = standardised Q (e_a + e_b) / 2.

    Swapping the responses negates d and leaves c, so g(b, a) = -g(a, b), and g = 0 for equal embeddings.  P and Q are bounded
    (`BoundedLinear`).  While training, c is standardised with running statistics; `settle` replaces them by exact ones.
    An embedding ends with its response's surface features f, where there are any.
    """

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.difference = BoundedLinear(width, config.projection, config.spectral_bound)
        self.context = BoundedLinear(width, config.projection, config.spectral_bound)
        self.features = OddFeatures(
            config.projection, config.features, context_scale=config.context_scale, difference_scale=config.difference_scale
        )
        self.beta = nn.Parameter(torch.zeros(config.features))
        self.surface = SurfaceTerm(surface_width(config))
        self.standardise = Standardise(config.projection)
        self.scale = config.logit_scale
        self._width = width

    def views(self, first: Tensor, second: Tensor) -> list[Judged]:
        (first, first_surface), (second, second_surface) = self._parts(first), self._parts(second)
        context = self.standardise(self.context((first + second) / 2))
        phi = self.features(context, self.difference(first - second))
        logit = self.scale * (phi @ self.beta) + self.surface(first_surface, second_surface)
        return [Judged(logit, phi, context)]

    def prepare(self, first: Tensor, second: Tensor) -> None:
        (first, first_surface), (second, second_surface) = self._parts(first), self._parts(second)
        self.surface.prepare(torch.cat([first_surface, second_surface]))
        # Running statistics take dozens of steps to come here by themselves; a short training would end before the context counts.
        self.standardise.settle(self.context((first + second) / 2))

    def settle(self, first: Tensor, second: Tensor) -> None:
        self.difference.settle()
        self.context.settle()
        self.eval()
        self.standardise.settle(self.context((self._parts(first)[0] + self._parts(second)[0]) / 2))

    def _parts(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        return embeddings[:, : self._width], embeddings[:, self._width :]


class ConcatHead(nn.Module):
    """g = scale * beta . phi(z) + w . (f_1 - f_2) with z = W h + b: the paper's head, over an embedding h of both responses.

    W is bounded (`BoundedLinear`).  z is standardised, or a body that is being trained would grow out of the kernel's length scale, which
    is fixed by the distances between z before training.
    """

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.projection = BoundedLinear(width, config.projection, config.spectral_bound, bias=True)
        self.standardise = Standardise(config.projection)
        self.features = ContextFeatures(config.projection, config.features, 1.0)
        self.beta = nn.Parameter(torch.zeros(config.features))
        self.surface = SurfaceTerm(surface_width(config))
        self.scale = config.logit_scale
        self._length_scale = config.length_scale
        self._width = width

    def views(self, first: Tensor, second: Tensor) -> list[Judged]:
        return _both_orders(self._judge(first), self._judge(second))

    def _judge(self, embeddings: Tensor) -> Judged:
        surface = embeddings[:, self._width :]
        z = self.standardise(self._projected(embeddings))
        phi = self.features(z)
        return Judged(self.scale * (phi @ self.beta) + self.surface(*surface.chunk(2, dim=1)), phi, z)

    def prepare(self, first: Tensor, second: Tensor) -> None:
        self.surface.prepare(torch.cat([*first[:, self._width :].chunk(2, dim=1)]))
        z = self._projected(torch.cat([first, second]))
        self.standardise.settle(z)
        self.features.rescale(self._length_scale * median_distance(self.standardise(z)))

    def settle(self, first: Tensor, second: Tensor) -> None:
        self.projection.settle()
        self.eval()
        self.standardise.settle(self._projected(torch.cat([first, second])))

    def _projected(self, embeddings: Tensor) -> Tensor:
        z: Tensor = self.projection(embeddings[:, : self._width])
        return z


class LinearHead(nn.Module):
    """g = w . (e_a - e_b) for the siamese encoder, w . h for the concat one: the plain model, and the rivals' head."""

    size: Tensor

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.surface = SurfaceTerm(surface_width(config))
        self.register_buffer("size", torch.ones(()))
        self._concat = config.encoder == "concat"
        self._width = width

    def views(self, first: Tensor, second: Tensor) -> list[Judged]:
        if self._concat:
            halves = [embeddings[:, self._width :].chunk(2, dim=1) for embeddings in (first, second)]
            one, other = (
                self._judge(embeddings[:, : self._width], *half) for embeddings, half in zip((first, second), halves, strict=True)
            )
            return _both_orders(one, other)
        difference = first[:, : self._width] - second[:, : self._width]
        return [self._judge(difference, first[:, self._width :], second[:, self._width :])]

    def _judge(self, features: Tensor, first: Tensor, second: Tensor) -> Judged:
        scaled, surface = features / self.size, self.surface.difference(first, second)
        return Judged(scaled @ self.weight + surface @ self.surface.weight, torch.cat([scaled, surface], dim=1), scaled)

    def prepare(self, first: Tensor, second: Tensor) -> None:
        surface = torch.cat([first[:, self._width :], second[:, self._width :]])
        self.surface.prepare(torch.cat(surface.chunk(2, dim=1)) if self._concat else surface)
        (view, *_) = self.views(first, second)
        # |context|^2 is 1 on average, as it is for random features: one learning rate and one tau suit both.
        self.size = view.context.square().sum(1).mean().sqrt().clamp(min=_SMALLEST_VARIANCE)

    def settle(self, first: Tensor, second: Tensor) -> None:
        del first, second  # nothing here is bounded or followed
        self.eval()


def make_head(width: int, config: ModelConfig) -> SiameseHead | ConcatHead | LinearHead:
    """Return the head of a model of this config over embeddings of this width."""
    if config.uncertainty != "sngp":
        return LinearHead(width, config)
    return ConcatHead(width, config) if config.encoder == "concat" else SiameseHead(width, config)


def _both_orders(forward: Judged, backward: Judged) -> list[Judged]:
    return [forward, Judged(-backward.logit, backward.features, backward.context)]


def median_distance(points: Tensor) -> float:
    """Return the median distance between two rows, from a thousand rows spread over all of them; 1.0 if they are all equal."""
    stride = max(1, len(points) // _SAMPLE)
    median = float(torch.pdist(points[::stride].detach().float().cpu()).median()) if len(points) > 1 else 0.0
    return median if median > 0 else 1.0
