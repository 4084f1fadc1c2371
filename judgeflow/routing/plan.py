"""The decision of one step: which pairs are asked about, which are not, and why.

`plan` is a plain function of the scored pairs and of what may be spent.  Its cases, in the order in which they are coded:

1. nothing is missing (every order is stored): accept, it is free;
2. the pair cannot be asked (too long, no preference to rank it by): decline with that status;
3. this step of this run was decided before: what was accepted stays accepted, what was to be asked goes first;
4. the policy is `never`: accept;
5. the rest is ranked by acquisition; ties break by pair key, so the input order does not matter;
6. pairs at or below a fixed threshold are accepted, and so are pairs below the floor: one at the floor may be asked about;
7. the ranking is cut at the first pair that max_share, the allowance or, before a deadline, the rate limits cannot bear.  Nobody
   further down is asked instead, however cheap: costs decide what is feasible, never who is preferred.  Beyond the cut an
   adaptive threshold accepts (it has risen); a fixed one declines for lack of budget.  A fixed rule is cut by requests alone:
   how far tokens and dollars reach is seen when they are reserved, in the order of the ranking.

An adaptive threshold is the acquisition of the first pair beyond the cut.  Who is above it is asked about, who is below it is not;
among pairs that are level with it the pair key decides, so that exactly as many are asked about as can be borne, not all or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from judgeflow.config import RoutingConfig
from judgeflow.routing.policy import uniform
from judgeflow.types import OK, Cost, Decision, Stock


@dataclass(frozen=True, slots=True)
class Accept:
    """Take what is there: stored replies, or the scorer's word."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the judge."""


@dataclass(frozen=True, slots=True)
class Decline:
    """Asking is wanted but not possible; `status` says why."""

    status: str


Action = Accept | Ask | Decline


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What the plan needs to know of a pair.

    `cost` is what asking what is still missing will probably take (no requests: everything is stored); requests are exact.
    `obstacle` is a status that rules asking out; `decided` is what an earlier attempt at the same step decided.
    """

    pair_key: bytes
    acquisition: float | None
    cost: Cost
    obstacle: str | None = None
    decided: Decision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What this step may spend, and what of it the rate limits and the judge's speed let come back before its deadline."""

    allowance: Stock
    in_time: Stock = field(default_factory=Stock)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """One action per candidate, in their order; the threshold they were cut at; each one's probability of being asked.

    The probability is the plan's: what reservations, the judge or the deadline make of it later does not change it.
    `ranking` has the positions of those to ask, in the order in which they are to be asked.
    """

    actions: tuple[Action, ...]
    threshold: float | None
    propensities: tuple[float, ...]
    ranking: tuple[int, ...] = ()

    @property
    def asked(self) -> int:
        """Number of pairs to ask about."""
        return sum(isinstance(action, Ask) for action in self.actions)


def plan(candidates: Sequence[Candidate], routing: RoutingConfig, means: Means) -> StepPlan:
    """Decide about every candidate.  See the module's docstring for the cases."""
    actions: dict[int, Action] = {}
    promised: list[int] = []
    open_: list[int] = []
    for index, candidate in enumerate(candidates):
        action = _foregone(candidate, routing)
        if action is not None:
            actions[index] = action
        elif candidate.decided is not None and candidate.decided.asked:
            promised.append(index)
        else:
            open_.append(index)
    ranked = sorted(open_, key=lambda index: (-(candidates[index].acquisition or 0.0), candidates[index].pair_key))
    wanted = [index for index in ranked if _above(candidates[index], routing)]
    cut = _cut([candidates[index] for index in promised + wanted], _most(routing, len(candidates)), means, adaptive=is_adaptive(routing))
    asked, beyond = (promised + wanted)[:cut], (promised + wanted)[cut:]
    actions |= {index: Accept() for index in ranked} | {index: _beyond(routing, cut, len(candidates)) for index in beyond}
    actions |= {index: Ask() for index in asked}
    return StepPlan(
        actions=tuple(actions[index] for index in range(len(candidates))),
        threshold=_threshold(routing, [candidates[index] for index in beyond]),
        propensities=tuple(_propensities(len(candidates), set(asked), open_, routing)),
        ranking=tuple(asked),
    )


