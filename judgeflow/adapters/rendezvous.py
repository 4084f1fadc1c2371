"""Brings the responses to one prompt together that a trainer sends one at a time, and answers each when its group is whole.

A preference needs two responses, but OpenRLHF asks for the reward of one, and ranks hold parts of a group.  So whoever comes waits for its
siblings: until there are as many as a prompt has samples, or until the first of them has lingered long enough.  What is whole within a
moment is routed as one step.

Who asks again gets the place he had: see `gathering`.  A trainer that dies leaves nothing behind: a group is given up, and what is asked
for it with it, when all have left and nobody came back.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from judgeflow.adapters.gathering import Gathering, Gatherings, Key, Member, Place
from judgeflow.adapters.groups import Places, counts_of, rewards_of, shares_of
from judgeflow.errors import JudgeflowError, UsageError
from judgeflow.types import Group, Prompt, StepResult

Tell = Callable[..., None]
"""Is told what the operator should know: an event's name and its fields."""


class Routes(Protocol):
    """Whoever says which of K responses are better: a `Scheduler`."""

    def route_groups(self, groups: Sequence[Group], step: int | None = None) -> Coroutine[Any, Any, StepResult]:
        """Return the outcomes of all pairs, in the order of the groups."""
        ...


class Closing(JudgeflowError):
    """This service is being closed and takes no more responses: ask again, it or its successor will answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds.

    `linger_s`: the first response of a group for its last sibling, well below what a trainer waits for an answer (OpenRLHF: 180 s).
    `gather_s`: a whole group for others that become whole just after it, to be one step with them.  `keep_s`: an answer for whoever asks
    for it again.  `return_s`: a group that everybody has left for one of them to come back; trainers do within a second or two.
    """

    linger_s: float = 60.0
    gather_s: float = 0.05
    keep_s: float = 600.0
    return_s: float = 10.0


