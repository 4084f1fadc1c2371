"""What can be written, as values, and the rows each write stands for.

Building rows hashes texts, so it runs on a worker thread, before the transaction begins.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from operator import attrgetter
from typing import Any

from judgeflow.keys import prompt_body, prompt_hash
from judgeflow.store.ledger import ReservationState
from judgeflow.types import (
    Call,
    Cost,
    Decision,
    JudgeIdentity,
    Prompt,
    Question,
    Reading,
    ReadingStatus,
    Reply,
    Reservation,
    StepStatistics,
    Stock,
    Usage,
)

Row = dict[str, Any]
Line = tuple[Any, ...]
"""The values of a row, in the order of the table's columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """Create or continue a run, and register its judge."""

    run: str
    config: Mapping[str, object]
    judge: JudgeIdentity | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Put budget aside if the call is not stored yet and `stock` allows it."""

    run: str
    reservation: Reservation
    stock: Stock


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """End a reservation without a reply."""

    run: str
    reservation: Reservation
    state: ReservationState
    actual: Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Store a reply and charge its actual cost."""

    run: str
    reservation: Reservation
    question: Question
    call: Call

    @property
    def actual(self) -> Cost:
        """One paid reply, its tokens and its price."""
        return actual_cost(self.call)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Store planned decisions, and what the run's pacer has learnt with them."""

    run: str
    step: int
    decisions: Sequence[Decision]
    pacing: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Store how decisions of a step ended, and with the last of them the step's statistics."""

    run: str
    step: int
    decisions: Sequence[Decision]
    statistics: StepStatistics | None = None


Operation = OpenRun | Reserve | Close | Settle | Plan | Finish

_SETTLED_ROWS = 6
"""Three texts, the pair, the call and the reservation."""

_CHARACTERS_A_ROW = 2048
"""Long texts take about as long to hash and to write as so many rows."""


def weight(operation: Operation) -> int:
    """Return about how many rows an operation writes."""
    if isinstance(operation, Settle):
        question, reply = operation.question, operation.call.reply
        messages = [question.prompt] if isinstance(question.prompt, str) else [message.content for message in question.prompt]
        texts = (*messages, question.first, question.second, reply.text, reply.reasoning)
        return _SETTLED_ROWS + sum(map(len, texts)) // _CHARACTERS_A_ROW
    return 1 + len(operation.decisions) if isinstance(operation, Plan | Finish) else 1


@dataclass(slots=True)
class Rows:
    """Rows to insert, by table.  Filled on one thread, then handed to the transaction; texts and pairs stand in once.

    `hashes` remembers what was hashed: a response comes back in both orders and with every other of its group.  `pacing` is by the
    run's id; the last one counts, also over what is there.
    """

    hashes: dict[Prompt, bytes] = field(default_factory=dict)
    texts: dict[bytes, Line] = field(default_factory=dict)
    pairs: dict[bytes, Line] = field(default_factory=dict)
    calls: list[Line] = field(default_factory=list)
    planned: list[Line] = field(default_factory=list)
    finished: list[Line] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    pacing: dict[int, Mapping[str, Any]] = field(default_factory=dict)


def actual_cost(call: Call) -> Cost:
    """Return what a reply cost: one request, tokens in and out, USD."""
    return Cost(requests=1, tokens=call.reply.usage.total, usd=call.reply.usd)


def build_rows(operations: Iterable[Operation], run_ids: Mapping[str, int], now: float) -> Rows:
    """Return the rows of all operations; `now` is Unix time in seconds.  Raises `ValueError` for texts that are not valid Unicode."""
    rows = Rows()
    for operation in operations:
        if isinstance(operation, Settle):
            _add_settled(rows, operation)
        elif isinstance(operation, Plan):
            rows.planned += _decision_lines(run_ids[operation.run], operation.step, operation.decisions)
            if operation.pacing is not None:
                rows.pacing[run_ids[operation.run]] = operation.pacing
        elif isinstance(operation, Finish):
            rows.finished += _decision_lines(run_ids[operation.run], operation.step, operation.decisions)
            if operation.statistics is not None:
                rows.steps.append(_step_row(run_ids[operation.run], operation.statistics, now))
    return rows


def _add_settled(rows: Rows, operation: Settle) -> None:
    question = operation.question
    prompt, first, second = (_hash(rows, text) for text in (question.prompt, question.first, question.second))
    low, high = (first, second) if question.canonical else (second, first)
    rows.pairs[question.pair_key] = question.pair_key, prompt, low, high
    rows.calls.append(_call_line(operation.call))


