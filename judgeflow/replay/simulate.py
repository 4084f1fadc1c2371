"""Play a trace again under other settings: the same decisions as a live run's, in virtual time.

Who is asked about is decided by `routing.plan` and `routing.pacing`, what may be spent by `routing.budget`, when a call may go by
`routing.account`, what replies say by `verdicts.combine`: the code of a live run, fed from arrays.  What does not depend on what may be
spent, the acquisitions and the ranking of every step, is made once for all what-ifs that share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from judgeflow.replay.bill import Bill, bill
from judgeflow.replay.lane import Call, Fate, Lane
from judgeflow.replay.panel import spoken_for
from judgeflow.replay.played import JUDGE, STATUSES, Played, PlayedStep, steps_of
from judgeflow.replay.statistics import credit
from judgeflow.replay.trace import CANONICAL, SWAPPED, Bools, Bytes, Floats, Testimony, Trace
from judgeflow.replay.whatif import USUAL_STEP, WhatIf
from judgeflow.replay.words import NOT_FAILED, UNRECORDED, Heard, Words, codes, preferred, resolve
from judgeflow.routing.audit import lot_of
from judgeflow.routing.budget import Budget
from judgeflow.routing.margin import Margin
from judgeflow.routing.pacing import Pacer, paced
from judgeflow.routing.plan import Accept, Ask, Candidate, Contest, Decline, Means, StepPlan, is_adaptive, survey
from judgeflow.routing.policy import acquisition, uniform
from judgeflow.routing.threshold import with_headroom
from judgeflow.types import Cost, Preference, RunState, Stock

Kept = TypeVar("Kept")

_STATUS = {status: number for number, status in enumerate(STATUSES)}


def play(trace: Trace, what_if: WhatIf) -> Played:
    """Return what would have been decided about every pair of the trace.  Deterministic: the same arguments, the same result.

    Raises `ReplayError` where a judge has to be chosen, or a limit counts what nobody has recorded.
    """
    return Replay(trace).play(what_if)


class Replay:
    """A trace made ready for many what-ifs: what they share is made once.  Its state is a memory of that and no more."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._memory: dict[object, object] = {}

    def play(self, what_if: WhatIf) -> Played:
        """See `play`."""
        return _Run(self, what_if).play()

    def testimony(self, what_if: WhatIf) -> Testimony:
        """The replies that count under a what-if."""
        return self._once(("testimony", _panel(what_if)), lambda: spoken_for(self.trace, what_if), Testimony)

    def bill(self, what_if: WhatIf) -> Bill:
        """What its calls take."""
        calls = what_if.latency, what_if.prompt_tokens, what_if.completion_tokens, what_if.longest_reply, what_if.seed
        prices = what_if.prompt_usd_per_mtok, what_if.completion_usd_per_mtok
        limits = what_if.tokens_per_minute, what_if.budget_tokens, what_if.budget_usd, what_if.step_deadline_s
        known = tuple(limit is not None for limit in limits)
        return self._once(("bill", _panel(what_if), calls, prices, known), lambda: bill(self.testimony(what_if), what_if), Bill)

    def questions(self, what_if: WhatIf) -> list[tuple[int, ...]]:
        """The orders in which each pair is asked about, the first one first."""
        seed = what_if.seed if what_if.orders in {"random", "adaptive"} else None
        return self._once(("questions", what_if.orders, seed), lambda: _questions(self.trace, what_if), list)

    def acquisitions(self, what_if: WhatIf) -> list[float | None]:
        """What each pair is ranked by."""
        if what_if.policy == "oracle":
            same = _panel(what_if), what_if.orders, what_if.graded, what_if.on_inconsistent, what_if.seed
            return self._once(("oracle", same), lambda: _gains(self, what_if), list)
        seed = what_if.seed if what_if.policy == "random" else None
        return self._once(("acquisitions", what_if.policy, seed), lambda: self._ranked_by(what_if), list)

    def _ranked_by(self, what_if: WhatIf) -> list[float | None]:
        policy, seed = what_if.routing.policy, what_if.seed
        return [acquisition(policy, belief, key, seed) for belief, key in zip(self.preferences, self.trace.keys, strict=True)]

    @property
    def preferences(self) -> list[Preference | None]:
        """What the scorer believes, as values."""
        return self._once("preferences", lambda: _preferences(self.trace), list)

    def contests(self, what_if: WhatIf, steps: Sequence[NDArray[np.intp]]) -> list[Contest]:
        """The ranking of every step, with costs as they are before anything is known of the judge."""
        routing = what_if.routing.model_copy(update={"max_share": None, "audit_fraction": 0.0, "step_deadline_s": None})
        same = what_if.policy, _panel(what_if), what_if.orders, what_if.step_size, what_if.graded, routing.model_dump_json()
        costs = what_if.cost_weighted, what_if.prompt_tokens, what_if.completion_tokens, what_if.longest_reply
        return self._once(("contests", same, costs), lambda: [self._contest(what_if, indexes) for indexes in steps], list)

    def _contest(self, what_if: WhatIf, indexes: NDArray[np.intp]) -> Contest:
        keys, acquisitions, questions = self.trace.keys, self.acquisitions(what_if), self.questions(what_if)
        lane = Lane(self.bill(what_if), what_if)
        plain = [Cost(requests=count) for count in range(3)]

        def cost(index: int) -> Cost:
            orders = questions[index]
            return sum((lane.worst((index, order)) for order in orders), Cost()) if what_if.cost_weighted else plain[len(orders)]

        candidates = [
            Candidate(
                pair_key=keys[index],
                acquisition=acquisitions[index],
                cost=cost(index),
                obstacle="scorer_failed" if acquisitions[index] is None else None,
            )
            for index in indexes.tolist()
        ]
        return survey(candidates, what_if.routing)

    def _once(self, key: object, make: object, kind: type[Kept]) -> Kept:
        if key not in self._memory:
            self._memory[key] = make()  # type: ignore[operator]
        made = self._memory[key]
        if not isinstance(made, kind):
            raise AssertionError(f"{key} is no {kind.__name__}")
        return made


