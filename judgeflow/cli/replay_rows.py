"""A replay as rows of a CSV file: points of curves, and what-ifs that were played in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from judgeflow.cli.csv_file import write_rows
from judgeflow.replay.findings import CURVES, Found, arm_record


def write_csv(found: Sequence[Found], path: Path) -> None:
    """Write a row for each policy and share (row "curve"), and for each what-if with all its settings (row "what_if").

    Raises `UsageError` where the file cannot be written.
    """
    rows = [row for each in found for row in (*_curves(each), *_what_ifs(each))]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_rows(path, columns, rows)


def _curves(found: Found) -> Iterator[dict[str, Any]]:
    for name in CURVES:
        curve = found.measured.curves.get(name)
        for point in curve.points if curve else ():
            yield {
                "row": "curve",
                "judge": found.judge,
                "policy": name,
                "orders": found.orders,
                "share": point.share,
                "accuracy": point.accuracy.value,
                "accuracy_low": point.accuracy.low,
                "accuracy_high": point.accuracy.high,
                "gain": point.gain.value,
                "gain_low": point.gain.low,
                "gain_high": point.gain.high,
                "calls": point.calls,
                "tokens": point.tokens or None,
                "judge_seconds": point.seconds or None,
                "threshold": point.threshold,
            }


def _what_ifs(found: Found) -> Iterator[dict[str, Any]]:
    for arm in found.arms:
        told = arm_record(arm, whole=True)
        # In rows of curves it is the acquisition at which a share is reached, here the setting: a number, or "adaptive".
        yield {"row": "what_if", "share": arm.what_if.max_share} | told
