"""What becomes of an item: the judges' word where there is one, else the scorer's, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from judgeflow.engine.benches import one_order_is_enough, open_questions
from judgeflow.engine.items import LATE, Bench, Item
from judgeflow.engine.rules import Rules
from judgeflow.routing.plan import Accept, Decline
from judgeflow.types import IDENTICAL, OK, ONE_ORDER, Outcome, Pair, ReadingStatus, Source, Verdict
from judgeflow.verdicts.combine import combine


def resolve(item: Item, rules: Rules, pair: Pair | None = None, *, flipped: bool = False) -> Outcome:
    """Return the outcome of one item from whatever is there now: as that of an input pair, which may stand the other way round."""
    preference = item.preference.swapped() if item.preference and flipped else item.preference
    belief = preference.logit if preference else 0.0
    verdict, is_whole = _word(item, rules, flipped=flipped)
    if verdict is None:
        logit, source, status = _unjudged(item, belief, rules)
    else:
        is_left_to_scorer = verdict.choice == "inconsistent" and rules.routing.on_inconsistent == "scorer"
        logit, source = belief if is_left_to_scorer else verdict.logit, _source(verdict, item)
        status = OK if is_whole else ONE_ORDER
    return Outcome(
        pair=pair or item.pair,
        logit=logit,
        source=source,
        status=status,
        preference=preference,
        verdict=verdict,
        acquisition=item.acquisition,
        audit=item.is_audit,
    )


def _unjudged(item: Item, belief: float, rules: Rules) -> tuple[float, Source, str]:
    """Logit, source and status of an item without a verdict."""
    if item.keys.identical:
        return 0.0, "scorer", IDENTICAL
    silence = _silence(item, rules)
    return (belief, "scorer", OK) if silence is None else (belief, "fallback", silence)


def _word(item: Item, rules: Rules, *, flipped: bool) -> tuple[Verdict | None, bool]:
    """What the judges say of the item, and whether that is whole; nothing while the rest of it may still come."""
    is_unfinished = not _UNFINISHED.isdisjoint(item.failures.values()) and not one_order_is_enough(item, item.bench, rules)
    return (None, False) if is_unfinished else _verdict(item, rules, flipped=flipped)


_UNFINISHED = {LATE, "interrupted"}
"""Statuses of questions whose reply may still come: what one order says alone is not yet the verdict."""


def _verdict(item: Item, rules: Rules, *, flipped: bool = False) -> tuple[Verdict | None, bool]:
    """The verdict of one judge, and whether it is whole: of the first that has spoken in every order, else the first that has spoken."""
    first = None
    for bench in item.benches:
        verdict = _verdict_of(bench, item, rules, flipped=flipped)
        if verdict is not None and _is_whole(verdict, bench, item, rules):
            return verdict, True
        first = first or verdict
    return first, False


def _is_whole(verdict: Verdict, bench: Bench, item: Item, rules: Rules) -> bool:
    """Whether a verdict rests on everything that it takes."""
    spoken = (verdict.forward is not None) + (verdict.backward is not None)
    return spoken == len(bench.directions) or one_order_is_enough(item, bench, rules)


def _verdict_of(bench: Bench, item: Item, rules: Rules, *, flipped: bool) -> Verdict | None:
    if bench.judge is None:
        return None
    forward = backward = None
    for key, direction in bench.directions.items():
        if direction.canonical is not flipped:
            forward = item.calls.get(key)
        else:
            backward = item.calls.get(key)
    return combine(
        forward,
        backward,
        judge=bench.judge,
        margin=rules.margin.value,
        graded=rules.graded,
        single=rules.orders in {"random", "first"} or one_order_is_enough(item, bench, rules),
    )


def _source(verdict: Verdict, item: Item) -> Source:
    """Whether a verdict was asked for in this step, at least in part."""
    return "judge" if item.fresh and any(call.key in item.fresh for call in verdict.calls) else "store"


def _silence(item: Item, rules: Rules) -> str | None:
    """Why there is no verdict; None if nobody wanted one."""
    if isinstance(item.action, Decline):
        return item.action.status
    if item.failures:
        return next(iter(item.failures.values()))
    calls = [item.calls[key] for key in item.bench.directions if key in item.calls]
    readings = [call.reading.status for call in calls if call.reading.status is not ReadingStatus.OK]
    if readings:
        return readings[0].value
    return item.unscored if rules.has_scorer and item.preference is None else None


def unknown(item: Item, rules: Rules) -> bool:
    """Whether the scorer's word may count: nothing is stored that answers for it, or what is stored contradicts itself."""
    if item.keys.identical:
        return False
    verdict = None if open_questions(item, rules) else _verdict(item, rules)[0]
    return verdict is None or (verdict.choice == "inconsistent" and rules.routing.on_inconsistent == "scorer")


def left_to_scorer(items: Iterable[Item], rules: Rules) -> Iterator[float]:
    """Yield what the scorer says about those items for which its word counts, and was not only all that was left."""
    for item in items:
        if item.preference is not None and isinstance(item.action, Accept) and _verdict(item, rules)[0] is None:
            yield item.preference.logit
