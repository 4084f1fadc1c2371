"""How many pairs a step may ask about, so that hard steps spend what easy ones have saved.

With `[budget] steps` the best use of a stock has one price for the whole run: whoever is above it is asked about.  Nobody knows it
beforehand.  A demand curve of the last w blocks of steps (`routing.demand`) has the price at which steps like those would spend what is
left by the last one.  A short window follows a drift, a long one keeps its price where easy and hard steps alternate, and w = 1, the step
itself, is the equal share.  Which is right differs from run to run, so all of them are tried on paper:

    ledger      what would be left, and what value would have been judged, had this window decided every step so far
    score(v)    value judged, less as many pairs of average value, plus what the rest would still bring if steps went on like window v's
    standing    the worst score(v) over all v > 1, relative to the equal share's: what looks good only if the past repeats itself is not

A step asks about the mean of the windows' wishes, weighted by exp(GREED x standing) (Littlestone and Warmuth, 1994: a mixture does nearly
as well as its best member).  The run itself has a ledger too: as it falls behind the equal share, by up to `PATIENCE`, the mixture
gives way to it.  So what can be lost to the equal share is small, and what can be won is most of what a price known beforehand would win.

What is spent otherwise than planned (a judge more wordy than expected, another process, a failure) changes every ledger alike.

`max_share` perishes with its step.  Its whole places go by rank; the place that is left of a fraction goes to a pair above the price at
which the share is asked about, while the run has asked about less than the share: a step of one pair is decided by price.

Steps of fewer than `BLOCK` pairs are gathered until they are a block; until then the price of the blocks before them counts.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, repeat
from operator import attrgetter
from typing import Any

from judgeflow.config import BudgetConfig, RoutingConfig
from judgeflow.routing.demand import FIRST_KIND, PAIRS, VALUE, Demand, Point, compressed
from judgeflow.routing.plan import Ask, Candidate, Contest, Means, StepPlan, is_adaptive, settle, survey
from judgeflow.types import Cost, Stock

VERSION = 1

WINDOWS = (1, 4, 16, 64, 256)
"""Lengths in blocks, as means of exponential windows; the first is the equal share."""

EQUAL_SHARE = (1.0, *(0.0 for _ in WINDOWS[1:]))
"""The weights of a run that has just begun."""

SHARE_WINDOW = 2
"""Which of the windows has the price of `max_share`."""

GREED = 1000.0
"""A window that is ahead by a thousandth of the whole run's value has e times the weight."""

HANDICAP = 0.003
"""By how much of the whole run's value a window has to be ahead of the equal share to have its weight."""

PATIENCE = 0.0025
"""How far the run may fall behind the equal share, of its whole value, before it is the equal share."""

BLOCK = 32
"""Pairs from which on a step has a demand curve worth learning from by itself."""

SHARE_HORIZON = 256
"""Over so many pairs those places are given away that `max_share` has left over."""

KINDS = ("requests", "tokens", "usd")
HAIR = 1e-5
"""What ties are broken by, relative to the value."""

_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio (Knuth, 1998, 6.4): neighbouring keys lie far apart
_ROUNDING = 1e-9


@dataclass(slots=True)
class _Ledger:
    """A run on paper: what is left of each limited kind, the value judged, and the number of pairs judged."""

    left: list[float]
    value: float = 0.0
    pairs: float = 0.0

    def charge(self, points: Sequence[Point]) -> None:
        """Ask about these."""
        for column in range(len(self.left)):
            self.left[column] = max(0.0, self.left[column] - sum(point[FIRST_KIND + column] for point in points))
        self.value += sum(point[VALUE] for point in points)
        self.pairs += len(points)

    def shift(self, surprise: Sequence[float]) -> None:
        """Have so much more left of each kind."""
        self.left = [max(0.0, left + more) for left, more in zip(self.left, surprise, strict=True)]


