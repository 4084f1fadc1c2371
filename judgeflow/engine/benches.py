"""Before which judge an item stands, and what that judge is still to be asked about it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from judgeflow.engine.items import Bench, Direction, Item
from judgeflow.engine.rules import Rules
from judgeflow.errors import JudgeError, JudgeOverloaded, JudgeRefusesService, JudgeUnreachable, RateLimited, ReplyLost
from judgeflow.keys import question
from judgeflow.ports import Judge
from judgeflow.types import Cost, Question, ReadingStatus


def wanted(item: Item, rules: Rules, *, in_turn: bool = True) -> list[bytes]:
    """Return the keys of what is to be asked next for a verdict on the item; nothing where one is there.

    With orders "adaptive" that is one order, and the other once the first is answered and could still be outweighed; both where there is no
    time to ask them `in_turn`.  Else a deadline would let only those verdicts pass that agree with the scorer.
    """
    missing = open_questions(item, rules)
    return missing[:1] if rules.orders == "adaptive" and in_turn else missing


def open_questions(item: Item, rules: Rules) -> list[bytes]:
    """Return the keys of what a verdict on the item may still take."""
    return [] if one_order_is_enough(item, item.bench, rules) else item.missing()


def one_order_is_enough(item: Item, bench: Bench, rules: Rules) -> bool:
    """Whether orders are adaptive, and the second could not change which response is preferred.

    Where the first agrees with the scorer, a second that contradicts it would leave the word to the scorer, who says the same.
    """
    if rules.orders != "adaptive" or rules.routing.on_inconsistent != "scorer" or item.preference is None:
        return False
    answered = [(direction.canonical, item.calls[key]) for key, direction in bench.directions.items() if key in item.calls]
    sides = [(1 if canonical else -1) * (call.reading.preferred or 0) for canonical, call in answered]
    return len(sides) == 1 and sides[0] * item.preference.logit > 0


def take_known(items: Iterable[Item], rules: Rules) -> None:
    """Turn each item to the first judge of whom a whole verdict is stored; if there is none, it stays before the judge it prefers."""
    for item in items if len(rules.judges) > 1 else ():
        item.bench = next((bench for bench in item.benches if _is_answered(item, bench, rules)), item.bench)


def _is_answered(item: Item, bench: Bench, rules: Rules) -> bool:
    for key in bench.directions:
        call = item.calls.get(key)
        if call is None or call.reading.status is not ReadingStatus.OK:
            return one_order_is_enough(item, bench, rules)
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
