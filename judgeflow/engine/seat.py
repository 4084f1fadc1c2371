"""One judge of a scheduler with all that is its own: limits, retries, and its share of the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from judgeflow.engine.retry import RetryPolicy
from judgeflow.ports import Gate, Judge, Permit
from judgeflow.types import Dispatch, RateHeaders, Stock, Usage

PanelMode = Literal["fallback", "weights"]


class OpenGate:
    """The gate of a judge without rate limits."""

    period_s = 0.0
    keeps_reserved = False

    async def admit(self, tokens: int) -> Permit:
        """Admit everything at once."""
        del tokens
        return _FREE

    def remember(self, dispatches: Sequence[Dispatch], wall: float) -> None:
        """Without a limit nothing counts."""

    def pause(self, seconds: float) -> None:
        """Without a limit there is nothing to hold back."""

    def heed(self, rates: RateHeaders, permit: Permit | None = None) -> Mapping[str, float]:
        """Learn nothing."""
        del rates, permit
        return {}

    def capacity(self, until: float) -> Stock:
        """Return no limit."""
        del until
        return Stock()


class _FreePermit:
    """A permit that counts for nothing."""

    def sent(self) -> None: ...

    def hold(self) -> None: ...

    def settle(self, usage: Usage) -> None: ...

    def lost(self) -> None: ...

    def cancel(self) -> None: ...


_FREE = _FreePermit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A judge on a panel: `Scheduler(judges=[Seat(judge=one, gate=gate_of_one), Seat(judge=other)])`.

    `gate` keeps this judge's rate limits, `max_in_flight` bounds its requests under way, `timeout_s` is how long one attempt may take.
    `weight` is its share of the pairs where the panel goes by weights.  `name` is what errors and the log call it; default: its judge's id.
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
        """What errors and the log call this seat."""
        return self.name or self.judge.identity.id
