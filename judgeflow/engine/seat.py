"""One judge of a scheduler with all that is its own: limits, retries, and its share of the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from judgeflow.engine.retry import RetryPolicy
from judgeflow.ports import Gate, Judge, Settle
from judgeflow.types import RateHeaders, Stock

PanelMode = Literal["fallback", "weights"]


class OpenGate:
    """The gate of a judge without rate limits."""

    async def admit(self, tokens: int) -> Settle:
        """Admit everything at once."""
        del tokens
        return lambda _: None

    def pause(self, seconds: float) -> None:
        """Without a limit there is nothing to hold back."""

    def heed(self, rates: RateHeaders) -> Mapping[str, float]:
        """Learn nothing."""
        del rates
        return {}

    def capacity(self, until: float) -> Stock:
        """Return no limit."""
        del until
        return Stock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A judge on a panel: `Scheduler(judges=[Seat(judge=one, gate=gate_of_one), Seat(judge=other)])`.

    `gate` keeps this judge's rate limits, `max_in_flight` bounds its requests under way, `timeout_s` is how long one attempt may take.
    `weight` is its share of the pairs where the panel goes by weights.  `name` is what the log calls it; default: the judge's id.
    """

    judge: Judge
    gate: Gate = field(default_factory=OpenGate)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_in_flight: int = 64
    timeout_s: float = 120.0
    weight: float = 1.0
    name: str | None = None

    @property
    def label(self) -> str:
        """What the log calls this judge."""
        return self.name or self.judge.identity.id
