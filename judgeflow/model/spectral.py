"""A linear map whose largest singular value never passes a bound (spectral normalisation; Miyato et al. 2018, SNGP section 3.1).

Distances in the input then stay meaningful behind the map: it can shrink them, but stretch none beyond the bound.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STEPS_TO_START = 30


class BoundedLinear(nn.Module):
    """z = W x, plus b with `bias`, ||W||_2 <= bound: W is shrunk where it would pass the bound, and left alone below it.

    While training, one step of power iteration a forward pass follows the largest singular value; `settle` then makes the bound
    exact, by a full decomposition, and from there on W is used as it is.
    """

    left: Tensor
    right: Tensor

    def __init__(self, inputs: int, outputs: int, bound: float, *, bias: bool = False) -> None:
        super().__init__()
        self.bound = bound
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.orthogonal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("left", nn.functional.normalize(torch.randn(outputs), dim=0), persistent=False)
        self.register_buffer("right", nn.functional.normalize(torch.randn(inputs), dim=0), persistent=False)
        for _ in range(_STEPS_TO_START):
            self._iterate()

    def forward(self, x: Tensor) -> Tensor:
        """Map `x`, batch x inputs, to batch x outputs."""
        if not self.training:
            return nn.functional.linear(x, self.weight, self.bias)
        self._iterate()
        sigma = self.left @ self.weight @ self.right
        return nn.functional.linear(x, self.weight * (self.bound / sigma).clamp(max=1.0), self.bias)

    @torch.no_grad()
    def _iterate(self) -> None:
        # New tensors, not in place: a forward pass that is still to be differentiated holds on to the old ones.
        self.left = nn.functional.normalize(self.weight @ self.right, dim=0)
        self.right = nn.functional.normalize(self.weight.T @ self.left, dim=0)

    @torch.no_grad()
    def settle(self) -> None:
        """Make the bound exact; call it when training is over."""
        sigma = torch.linalg.matrix_norm(self.weight.double(), 2)
        self.weight.mul_((self.bound / sigma).clamp(max=1.0).to(self.weight.dtype))