def asking_order(candidates: Sequence[Candidate], planned: StepPlan, routing: RoutingConfig, seed: int | None) -> tuple[int, ...]:
    """Return the positions of those to ask in the order in which to ask: the ranking, or with a `seed` a shuffled one.

    A process that is not alone with its run shuffles, so that both do not ask the same questions at the same moment and pay twice.  A
    fixed rule shuffles only those that rank alike: who comes last may find the budget spent.
    """
    if seed is None:
        return planned.ranking

    def place(index: int) -> tuple[bool, float, float]:
        decided, q = candidates[index].decided, candidates[index].acquisition or 0.0
        return decided is None or not decided.asked, 0.0 if is_adaptive(routing) else -q, uniform(seed, candidates[index].pair_key)

    return tuple(sorted(planned.ranking, key=place))


def _foregone(candidate: Candidate, routing: RoutingConfig) -> Action | None:
    if candidate.cost.requests == 0:
        return Accept()
    if candidate.obstacle is not None:
        return Decline(candidate.obstacle)
    return Accept() if _was_accepted(candidate.decided) or routing.policy == "never" else None


def _was_accepted(decided: Decision | None) -> bool:
    """Whether the scorer's word was taken in this step before.

    A pair that was declined is none of these, whether the step came to its end (source "fallback") or not (no source, and the status
    it was planned with); nor is one that was answered from the store, of which something is missing now.
    """
    if decided is None or decided.asked or decided.source in {"fallback", "store"}:
        return False
    return decided.source is not None or decided.status == OK


def _above(candidate: Candidate, routing: RoutingConfig) -> bool:
    q = candidate.acquisition
    if q is None or routing.policy == "always":
        return q is not None
    above_floor = routing.floor is None or q >= routing.floor
    return above_floor and (routing.threshold == "adaptive" or q > routing.threshold)


def is_adaptive(routing: RoutingConfig) -> bool:
    """Whether the threshold follows what can be spent; a fixed rule asks what it says as long as it can be paid."""
    return routing.threshold == "adaptive" and routing.policy != "always"


def _most(routing: RoutingConfig, pairs: int) -> int:
    return pairs if routing.max_share is None else int(routing.max_share * pairs + 1e-9)


def _cut(wanted: Sequence[Candidate], most: int, means: Means, *, adaptive: bool) -> int:
    """Return how many of the ranked pairs can be asked."""
    bounds = [means.allowance, means.in_time] if adaptive else [Stock(requests=means.allowance.requests)]
    total = Cost()
    for count, candidate in enumerate(wanted):
        total += candidate.cost
        if count >= most or not all(bound.admits(total) for bound in bounds):
            return count
    return len(wanted)


def _beyond(routing: RoutingConfig, cut: int, pairs: int) -> Action:
    share_is_used = routing.max_share is not None and cut >= _most(routing, pairs)
    return Accept() if is_adaptive(routing) or share_is_used else Decline("budget")


def _threshold(routing: RoutingConfig, beyond: Sequence[Candidate]) -> float | None:
    if routing.policy in {"always", "never"}:
        return None
    if routing.threshold != "adaptive":
        return routing.threshold
    return beyond[0].acquisition if beyond else routing.floor


def _propensities(pairs: int, asked: set[int], open_: Sequence[int], routing: RoutingConfig) -> Iterator[float]:
    """1 or 0 where the decision was determined; for policy random the share of the open pairs that was asked."""
    lottery = set(open_) if routing.policy == "random" else set()
    share = len(asked & lottery) / len(lottery) if lottery else 0.0
    for index in range(pairs):
        yield share if index in lottery else float(index in asked)
