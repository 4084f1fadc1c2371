"""A recorded reply as the call it stands for: its text, how it is read, and whose it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from judgeflow.keys import digest
from judgeflow.types import Call, JudgeIdentity, Question, Reading, ReadingStatus, Reply, Usage
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import Template

ORDERS = ("order_ab", "order_ba")
IMPORTED = "imported"
"""The finish reason of a reply whose text is not what a judge wrote, but the tag of a winner that somebody recorded."""

READ, BY_WINNER, WINNER_ONLY, UNREADABLE, OTHERWISE = "read", "by_winner", "winner_only", "unreadable", "otherwise"
"""How a reply came to its verdict: by its text; by its recorded winner, since its text cannot be read; by its winner, since no text was
recorded; not at all; by its text, which says otherwise than its recorded winner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How records are to be understood.

    `judge` takes the replies of one judge alone; `counts_as` has them count as replies of that judge.  `source` is where labels come
    from that do not say so themselves, `scorer` whose a score without a name is.  `pairs` is a file with the texts of the records, one
    by one, where they have none themselves.
    """

    template: Template
    source: str
    judge: str | None = None
    counts_as: JudgeIdentity | None = None
    scorer: str = IMPORTED
    labels: bool = True
    pairs: Path | None = None

    def identity(self, name: str) -> JudgeIdentity:
        """Return the judge that replies recorded as `name`'s are stored as."""
        return self.counts_as or imported_judge(name, self.template)


def imported_judge(name: str, template: Template) -> JudgeIdentity:
    """Return the identity of a judge that is known by a name alone; its template says how its replies are read."""
    parameters = {"id": name, "model": name, "template": template.hash.hex(), "imported": True}
    return JudgeIdentity(id=name, model=name, fingerprint=digest("judge/1", parameters), parameters=parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directed:
    """What was recorded of one reply: `order` is "order_ab" where response_a was shown first, `winner` is in terms of the pair."""

    judge: str
    order: str
    sample: int = 0
    raw: str | None = None
    winner: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def directed_replies(record: Mapping[str, Any]) -> Iterator[Directed]:
    """Yield what a record says of its judges' replies.  Raises `ValueError` naming what cannot be understood."""
    judge = record.get("judge")
    if isinstance(judge, Mapping):
        for name, entry in judge.items():
            for sample, orders in enumerate(_samples(name, entry)):
                yield from (_directed(name, order, sample, orders[order]) for order in ORDERS if orders.get(order) is not None)
    elif isinstance(judge, str):  # an outcome as `judgeflow route` writes it
        choices = {order: record.get(order.replace("order", "choice")) for order in ORDERS}
        yield from (_directed(judge, order, 0, {"winner": choice}) for order, choice in choices.items() if choice is not None)
    elif judge is not None:
        raise ValueError('judge: expected {NAME: {"order_ab": {"raw", "winner"}, "order_ba": ...}}')


def _samples(name: str, entry: Any) -> list[Mapping[str, Any]]:
    """The orders of one judge, or of each of its repetitions.  A column of structs has empty ones where a record has nothing."""
    if entry is None:
        return []
    if isinstance(entry, Mapping) and any(order in entry for order in ORDERS):
        return [entry]
    if not isinstance(entry, Mapping) or not all(value is None or isinstance(value, Mapping) for value in entry.values()):
        raise ValueError(f"judge {name}: expected order_ab and order_ba, or repetitions of them")
    return [value or {} for value in entry.values()]


def _directed(name: str, order: str, sample: int, reply: Any) -> Directed:
    if not isinstance(reply, Mapping):
        raise ValueError(f"judge {name}, {order}: an object with raw or winner is expected")
    raw, winner = reply.get("raw"), reply.get("winner")
    if raw is not None and not isinstance(raw, str):
        raise ValueError(f"judge {name}, {order}: raw is no string")
    if winner not in (None, "a", "b", "tie"):
        raise ValueError(f'judge {name}, {order}: winner is {winner!r}; accepted are "a", "b" and "tie"')
    return Directed(judge=name, order=order, sample=sample, raw=raw, winner=winner, details=reply)


def heard(directed: Directed, question: Question, rules: Rules, now: float) -> tuple[Call, str] | None:
    """Return the call that a recorded reply stands for and how it came to its verdict; None where nothing was recorded.

    A text is kept as it is and read by the template.  Where it cannot be read, or is missing, and the winner was recorded, the reply's
    text is the template's tag of that winner, so that reading it again says the same; the judge's own words then stand in `reasoning`.
    """
    winner = _shown(directed.winner, directed.order)
    if directed.raw is None and winner is None:
        return None
    reply = _reply(directed, rules.identity(directed.judge).model)
    reading = read_reply(reply, rules.template.verdicts)
    how = READ
    if reading.status is not ReadingStatus.OK and winner is not None:
        how = WINNER_ONLY if directed.raw is None else BY_WINNER
        reply = replace(
            reply, text=_tag(rules.template, winner), reasoning=reply.text or reply.reasoning, refusal=None, finish_reason=IMPORTED
        )
        reading = read_reply(reply, rules.template.verdicts)
    elif reading.status is not ReadingStatus.OK:
        how = UNREADABLE
    elif winner is not None and reading.preferred != winner:
        how = OTHERWISE
    return make_call(question, rules.identity(directed.judge), reply, reading, now), how


def _shown(winner: str | None, order: str) -> int | None:
    """A winner in terms of the pair as a preference in the order shown."""
    if winner is None:
        return None
    return {"a": 1, "b": -1, "tie": 0}[winner] * (1 if order == "order_ab" else -1)


def _tag(template: Template, preferred: int) -> str:
    """The tag by which the template says this, a clear one if there is one.  Raises `ValueError` where it has none for a tie."""
    tags = [(grade.strong, tag) for tag, grade in template.verdicts.items() if grade.preferred == preferred]
    if not tags:
        raise ValueError(f"a recorded winner is a tie, and template {template.name} has no tag for one; choose another with --template")
    return next((tag for strong, tag in tags if strong), tags[0][1])


def _reply(directed: Directed, model: str) -> Reply:
    told = directed.details
    where = f"judge {directed.judge}, {directed.order}: "
    finish_reason = told.get("finish_reason")
    return Reply(
        text=directed.raw or "",
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        usage=Usage(
            prompt=whole(told, "prompt_tokens", where),
            completion=whole(told, "completion_tokens", where),
            reasoning=whole(told, "reasoning_tokens", where),
            cached=whole(told, "cached_tokens", where),
        ),
        usd=amount(told, "usd", where),
        latency_s=amount(told, "latency_s", where),
        model=model,
    )


def whole(told: Mapping[str, Any], key: str, where: str = "") -> int:
    """Return a count that may be missing (0: unknown).  Raises `ValueError`."""
    value = told.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{where}{key} is {value!r}; a whole number is expected")
    return value


def amount(told: Mapping[str, Any], key: str, where: str = "") -> float:
    """Return an amount that may be missing (0: unknown).  Raises `ValueError`."""
    value = told.get(key)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{where}{key} is {value!r}; a number of at least 0 is expected")
    return float(value)


def make_call(question: Question, judge: JudgeIdentity, reply: Reply, reading: Reading, created_at: float) -> Call:
    """Return the answer of `judge` to a question."""
    return Call(
        key=question.call_key,
        pair_key=question.pair_key,
        judge=judge.fingerprint,
        canonical=question.canonical,
        reply=reply,
        reading=reading,
        created_at=created_at,
        sample=question.sample,
    )
