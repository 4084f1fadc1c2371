"""Whose word counts: that of one judge of a trace, or of several as a panel has them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from judgeflow.errors import ReplayError, UsageError
from judgeflow.replay.selection import Lot
from judgeflow.replay.trace import COLUMNS, Bools, Testimony, Trace
from judgeflow.replay.whatif import WhatIf
from judgeflow.routing.policy import own_judge
from judgeflow.store.identities import listed, named


def judges_of(trace: Trace, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the judges that are `wanted`, by id, model or the beginning of a fingerprint; none means the only one there is.

    Raises `ReplayError` naming the judges there are, or of which one of several may be meant.
    """
    if not trace.testimonies:
        raise ReplayError(
            f"{trace.source}: there are no verdicts at all; judge pairs with judgeflow route, or bring verdicts with judgeflow import"
        )
    called = {testimony.judge.fingerprint: name for name, testimony in trace.testimonies.items()}
    there = {testimony.judge.fingerprint: testimony.judge for testimony in trace.testimonies.values()}
    if not wanted and len(called) > 1:
        raise ReplayError(
            f"{trace.source}: verdicts of more than one judge: choose with --judge, several times to compare; there are "
            f"{listed(trace.testimonies)}"
        )
    try:
        return tuple(called[named(name, there)] for name in wanted) or tuple(trace.testimonies)
    except UsageError as error:
        raise ReplayError(f"{trace.source}: {error}") from None


def panel(trace: Trace, wanted: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return judges and weights of "A", of "A,B" (in order of preference, no weights) or of "A=2,B=1" (which share the pairs).

    Raises as `judges_of`, and where only some have a weight, or one that is none.
    """
    ids = {name for label, testimony in trace.testimonies.items() for name in (label, testimony.judge.id)}
    parts = [wanted] if wanted in ids else [part.strip() for part in wanted.split(",")]
    split = [(part, None) if part in ids or "=" not in part else part.rsplit("=", 1) for part in parts]
    weights = tuple(_weight(wanted, weight) for _, weight in split if weight is not None)
    if weights and len(weights) < len(parts):
        raise ReplayError(f"--judge {wanted}: each judge needs a weight where one has a weight, for instance {parts[0]},other=1")
    return judges_of(trace, tuple(str(name) for name, _ in split)), weights


def configured(trace: Trace, what_if: WhatIf) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return judges and weights of a what-if.  In an order of preference those who have never been asked are silent, and left out."""
    ids = {testimony.judge.id for testimony in trace.testimonies.values()}
    there = tuple(name for name in what_if.judges if name in ids)
    return (there if there and not what_if.weights else what_if.judges), what_if.weights


def _weight(wanted: str, weight: str) -> float:
    try:
        found = float(weight)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise ReplayError(f"--judge {wanted}: {weight or 'nothing'} is no weight; a number above 0 is expected")
    return found


def title(what_if: WhatIf) -> str:
    """Return what the judges of a what-if are called together."""
    if what_if.weights:
        return " and ".join(f"{name} ({weight:g})" for name, weight in zip(what_if.judges, what_if.weights, strict=True))
    return ", else ".join(what_if.judges)


def spoken_for(trace: Trace, what_if: WhatIf) -> Testimony:
    """Return the testimony that counts, as `judgeflow.engine` lets a panel's judges count where none of them fails.

    In order of preference each pair has the first judge's that has spoken about it; by weights it has that of its own judge, whom the
    seed, the pair and the judges' fingerprints decide.  Raises as `judges_of`.
    """
    there = [trace.testimonies[name] for name in judges_of(trace, what_if.judges)]
    if what_if.weights:
        return _divided(trace, there, what_if)
    first, *others = there
    for other in others:
        first = _mixed(first, other, other.replied.sum(axis=1) > first.replied.sum(axis=1))
    everybody = [testimony.judge.fingerprint for testimony in there]
    return replace(first, chances=trace.log.chances(everybody, _judged(first))) if others else first


def _judged(testimony: Testimony) -> Bools:
    return np.asarray(testimony.replied.any(axis=1))


def _divided(trace: Trace, there: list[Testimony], what_if: WhatIf) -> Testimony:
    judges = [testimony.judge for testimony in there]
    lot = Lot.of(what_if.seed, {judge.fingerprint: weight for judge, weight in zip(judges, what_if.weights, strict=True)})
    own = np.array([own_judge(what_if.seed, key, judges, what_if.weights) for key in trace.keys])
    given = [replace(each, chances=trace.log.chances({each.judge.fingerprint}, _judged(each), lot)) for each in there]
    made = given[0]
    for place, other in enumerate(given[1:], start=1):
        theirs = own == place
        made = replace(_mixed(made, other, theirs), chances=made.chances.where(theirs, other.chances))
    return made


def _mixed(one: Testimony, other: Testimony, others: Bools) -> Testimony:
    """Return the columns of one testimony, with the other's for `others`."""
    columns = {name: np.where(others[:, None], getattr(other, name), getattr(one, name)) for name in COLUMNS}
    return replace(one, repetitions=None, **columns)
