"""The decision of one step: which pairs are asked about, which are not, and why.

`plan` is a plain function of the scored pairs and of what may be spent.  Its cases, in the order in which they are coded:

1. nothing is missing (every order is stored): accept, it is free;
2. the pair cannot be asked (too long, no preference to rank it by): decline with that status;
3. this step of this run was decided before: what was accepted stays accepted, what was to be asked goes first;
4. the policy is `never`: accept;
5. the rest is ranked by acquisition; ties break by pair key, so the input order does not matter;
6. pairs at or below a fixed threshold are accepted, and so are pairs below the floor: one at the floor may be asked about;
7. the ranking is cut at the first pair that max_share, the pace of the run (`routing.pacing`: both in `Means.places`), the
   allowance or, before a deadline, the rate limits cannot bear.  Nobody
   further down is asked instead, however cheap: costs decide what is feasible, never who is preferred.  Beyond the cut an
   adaptive threshold accepts (it has risen); a fixed one declines for lack of budget.  A fixed rule is cut by requests alone:
   how far tokens and dollars reach is seen when they are reserved, in the order of the ranking.

8. with `audit_fraction` a share of what may be asked goes to pairs drawn at random from those that the threshold would not ask about:
   never below the floor, never a pair of the cases 1 to 3.  Beside a ranking that is cut they take the places of its last ones, beside
   a fixed rule that has everything it wants they come on top.  For k audits the k dearest costs are kept free, so whoever is drawn can
   be borne, and nobody's probability depends on what a pair costs.

An adaptive threshold is the acquisition of the first pair beyond the cut.  Who is above it is asked about, who is below it is not;
among pairs that are level with it the pair key decides, so that exactly as many are asked about as can be borne, not all or none.
With `cost_weighted` the ranking, and with it an adaptive threshold, goes by acquisition per expected token instead; a fixed threshold
and the floor remain in units of acquisition.

Before every pair is scored, `certain` tells who will be asked about whatever the others turn out to be: in the worst case all of them
rank first and are asked about, and a pair that has a place behind them has it in any case.  These may be asked at once, and are `under_way`
when the plan is made.  It is the same plan as if they were not, unless what may be spent has shrunk meanwhile: then the others bear it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from judgeflow.config import RoutingConfig
from judgeflow.routing.audit import Design, Lottery, chosen, dearest, drawn, lottery, propensities, spread
from judgeflow.routing.policy import uniform
from judgeflow.types import OK, Cost, Decision, Stock


@dataclass(frozen=True, slots=True)
class Accept:
    """Take what is there: stored replies, or the scorer's word."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the judge; `audit` tells that the pair was drawn at random."""

    audit: bool = False


@dataclass(frozen=True, slots=True)
class Decline:
    """Asking is wanted but not possible; `status` says why."""

    status: str


Action = Accept | Ask | Decline

ACCEPT = Accept()
"""The one that most pairs get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What the plan needs to know of a pair.

    `cost` is what asking what is still missing will probably take (no requests: everything is stored); requests are exact.
    `worst` is what is put aside for it.  `obstacle` is a status that rules asking out; `decided` is what an earlier attempt at the same
    step decided; `under_way` tells that this one asks about the pair already.
    """

    pair_key: bytes
    acquisition: float | None
    cost: Cost
    worst: Cost = field(default_factory=Cost)
    obstacle: str | None = None
    decided: Decision | None = None
    under_way: bool = False

    @property
    def was_asked(self) -> bool:
        """Whether an earlier attempt at the step meant to ask about it."""
        return self.decided is not None and self.decided.asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What this step may spend, and what of it the rate limits and the judge's speed let come back before its deadline.

    `places` is how many pairs may be asked about at most, those of an earlier attempt included; None: `max_share` of the step's.
    """

    allowance: Stock
    in_time: Stock = field(default_factory=Stock)
    places: int | None = None


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

    def part(self, indexes: Sequence[int]) -> StepPlan:
        """Return what it says about these positions, in their order; without a ranking."""
        return replace(
            self,
            actions=tuple(self.actions[index] for index in indexes),
            propensities=tuple(self.propensities[index] for index in indexes),
            ranking=(),
        )


def plan(candidates: Sequence[Candidate], routing: RoutingConfig, means: Means, lot: int = 0) -> StepPlan:
    """Decide about every candidate.  See the module's docstring for the cases; `lot` is what audits are drawn by."""
    return settle(survey(candidates, routing), means, lot)


