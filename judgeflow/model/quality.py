"""What a scorer is worth on labelled pairs: how often it is right, whether it knows when, and what asking a judge in its order gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GAIN_SHARES = ("0.1", "0.2", "0.4")
_BINS = 10
_SHARES = tuple(step / 20 for step in range(21))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Pairs of similar confidence max(p, 1 - p): their mean confidence, how often the scorer is right about them, how many they are."""

    confidence: float
    accuracy: float
    pairs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedCurves:
    """Accuracy when a judge that is always right answers a share of the pairs, drawn at random or the highest of an acquisition first.

    `random` and each of `acquisitions` have one accuracy for each of `shares`, which rise from 0 to 1.  Pairs of equal acquisition
    are drawn among each other at random, so every accuracy is an expectation and does not depend on the order of the pairs.
    """

    shares: tuple[float, ...]
    random: tuple[float, ...]
    acquisitions: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a scorer is worth on labelled pairs, without ties and without pairs of identical responses.

    `ece` is the expected calibration error over `reliability`, ten equal-width bins of confidence in [0.5, 1] of which empty ones are
    left out.  `brier` is the mean of (p - y)^2 (Brier 1950) and `log_loss` the negative log likelihood of a label, in nats.
    `error_auroc` maps each acquisition to the probability that a wrong pair has more of it than a right one (None where all are right,
    or all wrong); `gain_at` to the accuracy won over random where the share in its key is judged, from the same `curves`.
    """

    pairs: int
    accuracy: float
    ece: float
    brier: float
    log_loss: float
    error_auroc: Mapping[str, float | None]
    gain_at: Mapping[str, Mapping[str, float]]
    reliability: tuple[ReliabilityBin, ...]
    curves: JudgedCurves


def quality(logits: Sequence[float], uncertainties: Sequence[float], preferred_a: Sequence[bool]) -> Quality:
    """Measure mean-field logits s and uncertainties u against labels.  A logit of exactly 0 is half right.

    Raises `ValueError` for no pairs.
    """
    if not logits:
        raise ValueError("there is no labelled pair that is not a tie")
    s, u = torch.tensor(logits, dtype=torch.float64), torch.tensor(uncertainties, dtype=torch.float64)
    truth = torch.tensor(preferred_a)
    right = torch.where(s == 0, 0.5, ((s > 0) == truth).double())
    bins = reliability(torch.sigmoid(s.abs()), right)
    acquisitions = {"error": torch.sigmoid(-s.abs()), "uncertainty": u, "margin": -(s * u).abs()}
    return Quality(
        pairs=len(s),
        accuracy=float(right.mean()),
        ece=expected_calibration_error(bins),
        brier=float((torch.sigmoid(s) - truth.double()).square().mean()),
        log_loss=float(torch.nn.functional.binary_cross_entropy_with_logits(s, truth.double())),
        error_auroc={name: auroc(q, right < 0.5) for name, q in acquisitions.items()},
        gain_at={name: gains(q, right) for name, q in acquisitions.items()},
        reliability=bins,
        curves=judged_curves(acquisitions, right),
    )


def reliability(confidence: Tensor, right: Tensor) -> tuple[ReliabilityBin, ...]:
    """Return the bins, by rising confidence, of pairs' confidence in [0.5, 1] and whether the scorer is right about them (both n)."""
    bins = ((confidence - 0.5) * 2 * _BINS).long().clamp(0, _BINS - 1)
    inside = [bins == b for b in bins.unique().tolist()]
    return tuple(
        ReliabilityBin(confidence=float(confidence[here].mean()), accuracy=float(right[here].mean()), pairs=int(here.sum()))
        for here in inside
    )


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the mean over pairs of |accuracy - confidence| of their bin (Naeini et al. 2015)."""
    return sum(each.pairs * abs(each.accuracy - each.confidence) for each in bins) / sum(each.pairs for each in bins)


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


def judged_accuracy(acquisition: Tensor, right: Tensor, shares: Sequence[float]) -> list[float]:
    """Return the expected accuracy where each share of the pairs, those of most acquisition, gets its true label (both n).

    A share that ends inside a pair or among equal acquisitions counts its part of them.
    """
    _, inverse, counts = torch.unique(-acquisition, return_inverse=True, return_counts=True)
    mended = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, inverse, 1.0 - right.double())
    judged = torch.cat([torch.zeros(1, dtype=torch.float64), counts.cumsum(0).double()])
    gained = torch.cat([torch.zeros(1, dtype=torch.float64), mended.cumsum(0)])
    at = torch.tensor(shares, dtype=torch.float64) * len(right)
    end = torch.searchsorted(judged, at).clamp(1, len(counts))
    part = (at - judged[end - 1]) / (judged[end] - judged[end - 1])
    won = gained[end - 1] + part * (gained[end] - gained[end - 1])
    return [float(each) for each in (right.double().sum() + won) / len(right)]


def random_accuracy(right: Tensor, shares: Sequence[float]) -> list[float]:
    """Return the expected accuracy where each share of the pairs, whichever, gets its true label."""
    accuracy = float(right.double().mean())
    return [accuracy + share * (1.0 - accuracy) for share in shares]


def gains(acquisition: Tensor, right: Tensor) -> dict[str, float]:
    """Return the accuracy that judging in the order of an acquisition wins over random, for each of `GAIN_SHARES`."""
    shares = [float(share) for share in GAIN_SHARES]
    chosen, drawn = judged_accuracy(acquisition, right, shares), random_accuracy(right, shares)
    return {share: ours - theirs for share, ours, theirs in zip(GAIN_SHARES, chosen, drawn, strict=True)}


def judged_curves(acquisitions: Mapping[str, Tensor], right: Tensor) -> JudgedCurves:
    """Return the accuracy of every acquisition, and of random, at 21 shares."""
    return JudgedCurves(
        shares=_SHARES,
        random=tuple(random_accuracy(right, _SHARES)),
        acquisitions={name: tuple(judged_accuracy(q, right, _SHARES)) for name, q in acquisitions.items()},
    )
