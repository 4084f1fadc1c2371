"""From replies to final logits, for many pairs at a time.

What two replies make together is what `judgeflow.verdicts.combine` says: a reply can say seven things, so it is asked once for each of
the 49 pairs of replies, and the answers are looked up.  The rules around it are those of `judgeflow.engine.resolving.resolve`.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judgeflow.replay.played import FALLBACK, JUDGE, SCORER, STATUSES
from judgeflow.replay.trace import STATUSES as READINGS
from judgeflow.replay.trace import Bools, Bytes, Floats, Testimony
from judgeflow.replay.whatif import WhatIf
from judgeflow.types import OK, ONE_ORDER, Call, JudgeIdentity, Reading, ReadingStatus, Reply
from judgeflow.verdicts.combine import combine

SILENT = 0
_SAYINGS = (None, *itertools.product((-1, 0, 1), (False, True)))
"""What a code means: (preferred, strong) in canonical order; None: nothing."""

_CODE = {status: number for number, status in enumerate(STATUSES)}
BUDGET, DEADLINE, TOO_LONG, UNRECORDED = _CODE["budget"], _CODE["deadline"], _CODE["too_long"], _CODE["unrecorded"]
SCORER_FAILED = _CODE["scorer_failed"]
NOT_FAILED = -1
_NOBODY = JudgeIdentity(id="", model="", fingerprint=b"")


def codes(testimony: Testimony) -> Bytes:
    """Return what every reply says as one number; n x 2."""
    said = 1 + 2 * (testimony.preferred + 1) + testimony.strong
    return np.where(testimony.statuses == READINGS.index(ReadingStatus.OK), said, SILENT).astype(np.int8)


@functools.lru_cache(maxsize=8)
def _table(margin: float, *, graded: bool, single: bool) -> tuple[Floats, Bools]:
    """Return logit and inconsistency by the codes of both orders."""
    logits, contradict = np.zeros((7, 7)), np.zeros((7, 7), dtype=bool)
    for (i, canonical), (j, swapped) in itertools.product(enumerate(_SAYINGS), repeat=2):
        verdict = combine(_call(canonical, 1), _call(swapped, -1), judge=_NOBODY, margin=margin, graded=graded, single=single)
        if verdict is not None:
            logits[i, j], contradict[i, j] = verdict.logit, verdict.choice == "inconsistent"
    return logits, contradict


def _call(saying: tuple[int, bool] | None, side: int) -> Call | None:
    if saying is None:
        return None
    reading = Reading(status=ReadingStatus.OK, preferred=side * saying[0], strong=saying[1])
    return Call(key=b"", pair_key=b"", judge=b"", canonical=side == 1, reply=Reply(text=""), reading=reading, created_at=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What is known about k pairs at the end of their step.

    `said` and `statuses` are what a judge's replies say and how they were read, `answered` which of them are there, `failed` why others are
    not (`NOT_FAILED`: not asked), all k x 2.  `declined` is the status of those that could not be asked about, else `NOT_FAILED`.
    """

    beliefs: Floats
    said: Bytes
    statuses: Bytes
    answered: Bools
    failed: Bytes
    declined: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Final logit, source and status of k pairs, and whether both orders spoke and agreed (1), or not (0; NaN: one or none spoke)."""

    logits: Floats
    sources: Bytes
    statuses: Bytes
    agreements: Floats


def resolve(heard: Heard, what_if: WhatIf, margin: float, *, has_scorer: bool) -> Words:
    """Return the final word on every pair."""
    said = np.where(heard.answered, heard.said, SILENT)
    enough = one_order_is_enough(heard, what_if)
    spoken = said != SILENT
    late = (heard.failed == DEADLINE).any(axis=1) & ~enough
    lost = (heard.failed == UNRECORDED).any(axis=1)
    judged = spoken.any(axis=1) & ~late & ~lost
    logits, contradict = _verdicts(said, what_if, margin, enough)
    beliefs = np.nan_to_num(heard.beliefs, nan=0.0)
    questions = 2 if what_if.orders in {"both", "adaptive"} else 1
    whole = (spoken.sum(axis=1) == questions) | enough
    silence = _silence(heard, has_scorer=has_scorer)
    left = ~judged | (contradict & (what_if.on_inconsistent == "scorer"))
    unsaid = np.where(silence == NOT_FAILED, SCORER, FALLBACK)
    return Words(
        logits=np.where(left, beliefs, logits) + 0.0,
        sources=np.where(judged, JUDGE, unsaid).astype(np.int8),
        statuses=np.where(judged, np.where(whole, _CODE[OK], _CODE[ONE_ORDER]), np.maximum(silence, _CODE[OK])).astype(np.int8),
        agreements=_agreements(said, judged),
    )


def one_order_is_enough(heard: Heard, what_if: WhatIf) -> Bools:
    """Whether orders are adaptive and the one that is there agrees with the scorer; see `engine.benches`."""
    if what_if.orders != "adaptive" or what_if.on_inconsistent != "scorer":
        return np.zeros(len(heard.beliefs), dtype=bool)
    sides = np.where(heard.answered, preferred(heard.said), 0).sum(axis=1)
    one = heard.answered.sum(axis=1) == 1
    return np.asarray(one & (sides * np.nan_to_num(heard.beliefs, nan=0.0) > 0))


def preferred(said: Bytes) -> NDArray[np.intp]:
    """Return 1, -1 or 0 by code, in canonical order."""
    return np.array([saying[0] if saying else 0 for saying in _SAYINGS], dtype=np.intp)[said]


def _verdicts(said: Bytes, what_if: WhatIf, margin: float, enough: Bools) -> tuple[Floats, Bools]:
    alone = np.full(len(said), what_if.orders in {"random", "first"}) | enough
    single, double = (_table(margin, graded=what_if.graded, single=mode) for mode in (True, False))
    place = said[:, 0], said[:, 1]
    return np.where(alone, single[0][place], double[0][place]), np.where(alone, single[1][place], double[1][place])


def _silence(heard: Heard, *, has_scorer: bool) -> Bytes:
    """Why there is no verdict; `NOT_FAILED` where nobody wanted one."""
    read = np.where(heard.answered & (heard.statuses > 0), heard.statuses, 0).max(axis=1)
    names = np.array([_CODE[OK] if status is ReadingStatus.OK else _CODE[status.value] for status in READINGS])
    nothing = np.where(np.isnan(heard.beliefs) & has_scorer, SCORER_FAILED, NOT_FAILED)
    unread = np.where(read > 0, names[read], nothing)
    failed = np.where(heard.failed == NOT_FAILED, 127, heard.failed).min(axis=1)
    failed = np.where(failed < 127, failed, unread)
    return np.where(heard.declined != NOT_FAILED, heard.declined, failed).astype(np.int8)


def _agreements(said: Bytes, judged: Bools) -> Floats:
    both = judged & (said != SILENT).all(axis=1)
    sides = preferred(said)
    return np.where(both, (sides[:, 0] == sides[:, 1]).astype(float), np.nan)