class Rendezvous:
    """Answers single responses from a router of groups.  Belongs to the event loop it is used in; memory holds unanswered responses, and
    answered ones for `keep_s`.
    """

    def __init__(self, router: Routes, *, patience: Patience | None = None, scale: float = 1.0, tell: Tell) -> None:
        self._router = router
        self._patience = patience or Patience()
        self._scale = scale
        self._notice = tell
        self._gatherings = Gatherings()
        self._whole: list[Gathering] = []  # whole, or as whole as they will be, and not routed yet
        self._steps: dict[asyncio.Task[None], Sequence[Gathering]] = {}
        self._number = 0
        self._closing = False
        self.left = 0
        """How many responses were being judged when the time was over."""

    @property
    def waiting(self) -> int:
        """How many responses wait for an answer."""
        return sum(each.askers for gathering in self._gatherings for each in gathering.members)

    @property
    def unjudged(self) -> int:
        """How many of these wait for siblings: they are sent away when it closes."""
        return sum(
            each.askers for gathering in self._gatherings if gathering.is_open or gathering in self._whole for each in gathering.members
        )

    async def join(self, prompt: Prompt, response: str, *, wanted: int, group: str | None = None, name: str | None = None) -> Place:
        """Return what `response` is worth among the `wanted` responses to `prompt`.

        Where a trainer names its groups, `group` tells two groups of one prompt apart; where it names its requests, `name` tells one that
        is repeated from a sibling.  If this is cancelled the response stays among its siblings, and whoever joins with the same one takes
        its place.  Raises what the router raises, `Closing` while the service ends, and `UsageError` if `wanted` is less than two.
        """
        if wanted < 2:
            raise UsageError(f"a response is compared with its siblings, so a prompt needs two responses at least, not {wanted}")
        if self._closing:
            raise Closing
        gathering, member = self._place((prompt, group), response, wanted, name)
        self._enter(gathering, member)
        try:
            places = await asyncio.shield(gathering.places)
            member.answered = True
            return places[gathering.members.index(member)]
        finally:
            self._leave(gathering, member)

    async def aclose(self, within_s: float | None = None) -> None:
        """Send everybody away whose group is not being judged yet; give the others `within_s` seconds, and then send them away too.

        None gives them what time they take.  Idempotent.
        """
        self._closing = True
        for gathering in list(self._gatherings):
            if gathering.is_open or gathering in self._whole:
                gathering.shut()
                self._fail(gathering, Closing())
        self._whole.clear()
        if self._steps:
            _done, late = await asyncio.wait(self._steps, timeout=within_s)
            for task in late:
                self._leave_undone(task)
            await asyncio.gather(*late, return_exceptions=True)

    def _leave_undone(self, task: asyncio.Task[None]) -> None:
        for gathering in [each for each in self._steps[task] if each in self._gatherings]:
            self.left += sum(member.askers for member in gathering.members)
            self._fail(gathering, Closing())
        task.cancel()

    def _enter(self, gathering: Gathering, member: Member) -> None:
        member.askers += 1
        if gathering.leaving is not None:
            gathering.leaving.cancel()
            gathering.leaving = None

    def _leave(self, gathering: Gathering, member: Member) -> None:
        member.askers -= 1
        if not gathering.is_answered and not gathering.is_awaited:
            gathering.leaving = asyncio.get_running_loop().call_later(self._patience.return_s, self._give_up, gathering)

    def _give_up(self, gathering: Gathering) -> None:
        """Nobody came back: a trainer that died.  What is asked for it ends, unless others are answered by the same step."""
        if gathering.is_answered or gathering not in self._gatherings:
            return
        gathering.shut()
        step = next((task for task, gathered in self._steps.items() if gathering in gathered), None)
        if step is None:
            self._whole = [each for each in self._whole if each is not gathering]
            self._gatherings.remove(gathering)
        elif not any(each.is_awaited for each in self._steps[step]):
            for each in self._steps[step]:
                self._gatherings.remove(each)
            step.cancel()

    def _place(self, key: Key, response: str, wanted: int, name: str | None) -> tuple[Gathering, Member]:
        """Return the place that a response has.

        1. It was asked about under this name: the same.
        2. An equal response has left its place: that one.
        3. Others still wait for siblings: a new one among them.
        4. A new one in a new group.
        """
        if (kept := self._gatherings.place_of(key, response, wanted, name)) is not None:
            return kept
        gathering = self._gatherings.open_to(key, wanted) or self._begin(key, wanted)
        member = Member(response, name)
        gathering.members.append(member)
        if len(gathering.members) == wanted:
            self._complete(gathering)
        return gathering, member

    def _begin(self, key: Key, wanted: int) -> Gathering:
        loop = asyncio.get_running_loop()
        gathering = Gathering(key=key, wanted=wanted, places=loop.create_future())
        gathering.timer = loop.call_later(self._patience.linger_s, self._complete, gathering)
        self._gatherings.add(gathering)
        return gathering

    def _complete(self, gathering: Gathering) -> None:
        """Nobody joins it any more: it is routed, with others that are complete within a moment."""
        gathering.shut()
        if len(gathering.members) < gathering.wanted:
            if (answered := self._gatherings.answered_before(gathering)) is not None:
                self._answer(gathering, answered)
                return
            self._notice("group_incomplete", responses=len(gathering.members), wanted=gathering.wanted, linger_s=self._patience.linger_s)
        if not self._whole:
            asyncio.get_running_loop().call_later(self._patience.gather_s, self._begin_step)
        self._whole.append(gathering)

    def _begin_step(self) -> None:
        gathered = []
        for gathering in self._whole:
            if gathering.is_awaited:
                gathered.append(gathering)
            else:  # a trainer that died: nothing is asked for it
                self._gatherings.remove(gathering)
        self._whole = []
        if gathered:
            task = asyncio.get_running_loop().create_task(self._step(gathered))
            self._steps[task] = gathered
            task.add_done_callback(self._steps.pop)

    async def _step(self, gathered: Sequence[Gathering]) -> None:
        try:
            answers = await self._judged(gathered)
        except Exception as error:  # whoever waits hears of it, whatever it is
            for gathering in gathered:
                self._fail(gathering, error)
        else:
            for gathering, places in zip(gathered, answers, strict=True):
                self._answer(gathering, places)

    def _answer(self, gathering: Gathering, places: Sequence[Place]) -> None:
        gathering.places.set_result(places)
        asyncio.get_running_loop().call_later(self._patience.keep_s, self._gatherings.remove, gathering)

    def _fail(self, gathering: Gathering, error: Exception) -> None:
        """Let everybody who waits have the error, and let whoever asks again begin anew."""
        gathering.places.set_exception(error)
        gathering.places.exception()  # also where nobody waits any more
        self._gatherings.remove(gathering)

    async def _judged(self, gathered: Sequence[Gathering]) -> list[list[Place]]:
        """Return the places of every gathering: one step of the router, in which each of them is a group."""
        self._number += 1
        groups = tuple(
            Group(id=f"{self._number}.{place}", prompt=each.key[0], responses=tuple(member.response for member in each.members))
            for place, each in enumerate(gathered)
        )
        spans = _spans([len(each.members) for each in gathered])
        result = await self._router.route_groups(groups)
        rewards, shares = rewards_of(result, groups, spans, self._scale), shares_of(result, groups, spans)
        counts = counts_of(result, groups, spans)
        return [
            [Place(reward=rewards[k] or 0.0, share=shares[k], of=len(span), wanted=each.wanted, sources=counts[k]) for k in span]
            for each, span in zip(gathered, spans, strict=True)
        ]


def _spans(sizes: Sequence[int]) -> list[Places]:
    """Return where the members of each group stand, when all of them are put in a row."""
    ends = list(itertools.accumulate(sizes))
    return [tuple(range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
