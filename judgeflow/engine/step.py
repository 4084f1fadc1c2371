"""One step, from pairs to outcomes: the data and the decisions that need no await.

Every distinct pair of a step is one `Item`, in canonical order, however often and whichever way round it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from judgeflow.config import RoutingConfig
from judgeflow.errors import JudgeError, JudgeOverloaded, JudgeRefusesService, JudgeUnreachable, RateLimited, ReplyLost
from judgeflow.keys import Hashes, PairKeys, call_key, pair_keys, question
from judgeflow.ports import Judge
from judgeflow.routing.margin import Margin
from judgeflow.routing.plan import Accept, Action, Ask, Candidate, Decline, StepPlan
from judgeflow.routing.policy import acquisition, own_judge, uniform
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
    Source,
    Verdict,
)
from judgeflow.verdicts.combine import combine

Orders = Literal["both", "adaptive", "random", "first"]

LATE = "deadline"
UNSTORED = "store_error"
"""Statuses of pairs that a step had to leave undecided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a scheduler's steps have in common.

    `judges` stand in order of preference.  With `weights` each pair is one judge's, and no other is asked about it; without, the next judge
    stands in for one that is down, fails or has no room.  `margin` is the logit of a clear verdict.
    """

    judges: tuple[JudgeIdentity, ...]
    routing: RoutingConfig
    margin: Margin
    weights: tuple[float, ...] = ()
    orders: Orders = "both"
    graded: bool = False
    has_scorer: bool = False
    retry_failed: bool = False

    @property
    def stand_ins(self) -> bool:
        """Whether one judge is asked where another cannot be."""
        return len(self.judges) > 1 and not self.weights


class Direction(NamedTuple):
    """How a question shows its pair, in canonical order or the other way round, and which sample of the answer it asks for."""

    canonical: bool
    sample: int = 0


CANONICAL, SWAPPED = Direction(canonical=True), Direction(canonical=False)

_NONE: Mapping[bytes, Any] = MappingProxyType({})


@dataclass(slots=True, eq=False)
class Bench:
    """One pair before one judge, the one at `place` on the panel.

    `directions` are the questions that a verdict takes, by call key and in the order of asking.  `questions` are those of them without a
    stored reply, `costs` worst cases of asking these, `expected` what that will probably come to; `obstacle` is a status that rules asking
    this judge out.
    """

    place: int = 0
    judge: JudgeIdentity | None = None
    directions: Mapping[bytes, Direction] = field(default_factory=lambda: _NONE)
    questions: Mapping[bytes, Question] = field(default_factory=lambda: _NONE)
    costs: Mapping[bytes, Cost] = field(default_factory=lambda: _NONE)
    expected: Mapping[bytes, Cost] = field(default_factory=lambda: _NONE)
    obstacle: str | None = None

    def take(self, call_key: bytes, direction: Direction) -> None:
        """Let another sample stand for its order from now on."""
        self.directions = dict(
            (call_key, direction) if other.canonical == direction.canonical else (key, other) for key, other in self.directions.items()
        )


@dataclass(slots=True, eq=False)
class Item:
    """One distinct pair of a step.  `pair` and `keys` are canonical; `places` are the input positions, and whether swapped there.

    `benches` are its judges in order of preference, `bench` the one that is asked; costs and obstacle are those of that bench, `tried`
    the places of those that were asked in this step.  `calls` holds replies by call key, `fresh` the keys of those that came in
    this step, `paid` of those that this step paid for, and `failures` what went wrong by call key.  `unscored` says why there is no
    preference where one was wanted.
    """

    pair: Pair
    keys: PairKeys
    places: list[tuple[int, bool]]
    benches: list[Bench] = field(default_factory=list)
    bench: Bench = field(default_factory=Bench)
    tried: frozenset[int] = frozenset()
    calls: dict[bytes, Call] = field(default_factory=dict)
    fresh: frozenset[bytes] = frozenset()
    paid: frozenset[bytes] = frozenset()
    failures: dict[bytes, str] = field(default_factory=dict)
    preference: Preference | None = None
    unscored: str = LATE
    acquisition: float | None = None
    decided: Decision | None = None
    action: Action | None = None

    @property
    def costs(self) -> Mapping[bytes, Cost]:
        """Worst cases of asking what is missing."""
        return self.bench.costs

    @property
    def expected(self) -> Mapping[bytes, Cost]:
        """What the worst cases will probably come to."""
        return self.bench.expected

    @property
    def obstacle(self) -> str | None:
        """A status that rules asking out."""
        return self.bench.obstacle

    @property
    def is_scored(self) -> bool:
        """Whether the scorer has had its turn."""
        return self.preference is not None or self.unscored != LATE

    def missing(self, bench: Bench | None = None) -> list[bytes]:
        """The keys of the questions to the judge that is asked, or to another, without a stored reply."""
        return [key for key in (bench or self.bench).directions if key not in self.calls]


def collect(pairs: Sequence[Pair], rules: Rules) -> tuple[list[Item], list[int]]:
    """Hash every pair; return the distinct ones, and the positions of those whose text is no valid Unicode."""
    items: dict[bytes, Item] = {}
    invalid: list[int] = []
    hashes = Hashes()
    for index, pair in enumerate(pairs):
        try:
            keys = pair_keys(pair, hashes)
        except ValueError:
            invalid.append(index)
            continue
        item = items.get(keys.pair)
        if item is None:
            item = items[keys.pair] = _item(pair, keys, rules)
        item.places.append((index, not keys.canonical))
    return list(items.values()), invalid


def _item(pair: Pair, keys: PairKeys, rules: Rules) -> Item:
    benches = [] if keys.identical else [_bench(keys, rules, place) for place in _preferred(keys.pair, rules)]
    bench = benches[0] if benches else Bench()
    if keys.canonical:
        return Item(pair=pair, keys=keys, places=[], benches=benches, bench=bench)
    canonical = PairKeys(prompt=keys.prompt, response_a=keys.response_b, response_b=keys.response_a, pair=keys.pair)
    return Item(pair=pair.swapped(), keys=canonical, places=[], benches=benches, bench=bench)


def _preferred(pair_key: bytes, rules: Rules) -> list[int]:
    """The places of the judges, whose verdict counts first at the front.  By weights that is the pair's own judge."""
    places = list(range(len(rules.judges)))
    if rules.weights:
        own = own_judge(rules.routing.seed, pair_key, rules.judges, rules.weights)
        places.sort(key=lambda place: place != own)
    return places


