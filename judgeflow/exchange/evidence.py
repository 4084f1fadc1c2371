"""One record of a file as evidence about its pair: which verdicts, scores and label it carries, and what they mean here.

Decisions only; nothing is read or written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from judgeflow.exchange.calls import CANONICAL, call_of, is_call, judge_of
from judgeflow.exchange.replies import Directed, Rules, directed_replies, heard
from judgeflow.keys import PairKeys, pair_keys, questions
from judgeflow.records import pair_from_record
from judgeflow.store.evidence import Evidence, Known
from judgeflow.types import Call, JudgeIdentity, Pair, Preference
from judgeflow.verdicts.parse import read_reply

EXPORTED = "exported"
"""How an exported call came to its verdict: as it was stored."""

_NESTED = ("judge", "rm_scores", "score")
_DECIDED_BY = frozenset({"judge", "store", "scorer", "fallback"})
_OF_JUDGE = frozenset({"judge", "store"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One reply of a record: whose, what was recorded of it (None: all, by judgeflow), the call it became, and how it was understood."""

    judge: JudgeIdentity
    name: str
    call: Call
    how: str
    directed: Directed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one record says.  Of a pair whose responses are the same text nothing is taken: there is nothing to prefer.

    `is_opinion`: its label is what a judge or a scorer said, which is nothing that is known, and was left out.
    """

    evidence: Evidence
    is_opinion: bool = False
    replies: tuple[Heard, ...] = ()


def find(record: Mapping[str, Any], rules: Rules, now: float) -> Finding:
    """Return the evidence in one record; `now` is Unix time in seconds.  Raises `ValueError` naming the key that makes no sense."""
    plain = {key: _nested(key, value) for key, value in record.items()}
    if "logit" in plain and "prompt" not in plain:
        raise ValueError("a logit without the pair's texts, as judgeflow score writes it; name the file that was scored with --pairs")
    pair = pair_from_record(plain)
    keys = pair_keys(pair)
    if keys.identical:
        return Finding(evidence=Evidence(pair=pair, keys=keys))
    replies = tuple(_replies(plain, pair, keys, rules, now))
    is_opinion = rules.labels and pair.label is not None and _is_opinion(plain)
    evidence = Evidence(
        pair=pair,
        keys=keys,
        calls=tuple(reply.call for reply in replies),
        judges=tuple({reply.judge.fingerprint: reply.judge for reply in replies}.values()),
        scores={name: score if keys.canonical else score.swapped() for name, score in _scores(plain, rules)},
        label=_label(pair, plain, keys, rules) if rules.labels and not is_opinion else None,
    )
    return Finding(evidence=evidence, is_opinion=is_opinion, replies=replies)


def find_label(pair: Pair, rules: Rules) -> Finding:
    """Return the evidence in a pair of a published set: its label."""
    keys = pair_keys(pair)
    known = _label(pair, {"category": pair.metadata.get("category")}, keys, rules) if rules.labels and not keys.identical else None
    return Finding(evidence=Evidence(pair=pair, keys=keys, label=known))


def _nested(key: str, value: Any) -> Any:
    """A value that a table holds as JSON text."""
    if key not in _NESTED or not isinstance(value, str) or not value.lstrip().startswith("{"):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{key}: not valid JSON: {error.msg}") from None


def _replies(record: Mapping[str, Any], pair: Pair, keys: PairKeys, rules: Rules, now: float) -> Iterator[Heard]:
    if is_call(record):
        yield from _exported(record, pair, keys, rules)
        return
    for directed in directed_replies(record):
        if rules.judge not in (None, directed.judge):
            continue
        judge = rules.identity(directed.judge)
        forward, backward = questions(pair, keys, judge.fingerprint, directed.sample)
        found = heard(directed, forward if directed.order == "order_ab" else backward, rules, now)
        if found is not None:
            yield Heard(judge=judge, name=directed.judge, call=found[0], how=found[1], directed=directed)


def _exported(record: Mapping[str, Any], pair: Pair, keys: PairKeys, rules: Rules) -> Iterator[Heard]:
    told = judge_of(record)
    if rules.judge not in (None, told.id):
        return
    judge, sample = rules.counts_as or told, record.get("sample")
    if isinstance(sample, bool) or not isinstance(sample, int) or not 0 <= sample < 2**31:
        raise ValueError(f"sample is {sample!r}; a whole number is expected")
    asked = questions(pair, keys, judge.fingerprint, sample)
    call = call_of(record, next(each for each in asked if each.canonical == (record["order"] == CANONICAL)), judge)
    if rules.counts_as is not None:
        call = _read_again(call, rules)
    yield Heard(judge=judge, name=told.id, call=call, how=EXPORTED)


def _read_again(call: Call, rules: Rules) -> Call:
    return replace(call, reading=read_reply(call.reply, rules.template.verdicts))


def _scores(record: Mapping[str, Any], rules: Rules) -> Iterator[tuple[str, Preference]]:
    """Every belief about the pair, in its own order.  A difference of Bradley-Terry rewards is a logit."""
    rewards = record.get("rm_scores")
    if not isinstance(rewards, Mapping | None):
        raise ValueError("rm_scores: expected {NAME: [score_a, score_b]}")
    for name, both in (rewards or {}).items():
        if both is None:  # a column of structs has every name in every row
            continue
        if not isinstance(both, list) or len(both) != 2:
            raise ValueError(f"rm_scores {name}: expected [score_a, score_b]")
        first, second = (_finite(value, f"rm_scores {name}") for value in both)
        yield name, Preference(logit=first - second)
    for told in (record.get("score"), _own_belief(record)):
        if isinstance(told, Mapping):
            yield _named_score(told, rules)
        elif told is not None:
            raise ValueError("score: expected {logit, uncertainty}")


def _own_belief(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The columns logit and uncertainty, unless they are an outcome whose logit is the judge's word or nobody's."""
    if record.get("logit") is None:
        return None
    is_outcome = "choice_ab" in record
    if is_outcome and (record.get("source") in _OF_JUDGE or record.get("uncertainty") is None):
        return None
    return record


def _named_score(told: Mapping[str, Any], rules: Rules) -> tuple[str, Preference]:
    name, uncertainty = told.get("scorer"), told.get("uncertainty")
    known = None if uncertainty is None else _finite(uncertainty, "uncertainty")
    return name if isinstance(name, str) else rules.scorer, Preference(logit=_finite(told.get("logit"), "logit"), uncertainty=known)


def _finite(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key}: {value!r} is no finite number")
    return float(value)


def _is_opinion(record: Mapping[str, Any]) -> bool:
    """Whether a record says that a judge or a scorer prefers so, as `judgeflow export` does; an outcome has its pair's own label."""
    return "choice_ab" not in record and (record.get("source") in _DECIDED_BY or isinstance(record.get("judge"), str))


def _label(pair: Pair, record: Mapping[str, Any], keys: PairKeys, rules: Rules) -> Known | None:
    if pair.label is None:
        return None
    preferred = {"a": 1, "b": -1, "tie": 0}[pair.label] * (1 if keys.canonical else -1)
    source, category = record.get("source"), record.get("category")
    return Known(
        preferred=preferred,
        source=source if isinstance(source, str) and "choice_ab" not in record else rules.source,
        category=category if isinstance(category, str) else None,
    )
