"""What one arm of the demo achieved."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from judgeflow.cli.demo.tasks import FAMILIAR, UNFAMILIAR
from judgeflow.types import Outcome, StepResult

_Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over pairs and half of its 95 % interval (normal approximation)."""

    mean: float
    half_width: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval leaves 0 out."""
        return abs(self.mean) > self.half_width


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmScore:
    """Accuracy of the final logits against the labels (a logit of 0 is half right), and its paired difference to policy random.

    `agreement` is the share of judged pairs whose two orders agree; `judged` is the share of the pairs of each kind that were asked
    about or known from the store.
    """

    accuracy: Estimate
    minus_random: Estimate
    calls: int
    tokens: int
    seconds: float
    agreement: float | None
    judged: dict[str, float]


def score_arm(results: Sequence[StepResult], random: Sequence[StepResult], seconds: float) -> ArmScore:
    """Score an arm against the labels, and against what policy random made of the same pairs."""
    outcomes = [outcome for result in results for outcome in result.outcomes]
    right = [_right(outcome) for outcome in outcomes]
    reference = [_right(outcome) for result in random for outcome in result.outcomes]
    spoken = [outcome.verdict.swapped_agree for outcome in outcomes if outcome.verdict is not None]
    agreements = [agree for agree in spoken if agree is not None]
    return ArmScore(
        accuracy=_estimate(right),
        minus_random=_estimate([mine - other for mine, other in zip(right, reference, strict=True)]),
        calls=sum(result.statistics.calls for result in results),
        tokens=sum(result.statistics.spent.tokens for result in results),
        seconds=seconds,
        agreement=statistics.fmean(agreements) if agreements else None,
        judged={kind: _judged_share(outcomes, kind) for kind in (FAMILIAR, UNFAMILIAR)},
    )


def _right(outcome: Outcome) -> float:
    if outcome.logit == 0:
        return 0.5
    return float((outcome.logit > 0) == (outcome.pair.label == "a"))


def _estimate(values: Sequence[float]) -> Estimate:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return Estimate(statistics.fmean(values), _Z95 * spread / math.sqrt(len(values)))


def _judged_share(outcomes: Sequence[Outcome], kind: str) -> float:
    return statistics.fmean(outcome.verdict is not None for outcome in outcomes if outcome.pair.metadata["kind"] == kind)
