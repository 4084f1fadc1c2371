"""From raw scores to probabilities that can be believed: a temperature, and the amplitude of the uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PAPER_AMPLITUDE = 10.0
MEAN_FIELD = math.pi / 8
_TEMPERATURE_SPREAD = 2.0
_REACH, _NARROWING, _PRECISION, _GRID = 4.0, 0.4, 0.01, 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """From raw scores to a preference: s = g / (temperature u) with u = sqrt(1 + amplitude v).

    A pair that was read in both orders has two views; s and u are then the means over them.
    """

    temperature: float = 1.0
    amplitude: float = PAPER_AMPLITUDE

    def __post_init__(self) -> None:
        for name in ("temperature", "amplitude"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise ValueError(f"{name} is {value!r}; a positive number is expected")

    def apply(self, logits: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean-field logits s and uncertainties u, both n, in double precision; raw logits and variances are n x k views."""
        uncertainty = torch.sqrt(1.0 + self.amplitude * variances.double())
        return (logits.double() / (self.temperature * uncertainty)).mean(1), uncertainty.mean(1)


def calibrate(logits: Tensor, variances: Tensor, targets: Tensor, *, sampled: bool = False) -> Calibration:
    """Return the temperature and amplitude that fit held-out labels best (raw g and v, both n x k views; targets in [0, 1], n).

    Both have log-normal priors.  The amplitude's is around the paper's 10 (one unit of its logarithm): held-out pairs resemble the
    training data and say little about far ones, so the paper's value stays where the data are silent.  For variances that are `sampled`
    (of logits, not relative to a prior) it is around pi / 8 in units of the logits' usual size, the mean-field value (MacKay 1992).
    The temperature's is around that size (two units): a few pairs that happen to be all right, or all wrong, make nobody infinitely sure,
    or unsure.
    """
    g, v, y = (part.double().cpu() for part in (logits, variances, targets))
    size = float(g.abs().mean())
    usual = Calibration(temperature=size or 1.0, amplitude=MEAN_FIELD / size**2 if sampled and size else PAPER_AMPLITUDE)
    if size == 0.0:
        return usual  # nothing to scale
    best, reach = usual, _REACH
    while reach > _PRECISION:
        best = min(_around(best, reach), key=lambda candidate: _negative_log_posterior(candidate, usual, g, v, y))
        reach *= _NARROWING
    return best


def _around(centre: Calibration, reach: float) -> list[Calibration]:
    """A grid over both logarithms, `reach` to either side of `centre`."""
    factors = torch.linspace(-reach, reach, _GRID, dtype=torch.float64).exp().tolist()
    return [Calibration(temperature=centre.temperature * t, amplitude=centre.amplitude * a) for a in factors for t in factors]


def _negative_log_posterior(candidate: Calibration, usual: Calibration, g: Tensor, v: Tensor, y: Tensor) -> float:
    s, _ = candidate.apply(g, v)
    fit = torch.nn.functional.binary_cross_entropy_with_logits(s, y, reduction="sum")
    off = math.log(candidate.temperature / usual.temperature) / _TEMPERATURE_SPREAD
    far = math.log(candidate.amplitude / usual.amplitude)
    return float(fit) + (off**2 + far**2) / 2
