"""What a plan needs to know of a step's items, and what it decides about them, as it is recorded."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from judgeflow.engine.benches import one_order_is_enough
from judgeflow.engine.items import Item
from judgeflow.engine.resolving import unknown
from judgeflow.engine.rules import Rules
from judgeflow.routing.plan import Accept, Action, Ask, Candidate, Decline, StepPlan
from judgeflow.routing.policy import acquisition
from judgeflow.types import OK, Cost, Decision, Outcome, Source

_NOTHING = Cost()


def candidate(item: Item, rules: Rules) -> Candidate:
    """Rank one item, and return what the plan needs to know of it."""
    item.acquisition = acquisition(rules.routing.policy, item.preference, item.keys.pair, rules.routing.seed)
    obstacle = item.obstacle
    if obstacle is None and item.acquisition is None:
        obstacle = item.unscored
    is_answered = not item.costs or one_order_is_enough(item, item.bench, rules)
    return Candidate(
        pair_key=item.keys.pair,
        acquisition=item.acquisition,
        cost=_NOTHING if is_answered else sum(item.expected.values(), _NOTHING),
        worst=_NOTHING if is_answered else sum(item.costs.values(), _NOTHING),
        obstacle=obstacle,
        decided=item.decided,
    )


def undecided(items: Sequence[Item], early: Collection[int], rules: Rules, status: str) -> StepPlan:
    """Give every item the action of a step that could not decide, for the reason that `status` names.

    It takes what it has, and what it asked `early`.
    """
    for index, item in enumerate(items):
        if index in early:
            continue
        is_unanswered = unknown(item, rules)
        item.action = Decline(status) if is_unanswered else Accept()
        if is_unanswered:
            item.failures |= dict.fromkeys(item.missing(), status)
    actions = tuple(item.action or Accept() for item in items)
    return StepPlan(actions=actions, threshold=None, propensities=tuple(float(index in early) for index in range(len(items))))


def act(items: Sequence[Item], plan: StepPlan) -> None:
    """Give every item the action that the plan has for it."""
    for item, action in zip(items, plan.actions, strict=True):
        item.action = action


def decisions(items: Sequence[Item], plan: StepPlan) -> list[Decision]:
    """Return what was planned, to be stored before anything is asked."""
    return [
        _decision(item, action, propensity, threshold=plan.threshold, status=action.status if isinstance(action, Decline) else OK)
        for item, action, propensity in zip(items, plan.actions, plan.propensities, strict=True)
    ]


def final_decisions(items: Sequence[Item], plan: StepPlan, final: Sequence[Outcome]) -> list[Decision]:
    """Return the decisions with how they ended; `final` are the step's outcomes in input order."""
    ended = (final[item.places[0][0]] for item in items)
    return [
        _decision(item, action, propensity, threshold=plan.threshold, source=outcome.source, status=outcome.status)
        for item, action, propensity, outcome in zip(items, plan.actions, plan.propensities, ended, strict=True)
    ]


def _decision(
    item: Item, action: Action, propensity: float, *, threshold: float | None, source: Source | None = None, status: str
) -> Decision:
    preference = item.preference
    return Decision(
        pair_key=item.keys.pair,
        asked=isinstance(action, Ask),
        logit=preference.logit if preference else 0.0,
        uncertainty=preference.uncertainty if preference else None,
        acquisition=item.acquisition,
        threshold=threshold,
        propensity=propensity,
        audit=item.is_audit,
        source=source,
        status=status,
    )