def _bench(keys: PairKeys, rules: Rules, place: int) -> Bench:
    judge = rules.judges[place]
    return Bench(place=place, judge=judge, directions=_directions(keys, rules, judge.fingerprint))


def _directions(keys: PairKeys, rules: Rules, judge: bytes) -> dict[bytes, Direction]:
    """What a verdict of this judge takes on a pair of these keys, as it came."""
    shown_first, shown_second = (CANONICAL, SWAPPED) if keys.canonical else (SWAPPED, CANONICAL)
    forward = {call_key(judge, keys.prompt, keys.response_a, keys.response_b): shown_first}
    if rules.orders == "first":
        return forward
    backward = {call_key(judge, keys.prompt, keys.response_b, keys.response_a): shown_second}
    if rules.orders == "both":
        return forward | backward
    heads = uniform(rules.routing.seed, keys.pair) < 0.5
    drawn, other = (forward, backward) if (shown_first is CANONICAL) == heads else (backward, forward)
    return drawn | other if rules.orders == "adaptive" else drawn


def next_sample(keys: PairKeys, direction: Direction, judge: bytes) -> tuple[bytes, Direction]:
    """Return the next sample of a question about a pair of these canonical keys: what failed for good may be asked again so."""
    shown = (keys.response_a, keys.response_b) if direction.canonical else (keys.response_b, keys.response_a)
    following = direction._replace(sample=direction.sample + 1)
    return call_key(judge, keys.prompt, *shown, following.sample), following