def settle(contest: Contest, means: Means, lot: int = 0) -> StepPlan:
    """Decide about those that a contest has left open; see `plan`."""
    contest = replace(contest, means=means)
    candidates, routing, actions = contest.candidates, contest.routing, dict(contest.settled)
    designs = _designs(contest)
    design = chosen(designs, lot)
    audited = drawn(design, [candidate.pair_key for candidate in candidates], lot)
    beyond = _without(contest.promised + contest.wanted, design.routed)
    actions |= dict.fromkeys(contest.ranked, ACCEPT)
    actions |= dict.fromkeys(beyond, _beyond(contest, len(design.routed) + design.audits))
    actions |= {index: Ask(audit=_was_audited(candidates[index])) for index in design.routed} | dict.fromkeys(audited, Ask(audit=True))
    promised = len(contest.promised)
    return StepPlan(
        actions=tuple(actions[index] for index in range(len(candidates))),
        threshold=_threshold(routing, [candidates[index] for index in beyond]),
        propensities=_propensities(contest, designs),
        ranking=design.routed[:promised] + spread(design.routed[promised:], audited),
    )


def certain(
    candidates: Sequence[Candidate], unscored: Collection[int], routing: RoutingConfig, means: Means, places: int | None = None
) -> tuple[int, ...]:
    """Return the positions of those that `plan` will ask about whatever the `unscored` turn out to be, in the order of the ranking.

    It takes the worst case, in which all the unscored rank first.  Costs are not negative, so whoever is inside the cut behind them all is
    inside it behind some of them.  With a fixed rule everything is counted at its worst case, tokens and dollars too: who is certain will
    find budget when it is reserved.  With audits nobody is certain before the draw, with policy random nobody's propensity.  `places` is
    how many pairs may be asked about at least, as in `Means`.
    """
    if routing.audit_fraction or routing.policy == "random":
        return ()
    first = [
        replace(candidate, acquisition=math.inf, obstacle=None) if index in unscored else candidate
        for index, candidate in enumerate(candidates)
    ]
    contest = survey(first, routing)
    in_order = contest.promised + contest.wanted
    adaptive = is_adaptive(routing)
    costs = contest.costs(in_order) if adaptive else [candidates[index].worst for index in in_order]
    bounds = [_rounded_down(means.allowance), *([_rounded_down(means.in_time)] if adaptive else [])]
    count = _cut(costs, _most(routing, len(candidates), replace(means, places=places)), bounds, aside=Cost())
    return tuple(index for index in in_order[:count] if index not in unscored)


def begun(indexes: Sequence[int], routing: RoutingConfig) -> StepPlan:
    """Return what `plan` will say about these, who are `certain`; an adaptive threshold is not known before all are scored."""
    threshold = None if routing.policy == "always" or routing.threshold == "adaptive" else routing.threshold
    return StepPlan(actions=(Ask(),) * len(indexes), threshold=threshold, propensities=(1.0,) * len(indexes))


