"""Pair records in, outcome records out: one JSON object a line, UTF-8.

A pair record is `{"id"?, "prompt": str | [messages], "response_a": str, "response_b": str, "label"?: "a"|"b"|"tie", "group"?,
"category"?, "strength"?}`; other keys are kept as metadata.  A record that cannot be used is reported with file and line.
"""

from __future__ import annotations

import codecs
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from judgeflow.errors import RecordError
from judgeflow.types import Outcome, Pair, Preference, Prompt, Verdict

OnBadRecord = Literal["fatal", "skip"]
_OWN_KEYS = frozenset({"id", "prompt", "response_a", "response_b", "label", "group"})
_EXPECTED = "each line should be a JSON object with prompt, response_a and response_b"


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """One line that could not be used, and why."""

    line: int
    reason: str


def read_pairs(path: str | Path, *, on_bad_record: OnBadRecord = "fatal") -> tuple[list[Pair], list[BadRecord]]:
    """Read a whole file of pairs; return them with the records that were skipped.

    Raises `RecordError` for an unreadable or empty file and, with "fatal", naming every bad line (up to ten).
    """
    source = Path(path)
    pairs: list[Pair] = []
    bad: list[BadRecord] = []
    for number, line in _lines(source):
        try:
            pairs.append(parse_pair(line))
        except ValueError as error:
            bad.append(BadRecord(line=number, reason=str(error)))
    if bad and on_bad_record == "fatal":
        raise RecordError(_complaint(source, bad))
    if not pairs:
        first = f"the first of {len(bad)} bad records is line {bad[0].line}: {bad[0].reason}" if bad else ""
        raise RecordError(f"{source}: holds no usable pair; {first or _EXPECTED}")
    return pairs, bad


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with source.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if content.strip():
                    yield number, content
    except OSError as error:
        raise RecordError(f"{source}: cannot be read: {error.strerror or error}") from None


def _complaint(source: Path, bad: Sequence[BadRecord]) -> str:
    shown = [f"{source}:{record.line}: {record.reason}" for record in bad[:10]]
    if len(bad) > 10:
        shown.append(f"... and {len(bad) - 10} more")
    return "\n".join([*shown, "Nothing was begun. Mend the records, or leave them out with --on-bad-record skip."])


def parse_pair(line: bytes | str) -> Pair:
    """Return the pair of one JSON line.  Raises `ValueError` saying what is wrong with it."""
    try:
        text = line if isinstance(line, str) else line.decode()
        record = orjson.loads(text.rstrip("\r\n"))  # orjson would count columns from the line's end
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not valid JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
    if not isinstance(record, dict):
        raise ValueError(f"a record is a JSON object, not {_json_type(record)}")
    return pair_from_record(record)


def pair_from_record(record: dict[str, Any]) -> Pair:
    """Return the pair of one decoded record.  Raises `ValueError` naming the key that is missing or wrong."""
    missing = [key for key in ("prompt", "response_a", "response_b") if key not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing; a record needs prompt, response_a and response_b")
    for key in ("response_a", "response_b"):
        _require_text(record, key)
    if record.get("label") not in (None, "a", "b", "tie"):
        raise ValueError(f'label is {record["label"]!r}; accepted are "a", "b" and "tie"')
    _check_strength(record.get("strength"))
    for key in ("id", "group"):
        if not isinstance(record.get(key), str | int | None) or isinstance(record.get(key), bool):
            raise ValueError(f"{key} is {_json_type(record[key])}; it should be a string")
    try:
        return Pair(
            prompt=record["prompt"],
            response_a=record["response_a"],
            response_b=record["response_b"],
            id=_text_or_none(record.get("id")),
            group=_text_or_none(record.get("group")),
            label=record.get("label"),
            metadata={key: value for key, value in record.items() if key not in _OWN_KEYS},
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"prompt: {error}") from None


def _check_strength(value: object) -> None:
    """Raise `ValueError` for what cannot be how much a label counts in training."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    if value is not None and not number:
        raise ValueError(f"strength is {value!r}; a positive number is expected")


def _require_text(record: dict[str, Any], key: str) -> None:
    value = record[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is {_json_type(value)}; it should be a string")
    if not value.strip():
        raise ValueError(f"{key} is empty")


def _text_or_none(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def preference_record(pair: Pair, preference: Preference) -> dict[str, Any]:
    """Return the pair record of a scored pair, without its texts but with the scorer's belief about it."""
    record = {"id": pair.id, "label": pair.label, "group": pair.group, "category": pair.metadata.get("category")}
    return {key: value for key, value in record.items() if value is not None} | {
        "logit": preference.logit,
        "probability": preference.probability,
        "uncertainty": preference.uncertainty,
        "variance": preference.variance,
    }


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return the pair record of an outcome, with what was decided about it.

    `choice_ab` and `choice_ba` are the judge's choice with response_a shown first and second, both in terms of the pair;
    tokens are summed and latency is the slower of both calls, in milliseconds.
    """
    pair, preference = outcome.pair, outcome.preference
    record: dict[str, Any] = {
        "id": pair.id,
        "prompt": _prompt_record(pair.prompt),
        "response_a": pair.response_a,
        "response_b": pair.response_b,
        "label": pair.label,
        "group": pair.group,
        "category": pair.metadata.get("category"),
    }
    record = {key: value for key, value in record.items() if value is not None}
    return record | {
        "source": outcome.source,
        "status": outcome.status,
        "logit": outcome.logit,
        "probability": outcome.probability,
        "uncertainty": preference.uncertainty if preference else None,
        "audit": outcome.audit,
        "choice": outcome.choice,
        **_verdict_fields(outcome.verdict),
    }


def _verdict_fields(verdict: Verdict | None) -> dict[str, Any]:
    calls = verdict.calls if verdict else ()
    return {
        "choice_ab": _directed_choice(verdict, forward=True),
        "choice_ba": _directed_choice(verdict, forward=False),
        "judge": verdict.judge.id if verdict else None,
        "swapped_agree": verdict.swapped_agree if verdict else None,
        "prompt_tokens": sum(call.reply.usage.prompt for call in calls),
        "completion_tokens": sum(call.reply.usage.completion for call in calls),
        "latency_ms": round(1000 * max((call.reply.latency_s for call in calls), default=0.0), 3),
    }


def _directed_choice(verdict: Verdict | None, *, forward: bool) -> str | None:
    call = None if verdict is None else verdict.forward if forward else verdict.backward
    if call is None or call.reading.preferred is None:
        return None
    sign = call.reading.preferred if forward else -call.reading.preferred
    return {1: "a", -1: "b", 0: "tie"}[sign]


def _prompt_record(prompt: Prompt) -> Any:
    return prompt if isinstance(prompt, str) else [dataclasses.asdict(message) for message in prompt]


def outcome_line(outcome: Outcome) -> bytes:
    """Return one outcome as a line of JSON."""
    return orjson.dumps(outcome_record(outcome), option=orjson.OPT_APPEND_NEWLINE)
