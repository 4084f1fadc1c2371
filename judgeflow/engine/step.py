"""One step, from pairs to outcomes: the data and the decisions that need no await.

Every distinct pair of a step is one `Item`, in canonical order, however often and whichever way round it was given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from judgeflow.config import RoutingConfig
from judgeflow.errors import JudgeError
from judgeflow.keys import PairKeys, pair_keys, questions
from judgeflow.ports import Judge
from judgeflow.routing.agreement import Vote, agreement, tally
from judgeflow.routing.plan import Accept, Action, Ask, Candidate, Decline, StepPlan
from judgeflow.routing.policy import acquisition, uniform
from judgeflow.types import (
    IDENTICAL,
    OK,
    ONE_ORDER,
    Call,
    Cost,
    Decision,
    JudgeIdentity,
    Outcome,
    Pair,
    Preference,
    Question,
    ReadingStatus,
    StepStatistics,
    Verdict,
)
from judgeflow.verdicts.combine import combine

Orders = Literal["both", "random", "first"]

LATE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a scheduler's steps have in common."""

    judge: JudgeIdentity | None
    routing: RoutingConfig
    orders: Orders = "both"
    graded: bool = False
    has_scorer: bool = False
    retry_failed: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """One distinct pair of a step.  `pair` and `keys` are canonical; `places` are the input positions, and whether swapped there.

    `calls` holds replies by call key, `fresh` the keys of those that came in this step, `paid` of those that this step paid for, and
    `failures` what went wrong by call key.  `costs` are worst cases, `expected` what they will probably come to.  `unscored` says
    why there is no preference where one was wanted.
    """

    pair: Pair
    keys: PairKeys
    places: list[tuple[int, bool]]
    questions: tuple[Question, ...] = ()
    calls: dict[bytes, Call] = field(default_factory=dict)
    fresh: set[bytes] = field(default_factory=set)
    paid: set[bytes] = field(default_factory=set)
    failures: dict[bytes, str] = field(default_factory=dict)
    preference: Preference | None = None
    unscored: str = LATE
    acquisition: float | None = None
    costs: dict[bytes, Cost] = field(default_factory=dict)
    expected: dict[bytes, Cost] = field(default_factory=dict)
    obstacle: str | None = None
    decided: Decision | None = None
    action: Action | None = None

    def replace_question(self, question: Question) -> None:
        """Let `question` stand for its order from now on: it is another sample of the question that stood there."""
        self.questions = tuple(question if other.canonical == question.canonical else other for other in self.questions)

    def missing(self) -> list[Question]:
        """The questions without a stored reply."""
        return [question for question in self.questions if question.call_key not in self.calls]


def collect(pairs: Sequence[Pair], rules: Rules) -> tuple[list[Item], list[int]]:
    """Hash every pair; return the distinct ones, and the positions of those whose text is no valid Unicode."""
    items: dict[bytes, Item] = {}
    invalid: list[int] = []
    for index, pair in enumerate(pairs):
        try:
            keys = pair_keys(pair)
        except ValueError:
            invalid.append(index)
            continue
        item = items.get(keys.pair)
        if item is None:
            item = items[keys.pair] = _item(pair, keys, rules)
        item.places.append((index, not keys.canonical))
    return list(items.values()), invalid


def _item(pair: Pair, keys: PairKeys, rules: Rules) -> Item:
    asked = () if rules.judge is None or keys.identical else _asked(pair, keys, rules)
    if keys.canonical:
        return Item(pair=pair, keys=keys, places=[], questions=asked)
    canonical = PairKeys(prompt=keys.prompt, response_a=keys.response_b, response_b=keys.response_a, pair=keys.pair)
    return Item(pair=pair.swapped(), keys=canonical, places=[], questions=asked)


def _asked(pair: Pair, keys: PairKeys, rules: Rules) -> tuple[Question, ...]:
    """The directed questions that a verdict on this pair takes."""
    judge = rules.judge.fingerprint if rules.judge else b""
    forward, backward = questions(pair, keys, judge)
    if rules.orders == "both":
        return forward, backward
    if rules.orders == "first":
        return (forward,)
    heads = uniform(rules.routing.seed, keys.pair) < 0.5
    return (forward if forward.canonical == heads else backward,)


def scorer_failed(items: Iterable[Item]) -> None:
    """Note that the scorer has had its turn: those of the items that have no preference now will get none."""
    for item in items:
        item.unscored = "scorer_failed"