def _rounded_down(stock: Stock) -> Stock:
    """Dollars add up to something else in another order, by a few units in the last place."""
    return stock if stock.usd is None else replace(stock, usd=stock.usd * (1.0 - 1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who may be asked about, by position; `settled` has the actions of those about whom there is nothing to decide.

    `promised` were to be asked before; the others stand by rank: all of them, those `allowed` by the floor, and of these those that the
    threshold wants asked.
    """

    candidates: Sequence[Candidate]
    routing: RoutingConfig
    means: Means
    settled: Mapping[int, Action]
    promised: list[int]
    ranked: list[int]
    allowed: list[int]
    wanted: list[int]

    @property
    def auditable(self) -> list[int]:
        """Those that the threshold may leave to an audit: with an adaptive one everybody, until it is known where it lies."""
        return self.wanted if is_adaptive(self.routing) else _without(self.allowed, self.wanted)

    def costs(self, indexes: Sequence[int]) -> list[Cost]:
        """What asking about these takes."""
        return [self.candidates[index].cost for index in indexes]

    def rank(self, index: int) -> float:
        """What the pair at a position is ranked by."""
        return _rank(self.candidates[index], self.routing)

    def cut(self, costs: Sequence[Cost], aside: Sequence[Cost] = ()) -> int:
        """Return how many of the ranked `costs` can be borne, with those set aside."""
        most = _most(self.routing, len(self.candidates), self.means) - len(aside)
        allowance, in_time = self.means.allowance, self.means.in_time
        bounds = [allowance, in_time] if is_adaptive(self.routing) else [Stock(requests=allowance.requests)]
        return _cut(costs, most, bounds, aside=sum(aside, Cost()))

    def under_way(self, indexes: Sequence[int]) -> list[int]:
        """Those that are asked about already."""
        return [index for index in indexes if self.candidates[index].under_way]


def survey(candidates: Sequence[Candidate], routing: RoutingConfig) -> Contest:
    """Rank those about whom something is to be decided, and settle the others: the part of a plan that does not depend on the means."""
    actions: dict[int, Action] = {}
    promised: list[int] = []
    open_: list[int] = []
    for index, candidate in enumerate(candidates):
        action = _foregone(candidate, routing)
        if action is not None:
            actions[index] = action
        elif candidate.was_asked:
            promised.append(index)
        else:
            open_.append(index)
    ranked = [index for *_, index in sorted((-_rank(candidates[index], routing), candidates[index].pair_key, index) for index in open_)]
    allowed = [index for index in ranked if _allowed(candidates[index], routing)]
    wanted = [index for index in allowed if candidates[index].under_way or _above(candidates[index], routing)]
    return Contest(
        candidates=candidates,
        routing=routing,
        means=Means(allowance=Stock()),
        settled=actions,
        promised=promised,
        ranked=ranked,
        allowed=allowed,
        wanted=wanted,
    )


def _without(indexes: Sequence[int], others: Sequence[int]) -> list[int]:
    left_out = frozenset(others)
    return [index for index in indexes if index not in left_out]


def _designs(contest: Contest) -> Lottery:
    """Return how what may be asked is divided between ranking and audit; without audits there is one way."""
    in_order = contest.promised + contest.wanted
    plain = contest.cut(contest.costs(in_order))
    if contest.under_way(in_order[plain:]):
        return [(1.0, Design(routed=_with_those_under_way(contest, in_order)))]
    audits = _audits_wanted(contest, plain)
    if audits <= 0.0:
        return [(1.0, Design(routed=tuple(in_order[:plain])))]
    auditable = contest.auditable
    aside = dearest(contest.costs(auditable))

    def design(count: int) -> Design:
        routed = in_order[: contest.cut(contest.costs(in_order), aside[:count])]
        pool = _without(auditable, routed)
        return Design(routed=tuple(routed), pool=tuple(pool), audits=min(count, len(pool)))

    possible = contest.cut(contest.costs(contest.promised) + aside) - len(contest.promised)
    return lottery(min(audits, float(max(0, possible))), design)


def _with_those_under_way(contest: Contest, in_order: Sequence[int]) -> tuple[int, ...]:
    """Return who is asked about where less can be spent than when some of them were asked: these, and whom the rest still admits."""
    first = contest.under_way(in_order)
    others = _without(in_order, first)
    count = max(len(first), contest.cut(contest.costs(first + others)))
    routed = frozenset((first + others)[:count])
    return tuple(index for index in in_order if index in routed)


def _audits_wanted(contest: Contest, plain: int) -> float:
    """Return how many audits the fraction stands for, where the ranking without any is cut after `plain` pairs."""
    fraction, asked = contest.routing.audit_fraction, plain - len(contest.promised)
    if not fraction or asked <= 0:
        return 0.0
    if asked == len(contest.wanted):  # nobody's place has to be taken
        return 0.0 if is_adaptive(contest.routing) else fraction * asked / (1.0 - fraction)
    return fraction * asked


def asking_order(candidates: Sequence[Candidate], planned: StepPlan, routing: RoutingConfig, seed: int | None) -> tuple[int, ...]:
    """Return the positions of those to ask in the order in which to ask: the ranking, or with a `seed` a shuffled one.

    A process that is not alone with its run shuffles, so that both do not ask the same questions at the same moment and pay twice.  A
    fixed rule shuffles only those that rank alike: who comes last may find the budget spent.  An audit ranks with whom it comes after.
    """
    if seed is None:
        return planned.ranking
    places: dict[int, tuple[bool, float, float]] = {}
    rank = math.inf
    for index in planned.ranking:
        candidate = candidates[index]
        rank = rank if planned.actions[index] == Ask(audit=True) else _rank(candidate, routing)
        places[index] = not candidate.was_asked, 0.0 if is_adaptive(routing) else -rank, uniform(seed, candidate.pair_key)
    return tuple(sorted(places, key=lambda index: places[index]))


def early_order(indexes: Sequence[int], candidates: Sequence[Candidate], routing: RoutingConfig, seed: int | None) -> list[int]:
    """Return these positions, who all are asked about, in the order in which to ask."""
    ranked = sorted(indexes, key=lambda index: (-_rank(candidates[index], routing), candidates[index].pair_key))
    everyone = StepPlan(actions=(Ask(),) * len(ranked), threshold=None, propensities=(), ranking=tuple(range(len(ranked))))
    return [ranked[place] for place in asking_order([candidates[index] for index in ranked], everyone, routing, seed)]


def _foregone(candidate: Candidate, routing: RoutingConfig) -> Action | None:
    if candidate.cost.requests == 0:
        return ACCEPT
    if candidate.obstacle is not None:
        return Decline(candidate.obstacle)
    return ACCEPT if _was_accepted(candidate.decided) or routing.policy == "never" else None


def _was_accepted(decided: Decision | None) -> bool:
    """Whether the scorer's word was taken in this step before.

    A pair that was declined is none of these, whether the step came to its end (source "fallback") or not (no source, and the status
    it was planned with); nor is one that was answered from the store, of which something is missing now.
    """
    if decided is None or decided.asked or decided.source in {"fallback", "store"}:
        return False
    return decided.source is not None or decided.status == OK


def _was_audited(candidate: Candidate) -> bool:
    return candidate.was_asked and candidate.decided is not None and candidate.decided.audit


def _rank(candidate: Candidate, routing: RoutingConfig) -> float:
    q = candidate.acquisition or 0.0
    return q / max(1, candidate.cost.tokens) if routing.cost_weighted else q


def _allowed(candidate: Candidate, routing: RoutingConfig) -> bool:
    q = candidate.acquisition
    return q is not None and (routing.policy == "always" or routing.floor is None or q >= routing.floor)


def _above(candidate: Candidate, routing: RoutingConfig) -> bool:
    return routing.policy == "always" or routing.threshold == "adaptive" or (candidate.acquisition or 0.0) > routing.threshold


def is_adaptive(routing: RoutingConfig) -> bool:
    """Whether the threshold follows what can be spent; a fixed rule asks what it says as long as it can be paid."""
    return routing.threshold == "adaptive" and routing.policy != "always"


def _most(routing: RoutingConfig, pairs: int, means: Means) -> int:
    if means.places is not None:
        return means.places
    return pairs if routing.max_share is None else int(routing.max_share * pairs + 1e-9)


def _cut(costs: Sequence[Cost], most: int, bounds: Sequence[Stock], *, aside: Cost) -> int:
    """Return how many of the ranked pairs can be asked within `bounds`, beside what is set aside."""
    total = aside
    for count, cost in enumerate(costs):
        total += cost
        if count >= most or not all(bound.admits(total) for bound in bounds):
            return count
    return len(costs)


def _beyond(contest: Contest, cut: int) -> Action:
    routing = contest.routing
    share_is_used = routing.max_share is not None and cut >= _most(routing, len(contest.candidates), contest.means)
    return ACCEPT if is_adaptive(routing) or share_is_used else Decline("budget")


def _threshold(routing: RoutingConfig, beyond: Sequence[Candidate]) -> float | None:
    if routing.policy in {"always", "never"}:
        return None
    if routing.threshold != "adaptive":
        return routing.threshold
    if not beyond:
        return None if routing.cost_weighted else routing.floor
    return _rank(beyond[0], routing) if routing.cost_weighted else beyond[0].acquisition


def _propensities(contest: Contest, designs: Lottery) -> tuple[float, ...]:
    """1 or 0 where the decision was determined, else the chance of the draw; for policy random the share of the open pairs asked about.

    What was decided before was decided with the probability that it had then.
    """
    chances = propensities(designs)
    if contest.routing.policy == "random" and contest.ranked:
        chances |= dict.fromkeys(contest.ranked, len(chances.keys() & set(contest.ranked)) / len(contest.ranked))
    for index in _without(range(len(contest.candidates)), contest.ranked):
        decided = contest.candidates[index].decided
        chances[index] = (decided.propensity if decided else 0.0) or chances.get(index, 0.0)
    return tuple(chances.get(index, 0.0) for index in range(len(contest.candidates)))
