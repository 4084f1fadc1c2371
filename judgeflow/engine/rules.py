"""What the steps of a scheduler have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from judgeflow.config import RoutingConfig
from judgeflow.routing.margin import Margin
from judgeflow.types import JudgeIdentity

Orders = Literal["both", "adaptive", "random", "first"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a scheduler's steps have in common.

    `judges` stand in order of preference.  With `weights` each pair is one judge's, and no other is asked about it; without, the next judge
    stands in for one that is down, fails or has no room.  `margin` is the logit of a clear verdict.
    """

    judges: tuple[JudgeIdentity, ...]
    routing: RoutingConfig
    margin: Margin
    weights: tuple[float, ...] = ()
    orders: Orders = "both"
    graded: bool = False
    has_scorer: bool = False
    retry_failed: bool = False

    @property
    def stand_ins(self) -> bool:
        """Whether one judge is asked where another cannot be."""
        return len(self.judges) > 1 and not self.weights