def estimate(items: Iterable[Item], judge: Judge) -> None:
    """Fill in what asking what is missing would cost.  Counts tokens: run it off the loop."""
    for item in items:
        try:
            item.costs = {question.call_key: judge.cost(question) for question in item.missing()}
        except Exception as error:  # a judge is foreign code: a pair that it cannot price is not asked about
            item.obstacle = error.status if isinstance(error, JudgeError) else JudgeError.status
            item.costs = {question.call_key: Cost(requests=1) for question in item.missing()}


def candidate(item: Item, rules: Rules) -> Candidate:
    """Rank one item, and return what the plan needs to know of it."""
    item.acquisition = acquisition(rules.routing.policy, item.preference, item.keys.pair, rules.routing.seed)
    obstacle = item.obstacle
    if obstacle is None and item.acquisition is None:
        obstacle = item.unscored
    cost = sum(item.expected.values(), Cost())
    return Candidate(pair_key=item.keys.pair, acquisition=item.acquisition, cost=cost, obstacle=obstacle, decided=item.decided)


def unknown(item: Item, rules: Rules) -> bool:
    """Whether the scorer's word may count: nothing is stored that answers for it, or what is stored contradicts itself."""
    if item.keys.identical:
        return False
    verdict = None if item.missing() else _verdict(item, rules)
    return verdict is None or (verdict.choice == "inconsistent" and rules.routing.on_inconsistent == "scorer")


def out_of_time(items: Sequence[Item], rules: Rules) -> StepPlan:
    """Return the plan of a step whose deadline came before it could decide: it takes what it has."""
    late = [unknown(item, rules) for item in items]
    for item, is_late in zip(items, late, strict=True):
        if is_late:
            item.failures |= {question.call_key: LATE for question in item.missing()}
    actions = tuple(Decline(LATE) if is_late else Accept() for is_late in late)
    return StepPlan(actions=actions, threshold=None, propensities=(0.0,) * len(items))


def decisions(items: Sequence[Item], plan: StepPlan) -> list[Decision]:
    """Return what was planned, to be stored before anything is asked."""
    return [
        Decision(
            pair_key=item.keys.pair,
            asked=isinstance(action, Ask),
            logit=item.preference.logit if item.preference else 0.0,
            uncertainty=item.preference.uncertainty if item.preference else None,
            acquisition=item.acquisition,
            threshold=plan.threshold,
            propensity=propensity,
            audit=_is_audit(item),
            status=action.status if isinstance(action, Decline) else OK,
        )
        for item, action, propensity in zip(items, plan.actions, plan.propensities, strict=True)
    ]


def _is_audit(item: Item) -> bool:
    """Whether the pair was drawn in this step, now or before an interruption."""
    if isinstance(item.action, Ask):
        return item.action.audit
    return item.decided is not None and item.decided.asked and item.decided.audit


def final_decisions(items: Sequence[Item], plan: StepPlan, rules: Rules) -> list[Decision]:
    """Return the decisions with how they ended."""
    ended = (resolve(item, rules) for item in items)
    return [
        replace(decision, source=outcome.source, status=outcome.status)
        for decision, outcome in zip(decisions(items, plan), ended, strict=True)
    ]


def resolve(item: Item, rules: Rules) -> Outcome:
    """Return the outcome of one item, in canonical order, from whatever is there now."""
    preference = item.preference
    logit = preference.logit if preference else 0.0
    outcome = Outcome(
        pair=item.pair,
        logit=logit,
        source="scorer",
        preference=preference,
        acquisition=item.acquisition,
        audit=_is_audit(item),
    )
    if item.keys.identical:
        return replace(outcome, logit=0.0, status=IDENTICAL)
    verdict = None if _UNFINISHED & set(item.failures.values()) else _verdict(item, rules)
    if verdict is not None:
        return _judged(outcome, verdict, item, rules)
    status = _silence(item, rules)
    return outcome if status is None else replace(outcome, source="fallback", status=status)


_UNFINISHED = {LATE, "interrupted"}
"""Statuses of questions whose reply may still come: what one order says alone is not yet the verdict."""