def wanted(item: Item, rules: Rules, *, in_turn: bool = True) -> list[bytes]:
    """Return the keys of what is to be asked next for a verdict on the item; nothing where one is there.

    With orders "adaptive" that is one order, and the other once the first is answered and could still be outweighed; both where there is no
    time to ask them `in_turn`.  Else a deadline would let only those verdicts pass that agree with the scorer.
    """
    missing = open_questions(item, rules)
    return missing[:1] if rules.orders == "adaptive" and in_turn else missing


def open_questions(item: Item, rules: Rules) -> list[bytes]:
    """Return the keys of what a verdict on the item may still take."""
    return [] if _one_order_is_enough(item, item.bench, rules) else item.missing()


def _one_order_is_enough(item: Item, bench: Bench, rules: Rules) -> bool:
    """Whether orders are adaptive, and the second could not change which response is preferred.

    Where the first agrees with the scorer, a second that contradicts it would leave the word to the scorer, who says the same.
    """
    if rules.orders != "adaptive" or rules.routing.on_inconsistent != "scorer" or item.preference is None:
        return False
    answered = [(direction.canonical, item.calls[key]) for key, direction in bench.directions.items() if key in item.calls]
    sides = [(1 if canonical else -1) * (call.reading.preferred or 0) for canonical, call in answered]
    return len(sides) == 1 and sides[0] * item.preference.logit > 0


def scorer_failed(items: Iterable[Item]) -> None:
    """Note that the scorer has had its turn: those of the items that have no preference now will get none."""
    for item in items:
        item.unscored = "scorer_failed"


def take_known(items: Iterable[Item], rules: Rules) -> None:
    """Turn each item to the first judge of whom a whole verdict is stored; if there is none, it stays before the judge it prefers."""
    for item in items if len(rules.judges) > 1 else ():
        item.bench = next((bench for bench in item.benches if _is_answered(item, bench, rules)), item.bench)


def _is_answered(item: Item, bench: Bench, rules: Rules) -> bool:
    for key in bench.directions:
        call = item.calls.get(key)
        if call is None or call.reading.status is not ReadingStatus.OK:
            return _one_order_is_enough(item, bench, rules)
    return True


def estimate(items: Iterable[Item], judges: Sequence[Judge], rules: Rules) -> None:
    """Put what is missing as questions, and fill in what asking them would cost; where judges stand in for each other with each.

    Counts tokens: run it off the loop.
    """
    for item in items:
        for bench in item.benches if rules.stand_ins else [item.bench]:
            _estimate(item, bench, judges[bench.place])


def _estimate(item: Item, bench: Bench, judge: Judge) -> None:
    bench.questions = {key: _put(item, bench, direction) for key, direction in bench.directions.items() if key not in item.calls}
    try:
        bench.costs = {key: judge.cost(each) for key, each in bench.questions.items()}
    except Exception as error:  # a judge is foreign code: a pair that it cannot price is not asked about
        bench.obstacle = error.status if isinstance(error, JudgeError) else JudgeError.status
        bench.costs = dict.fromkeys(bench.questions, Cost(requests=1))


def _put(item: Item, bench: Bench, direction: Direction) -> Question:
    if bench.judge is None:
        raise AssertionError("nobody is there to be asked")
    return question(item.pair, item.keys, bench.judge.fingerprint, swapped=not direction.canonical, sample=direction.sample)


def turn(items: Iterable[Item], up: Container[int], rules: Rules) -> None:
    """Turn each item to the first judge that takes it, of those that are `up` if there is one: a plan counts what it asks for."""
    for item in items if rules.stand_ins else ():
        if open_questions(item, rules):
            willing = [bench for bench in item.benches if bench.obstacle is None]
            item.bench = next(iter([bench for bench in willing if bench.place in up] + willing), item.bench)


