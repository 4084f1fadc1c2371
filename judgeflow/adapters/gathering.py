"""The responses to one prompt that have come, and whose place a response has that comes again.

Who asks again gets the place he had.  A trainer that names its requests is known by the name.  One that does not has left when it gives up
on a request, and the next equal response takes that place, also when the group has been answered meanwhile.  As long as somebody waits at
a place, an equal response is a sibling that happens to say the same.  An answer may be lost on its way too: where nobody else joins a
response that has been answered a while ago, it is answered as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from judgeflow.types import Prompt

Key = tuple[Prompt, str | None]
"""A prompt, and the name of its group if it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What one response gets: its advantage over the `of` - 1 siblings that came, when `wanted` - 1 were expected.

    `share` is how probable it is to be preferred to one of them, on average: between 0 and 1.  `sources` counts who decided about its
    pairs.  A response that nobody joined has the reward 0, the share 0.5 and no sources.
    """

    reward: float
    share: float
    of: int
    wanted: int
    sources: Mapping[str, int]

    @property
    def whole(self) -> bool:
        """Whether all its siblings came."""
        return self.of == self.wanted


@dataclass(slots=True, eq=False)
class Member:
    """A response; `name` is that of the request it came with, and `askers` counts those who wait for its answer."""

    response: str
    name: str | None
    askers: int = 0
    answered: bool = False

    @property
    def is_left(self) -> bool:
        """Whether whoever asked has gone without an answer."""
        return not self.askers and not self.answered


@dataclass(slots=True, eq=False)
class Gathering:
    """The siblings of one prompt that have come.  Changed by `Rendezvous` alone; `places` is set once, in the order of `members`."""

    key: Key
    wanted: int
    places: asyncio.Future[Sequence[Place]]
    members: list[Member] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None  # until nobody joins it any more
    leaving: asyncio.TimerHandle | None = None  # from when all have left until one comes back

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for its answers."""
        return any(member.askers for member in self.members)

    @property
    def is_open(self) -> bool:
        """Whether siblings may still join."""
        return self.timer is not None

    @property
    def is_answered(self) -> bool:
        """Whether its places are known, or have failed."""
        return self.places.done()

    def shut(self) -> None:
        """Let nobody join any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def asked_as(self, name: str, response: str) -> Member | None:
        """Return the response that was asked about under this name."""
        return next((each for each in self.members if each.name == name and each.response == response), None)

    def left_by(self, response: str) -> Member | None:
        """Return an equal response that has left its place."""
        return next((each for each in self.members if each.is_left and each.response == response), None)

    def answer_to(self, response: str) -> Place | None:
        """Return what an equal response was answered, if it was."""
        if not self.is_answered:
            return None
        return next((place for each, place in zip(self.members, self.places.result(), strict=True) if each.response == response), None)


class Gatherings:
    """Those that are not forgotten yet, of each prompt the oldest first.  Changed by `add` and `remove`."""

    def __init__(self) -> None:
        self._by_key: dict[Key, list[Gathering]] = {}

    def __iter__(self) -> Iterator[Gathering]:
        return (gathering for found in self._by_key.values() for gathering in found)

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    def __contains__(self, gathering: Gathering) -> bool:
        return gathering in self._by_key.get(gathering.key, ())

    def add(self, gathering: Gathering) -> None:
        """Keep one."""
        self._by_key.setdefault(gathering.key, []).append(gathering)

    def remove(self, gathering: Gathering) -> None:
        """Forget one."""
        found = self._by_key[gathering.key]
        found.remove(gathering)
        if not found:
            del self._by_key[gathering.key]

    def place_of(self, key: Key, response: str, wanted: int, name: str | None) -> tuple[Gathering, Member] | None:
        """Return the place that a response has already: it was asked about under this name, or else an equal one has left its place."""
        found = self._of(key, wanted)
        if name is not None:
            for gathering in found:
                if (same := gathering.asked_as(name, response)) is not None:
                    return gathering, same
        for gathering in found:
            if (left := gathering.left_by(response)) is not None:
                left.name = name
                return gathering, left
        return None

    def open_to(self, key: Key, wanted: int) -> Gathering | None:
        """Return the one in which siblings still wait for others."""
        return next((each for each in self._of(key, wanted) if each.is_open), None)

    def answered_before(self, gathering: Gathering) -> list[Place] | None:
        """Return the answers that all its responses had as members of earlier ones; None if one is new, or is named, and so new."""
        if any(member.name is not None for member in gathering.members):
            return None
        earlier = self._by_key[gathering.key]
        found = [next(filter(None, (each.answer_to(member.response) for each in earlier)), None) for member in gathering.members]
        known = [place for place in found if place is not None]
        return known if len(known) == len(found) else None

    def _of(self, key: Key, wanted: int) -> list[Gathering]:
        return [each for each in self._by_key.get(key, ()) if each.wanted == wanted]
