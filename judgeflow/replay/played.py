"""What a replay finds: what would have been decided about every pair, and what every step would have taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judgeflow.replay.trace import Bools, Bytes, Floats, Wholes
from judgeflow.replay.whatif import WhatIf

SCORER, JUDGE, FALLBACK = 0, 1, 2
SOURCES = ("scorer", "judge", "fallback")
"""What `Played.sources` counts in."""

STATUSES = (
    "ok",
    "one_order",
    "budget",
    "deadline",
    "unrecorded",
    "too_long",
    "unparseable",
    "truncated",
    "refused",
    "scorer_failed",
)
"""What `Played.statuses` counts in; see `Outcome.status`.  "unrecorded": the replay asked, and nobody knows what the judge would say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedStep:
    """One step: `asked` pairs, `calls` sent with what they take (None: nobody knows), and the `seconds` that training waits for it.

    `threshold` is in units of the acquisition, `agreement` the share of pairs judged in both orders whose orders agree.
    """

    pairs: int
    asked: int
    audited: int
    calls: int
    tokens: int | None
    usd: float
    seconds: float | None
    threshold: float | None
    agreement: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Arrays over the n pairs of a trace, in its order and in canonical orientation; see `judgeflow.replay.trace`.

    `asked` is whether the plan asked about the pair, `calls` how many of its questions were sent, and are paid for even if they
    come back too late, `logits` the final word,
    `sources` and `statuses` index `SOURCES` and `STATUSES`; `acquisitions` is NaN where the policy could not rank, `propensities` the
    probability with which this policy asks about the pair, `audits` those drawn at random.  `unrecorded` is true where the policy asks
    and the trace has no reply: such a pair keeps the scorer's word, and must be weighted out (`judgeflow.replay.coverage`).
    """

    what_if: WhatIf
    asked: Bools
    audits: Bools
    calls: Bytes
    logits: Floats
    sources: Bytes
    statuses: Bytes
    acquisitions: Floats
    propensities: Floats
    unrecorded: Bools
    step_of: NDArray[np.intp]
    steps: tuple[PlayedStep, ...]

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def judged(self) -> Bools:
        """Which pairs have the judge's word."""
        return np.equal(self.sources, JUDGE)

    @property
    def total_calls(self) -> int:
        """Paid calls of the whole run."""
        return sum(step.calls for step in self.steps)

    @property
    def tokens(self) -> int | None:
        """Tokens of the whole run; None: unknown."""
        known = [step.tokens for step in self.steps if step.tokens is not None]
        return sum(known) if len(known) == len(self.steps) else None

    @property
    def usd(self) -> float:
        """US dollars of the whole run."""
        return sum(step.usd for step in self.steps)

    @property
    def seconds(self) -> float | None:
        """Seconds that training waits in the whole run; None: unknown."""
        known = [step.seconds for step in self.steps if step.seconds is not None]
        return sum(known) if len(known) == len(self.steps) else None


def steps_of(recorded: Wholes, step_size: int | None, usual: int) -> NDArray[np.intp]:
    """Return the step that each pair is played in, from 0 up; as recorded, unless a size is given or nothing was recorded."""
    if step_size is None and len(recorded) and (recorded >= 0).all():
        return np.unique(recorded, return_inverse=True)[1].astype(np.intp)
    return np.arange(len(recorded), dtype=np.intp) // (step_size or usual)
