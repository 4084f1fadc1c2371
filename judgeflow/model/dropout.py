"""Dropout that can also be sampled from: Monte Carlo dropout (Gal & Ghahramani 2016) with one mask a pass.

The mask of a pass is the same for every row and every position, which draws one network a pass, as the Bayesian reading has it; so a
score does not depend on the batch it was computed in, and the same pass gives the same network every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class SampledDropout(nn.Module):
    """Ordinary dropout while training, nothing when evaluating, and in pass `n` of `sampled` the mask that (seed, n) decides."""

    def __init__(self, p: float, seed: int) -> None:
        super().__init__()
        self.p = p
        self.sample: int | None = None
        self._seed = seed

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.sample is None:
            return nn.functional.dropout(x, self.p, self.training)
        return x * self._mask(x.shape[-1], self.sample).to(x)

    def _mask(self, width: int, sample: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + sample)
        return torch.bernoulli(torch.full((width,), 1.0 - self.p), generator=generator) / (1.0 - self.p)


def make_sampled(body: nn.Module) -> None:
    """Replace every active dropout of `body` by one that can be sampled from."""
    places = [
        (parent, name, child)
        for parent in body.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Dropout) and child.p > 0
    ]
    for seed, (parent, name, child) in enumerate(places, start=1):
        setattr(parent, name, SampledDropout(child.p, seed))


@contextmanager
def sampled(network: nn.Module, sample: int) -> Iterator[None]:
    """Compute with the network of pass number `sample`."""
    dropouts = [module for module in network.modules() if isinstance(module, SampledDropout)]
    for dropout in dropouts:
        dropout.sample = sample
    try:
        yield
    finally:
        for dropout in dropouts:
            dropout.sample = None