def _panel(what_if: WhatIf) -> object:
    """What decides whose word counts."""
    return what_if.judges, what_if.weights, what_if.seed if what_if.weights else None


def _questions(trace: Trace, what_if: WhatIf) -> list[tuple[int, ...]]:
    """As `engine.items` orders them: as the pair came, or drawn by the seed and the pair."""
    first = [SWAPPED if swapped else CANONICAL for swapped in trace.swapped.tolist()]
    if what_if.orders in {"random", "adaptive"}:
        first = [CANONICAL if uniform(what_if.seed, key) < 0.5 else SWAPPED for key in trace.keys]
    both = what_if.orders in {"both", "adaptive"}
    return [(order, 1 - order) if both else (order,) for order in first]


def _preferences(trace: Trace) -> list[Preference | None]:
    known = zip(trace.logits.tolist(), trace.uncertainties.tolist(), strict=True)
    return [
        None if logit != logit else Preference(logit=logit, uncertainty=None if doubt != doubt else doubt)  # noqa: PLR0124 - NaN
        for logit, doubt in known
    ]


def _gains(replay: Replay, what_if: WhatIf) -> list[float | None]:
    """Return by how much a verdict brings each pair nearer to its label; where nobody knows it, 1 if judge and scorer disagree."""
    trace, testimony, questions = replay.trace, replay.testimony(what_if), replay.questions(what_if)
    everything = np.array([[order in orders for order in (CANONICAL, SWAPPED)] for orders in questions], dtype=bool).reshape(-1, 2)
    heard = Heard(
        beliefs=trace.logits,
        said=codes(testimony),
        statuses=testimony.statuses,
        answered=everything & testimony.replied,
        failed=np.full(everything.shape, NOT_FAILED, dtype=np.int8),
        declined=np.full(len(trace), NOT_FAILED, dtype=np.int8),
    )
    words = resolve(heard, what_if, 2.0, has_scorer=trace.scorer is not None)
    believed = np.nan_to_num(trace.logits, nan=0.0)
    known = np.isin(trace.truth, (0.0, 1.0))
    gain = credit(words.logits, trace.truth > 0.5) - credit(believed, trace.truth > 0.5)
    differs = (words.sources == JUDGE) & (np.sign(words.logits) != np.sign(believed))
    return list(np.where(known, gain, differs.astype(float)).tolist())


@dataclass(slots=True)
class _Columns:
    """What a run fills in, by pair."""

    asked: Bools
    audits: Bools
    answered: Bools
    failed: Bytes
    declined: Bytes
    logits: Floats
    sources: Bytes
    statuses: Bytes
    propensities: Floats

    @classmethod
    def empty(cls, pairs: int) -> _Columns:
        return cls(
            asked=np.zeros(pairs, dtype=bool),
            audits=np.zeros(pairs, dtype=bool),
            answered=np.zeros((pairs, 2), dtype=bool),
            failed=np.full((pairs, 2), NOT_FAILED, dtype=np.int8),
            declined=np.full(pairs, NOT_FAILED, dtype=np.int8),
            logits=np.zeros(pairs),
            sources=np.zeros(pairs, dtype=np.int8),
            statuses=np.zeros(pairs, dtype=np.int8),
            propensities=np.zeros(pairs),
        )


