"""Pair records in, outcome records out: one JSON object a line, UTF-8, or one row of a Parquet file.

A pair record is `{"id"?, "prompt": str | [messages], "response_a": str, "response_b": str, "label"?: "a"|"b"|"tie", "group"?,
"category"?, "strength"?}`; other keys are kept as metadata.  Instead of two responses and a label it may have `chosen` and `rejected`,
each a text or a list of messages that ends with the response, as most published sets do; both may be whole dialogues, whose common
beginning is then the prompt.  A file whose name ends in .gz is read as what was compressed.  A record that cannot be used is reported
with file and line, or row.
"""

from __future__ import annotations

import codecs
import dataclasses
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from judgeflow.dialogue import prompt_and_responses
from judgeflow.errors import RecordError
from judgeflow.guises import HEAD, RECORD, beginning, begins_record, guise_of, text_of
from judgeflow.keys import prompt_from_body, text_hash
from judgeflow.parquet import is_parquet, parquet_rows
from judgeflow.types import Label, Outcome, Pair, Preference, Prompt, Verdict

OnBadRecord = Literal["fatal", "skip"]
_OWN_KEYS = frozenset({"id", "prompt", "response_a", "response_b", "label", "group", "conversational"})
UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a file may raise."""
RawRecord = bytes | str | dict[str, Any]
"""A line that is to be decoded, or a row that has been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """One line, or row of a Parquet file, that could not be used, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """One record of any source that could not be used: where it stands, and why."""

    place: str
    reason: str


def read_pairs(path: str | Path, *, on_bad_record: OnBadRecord = "fatal") -> tuple[list[Pair], list[BadRecord]]:
    """Read a whole file of pairs; return them with the records that were skipped.

    Raises `RecordError` for an unreadable or empty file and, with "fatal", naming every bad line (up to ten).
    """
    source = Path(path)
    pairs: list[Pair] = []
    bad: list[BadRecord] = []
    try:
        for number, raw in raw_records(source):
            try:
                pairs.append(parse_pair(raw))
            except ValueError as error:
                bad.append(BadRecord(line=number, reason=str(error)))
    except RecordError as error:
        raise after(_placed_in(source, bad), error) from None
    if bad and on_bad_record == "fatal":
        raise refusal(_placed_in(source, bad))
    if not pairs:
        raise no_pair(source, _placed_in(source, bad))
    return pairs, bad


def _placed_in(source: Path, bad: Sequence[BadRecord]) -> list[Unusable]:
    return [Unusable(place=place(source, each.line), reason=each.reason) for each in bad]


def raw_records(source: Path) -> Iterator[tuple[int, RawRecord]]:
    """Yield the records of a file one by one, with their line or row; blank lines are no records.

    Raises `RecordError` for a file that cannot be read, or is something else than its name says; `UsageError` for Parquet without pyarrow.
    """
    yield from parquet_rows(source) if is_parquet(source) else _lines(source)


def open_records(source: Path) -> io.BufferedReader:
    """Open a file of records, one that ends in .gz as what was compressed.  Reading raises what `unreadable` explains."""
    return io.BufferedReader(gzip.GzipFile(source, "rb") if source.suffix == ".gz" else io.FileIO(source), HEAD)


def unreadable(source: Path, error: Exception) -> RecordError:
    """Return the error that says why a file cannot be read."""
    if isinstance(error, gzip.BadGzipFile):
        return RecordError(f"{source}: cannot be read: its name ends in .gz, and it is not compressed with gzip; rename or compress it")
    if isinstance(error, EOFError | zlib.error):
        return RecordError(f"{source}: cannot be read: what was compressed ends too early, or is damaged; copy or download it again")
    return RecordError(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with open_records(source) as stream:
            guise = guise_of(stream.peek(HEAD)) or _text_without_records(stream)
            if guise is not None:
                raise RecordError(f"{source}: {guise}")
            for number, line in enumerate(stream, start=1):
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if content.strip():
                    yield number, content
    except UNREADABLE as error:
        raise unreadable(source, error) from None


def _text_without_records(stream: io.BufferedReader) -> str | None:
    """Return what a file looks like that has no record from its beginning to its end; of a pipe nobody can tell beforehand."""
    guise = text_of(stream.peek(HEAD)) if stream.seekable() else None
    if guise is not None and any(map(begins_record, stream)):
        stream.seek(0)
        return None
    return guise


def place(source: Path, number: int) -> str:
    """Return how a message names one record of a file."""
    return f"{source}: row {number}" if is_parquet(source) else f"{source}:{number}"


def refusal(bad: Sequence[Unusable], begun: str = "Nothing was begun.", *, count: int | None = None) -> RecordError:
    """Return the error that names up to ten bad records; `count` is how many there are, if `bad` has not all of them."""
    return RecordError("\n".join([*_told(bad, count), f"{begun} Mend the records, or leave them out with --on-bad-record skip."]))


def after(bad: Sequence[Unusable], error: RecordError, *, count: int | None = None) -> RecordError:
    """Return the error at which reading ended, behind up to ten bad records that were found before."""
    return RecordError("\n".join([*_told(bad, count), str(error)])) if bad else error


def no_pair(source: str | Path, bad: Sequence[Unusable]) -> RecordError:
    """Return the error that a source holds no pair, and up to ten reasons."""
    return RecordError("\n".join([f"{source}: holds no usable pair", *_told(bad)]) if bad else f"{source}: holds no usable pair; {RECORD}")


def _told(bad: Sequence[Unusable], count: int | None = None) -> list[str]:
    more = (len(bad) if count is None else count) - _MOST_TOLD
    return [f"{record.place}: {record.reason}" for record in bad[:_MOST_TOLD]] + ([f"... and {more:,} more"] if more > 0 else [])


_MOST_TOLD = 10


def parse_pair(raw: RawRecord) -> Pair:
    """Return the pair of one JSON line or one row.  Raises `ValueError` saying what is wrong with it."""
    return pair_from_record(decode(raw))


def decode(raw: RawRecord) -> dict[str, Any]:
    """Return the record of one JSON line; a row is one already.  Raises `ValueError` saying what is wrong with it."""
    if isinstance(raw, dict):
        return raw
    try:
        text = (raw if isinstance(raw, str) else raw.decode()).rstrip("\r\n")  # orjson would count columns from the line's end
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not text.lstrip().startswith(("{", "[")):
            raise ValueError(f"not JSON, it begins with {beginning(text)}; {RECORD}") from None
        raise ValueError(f"not valid JSON: {error.msg} at column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start + 1}") from None
    if not isinstance(record, dict):
        raise ValueError(f"a record is a JSON object, not {_json_type(record)}")
    return record


def pair_from_record(record: dict[str, Any]) -> Pair:
    """Return the pair of one decoded record.  Raises `ValueError` naming the key that is missing or wrong."""
    is_preference = "chosen" in record and "rejected" in record and not {"response_a", "response_b"} & record.keys()
    first, second = sides = ("chosen", "rejected") if is_preference else ("response_a", "response_b")
    _check(record, sides)
    try:
        prompt, one, other = prompt_and_responses(_prompt_of(record), {first: record[first], second: record[second]})
    except ValueError as error:
        raise _about_prompt(error, sides) from None
    for name, text in ((first, one), (second, other)):
        if not text.strip():
            raise ValueError(f"{name} is empty")
    label = record.get("label")
    if is_preference:
        one, other, label = _placed(one, other, label)
    return Pair(
        prompt=prompt,
        response_a=one,
        response_b=other,
        id=_text_or_none(record.get("id")),
        group=_text_or_none(record.get("group")),
        label=label,
        metadata={key: value for key, value in record.items() if key not in _OWN_KEYS and not (is_preference and key in sides)},
    )


def _check(record: dict[str, Any], sides: tuple[str, str]) -> None:
    """Raise `ValueError` for a record that is no pair whatever its texts say."""
    dialogues = all(isinstance(record.get(side), list) or sides == ("chosen", "rejected") for side in sides)
    missing = [key for key in (*(() if dialogues else ("prompt",)), *sides) if key not in record]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing; a record needs prompt, {sides[0]} and {sides[1]}")
    for side in sides:
        if not isinstance(record[side], str | list | dict):
            raise ValueError(f"{side} is {_json_type(record[side])}; it should be a string, or messages")
    if record.get("label") not in (None, "a", "b", "tie"):
        raise ValueError(f'label is {record["label"]!r}; accepted are "a", "b" and "tie"')
    _check_strength(record.get("strength"))
    for key in ("id", "group"):
        if not isinstance(record.get(key), str | int | None) or isinstance(record.get(key), bool):
            raise ValueError(f"{key} is {_json_type(record[key])}; it should be a string")


def _about_prompt(error: ValueError, sides: tuple[str, str]) -> ValueError:
    """The same error with the name of the key that it is about."""
    return error if str(error).startswith(("prompt", *sides)) else ValueError(f"prompt: {error}")


def _prompt_of(record: dict[str, Any]) -> Any:
    """The prompt, which stands as the JSON text of its messages where `conversational` says so."""
    prompt = record.get("prompt")
    if record.get("conversational") is not True or not isinstance(prompt, str):
        return prompt
    try:
        return prompt_from_body(prompt, conversational=True)
    except (KeyError, TypeError, ValueError):
        raise ValueError("conversational is true, so the JSON text of a list of messages is expected") from None


def _placed(chosen: str, rejected: str, label: object) -> tuple[str, str, Label]:
    """The responses in the order of their hashes, so that nothing about the better one follows from its place, and the label."""
    if label not in (None, "tie"):
        raise ValueError(f'label is {label!r} beside chosen and rejected, which say the same; accepted is only "tie"')
    is_first = text_hash(chosen) <= text_hash(rejected)
    one, other = (chosen, rejected) if is_first else (rejected, chosen)
    return one, other, "tie" if label == "tie" else "a" if is_first else "b"


def _check_strength(value: object) -> None:
    """Raise `ValueError` for what cannot be how much a label counts in training."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    if value is not None and not number:
        raise ValueError(f"strength is {value!r}; a positive number is expected")


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