def _verdict(item: Item, rules: Rules) -> Verdict | None:
    by_order = {question.canonical: item.calls.get(question.call_key) for question in item.questions}
    if rules.judge is None or not by_order:
        return None
    return combine(
        by_order.get(True),
        by_order.get(False),
        judge=rules.judge,
        margin=rules.routing.verdict_margin,
        graded=rules.graded,
        single=rules.orders != "both",
    )


def _judged(outcome: Outcome, verdict: Verdict, item: Item, rules: Rules) -> Outcome:
    scorer_decides = verdict.choice == "inconsistent" and rules.routing.on_inconsistent == "scorer"
    complete = len(verdict.calls) == len(item.questions)
    return replace(
        outcome,
        logit=outcome.logit if scorer_decides else verdict.logit,
        source="judge" if any(call.key in item.fresh for call in verdict.calls) else "store",
        status=OK if complete else ONE_ORDER,
        verdict=verdict,
    )


def _silence(item: Item, rules: Rules) -> str | None:
    """Why there is no verdict; None if nobody wanted one."""
    if isinstance(item.action, Decline):
        return item.action.status
    if item.failures:
        return next(iter(item.failures.values()))
    readings = [call.reading.status for call in item.calls.values() if call.reading.status is not ReadingStatus.OK]
    if readings:
        return readings[0].value
    return item.unscored if rules.has_scorer and item.preference is None else None


def placed(outcome: Outcome, pair: Pair, *, flipped: bool) -> Outcome:
    """Return a canonical outcome as the outcome of an input pair, which may stand the other way round."""
    if not flipped:
        return replace(outcome, pair=pair)
    return replace(
        outcome,
        pair=pair,
        logit=-outcome.logit,
        preference=outcome.preference.swapped() if outcome.preference else None,
        verdict=outcome.verdict.swapped() if outcome.verdict else None,
    )


def statistics(
    *,
    run: str,
    step: int,
    items: Sequence[Item],
    outcomes: Sequence[Outcome],
    plan: StepPlan,
    remaining: Mapping[str, float | None],
    seconds: float,
) -> StepStatistics:
    """Count what a step did."""
    paid = [item.calls[key] for item in items for key in sorted(item.paid)]
    agreements = [outcome.verdict.swapped_agree for outcome in outcomes if outcome.verdict is not None]
    spoken = [agree for agree in agreements if agree is not None]
    return StepStatistics(
        run=run,
        step=step,
        pairs=len(outcomes),
        threshold=plan.threshold,
        sources=dict(Counter(outcome.source for outcome in outcomes)),
        statuses=dict(Counter(outcome.status for outcome in outcomes)),
        calls=len(paid),
        spent=Cost(requests=len(paid), tokens=sum(call.reply.usage.total for call in paid), usd=sum(call.reply.usd for call in paid)),
        prompt_tokens=sum(call.reply.usage.prompt for call in paid),
        completion_tokens=sum(call.reply.usage.completion for call in paid),
        agreement=sum(spoken) / len(spoken) if spoken else None,
        latency_s=_quantiles(sorted(call.reply.latency_s for call in paid)),
        remaining=remaining,
        seconds=seconds,
        routed=tally(_votes(items, outcomes, plan, audit=False)),
        audited=tally(_votes(items, outcomes, plan, audit=True)),
    )


def _votes(items: Sequence[Item], outcomes: Sequence[Outcome], plan: StepPlan, *, audit: bool) -> Iterator[Vote]:
    """What became of each pair that this step has asked about by rank, or for the audit, now or before an interruption."""
    for item, propensity in zip(items, plan.propensities, strict=True):
        asked = isinstance(item.action, Ask) or (item.decided is not None and item.decided.asked)
        if asked and propensity > 0.0 and _is_audit(item) == audit:
            index, flipped = item.places[0]
            verdict = outcomes[index].verdict
            choice = (verdict.swapped() if flipped else verdict).choice if verdict else None
            yield Vote(prompt=item.keys.prompt, propensity=propensity, agree=agreement(_belief(item), choice))


def _belief(item: Item) -> float | None:
    """The scorer's logit, in canonical order; of a pair that needs no scoring any more, what it was when this step was decided."""
    if item.preference is not None:
        return item.preference.logit
    return item.decided.logit or None if item.decided is not None else None


def _quantiles(ordered: Sequence[float]) -> dict[str, float]:
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {"p50": ordered[round(0.5 * last)], "p90": ordered[round(0.9 * last)], "max": ordered[last]}
