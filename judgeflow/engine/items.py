"""The pairs of a step as its items, and what a verdict on each takes of every judge.

Every distinct pair of a step is one `Item`, in canonical order, however often and whichever way round it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from judgeflow.engine.rules import Rules
from judgeflow.keys import Hashes, PairKeys, call_key, pair_keys
from judgeflow.routing.plan import Action, Ask
from judgeflow.routing.policy import own_judge, uniform
from judgeflow.types import Call, Cost, Decision, JudgeIdentity, Pair, Preference, Question

LATE = "deadline"
"""Status of what was not known when its step had to go on."""


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

    @property
    def is_asked(self) -> bool:
        """Whether this step asks about the pair."""
        return isinstance(self.action, Ask)

    @property
    def is_audit(self) -> bool:
        """Whether the pair was drawn in this step, now or before an interruption."""
        if isinstance(self.action, Ask):
            return self.action.audit
        return self.decided is not None and self.decided.asked and self.decided.audit

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
