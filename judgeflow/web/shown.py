"""Rows of the page's tables: a pair of a step, a judge of the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from judgeflow.report.figures import JudgeFigures
from judgeflow.report.wording import grouped
from judgeflow.store.paging import Judged
from judgeflow.types import Call, Decision, JudgeIdentity
from judgeflow.web.words import words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """One pair of a step: `latency_s` is that of its slowest reply.

    `replies` are what each of them prefers, in canonical order, or why it prefers nothing; `judges` are theirs, in the same order.
    """

    key: str
    prompt: str | None
    decision: Decision
    latency_s: float | None
    replies: tuple[str, ...]
    judges: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInRun:
    """What a judge did in one run; `number` is the run's id."""

    number: int
    run: str
    figures: JudgeFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRow:
    """One judge, and what it did in the runs that were last at work."""

    id: str
    model: str
    fingerprint: str
    runs: tuple[JudgeInRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePage:
    """Every judge; not `complete` while the latest runs are still being read.

    What judges did is told for the `latest` runs, those last at work, of all that there are.
    """

    judges: tuple[JudgeRow, ...]
    complete: bool
    latest: int
    of: int


def judge_row(identity: JudgeIdentity, did: Iterable[tuple[int, str, JudgeFigures]]) -> JudgeRow:
    """Return a judge with what it did in those of these runs (number, name, figures of a judge) in which it was one."""
    fingerprint = identity.fingerprint.hex()
    runs = (JudgeInRun(number=number, run=run, figures=judge) for number, run, judge in did if judge.fingerprint == fingerprint)
    return JudgeRow(id=identity.id, model=identity.model, fingerprint=fingerprint, runs=tuple(runs))


def pair_row(found: Judged, called: Mapping[bytes, str]) -> PairRow:
    """Return one pair of a step, its judges being called so."""
    texts = found.texts
    return PairRow(
        key=found.decision.pair_key.hex(),
        prompt=None if texts is None else words_of(texts.prompt),
        decision=found.decision,
        latency_s=max((call.reply.latency_s for call in found.calls), default=None),
        replies=tuple(_preferred(call) or call.reading.status.value for call in found.calls),
        judges=tuple(called[call.judge] for call in found.calls),
    )


def preferences_of_row(row: PairRow) -> str:
    """What the replies to a pair of a step prefer, with their judges where there are several."""
    return grouped((judge, word.upper() if word in {"a", "b"} else word) for judge, word in zip(row.judges, row.replies, strict=True))


def _preferred(call: Call) -> Literal["a", "b", "tie"] | None:
    """What a reply prefers, in canonical order; it says so in the order shown."""
    if call.reading.preferred is None:
        return None
    preferred = call.reading.preferred if call.canonical else -call.reading.preferred
    return "tie" if preferred == 0 else "a" if preferred > 0 else "b"
