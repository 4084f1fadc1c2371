"""From a judge's replies about a pair, or its label, to the record of a preference - or to the reason why there is none.

Decisions only; nothing is read or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from judgeflow.dialogue import transcript, turns
from judgeflow.parquet import Kind
from judgeflow.store.extract import Labelled, Testimony, Texts, Where
from judgeflow.types import Call, JudgeIdentity, Prompt, Verdict
from judgeflow.verdicts.combine import combine

INCONSISTENT, TIE, UNREADABLE, ONE_ORDER, HALF, SLIGHT = "inconsistent", "tie", "unreadable", "one_order", "half", "slight"
LEFT_OUT: Mapping[str, str] = {
    INCONSISTENT: "the two orders contradict each other",
    TIE: "neither response is preferred; --include-ties takes them",
    UNREADABLE: "no reply could be read",
    ONE_ORDER: "only one order was asked or read; --min-agreement any takes them",
    HALF: "one order prefers a response, the other neither; --min-agreement any takes them",
    SLIGHT: "not both orders prefer clearly, as --strong-only demands",
}
"""Why a pair is left out, in words."""

Format = Literal["text", "messages"]

_NOBODY = JudgeIdentity(id="", model="", fingerprint=b"")
"""Whose verdict it is does not matter to what it says."""

_MORE: dict[str, Kind] = {
    "label": "text",
    "strength": "number",
    "agreement": "text",
    "chosen_first": "text",
    "rejected_first": "text",
    "judge": "text",
    "source": "text",
    "category": "text",
    "pair_key": "text",
}


def preference_columns(form: Format) -> Mapping[str, Kind]:
    """Return the columns of a preference record."""
    kind: Kind = "messages" if form == "messages" else "text"
    return dict.fromkeys(("prompt", "chosen", "rejected"), kind) | _MORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a pair must fulfil: `both` orders prefer the same response, clearly if `strong_only`; ties count only with `include_ties`."""

    both: bool = True
    strong_only: bool = False
    include_ties: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferred:
    """Which response of the canonical order is preferred (1 the first, -1 the second, 0 neither), and how clearly, in (0, 1].

    `agreement` is "both", "half" or "one_order"; the directed choices are 1, -1, 0 as above, or None where that order says nothing.
    """

    side: int
    strength: float
    agreement: str | None = None
    canonical: int | None = None
    swapped: int | None = None


def preferred(calls: Sequence[Call], demands: Demands) -> Preferred | str:
    """Return what one judge's replies about a pair prefer, or why that is nothing to learn from (a key of `LEFT_OUT`).

    Strength is the size of the combined verdict with a margin of 1 and graded replies: 1 where both orders clearly prefer one response,
    three quarters where one of them does so slightly, half where only one order prefers it or both do slightly.
    """
    canonical, swapped = (next((call for call in calls if call.canonical == order and _spoke(call)), None) for order in (True, False))
    judged = combine(canonical, swapped, judge=_NOBODY, margin=1.0, graded=True)
    if judged is None:
        return UNREADABLE
    reason = _objection(judged, demands)
    if reason is not None:
        return reason
    return Preferred(
        side={"a": 1, "b": -1}.get(judged.choice, 0),
        strength=abs(judged.logit) or 1.0,
        agreement=_agreement(judged),
        canonical=None if canonical is None else canonical.reading.preferred,
        swapped=None if swapped is None else -(swapped.reading.preferred or 0),
    )


def _spoke(call: Call) -> bool:
    return call.reading.preferred is not None


def _agreement(judged: Verdict) -> str:
    if judged.swapped_agree is None:
        return ONE_ORDER
    return "both" if judged.swapped_agree else HALF


def _objection(judged: Verdict, demands: Demands) -> str | None:
    agreement = _agreement(judged)
    if judged.choice == INCONSISTENT:
        return INCONSISTENT
    if agreement != "both" and demands.both:
        return agreement
    if judged.choice == TIE:
        return None if demands.include_ties else TIE
    return SLIGHT if demands.strong_only and abs(judged.logit) < 1.0 else None


def known(found: Labelled, demands: Demands) -> Preferred | str:
    """Return what a label prefers, or why that is left out."""
    if found.preferred == 0 and not demands.include_ties:
        return TIE
    return Preferred(side=found.preferred, strength=1.0)


def preference_record(found: Testimony | Labelled, what: Preferred, texts: Texts, form: Format) -> dict[str, Any]:
    """Return the record of a preference.  Of a tie `chosen` is the first response of the canonical order, and `label` says "tie"."""
    swap = what.side < 0
    chosen, rejected = (texts.high, texts.low) if swap else (texts.low, texts.high)
    first, second = (what.swapped, what.canonical) if swap else (what.canonical, what.swapped)
    return {
        "prompt": _prompt(texts.prompt, form),
        "chosen": _response(chosen, form),
        "rejected": _response(rejected, form),
        "label": TIE if what.side == 0 else None,
        "strength": what.strength,
        "agreement": what.agreement,
        "chosen_first": _choice(first, swap=swap),
        "rejected_first": _choice(second, swap=swap),
        "judge": found.judge.id if isinstance(found, Testimony) else None,
        "source": _source(found, found.where),
        "category": found.where.category,
        "pair_key": found.where.pair_key.hex(),
    }


def _source(found: Testimony | Labelled, where: Where) -> str:
    return found.source if isinstance(found, Labelled) else where.source or "store"


def _choice(side: int | None, *, swap: bool) -> str | None:
    """A directed choice in terms of the record: `side` is 1 for the first response of the canonical order."""
    if side is None:
        return None
    return {1: "chosen", -1: "rejected", 0: TIE}[-side if swap else side]


def _prompt(prompt: Prompt, form: Format) -> Any:
    if form == "text":
        return prompt if isinstance(prompt, str) else transcript(prompt)
    return [{"role": message.role, "content": message.content} for message in turns(prompt)]


def _response(text: str, form: Format) -> Any:
    return text if form == "text" else [{"role": "assistant", "content": text}]
