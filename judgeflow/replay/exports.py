"""Files that look as if they could be replayed, and hold too little of what was recorded."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from judgeflow.errors import ReplayError
from judgeflow.records import decode, raw_records
from judgeflow.replay.trace import Trace

_INSTEAD = "replay the verdict database itself (judgeflow replay DB --run NAME)"


def refuse_exports(source: Path, trace: Trace) -> None:
    """Raise `ReplayError` where the trace of a file lacks what a replay needs because of what kind of file it is."""
    record = _first_record(source)
    if not trace.testimonies and {"asked", "propensity"} <= record.keys():
        raise ReplayError(f"{source}: holds what a run has decided, and none of the replies; {_INSTEAD}, or export --what calls")
    if not trace.testimonies and {"chosen", "rejected"} <= record.keys():
        raise ReplayError(
            f"{source}: holds preferences, and not what the judge has said in either order; {_INSTEAD}, or export --what calls"
        )
    if "choice_ab" in record and trace.scorer is not None and not _has_both(trace):
        raise ReplayError(
            f"{source}: is what judgeflow route writes: of a judged pair it has the judge's word and no longer the scorer's; {_INSTEAD}"
        )


def _first_record(source: Path) -> dict[str, Any]:
    for _, raw in raw_records(source):
        with contextlib.suppress(ValueError):  # a bad record says nothing of the others
            return decode(raw)
    return {}


def _has_both(trace: Trace) -> bool:
    scored = ~np.isnan(trace.logits)
    return any(bool((testimony.replied.any(axis=1) & scored).any()) for testimony in trace.testimonies.values())