class _Run:
    """One run, from its first step to its last."""

    def __init__(self, replay: Replay, what_if: WhatIf) -> None:
        self._replay, self._trace, self._what_if = replay, replay.trace, what_if
        self._routing = what_if.routing
        self._testimony, self._bill = replay.testimony(what_if), replay.bill(what_if)
        self._said = codes(self._testimony)
        self._sides = preferred(self._said)
        self._questions = replay.questions(what_if)
        self._step_of = steps_of(self._trace.steps, what_if.step_size, USUAL_STEP)
        order = np.argsort(self._step_of, kind="stable")
        last = int(self._step_of.max()) + 1 if len(order) else 0
        self._steps = np.split(order, np.searchsorted(self._step_of[order], np.arange(1, last))) if last else []
        config = what_if.budget(max(1, last))
        self._budget, self._pacer = Budget(config.stock, config.steps), Pacer(self._routing, config)
        self._margin = Margin(what_if.verdict_margin)
        self._lane = Lane(self._bill, what_if)
        by_tokens = config.tokens is not None or config.usd is not None or what_if.tokens_per_minute is not None
        self._costs_matter = by_tokens or what_if.cost_weighted
        self._columns = _Columns.empty(len(self._trace))

    def play(self) -> Played:
        contests = self._replay.contests(self._what_if, self._steps)
        played = [self._step(number, indexes, contest) for number, (indexes, contest) in enumerate(zip(self._steps, contests, strict=True))]
        columns = self._columns
        ranked = self._replay.acquisitions(self._what_if)
        return Played(
            what_if=self._what_if,
            asked=columns.asked,
            audits=columns.audits,
            calls=self._lane.sent.sum(axis=1).astype(np.int8),
            logits=columns.logits,
            sources=columns.sources,
            statuses=columns.statuses,
            acquisitions=np.array([np.nan if value is None else value for value in ranked], dtype=float),
            propensities=columns.propensities,
            unrecorded=(columns.failed == UNRECORDED).any(axis=1),
            step_of=self._step_of,
            steps=tuple(played),
        )

    def _step(self, number: int, indexes: NDArray[np.intp], contest: Contest) -> PlayedStep:
        planned, ceiling = self._plan(number, indexes, contest)
        self._note_plan(indexes, planned)
        fate = self._ask(indexes, planned, ceiling)
        words = self._conclude(indexes)
        self._lane.wait_until(self._lane.now + self._what_if.pause_s)
        return self._count(indexes, planned, fate, words)

    def _plan(self, number: int, indexes: NDArray[np.intp], contest: Contest) -> tuple[StepPlan, Stock]:
        """Decide as `engine.planning` does: with what is left of the run, and what comes back before the deadline."""
        what_if, lane, routing = self._what_if, self._lane, self._routing
        state = RunState(name=what_if.run, spent=lane.spent, reserved=lane.experience.expected(lane.reserved))
        contest, headroom = self._priced(indexes, contest)
        left = self._budget.remaining(state)
        share = left if is_adaptive(routing) else self._budget.allowance(state, number)
        deadline = what_if.step_deadline_s
        means = Means(
            allowance=with_headroom(share, left, headroom),
            in_time=Stock() if deadline is None else lane.in_time(deadline, deadline),
        )
        lot = lot_of(routing.seed, what_if.run, number) if routing.audit_fraction else 0
        planned = paced(replace(contest, routing=routing), means, pacer=self._pacer, step=number, lot=lot)
        return planned, self._budget.stock if is_adaptive(routing) else self._budget.ceiling(state, number)

    def _priced(self, indexes: NDArray[np.intp], contest: Contest) -> tuple[Contest, Cost]:
        """Return the contest at what its candidates will probably cost, and the most that a question may cost beyond that."""
        if not self._costs_matter:
            return contest, Cost()
        lane, tokens, usd = self._lane, 0, 0.0
        candidates = []
        for index, candidate in zip(indexes.tolist(), contest.candidates, strict=True):
            worst = [lane.worst((index, order)) for order in self._questions[index]]
            expected = [lane.experience.expected(cost) for cost in worst]
            tokens = max(tokens, *(most.tokens - usual.tokens for most, usual in zip(worst, expected, strict=True)))
            usd = max(usd, *(most.usd - usual.usd for most, usual in zip(worst, expected, strict=True)))
            candidates.append(replace(candidate, cost=sum(expected, Cost()), worst=sum(worst, Cost())))
        priced = survey(candidates, self._routing) if self._what_if.cost_weighted else replace(contest, candidates=candidates)
        return priced, Cost(tokens=tokens, usd=usd)

    def _note_plan(self, indexes: NDArray[np.intp], planned: StepPlan) -> None:
        columns, actions = self._columns, planned.actions
        columns.asked[indexes] = [isinstance(action, Ask) for action in actions]
        columns.audits[indexes] = [isinstance(action, Ask) and action.audit for action in actions]
        columns.declined[indexes] = [_STATUS[action.status] if isinstance(action, Decline) else NOT_FAILED for action in actions]
        columns.propensities[indexes] = planned.propensities
        if self._margin.matched:
            accepted = np.array([isinstance(action, Accept) for action in actions])
            logits = self._trace.logits[indexes[accepted]]
            self._margin.learn(logits[~np.isnan(logits)].tolist())

    def _ask(self, indexes: NDArray[np.intp], planned: StepPlan, ceiling: Stock) -> Fate:
        what_if, lane = self._what_if, self._lane
        deadline = what_if.step_deadline_s
        adaptive = what_if.orders == "adaptive"
        in_turn = lane.in_turn(deadline, deadline) if adaptive and deadline is not None else np.inf
        calls: list[Call] = []
        under_way = lane.under_way
        for place in planned.ranking:
            index = int(indexes[place])
            one_by_one = adaptive and under_way + len(calls) < in_turn
            calls += [(index, order) for order in self._questions[index][: 1 if one_by_one else 2]]
        self._sent_in_pairs = set(calls) if adaptive else set()
        fate = lane.ask(calls, deadline, ceiling, self._other_order if adaptive else _nothing_more)
        self._note_fate(calls, fate)
        return fate

    def _other_order(self, call: Call) -> Call | None:
        """Return the order that is still open after a reply, with orders "adaptive"."""
        index, order = call
        other = index, 1 - order
        if other in self._sent_in_pairs:
            return None
        belief = self._trace.logits[index]
        if self._what_if.on_inconsistent == "scorer" and self._sides[call] * belief > 0:
            return None
        self._sent_in_pairs.add(other)
        return other

    def _note_fate(self, calls: Sequence[Call], fate: Fate) -> None:
        """Write down what came back, what did not, and what nobody has recorded."""
        columns, replied = self._columns, self._testimony.replied
        everything = self._sent_in_pairs or set(calls)
        for call in everything:
            status = fate.failed.get(call)
            if status is not None:
                columns.failed[call] = _STATUS[status]
            elif replied[call]:
                columns.answered[call] = True
            else:
                columns.failed[call] = UNRECORDED

    def _conclude(self, indexes: NDArray[np.intp]) -> Words:
        columns = self._columns
        heard = Heard(
            beliefs=self._trace.logits[indexes],
            said=self._said[indexes],
            statuses=self._testimony.statuses[indexes],
            answered=columns.answered[indexes],
            failed=columns.failed[indexes],
            declined=columns.declined[indexes],
        )
        words = resolve(heard, self._what_if, self._margin.value, has_scorer=self._trace.scorer is not None)
        columns.logits[indexes] = words.logits
        columns.sources[indexes] = words.sources
        columns.statuses[indexes] = words.statuses
        return words

    def _count(self, indexes: NDArray[np.intp], planned: StepPlan, fate: Fate, words: Words) -> PlayedStep:
        columns, bill, sent = self._columns, self._bill, self._lane.sent[indexes]
        agreements = words.agreements[~np.isnan(words.agreements)]
        return PlayedStep(
            pairs=len(indexes),
            asked=planned.asked,
            audited=int(columns.audits[indexes].sum()),
            calls=int(sent.sum()),
            tokens=int((bill.prompt + bill.completion)[indexes][sent].sum()) if bill.tokens_known else None,
            usd=float(bill.usd[indexes][sent].sum()),
            seconds=fate.seconds if bill.time_known else None,
            threshold=planned.threshold,
            agreement=float(agreements.mean()) if len(agreements) else None,
        )


def _nothing_more(_call: Call) -> Call | None:
    return None
