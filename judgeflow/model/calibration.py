"""How much a scorer's numbers can be believed: temperature, the amplitude of its uncertainty, and the figures that say what it is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PAPER_AMPLITUDE = 10.0
MEAN_FIELD = math.pi / 8
_TEMPERATURE_SPREAD = 2.0
_REACH, _NARROWING, _PRECISION, _GRID = 4.0, 0.4, 0.01, 11
_BINS = 10


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a scorer is worth on labelled pairs without ties.

    `ece` is the expected calibration error over ten equal-width bins of confidence; `error_auroc` maps each acquisition to the
    probability that a wrong pair has more of it than a right one (None where all are right, or all wrong).
    """

    pairs: int
    accuracy: float
    ece: float
    error_auroc: Mapping[str, float | None]


def quality(logits: Sequence[float], uncertainties: Sequence[float], preferred_a: Sequence[bool]) -> Quality:
    """Measure mean-field logits s and uncertainties u against labels.  A logit of exactly 0 is half right.

    Raises `ValueError` for no pairs.
    """
    if not logits:
        raise ValueError("there is no labelled pair that is not a tie")
    s, u = torch.tensor(logits, dtype=torch.float64), torch.tensor(uncertainties, dtype=torch.float64)
    truth = torch.tensor(preferred_a)
    right = torch.where(s == 0, 0.5, ((s > 0) == truth).double())
    confidence = torch.sigmoid(s.abs())
    acquisitions = {"error": 1.0 - confidence, "uncertainty": u, "margin": -(s * u).abs()}
    return Quality(
        pairs=len(s),
        accuracy=float(right.mean()),
        ece=expected_calibration_error(confidence, right),
        error_auroc={name: auroc(q, right < 0.5) for name, q in acquisitions.items()},
    )


def expected_calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Return the mean over pairs of |accuracy - confidence| of their bin (Naeini et al. 2015); confidence is in [0.5, 1]."""
    bins = ((confidence - 0.5) * 2 * _BINS).long().clamp(0, _BINS - 1)
    gaps = [float((right[bins == b].mean() - confidence[bins == b].mean()).abs()) * int((bins == b).sum()) for b in bins.unique().tolist()]
    return sum(gaps) / len(confidence)


def auroc(scores: Tensor, positive: Tensor) -> float | None:
    """Return the probability that a positive scores higher than a negative, ties counting half; None without both kinds."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return None
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    last_rank = counts.cumsum(0).double()
    mean_rank = last_rank - (counts.double() - 1) / 2
    rank_sum = float(mean_rank[inverse][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
