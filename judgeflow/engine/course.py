"""One step on its way: what it is about, what it asks about before everything is scored, and what it waits for."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from judgeflow.engine.items import Item
from judgeflow.engine.waiting import Outcomes, Waiting
from judgeflow.errors import JudgeflowError
from judgeflow.routing.early import given_back, least
from judgeflow.routing.plan import Candidate, Means, StepPlan
from judgeflow.types import Call, Cost, Stock

LOOKS = 8
"""How often at most, roughly, a step looks for pairs that it can ask about before all are scored: each look goes over all its pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What a plan is made of: its candidates, what may be spent, and what was asked for `ceiling` must leave of the run's stock.

    `worst` is the allowance where everything put aside counts in full; `seed` shuffles what is asked, None where it is not shuffled.
    """

    candidates: Sequence[Candidate]
    means: Means
    worst: Stock
    ceiling: Stock
    seed: int | None


@dataclass(frozen=True, slots=True)
class Planned:
    """A step's plan, what the run may have spent and put aside with it, and in which order to ask."""

    plan: StepPlan
    ceiling: Stock
    order: tuple[int, ...] = ()


@dataclass(slots=True, eq=False, kw_only=True)
class Course:
    """The state of one step between its first and its last question.

    `arrived` fills with replies that other steps are given meanwhile.  `early` has the positions of the items asked about before the
    plan, `asked_as` what they were then, `held` those of them that wait for a place in flight, `taken` what they take as it was expected
    and at worst, `first` the grounds on which this began, and `begun` how many of them the pacer has yet to count; `next_look` is how
    many must be scored before somebody looks for more, `ceiling` that of what is being asked, and `in_turn` how many
    questions each judge may have so that another order can follow (None: any number).  `refusal` is why the judge could not be
    used when the step began, and `low_s` for how long each judge had been asked less than configured by then.  Changed by `Session`,
    `Planning` and `Inquiry`.
    """

    number: int
    started: float
    outcomes: Outcomes
    waiting: Waiting
    arrived: Mapping[bytes, Call]
    items: list[Item] = field(default_factory=list)
    refusal: JudgeflowError | None = None
    low_s: Sequence[float] = ()
    early: set[int] = field(default_factory=set)
    asked_as: dict[int, Candidate] = field(default_factory=dict)
    held: deque[int] = field(default_factory=deque)
    taken: Cost = field(default_factory=Cost)
    taken_worst: Cost = field(default_factory=Cost)
    first: Grounds | None = None
    next_look: int = 0
    begun: int = 0
    in_turn: Sequence[float] | None = None
    ceiling: Stock = field(default_factory=Stock)

    def time_left(self, now: float) -> float | None:
        """Return the seconds until the step's deadline; None without one."""
        return None if self.waiting.deadline is None else self.waiting.deadline - now

    def plan_next_look(self, scored: int, unscored: int, bounds: Sequence[int | None]) -> None:
        """Say when to look again: nobody is certain while more are unscored than the `bounds` let be asked about."""
        most = min((bound for bound in bounds if bound is not None), default=unscored)
        self.next_look = scored + max(len(self.items) // LOOKS, unscored - most)

    def begin_early(self, grounds: Grounds, indexes: Sequence[int]) -> None:
        """Note that these are asked about before the plan, on these grounds."""
        if not self.early:
            self.first = grounds
        self.early.update(indexes)
        for index in indexes:
            candidate = grounds.candidates[index]
            self.asked_as[index] = replace(candidate, under_way=True)  # as it was: replies make it cheaper meanwhile
            self.taken += candidate.cost
            self.taken_worst += candidate.worst

    def is_sent(self, index: int) -> bool:
        """Whether this item's questions have gone to the dispatcher."""
        return index in self.early and index not in self.held

    def allowance(self, remaining: Stock) -> Stock:
        """What the step may spend in all, where it has begun: as much as at first, unless others have left less.  `remaining` is what
        the run has left now.
        """
        if self.first is None:
            raise AssertionError("nothing was asked early")
        return least(self.first.means.allowance, given_back(remaining, self.taken))

    def worst(self, remaining: Stock) -> Stock:
        """The same where everything put aside counts in full."""
        if self.first is None:
            raise AssertionError("nothing was asked early")
        return least(self.first.worst, given_back(remaining, self.taken_worst))
