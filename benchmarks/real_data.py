"""Labelled pairs of real prompts, and what real judges said of them; see SOURCES.md beside the data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.runner import Skipped

VARIABLE = "JUDGEFLOW_DATA"


def data_folder() -> Path:
    """Return the folder that JUDGEFLOW_DATA names, or shared/data beside the checkout.  Raises `Skipped` if there is none."""
    named = os.environ.get(VARIABLE)
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        raise Skipped(f"no data: {folder} is no folder; {VARIABLE} names another")
    return folder


def read(name: str) -> list[Any]:
    """Return the labelled pairs of one set; records that cannot be used are left out.  Raises `Skipped` if the file is missing."""
    from judgeflow.records import read_pairs

    path = data_folder() / f"{name}.jsonl"
    if not path.is_file():
        raise Skipped(f"no data: {path} is missing")
    return [pair for pair in read_pairs(path, on_bad_record="skip")[0] if pair.label is not None]


def recorded_choice(pair: Any, judge: str) -> str | None:
    """Return what a recorded judge chose: a, b, tie or inconsistent; None where it said nothing that could be read.

    Of two orders: what both say; what one says if the other ties; inconsistent if they contradict.
    """
    replies: Mapping[str, Any] = pair.metadata.get("judge", {}).get(judge, {})
    said = {reply["winner"] for reply in replies.values() if reply.get("winner") is not None}
    if not said:
        return None
    preferred = said - {"tie"}
    if len(preferred) == 2:
        return "inconsistent"
    return str(*preferred) if preferred else "tie"


def judged_credit(pair: Any, choice: str | None, own: float) -> float:
    """Return what the judge's choice earns: 1, 0, or 0.5 for a tie; the scorer's `own` credit where it contradicts itself or is silent."""
    if choice in {None, "inconsistent"}:
        return own
    return 0.5 if choice == "tie" else float(choice == pair.label)