@dataclass(slots=True)
class _Block:
    """A step, or small steps together: the points that could have been asked about, and how many steps are left from the first on."""

    steps_left: int = 1
    points: list[Point] = field(default_factory=list)
    steps: int = 0
    pairs: int = 0

    @property
    def is_small(self) -> bool:
        return self.pairs < BLOCK

    def with_step(self, step: _Block) -> _Block:
        """Return this block with one step more."""
        return _Block(
            steps_left=self.steps_left if self.steps else step.steps_left,
            points=sorted([*self.points, *step.points], reverse=True),
            steps=self.steps + step.steps,
            pairs=self.pairs + step.pairs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What a step would like to ask: `promised` before, and a `count` of others.

    `new` pairs are those that no earlier attempt has decided about, stored ones included; `again` those that it declined.
    """

    promised: Cost
    count: int
    new: int
    again: int

    @classmethod
    def of(cls, contest: Contest) -> _Wanted:
        return cls(
            promised=sum(contest.costs(contest.promised), Cost()),
            count=len(contest.wanted),
            new=sum(candidate.decided is None for candidate in contest.candidates),
            again=sum(contest.candidates[index].decided is not None for index in contest.ranked),
        )


class Pacer:
    """Decides how many pairs each step of one run may ask about.

    Deterministic: the same steps give the same places, also when it is continued from its `state` in between.  Its size does not grow
    with the run.  Changed by `places`, `asked`, `begin` and `give_up` only, which do not await, so concurrent steps are paced one after
    the other.
    """

    def __init__(self, routing: RoutingConfig, budget: BudgetConfig, state: Mapping[str, Any] | None = None) -> None:
        self._kinds = tuple(kind for kind in KINDS if getattr(budget.stock, kind) is not None)
        self._steps = budget.steps
        self._share = routing.max_share
        self._adaptive = is_adaptive(routing) and routing.policy != "never"
        self._paced = self._adaptive and self._steps is not None and bool(self._kinds)
        self._by_time = routing.policy == "random"  # a value drawn by lot says nothing about other steps
        self._begun = 0  # pairs that are asked about by steps without a plan yet
        self._signature = [VERSION, routing.policy, routing.cost_weighted, *self._kinds]
        self._restore(state if state is not None and state.get("signature") == self._signature else {})

    @property
    def state(self) -> dict[str, Any] | None:
        """What another `Pacer` of the same run continues from, as JSON can hold it: a few kilobytes; None where nothing is paced.

        A state of another policy or of other limited kinds is not taken up; one of another amount or number of steps is.
        """
        if self._share is None and not self._paced:
            return None
        pool = self._pool
        return {
            "signature": list(self._signature),
            "credit": self._credit - self._price_of(self._begun),
            "seen": list(self._seen),
            "weights": list(self._weights),
            "windows": [window.state for window in self._windows],
            "ledgers": [[list(ledger.left), ledger.value, ledger.pairs] for ledger in self._ledgers],
            "pool": [pool.steps_left, [list(point) for point in pool.points], pool.steps, pool.pairs],
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        windows = state.get("windows", [(0.0, 0.0, ())] * len(WINDOWS))
        self._windows = [Demand(1.0 - 1.0 / length, window) for length, window in zip(WINDOWS, windows, strict=True)]
        self._ledgers = [_Ledger(list(left), value, pairs) for left, value, pairs in state.get("ledgers", ())]
        self._weights: list[float] = list(state.get("weights", EQUAL_SHARE))
        self._seen: list[float] = list(state.get("seen", (0, 0.0)))  # pairs that can be ranked, and the sum of their values
        self._credit: float = state.get("credit", 0.0)  # places that max_share has given and that were not taken
        steps_left, points, steps, pairs = state.get("pool", (1, (), 0, 0))
        self._pool = _Block(steps_left, [tuple(point) for point in points], steps, pairs)  # small steps that are no block yet

    def places(self, step: int, contest: Contest, means: Means) -> int | None:
        """Return how many pairs step number `step` may ask about, those promised before included; None: as many as can be borne.

        `means.allowance` is what is left of the run.  What is wanted is learnt from, except in a step that was decided before.
        """
        if self._share is None and not self._paced:
            return None
        wanted = _Wanted.of(contest)
        sure, most, reach = self._share_of(wanted)
        if not self._adaptive:
            return len(contest.promised) + most
        costs = contest.costs(contest.wanted[:reach])
        perishable = _borne(costs, wanted.promised, means.in_time)
        now = self._block(step, contest, perishable, wanted)
        left = [float(getattr(means.allowance, kind)) for kind in self._kinds] if self._paced else []
        self._catch_up(left)
        if wanted.new:
            self._seen = [self._seen[0] + len(contest.ranked), self._seen[1] + sum(contest.rank(index) for index in contest.ranked)]
            self._learn(now)
        places = min(perishable, self._by_share(now, sure, most))
        if self._paced:
            places = min(places, self._by_price(now, left))
        places = _borne(costs[:places], wanted.promised, means.allowance)
        if wanted.new:
            self._account(now, places)
        return len(contest.promised) + places

    def sure(self, candidates: Sequence[Candidate]) -> int | None:
        """Return how many pairs a step of these may ask about whatever they score; None: as many as can be borne.

        A price depends on what all of them score, so a paced step is sure of none.
        """
        if self._paced:
            return 0
        if self._share is None:
            return None
        new = sum(candidate.decided is None for candidate in candidates)
        places = min(math.floor(self._share * new + _ROUNDING), math.floor(self._share * new + self._credit + _ROUNDING))
        promised = (candidate for candidate in candidates if candidate.was_asked and candidate.obstacle is None)
        return max(0, places) + sum(candidate.cost.requests > 0 for candidate in promised)

    def begin(self, pairs: int) -> None:
        """Note that a step asks about so many new pairs before it has a plan, or with less than 0, that it has one, or an end.

        Until then `state` has them paid for: a step that is resumed finds them decided, and shares out places for the others alone.
        """
        self._begun += pairs

    def give_up(self, pairs: int) -> None:
        """A step that has begun with so many will have no plan; if it is resumed, it goes on as from `state`."""
        self._begun -= pairs
        self._credit -= self._price_of(pairs)

    def _price_of(self, pairs: int) -> float:
        """Return how many places of `max_share` so many pairs take beyond those that they bring."""
        return 0.0 if self._share is None else pairs * (1.0 - self._share)

    def asked(self, contest: Contest, planned: StepPlan) -> None:
        """Count what came of a step: how many of its new pairs are asked about."""
        if self._share is None:
            return
        new = [index for index, candidate in enumerate(contest.candidates) if not candidate.was_asked]
        asked = sum(isinstance(planned.actions[index], Ask) for index in new)
        self._credit += self._share * _Wanted.of(contest).new - asked

    def _block(self, step: int, contest: Contest, perishable: int, wanted: _Wanted) -> _Block:
        within = contest.wanted[:perishable]
        values = (_told_apart(contest.rank(index), contest.candidates[index].pair_key) for index in within)
        amounts = (map(float, map(attrgetter(kind), contest.costs(within))) for kind in self._kinds)
        points = sorted(zip(values, repeat(1.0, len(within)), *amounts, strict=True), reverse=True)  # anew: they were moved by a hair
        return _Block(max(1, (self._steps or 0) - step), points, 1, wanted.new + wanted.again)

    # The share

    def _share_of(self, wanted: _Wanted) -> tuple[int, int, int]:
        """Return how many places `max_share` gives by rank, how many with the one by price, and how many if that one is there."""
        if self._share is None:
            return wanted.count, wanted.count, wanted.count
        exact, reach = self._share * wanted.new, math.ceil(self._share * (wanted.new + wanted.again) - _ROUNDING)
        most = max(0, min(reach, math.floor(exact + self._credit + _ROUNDING)))
        return min(most, math.floor(exact + _ROUNDING)), most, reach

    def _by_share(self, now: _Block, sure: int, most: int) -> int:
        """Return how many pairs the share admits: `sure` ones, and up to `most` above the price of the share."""
        if self._share is None or sure >= most:
            return most
        demand = self._view(SHARE_WINDOW, now)
        share = min(1.0, self._share + self._credit / SHARE_HORIZON)
        price = demand.price(demand.reach([(PAIRS, share * demand.pairs / demand.steps)]))
        return min(most, max(sure, _above(now.points, price)))

    # The price

    def _by_price(self, now: _Block, left: Sequence[float]) -> int:
        """Return the weighted mean of what the windows would ask about."""
        wishes_ = [weight * self._wish(number, now, left) for number, weight in enumerate(self._weights) if weight > 0.0]
        return math.floor(sum(wishes_) + 0.5)

    def _wish(self, number: int, now: _Block, left: Sequence[float]) -> int:
        """Return how many of a block's points one window would ask about, with that much left."""
        if now.steps_left == 1 or (number == 0 and not now.is_small):
            return _affordable(now.points, [amount * now.steps / now.steps_left for amount in left])
        demand = self._view(number, now)
        price = demand.price(demand.reach((FIRST_KIND + kind, amount / now.steps_left) for kind, amount in enumerate(left)))
        return _above(now.points, price)

    def _view(self, number: int, now: _Block) -> Demand:
        """Return a window's demand; before the first block, that of what there is of it and of the step."""
        if self._windows[number].steps:
            return self._windows[number]
        begun, first = self._pool.with_step(now), Demand(0.0)
        first.learn(begun.points, steps=begun.steps, pairs=begun.pairs)
        return first

    # Learning

    def _learn(self, block: _Block) -> None:
        """Show a block to every window; one that is small has to wait for others."""
        if not block.is_small:
            few = compressed(block.points)
            for window in self._windows if self._paced else self._windows[SHARE_WINDOW : SHARE_WINDOW + 1]:
                window.learn(few, steps=block.steps, pairs=block.pairs)

    def _catch_up(self, left: Sequence[float]) -> None:
        """Book on every ledger what was spent otherwise than this pacer thought; the last one is the run's own."""
        if not self._paced:
            return
        if not self._ledgers:
            self._ledgers = [_Ledger(list(left)) for _ in range(len(WINDOWS) + 1)]
        surprise = [now - thought for now, thought in zip(left, self._ledgers[-1].left, strict=True)]
        for ledger in self._ledgers:
            ledger.shift(surprise)

    def _account(self, now: _Block, places: int) -> None:
        """Book what this step asks about, and when a block is complete, what each window would have asked about in it."""
        if self._paced:
            self._ledgers[-1].charge(now.points[:places])
        if not now.is_small:
            self._settle(now)
            return
        self._pool = self._pool.with_step(now)
        if not self._pool.is_small:
            block, self._pool = self._pool, _Block()
            self._learn(block)
            self._settle(block)

    def _settle(self, block: _Block) -> None:
        """Book a block on the windows' ledgers, as each would have decided, and weigh the windows anew."""
        if not self._paced or self._by_time:
            return
        for number, ledger in enumerate(self._ledgers[:-1]):
            asked = min(self._wish(number, block, ledger.left), _affordable(block.points, ledger.left))
            ledger.charge(block.points[:asked])
        self._weigh(max(1, block.steps_left - block.steps))

    def _weigh(self, steps_left: int) -> None:
        """Weigh the windows by their standing."""
        scores = [[self._score(ledger, window, steps_left) for ledger in self._ledgers] for window in self._windows[1:]]
        if min(row[0] for row in scores) <= 0.0:  # all pairs are alike
            self._weights = list(EQUAL_SHARE)
            return
        *windows, own = [min(row[column] / row[0] - 1.0 for row in scores) for column in range(len(self._ledgers))]
        standing = [windows[0], *(place - HANDICAP for place in windows[1:])]
        raw = [math.exp(GREED * (place - max(standing))) for place in standing]
        trust = min(1.0, max(0.0, 1.0 + own / PATIENCE)) / sum(raw)
        others = [weight * trust for weight in raw[1:]]
        self._weights = [max(0.0, 1.0 - sum(others)), *others]

    def _score(self, ledger: _Ledger, window: Demand, steps_left: int) -> float:
        usual = self._seen[1] / self._seen[0] if self._seen[0] else 0.0
        reach = window.reach((FIRST_KIND + kind, amount / steps_left) for kind, amount in enumerate(ledger.left))
        value, pairs = window.worth(reach)
        return ledger.value - usual * ledger.pairs + steps_left * (value - usual * pairs)


def decide(candidates: Sequence[Candidate], routing: RoutingConfig, means: Means, *, pacer: Pacer, step: int, lot: int = 0) -> StepPlan:
    """Decide about every candidate of step number `step`, at the run's pace; see `routing.plan.plan`.

    With an adaptive threshold `means.allowance` is what is left of the run, and the pacer divides it among the steps.
    """
    return paced(survey(candidates, routing), means, pacer=pacer, step=step, lot=lot)


def paced(contest: Contest, means: Means, *, pacer: Pacer, step: int, lot: int = 0) -> StepPlan:
    """The same for candidates that are ranked already."""
    planned = settle(contest, replace(means, places=pacer.places(step, contest, means)), lot)
    pacer.asked(contest, planned)
    return planned


def _above(points: Sequence[Point], price: float) -> int:
    """Return how many of the points, in descending order, are above the price."""
    return bisect_left(points, -price, key=lambda point: -point[0])


def _affordable(points: Sequence[Point], amounts: Sequence[float]) -> int:
    """Return how many of the points can be asked about, in their order, with these amounts."""
    sums = (list(accumulate(point[FIRST_KIND + kind] for point in points)) for kind in range(len(amounts)))
    return min((bisect_right(total, amount + _ROUNDING) for total, amount in zip(sums, amounts, strict=True)), default=len(points))


def _borne(costs: Sequence[Cost], promised: Cost, bound: Stock) -> int:
    """Return how many of the ranked costs a bound bears beside what was promised."""
    count = len(costs)
    for kind in KINDS:
        limit, amount = getattr(bound, kind), attrgetter(kind)
        if limit is not None:
            sums = list(accumulate(map(amount, costs[:count]), initial=amount(promised)))
            count = max(0, bisect_right(sums, limit) - 1)
    return count


def _told_apart(rank: float, key: bytes) -> float:
    """Return a rank moved by a hair that depends on the pair's key: a price can then divide pairs that are level."""
    mixed = int.from_bytes(key[-8:], "big") * _GOLDEN % 2**64
    return rank + HAIR * (abs(rank) + HAIR) * (mixed * 2.0**-64 - 0.5)
