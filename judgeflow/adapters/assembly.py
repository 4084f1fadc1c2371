"""Puts a batch together that several ranks hold parts of, so that it is judged as one step, in whole groups.

Each rank of a distributed training calls its reward function for its own samples, and the siblings of a sample may be another rank's.  So
each sends its part under the batch's name and waits: until all ranks have come, or until the first of them has lingered long enough.  The
batch is the parts in the order of the ranks, which is how trainers gather what the ranks hold.

A rank has one place in a batch, so who asks again takes his own: while he has lost the connection his part is not there, lest a training
that has died meet its successor, and once the batch is judged he is answered as he was.  A rank that comes after the batch was judged
without it has it judged once more, whole: the store knows what the others' pairs came to.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from judgeflow.adapters.groups import Places, groups_here
from judgeflow.adapters.rendezvous import Closing, Patience, Tell
from judgeflow.client.wire import PartRequest
from judgeflow.errors import UsageError
from judgeflow.types import Group, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A batch, as whole as it will be; `name` tells it from every other.

    `places` are where the responses of each of its groups stand among the rows that are here, and `rows` which of these are whose.
    `missing` are the ranks that did not come, and `size` how many responses a group has when all of it is there.
    """

    name: str
    step: int | None
    size: int
    groups: tuple[Group, ...]
    places: tuple[Places, ...]
    rows: Mapping[int, range]
    missing: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many responses are here."""
        return sum(len(rows) for rows in self.rows.values())

    @property
    def incomplete(self) -> int:
        """How many groups have siblings that are not here."""
        return sum(len(places) < self.size for places in self.places)


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: Prompt
    response: str
    usable: bool


def assembled(parts: Mapping[int, PartRequest], name: str) -> Assembled:
    """Return the batch that the ranks' parts make in the order of the ranks; `parts` holds one at least.

    Raises `UsageError` if they are not parts of one batch: of different lengths, or with a part of a group though no rank is missing.
    """
    first = parts[min(parts)]
    for part in parts.values():
        if (part.count, part.size, part.ranks) != (first.count, first.size, first.ranks):
            raise UsageError(
                f"rank {part.rank} has {part.count} responses in groups of {part.size} of {part.ranks} ranks, and rank {first.rank} has "
                f"{first.count} in groups of {first.size} of {first.ranks}; all parts of a batch are of one size"
            )
    rows = [row for rank in range(first.ranks) for row in (_rows(parts[rank]) if rank in parts else [None] * first.count)]
    here = {place: number for number, place in enumerate(place for place, row in enumerate(rows) if row is not None)}
    found = groups_here([row.prompt if row is not None else None for row in rows], first.size)
    members = [[row for place in places if (row := rows[place]) is not None] for places in found]
    return Assembled(
        name=name,
        step=first.step,
        size=first.size,
        groups=tuple(_group(each, f"{first.job}-{first.batch}.{number}") for number, each in enumerate(members)),
        places=tuple(tuple(here[place] for place in places) for places in found),
        rows={rank: range(k * first.count, (k + 1) * first.count) for k, rank in enumerate(sorted(parts))},
        missing=tuple(rank for rank in range(first.ranks) if rank not in parts),
    )


def _rows(part: PartRequest) -> list[_Row | None]:
    return [
        _Row(stretch.prompt, response, usable=stretch.mask is None or stretch.mask[k])
        for stretch in part.stretches
        for k, response in enumerate(stretch.responses)
    ]


def _group(rows: list[_Row], name: str) -> Group:
    return Group(id=name, prompt=rows[0].prompt, responses=tuple(row.response for row in rows), mask=tuple(row.usable for row in rows))


@dataclass(slots=True, eq=False)
class _Batch:
    """The parts of a batch that have come.  Changed by `Assembly` alone; `whole` is set once, when nobody joins it any more."""

    name: str
    whole: asyncio.Future[Assembled]
    parts: dict[int, PartRequest]
    askers: Counter[int] = field(default_factory=Counter)  # requests that wait, by rank
    timer: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        return not self.whole.done()


class Assembly:
    """Brings the ranks of trainings together.  Belongs to the event loop it is used in.

    Memory holds a batch until its job's next one is whole, or `keep_s` seconds.
    """

    def __init__(self, *, patience: Patience | None = None, tell: Tell) -> None:
        self._patience = patience or Patience()
        self._notice = tell
        self._jobs: dict[str, dict[int, _Batch]] = {}
        self._numbers = itertools.count()
        self._closing = False

    @property
    def waiting(self) -> int:
        """How many ranks wait for others."""
        return sum(batch.askers.total() for batches in self._jobs.values() for batch in batches.values() if batch.is_open)

    async def join(self, part: PartRequest) -> Assembled:
        """Return the batch that `part` belongs to, once the other ranks have come or enough time has passed.

        If this is cancelled before, the part is not in it.  Raises `Closing` while the service ends, and `UsageError` where parts do not
        go together.
        """
        if self._closing:
            raise Closing
        batch = self._batch_of(part)
        batch.parts[part.rank] = part
        batch.askers[part.rank] += 1
        if batch.is_open and len(batch.parts) == part.ranks:
            self._complete(part.job, part.batch, batch)
        try:
            return await asyncio.shield(batch.whole)
        finally:
            batch.askers[part.rank] -= 1
            if batch.is_open and not batch.askers[part.rank]:
                self._leave(part, batch)

    async def aclose(self) -> None:
        """Send everybody away who waits for others.  Idempotent."""
        self._closing = True
        for batch in [batch for batches in self._jobs.values() for batch in batches.values()]:
            _stop(batch)
            if batch.is_open:
                _fail(batch, Closing())

    def _batch_of(self, part: PartRequest) -> _Batch:
        """Return the batch in which a part has its place.

        1. There is none of its number: a new one.
        2. It is being put together: that one, unless somebody waits in this place for something else.
        3. It is judged, with this part: that one.
        4. It is judged without this rank: a new one, in which the others' parts are there already.
        5. It is judged with another part in this place: a new one.
        """
        found = self._jobs.setdefault(part.job, {}).get(part.batch)
        if found is None:
            return self._begin(part, {})
        there = found.parts.get(part.rank)
        if found.is_open:
            if there is not None and there != part and found.askers[part.rank]:
                raise UsageError(
                    f"rank {part.rank} waits in batch {part.batch} with other responses: two trainings, or two reward functions of one, "
                    f"have the name {part.job!r}"
                )
            return found
        if there == part:
            return found
        return self._begin(part, found.parts if there is None else {})

    def _begin(self, part: PartRequest, parts: Mapping[int, PartRequest]) -> _Batch:
        loop = asyncio.get_running_loop()
        batch = _Batch(name=f"part {next(self._numbers)}", whole=loop.create_future(), parts=dict(parts))
        batch.timer = loop.call_later(self._patience.linger_s, self._complete, part.job, part.batch, batch)
        self._jobs[part.job][part.batch] = batch
        return batch

    def _complete(self, job: str, number: int, batch: _Batch) -> None:
        """Nobody joins it any more."""
        _stop(batch)
        try:
            whole = assembled(batch.parts, batch.name)
        except UsageError as error:
            _fail(batch, error)
            self._forget(job, number, batch)
            return
        if whole.missing:
            self._tell(number, whole)
        else:  # every rank has come, and so has its answers to earlier ones
            for earlier in [each for each, of in self._jobs[job].items() if each < number and not of.is_open]:
                _stop(self._jobs[job].pop(earlier))
        batch.whole.set_result(whole)
        batch.timer = asyncio.get_running_loop().call_later(self._patience.keep_s, self._forget, job, number, batch)

    def _tell(self, number: int, whole: Assembled) -> None:
        self._notice(
            "batch_incomplete",
            batch=number,
            missing=", ".join(map(str, whole.missing)),
            ranks=len(whole.missing) + len(whole.rows),
            groups=whole.incomplete,
            linger_s=self._patience.linger_s,
        )

    def _leave(self, part: PartRequest, batch: _Batch) -> None:
        """Take out the part of a rank that nobody waits for any more."""
        del batch.parts[part.rank]
        if not batch.askers.total():
            _stop(batch)
            batch.whole.cancel()
            self._forget(part.job, part.batch, batch)

    def _forget(self, job: str, number: int, batch: _Batch) -> None:
        _stop(batch)
        batches = self._jobs.get(job, {})
        if batches.get(number) is batch:
            del batches[number]
        if not batches:
            self._jobs.pop(job, None)


def _stop(batch: _Batch) -> None:
    if batch.timer is not None:
        batch.timer.cancel()
        batch.timer = None


def _fail(batch: _Batch, error: Exception) -> None:
    batch.whole.set_exception(error)
    batch.whole.exception()  # also where nobody waits any more