def assign(items: Sequence[Item], rooms: Sequence[float], rules: Rules, is_pending: Callable[[bytes], bool]) -> None:
    """Turn each item, in order, to the first judge that has room for its questions; `rooms` are numbers of questions by place.

    Where another step has a pair under way, the item joins it.  Where nobody has room it stays where it is.
    """
    left = list(rooms)
    for item in items if rules.stand_ins else ():
        willing = [bench for bench in item.benches if bench.obstacle is None and item.missing(bench)]
        pending = [bench for bench in willing if any(map(is_pending, bench.directions))]
        free = [bench for bench in willing if left[bench.place] >= len(item.missing(bench))]
        item.bench = next(iter(pending + free), item.bench)
        left[item.bench.place] -= len(item.missing())


def stand_in(item: Item, rules: Rules) -> Bench | None:
    """Return the next judge to ask about an item that its judge could not answer through no fault of the pair; None if there is none."""
    item.tried |= {item.bench.place}
    failures = set(map(item.failures.get, item.bench.directions))
    if not rules.stand_ins or not failures & JUDGE_FAILED:
        return None
    return next((bench for bench in item.benches if bench.place not in item.tried and bench.obstacle is None), None)


JUDGE_FAILED = {JudgeRefusesService.status, JudgeUnreachable.status, JudgeOverloaded.status, RateLimited.status, ReplyLost.status}
"""Statuses of questions that another judge may answer: nothing is wrong with the pair."""


def candidate(item: Item, rules: Rules) -> Candidate:
    """Rank one item, and return what the plan needs to know of it."""
    item.acquisition = acquisition(rules.routing.policy, item.preference, item.keys.pair, rules.routing.seed)
    obstacle = item.obstacle
    if obstacle is None and item.acquisition is None:
        obstacle = item.unscored
    is_answered = not item.costs or _one_order_is_enough(item, item.bench, rules)
    return Candidate(
        pair_key=item.keys.pair,
        acquisition=item.acquisition,
        cost=_NOTHING if is_answered else sum(item.expected.values(), _NOTHING),
        worst=_NOTHING if is_answered else sum(item.costs.values(), _NOTHING),
        obstacle=obstacle,
        decided=item.decided,
    )


_NOTHING = Cost()


def unknown(item: Item, rules: Rules) -> bool:
    """Whether the scorer's word may count: nothing is stored that answers for it, or what is stored contradicts itself."""
    if item.keys.identical:
        return False
    verdict = None if open_questions(item, rules) else _verdict(item, rules)[0]
    return verdict is None or (verdict.choice == "inconsistent" and rules.routing.on_inconsistent == "scorer")


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
        audit=is_audit(item),
        source=source,
        status=status,
    )


def is_audit(item: Item) -> bool:
    """Whether the pair was drawn in this step, now or before an interruption."""
    if isinstance(item.action, Ask):
        return item.action.audit
    return item.decided is not None and item.decided.asked and item.decided.audit


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
        audit=is_audit(item),
    )


def _unjudged(item: Item, belief: float, rules: Rules) -> tuple[float, Source, str]:
    """Logit, source and status of an item without a verdict."""
    if item.keys.identical:
        return 0.0, "scorer", IDENTICAL
    silence = _silence(item, rules)
    return (belief, "scorer", OK) if silence is None else (belief, "fallback", silence)


def _word(item: Item, rules: Rules, *, flipped: bool) -> tuple[Verdict | None, bool]:
    """What the judges say of the item, and whether that is whole; nothing while the rest of it may still come."""
    is_unfinished = not _UNFINISHED.isdisjoint(item.failures.values()) and not _one_order_is_enough(item, item.bench, rules)
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
    return spoken == len(bench.directions) or _one_order_is_enough(item, bench, rules)


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
        single=rules.orders in {"random", "first"} or _one_order_is_enough(item, bench, rules),
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


def left_to_scorer(items: Iterable[Item], rules: Rules) -> Iterator[float]:
    """Yield what the scorer says about those items for which its word counts, and was not only all that was left."""
    for item in items:
        if item.preference is not None and isinstance(item.action, Accept) and _verdict(item, rules)[0] is None:
            yield item.preference.logit
