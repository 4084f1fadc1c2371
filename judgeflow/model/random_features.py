"""Random Fourier features (Rahimi & Recht 2007): a Gaussian kernel as an inner product of D cosines, drawn once and kept."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ContextFeatures(nn.Module):
    """psi(c) = sqrt(2/D) cos(Omega c + o): contexts, batch x m, to features, batch x D.

    psi(c) . psi(c') approximates exp(-|c - c'|^2 / 2 l^2); |psi|^2 is 1 on average.  Omega ~ N(0, 1/l^2), o ~ U(0, 2 pi).
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, inputs: int, features: int, length_scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(features, inputs) / length_scale)
        self.register_buffer("phases", torch.rand(features) * 2.0 * math.pi)

    def forward(self, context: Tensor) -> Tensor:
        angles = torch.addmm(self.phases, context, self.frequencies.T)
        return torch.cos(angles) * math.sqrt(2.0 / len(self.phases))

    def rescale(self, length_scale: float) -> None:
        """Divide the frequencies by `length_scale`."""
        self.frequencies /= length_scale


class OddFeatures(nn.Module):
    """phi(c, d) = 2/sqrt(D) cos(Omega_c c + o) sin(Omega_d d): odd in the difference d, batch x D.

    The kernel is kappa_c(c, c') [kappa_d(d - d') - kappa_d(d + d')]: a preference that flips with the responses, is 0 between equal
    ones, and may depend on the context.
    """

    context_frequencies: Tensor
    phases: Tensor
    difference_frequencies: Tensor

    def __init__(self, inputs: int, features: int, *, context_scale: float, difference_scale: float) -> None:
        super().__init__()
        self.register_buffer("context_frequencies", torch.randn(features, inputs) / context_scale)
        self.register_buffer("phases", torch.rand(features) * 2.0 * math.pi)
        self.register_buffer("difference_frequencies", torch.randn(features, inputs) / difference_scale)

    def forward(self, context: Tensor, difference: Tensor) -> Tensor:
        even = torch.cos(torch.addmm(self.phases, context, self.context_frequencies.T))
        odd = torch.sin(difference @ self.difference_frequencies.T)
        return even * odd * (2.0 / math.sqrt(len(self.phases)))
