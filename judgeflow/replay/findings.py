"""Everything that a replay finds out about a trace, as one value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from judgeflow.errors import NotCovered, ReplayError
from judgeflow.replay.advice import Advice, advise
from judgeflow.replay.coverage import Coverage, outcome_weights, require
from judgeflow.replay.evidence import ORACLE, SCORED, Evidence, Orders, available_orders, evidence
from judgeflow.replay.measure import Measured, OrderValue, PositionBias, measure, position_bias, second_order
from judgeflow.replay.panel import judges_of, spoken_for, title
from judgeflow.replay.played import Played
from judgeflow.replay.simulate import Replay
from judgeflow.replay.statistics import RESAMPLES, agreement
from judgeflow.replay.trace import Testimony, Trace
from judgeflow.replay.whatif import WhatIf
from judgeflow.store.upkeep import Tell, untold

_OF_JUDGE = ("judges", "weights")
_LABEL = ("policy", "max_share", "requests_per_minute", "orders")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One what-if, played.  `accuracy` is by the measure of the whole replay; `played` is None where it was `refused`, which says why."""

    what_if: WhatIf
    played: Played | None = None
    coverage: Coverage | None = None
    accuracy: float | None = None
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer: figures of every policy, advice for each share, what second orders are worth, every judge's bias, what-ifs in time.

    The trace has a testimony named `judge`, which is that of several `judges` where the word of several counts.
    """

    trace: Trace
    judge: str
    judges: tuple[str, ...]
    orders: Orders
    measured: Measured
    advice: tuple[Advice, ...]
    orders_worth: tuple[OrderValue, ...]
    biases: tuple[PositionBias, ...]
    arms: tuple[Arm, ...]

    @property
    def unexplained(self) -> int:
        """How many pairs lack a verdict for no reason that was recorded, as if they had been left out by chance."""
        said = self.trace.testimonies[self.judge]
        return int((~said.replied.any(axis=1) & ~said.chances.drawn).sum())

    @property
    def chanceless(self) -> int:
        """How many pairs lack a verdict since they had no chance of one, too few to matter: they are left out."""
        said = self.trace.testimonies[self.judge]
        return int((~said.replied.any(axis=1) & (said.chances.propensities == 0)).sum())

    @property
    def unscored(self) -> int:
        """Of how many pairs the scorer has said nothing, where it has of others: they are left out."""
        silent = np.isnan(self.trace.logits)
        return 0 if silent.all() else int(silent.sum())

    @property
    def unplaced(self) -> int:
        """Of how many measured pairs it would matter which response was given first, and nobody knows."""
        return int((~self.trace.placed[self.measured.evidence.rows]).sum()) if self.orders == "first" else 0

    def as_record(self) -> dict[str, Any]:
        """Return everything as JSON values; what nobody knows is null."""
        found = self.measured.evidence
        record = {
            "source": self.trace.source,
            "scorer": self.trace.scorer,
            "judge": self.judge,
            "orders": self.orders,
            "pairs": len(self.trace),
            "measured_pairs": len(found),
            "prompts": len(np.unique(found.prompts)),
            "measure": "accuracy" if found.reference == "labels" else "agreement with the judge",
            "weighted": found.weighted,
            "unexplained_pairs": self.unexplained,
            "unplaced_pairs": self.unplaced,
            "unscored_pairs": self.unscored,
            "chanceless_pairs": self.chanceless,
            "scorer_accuracy": self.measured.scorer_accuracy,
            "judge_accuracy": self.measured.judge_accuracy,
            "judge_gain": self.measured.judge_gain,
            "bound": self.measured.bound,
            "policies": {name: _curve_record(curve) for name, curve in self.measured.curves.items()},
            "deciles": self.measured.deciles,
            "advice": self.advice,
            "orders_worth": self.orders_worth,
            "position_bias": self.biases,
            "what_ifs": [arm_record(arm) for arm in self.arms],
        }
        values: dict[str, Any] = plain(record)
        return values


def playable(trace: Trace) -> tuple[str, ...]:
    """Return the policies that can be played over a trace, the plain ones first."""
    scored = ("error", "margin") if not np.isnan(trace.logits).all() else ()
    uncertain = ("uncertainty",) if not np.isnan(trace.uncertainties).all() else ()
    return ("never", "random", *scored, *uncertain, "always")


def check_playable(trace: Trace, policies: Sequence[str]) -> None:
    """Raise `ReplayError` for a policy that ranks by scores, where there are none."""
    if np.isnan(trace.logits).all():
        for name in policies:
            if name in SCORED:
                raise ReplayError(
                    f"{trace.source}: policy {name} ranks by a scorer's beliefs, and none are recorded; judgeflow score the pairs, "
                    "judgeflow import the scores, and name their scorer with --scorer"
                )


POLICIES = ("error", "uncertainty", "margin", "random", "always", "never", ORACLE)
"""What can be played in time."""


def find(
    trace: Trace,
    base: WhatIf,
    grid: Sequence[WhatIf],
    shares: Sequence[float],
    *,
    chosen_orders: bool = False,
    resamples: int = RESAMPLES,
    tell: Tell = untold,
) -> Found:
    """Measure every policy at these shares, and play every what-if of the grid.

    The judges are those of `base`, for all of the grid.  Where one order is recorded and the orders were not `chosen_orders`, that one
    is played.  `tell` is told how many resamples and what-ifs are done.  Raises `ReplayError` where a judge has to be chosen or nothing
    can be said at all; a what-if that is not covered is kept as refused.
    """
    base = dataclasses.replace(base, judges=judges_of(trace, base.judges))
    judge, trace = title(base), _concerning(trace, spoken_for(trace, base))
    replayed = Replay(trace)
    base = _with_possible_orders(replayed, base, chosen=chosen_orders)
    priced = dataclasses.replace(trace, testimonies={**trace.testimonies, judge: _priced(replayed, base)})
    drawn = _Drawn(seed=base.seed, resamples=resamples)
    measured = measure(evidence(priced, judge, base.orders, on_inconsistent=base.on_inconsistent), shares, tell=tell, **drawn)
    same = [dataclasses.replace(each, judges=base.judges, weights=base.weights, orders=base.orders) for each in grid]
    return Found(
        trace=priced,
        judge=judge,
        judges=base.judges,
        orders=base.orders,
        measured=measured,
        advice=tuple(advise(measured, share) for share in shares),
        orders_worth=second_order(priced, judge, shares=shares, on_inconsistent=base.on_inconsistent, tell=tell, **drawn),
        biases=tuple(position_bias(trace, name, **drawn) for name in trace.testimonies),
        arms=tuple(_arm(replayed, what_if, measured.evidence) for what_if in _counted(same, tell)),
    )


def _counted(grid: Sequence[WhatIf], tell: Tell) -> Iterator[WhatIf]:
    for done, what_if in enumerate(grid):
        tell("playing what-ifs", done, len(grid))
        yield what_if
    tell("playing what-ifs", len(grid), len(grid))


def _with_possible_orders(replayed: Replay, base: WhatIf, *, chosen: bool) -> WhatIf:
    """Return the settings with orders that were asked.  Raises `ReplayError` where others were `chosen`."""
    possible = available_orders(replayed.testimony(base))
    if chosen and base.orders not in possible:
        raise ReplayError(
            f"{replayed.trace.source}: {title(base)} was asked in one order only, so orders {base.orders} cannot be played; "
            "try --orders first"
        )
    return base if base.orders in possible else dataclasses.replace(base, orders=possible[0])


class _Drawn(TypedDict):
    """What resamples are drawn by."""

    seed: int
    resamples: int


def _concerning(trace: Trace, said: Testimony) -> Trace:
    """Return the trace without stored pairs of which neither this judge nor the scorer has said anything: they belong to other data."""
    silent = (trace.steps < 0) & np.isnan(trace.logits) & ~said.replied.any(axis=1)
    return trace.rows(np.flatnonzero(~silent)) if silent.any() else trace


def _priced(replayed: Replay, what_if: WhatIf) -> Testimony:
    """Return the testimony with what calls take as the what-if has it, where that is known at all."""
    bill, testimony = replayed.bill(what_if), replayed.testimony(what_if)
    there = testimony.replied
    return dataclasses.replace(
        testimony,
        prompt_tokens=np.where(there, bill.prompt, 0),
        completion_tokens=np.where(there, bill.completion, 0),
        latency_s=np.where(there, bill.latency_s, 0.0),
    )


def _arm(replayed: Replay, what_if: WhatIf, found: Evidence) -> Arm:
    played = replayed.play(what_if)
    try:
        covered = require(replayed.trace, played, testimony=replayed.testimony(what_if))
    except NotCovered as error:
        return Arm(what_if=what_if, refused=str(error))
    return Arm(what_if=what_if, played=played, coverage=covered, accuracy=_accuracy(replayed, played, found))


def _accuracy(replayed: Replay, played: Played, found: Evidence) -> float | None:
    """The share of right final words where labels are known; None where the measure is agreement, which the curves have."""
    truth = replayed.trace.truth
    known = ~np.isnan(truth) & (truth != 0.5)
    if found.reference != "labels" or not known.any():
        return None
    right = agreement(played.logits[known], truth[known] - 0.5)
    return float(np.average(right, weights=outcome_weights(replayed.testimony(played.what_if), played)[known]))


def arm_record(arm: Arm, *, whole: bool = False) -> dict[str, Any]:
    """Return one what-if as a flat record: its settings, those that are usually varied or the `whole` of them, and what it came to."""
    names = [field.name for field in dataclasses.fields(WhatIf) if field.name not in _OF_JUDGE] if whole else _LABEL
    settings = {"judge": title(arm.what_if)} | {name: getattr(arm.what_if, name) for name in names}
    if arm.played is None:
        return settings | {"refused": arm.refused}
    played, steps = arm.played, len(arm.played.steps)
    return settings | {
        "pairs": len(played),
        "steps": steps,
        "asked": int(played.asked.sum()),
        "judged": int(played.judged.sum()),
        "calls": played.total_calls,
        "tokens": played.tokens,
        "usd": played.usd,
        "seconds": played.seconds,
        "seconds_per_step": None if played.seconds is None or not steps else played.seconds / steps,
        "accuracy": arm.accuracy,
        "supported": arm.coverage.supported if arm.coverage else None,
    }


def _curve_record(curve: Any) -> dict[str, Any]:
    return {"points": curve.points, "saved": curve.saved}


def plain(value: Any) -> Any:
    """Return dataclasses as objects, numpy's numbers as plain ones, and None for what is not a number."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


CURVES = (*SCORED, "random", ORACLE)
"""The order in which policies are told."""
