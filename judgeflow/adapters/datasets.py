"""Pairs from a file, a folder or the hub, whatever published format they are in."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgeflow.adapters.formats import FORMATS, Format, pairs_of, recognise, unrecognised
from judgeflow.adapters.preference_sets import ScoreCheck
from judgeflow.adapters.sources import AUTO, Reading, records_in
from judgeflow.errors import RecordError, UsageError
from judgeflow.records import Unusable, after, no_pair, refusal
from judgeflow.types import Pair

_AS_IT_COMES = Reading()

COLUMNS = (
    *("prompt", "chosen", "rejected", "response_a", "response_b", "label", "strength", "id", "group", "category"),
    *("response_1", "response_2", "preference_strength", "score_chosen", "score_rejected", "question", "response_A", "response_B"),
    *("subset", "domain", "source", "pair_id", "original_id", "num_correct", "chosen_model", "rejected_model", "split"),
)
"""Keys that other columns can be mapped to: what one of the formats reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What was found in one source: the pairs in their order, the records that could not be used, and what to know about the others."""

    format: Format
    pairs: tuple[Pair, ...]
    bad: tuple[Unusable, ...] = ()
    doubt: str | None = None


def read_dataset(
    name_or_path: str | Path,
    *,
    format: str = AUTO,  # noqa: A002  # what users call it
    split: str | None = None,
    subset: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[Pair]:
    """Return the pairs of a .jsonl, .json or .parquet file, also with .gz, of a folder, or of a set of the hub such as nvidia/HelpSteer2.

    `format` is one of `FORMATS`, or "auto": recognised by the keys of the first record.  `subset` and `split` choose a part of a folder or
    of a set of the hub; RewardBench is read in its filtered split.  `columns` maps keys that a format reads to those that the records have,
    for instance `{"prompt": "instruction"}`.  Raises `RecordError` naming up to ten bad records, `UsageError` if the source cannot be had.
    """
    reading = Reading(format=format, split=split, subset=subset, columns=columns or {})
    scan = scan_dataset(name_or_path, reading)
    if scan.bad:
        raise refusal(scan.bad)
    return list(scan.pairs)


def scan_dataset(name_or_path: str | Path, reading: Reading = _AS_IT_COMES) -> Scan:
    """Return what a source holds, bad records beside the pairs.  Raises as `read_dataset`, and `RecordError` if there is no pair at all."""
    pairs: list[Pair] = []
    bad: list[Unusable] = []
    found: Format | None = None
    try:
        for place, kind, record in formatted_records(name_or_path, reading):
            if isinstance(record, Unusable):
                bad.append(record)
                continue
            found = kind
            try:
                pairs += pairs_of(record, found)
            except ValueError as error:
                bad.append(Unusable(place=place, reason=str(error)))
    except RecordError as error:
        raise after(bad, error) from None
    if found is None or not pairs:
        raise no_pair(name_or_path, bad)
    return Scan(format=found, pairs=tuple(pairs), bad=tuple(bad), doubt=doubt_about(found, pairs))


def doubt_about(kind: Format, pairs: Sequence[Pair]) -> str | None:
    """Return what should be known of the labels of a set, None if there is nothing."""
    check = ScoreCheck()
    if kind == "ultrafeedback":
        check.look(pairs)
    return check.told()


def formatted_records(
    name_or_path: str | Path, reading: Reading, *, beliefs: bool = False
) -> Iterator[tuple[str, Format, dict[str, Any] | Unusable]]:
    """Yield every record of a source after its place and the format of all, few in memory at a time.

    With `beliefs` what `judgeflow score` has written is a record of judgeflow's own, though it has no texts.  Raises as `records_in`.
    """
    kind = _checked(reading)
    for place, record in records_in(name_or_path, reading):
        if isinstance(record, Unusable):
            yield place, kind or "pairs", record
            continue
        kind = kind or recognise(record) or ("pairs" if beliefs and "logit" in record else None)
        yield place, kind or "pairs", record if kind else Unusable(place=place, reason=unrecognised(record))


def _checked(reading: Reading) -> Format | None:
    unknown = next((key for key in reading.columns if key not in COLUMNS), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, COLUMNS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"accepted are {', '.join(COLUMNS)}"
        raise UsageError(f"columns: no format reads a key {unknown}; {hint}")
    found = next((each for each in FORMATS if each == reading.format), None)
    if found is None and reading.format != AUTO:
        raise UsageError(f"format {reading.format}: accepted are {', '.join((AUTO, *FORMATS))}")
    return found