def _hash(rows: Rows, text: Prompt) -> bytes:
    """Return the hash of a text or a conversation, and see to its row."""
    key = rows.hashes.get(text)
    if key is None:
        key = rows.hashes[text] = prompt_hash(text)  # a response's hash is that of a prompt of the same text
        rows.texts[key] = key, not isinstance(text, str), prompt_body(text)
    return key


def text_row(key: bytes, body: str, *, conversational: bool) -> Row:
    """Return the row of a prompt or a response."""
    return {"hash": key, "conversational": conversational, "body": body}


def call_row(call: Call) -> Row:
    """Return the row of a reply."""
    return dict(zip(_CALL_COLUMNS, _call_line(call), strict=True))


# In the order of the table, as are the values below.
_CALL_COLUMNS = (
    *("key", "pair_key", "judge", "canonical", "sample", "text", "reasoning", "refusal", "finish_reason"),
    *("status", "preferred", "strong", "parser_version"),
    *("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens"),
    *("usd", "latency_s", "attempts", "model", "request_id", "created_at"),
)


def _call_line(call: Call) -> Line:
    reply, reading, usage = call.reply, call.reading, call.reply.usage
    return (
        call.key,
        call.pair_key,
        call.judge,
        call.canonical,
        call.sample,
        storable(reply.text),
        storable(reply.reasoning),
        None if reply.refusal is None else storable(reply.refusal),
        reply.finish_reason,
        reading.status.value,
        reading.preferred,
        reading.strong,
        reading.parser_version,
        usage.prompt,
        usage.completion,
        usage.reasoning,
        usage.cached,
        reply.usd,
        reply.latency_s,
        reply.attempts,
        reply.model,
        reply.request_id,
        call.created_at,
    )


def call_of(row: Sequence[Any]) -> Call:
    """Return the call that a row of `call` stands for, its columns in the order of the table; true may be 1, and false 0."""
    key, pair_key, judge, canonical, sample, text, reasoning, refusal, finish_reason, *rest = row
    status, preferred, strong, version, prompt, completion, thought, cached, usd, latency_s, attempts, model, request_id, created_at = rest
    reply = Reply(
        text=text,
        reasoning=reasoning,
        refusal=refusal,
        finish_reason=finish_reason,
        usage=Usage(prompt=prompt, completion=completion, reasoning=thought, cached=cached),
        usd=usd,
        latency_s=latency_s,
        attempts=attempts,
        model=model,
        request_id=request_id,
    )
    return Call(
        key=key,
        pair_key=pair_key,
        judge=judge,
        canonical=bool(canonical),
        reply=reply,
        reading=_reading(status, preferred, strong, version),
        created_at=created_at,
        sample=sample,
    )


@functools.lru_cache(maxsize=64)
def _reading(status: str, preferred: int | None, strong: bool, version: int) -> Reading:  # noqa: FBT001  # columns, in their order
    """A reading says one of a dozen things, so all rows share a few of them."""
    return Reading(status=ReadingStatus(status), preferred=preferred, strong=bool(strong), parser_version=version)


def storable(text: str) -> str:
    """Return `text`, with "?" for lone surrogates, which no database takes: a paid reply is kept even if a server garbles it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


DECISION_FIELDS = tuple(item.name for item in fields(Decision))
_decision_values = attrgetter(*DECISION_FIELDS)


def _decision_lines(run_id: int, step: int, decisions: Iterable[Decision]) -> list[Line]:
    return [(run_id, step, *_decision_values(decision)) for decision in decisions]


def _step_row(run_id: int, statistics: StepStatistics, now: float) -> Row:
    plain = ("step", "pairs", "threshold", "calls", "prompt_tokens", "completion_tokens", "agreement", "seconds")
    mappings = ("sources", "statuses", "latency_s", "remaining")
    return {
        "run_id": run_id,
        "created_at": now,
        "spent_requests": statistics.spent.requests,
        "spent_tokens": statistics.spent.tokens,
        "spent_usd": statistics.spent.usd,
        **{name: getattr(statistics, name) for name in plain},
        **{name: dict(getattr(statistics, name)) for name in mappings},
        "pressure": {judge: asdict(pressure) for judge, pressure in statistics.pressure.items()},
    }
