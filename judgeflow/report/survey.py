"""Reads a run's figures from its database, and afterwards only what is new.

    async with open_survey(url, run) as survey:
        figures = await survey.refresh(deep=False)     # steps, spending, judges by name: at once
        figures = await survey.refresh()               # everything
        figures = await survey.refresh(within_s=1.0)   # everything that can be read in a second; then figures.complete may be False

A run may write meanwhile.  Steps are read first, then their decisions, then replies: so whatever a decision rests on is there.  What is
told of decisions and replies is always that of the last complete reading.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from judgeflow.errors import UsageError
from judgeflow.report.compose import Deep, all_judges, compose, evaluate, whose
from judgeflow.report.figures import RunFigures
from judgeflow.report.pairs import with_pairs
from judgeflow.report.reading import Digest, Ends, ReplyBook, StepDecisions
from judgeflow.store import browse, identities, runs
from judgeflow.store import survey as store
from judgeflow.store.decided import Span, decisions, spans
from judgeflow.store.runs import Standing
from judgeflow.types import JudgeIdentity

IDS_AT_A_TIME = 256
MOST_BORROWED = 4096
"""Verdicts that another run has paid for are looked up pair by pair; more of them at a time would take seconds."""

LATEST = "latest"
TRIAL = "doctor"
"""The run in which `judgeflow doctor --ask` asks: the latest only where there is no other."""


@asynccontextmanager
async def open_survey(
    url: str,
    run: str = LATEST,
    *,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    page: int = store.PAGE,
) -> AsyncIterator[Survey]:
    """Open a run of a database for reading; "latest" is the one in which something happened last.

    `wall` returns Unix time in seconds, `page` is how many rows are read at a time.  Raises `StoreUnavailable` and `SchemaMismatch` as
    `store.survey.readable`, `UsageError` naming the runs that there are for one that is not there, or where there is none.
    """
    async with store.readable(url) as database:
        async with database.connect() as connection:
            found = await runs.run_named(connection, run)
            there = () if found else await runs.runs(connection)
        if found is None and run == LATEST and there:
            found = next((each for each in there if each.run.name != TRIAL), there[0])
        if found is None:
            raise UsageError(_unknown(database.where, run, [each.run.name for each in reversed(there)]))
        yield Survey(database, found, wall=wall, monotonic=monotonic, page=page)


def _unknown(where: str, run: str, there: Sequence[str]) -> str:
    if not there:
        return f"{where} holds no run yet; route some pairs: judgeflow route PAIRS.jsonl --config judgeflow.toml --out OUTCOMES.jsonl"
    return f"{where}: no run {run!r}; there are {', '.join(there)}"


class Survey:
    """One run, and what has been read of it.  Made by `open_survey`; several refreshes may be under way at once on one loop.

    State changes in synchronous methods of what it holds, and what one page brings is taken in before the next is asked for.
    """

    def __init__(
        self,
        database: store.Readable,
        standing: Standing,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        page: int = store.PAGE,
    ) -> None:
        self.database = database
        self.name = standing.run.name
        self._standing = standing
        self._wall = wall
        self._now = monotonic
        self._page = page
        self._ends = Ends()
        self._stale: set[int] = set()  # steps that have ended, whose decisions are to be read
        self._spans: deque[Span] = deque()  # what of them is to be read next
        self._digest = Digest()
        self._decisions: dict[int, StepDecisions] = {}
        self._replies = ReplyBook()
        self._after: str | None = ""  # the last reservation of the first reading; None once that is over
        self._identities: Mapping[bytes, JudgeIdentity] = {}
        self._tried: set[int] = set()  # pairs whose replies were looked for elsewhere
        self._deep: Deep | None = None
        self._version = 0  # counts what was read of decisions and replies
        self._evaluated = -1  # the version that `_deep` tells of
        self._upto = -1  # the last end of a step that it tells of
        self._reading = asyncio.Lock()  # one deep reading at a time

    async def refresh(self, *, deep: bool = True, within_s: float | None = None) -> RunFigures:
        """Read what is new, and return the figures; without `deep` only steps, spending and the names of judges.

        With `within_s` no page is begun after so many seconds; the next refresh goes on from there.  Raises `StoreUnavailable`.
        """
        give_up = None if within_s is None else self._now() + within_s
        await self._read_steps()
        if deep:
            async with self._reading:
                await self._read_deep(give_up)
        complete = self._upto >= self._ends.last_id
        ends, now = self._ends.by_step, self._wall()
        return compose(self._standing, ends, self._decisions, self._identities, self._deep, complete=complete, now=now)

    async def _read_steps(self) -> None:
        async with self.database.connect() as connection:
            self._standing = await runs.run_named(connection, self.name) or self._standing
            ended = await store.steps(connection, self._standing.run.id, self._ends.last_id)
            if not self._identities or ended:
                self._identities = await identities.judges(connection)
        self._stale |= self._ends.add(ended)

    async def _read_deep(self, give_up: float | None) -> None:
        """Read decisions and replies up to now, or until it is time to give up."""
        upto = self._ends.last_id
        async for _ in self._pages():
            if give_up is not None and self._now() >= give_up:
                return
        if self._evaluated != self._version:
            version = self._version
            await self._evaluate()
            self._evaluated = version
        self._upto = upto

    async def _pages(self) -> AsyncIterator[None]:
        """Read page by page; comes by after each."""
        async for _ in self._decision_pages():
            yield
        async for _ in self._reply_pages():
            yield

    async def _decision_pages(self) -> AsyncIterator[None]:
        while self._stale or self._spans:
            if not self._spans:
                self._spans += spans({step: self._ends.by_step[step][-1].pairs for step in self._stale}, self._page)
                self._stale.clear()
            async with self.database.connect() as connection:
                page = await decisions(connection, self._standing.run.id, self._spans[0])
            self._decisions |= self._digest.add(self._spans.popleft(), page)
            self._version += 1
            yield

    async def _reply_pages(self) -> AsyncIterator[None]:
        book, run_id = self._replies, self._standing.run.id
        if self._after == "" and not book.since:
            async with self.database.connect() as connection:
                book.look_from(await store.newest_reservation(connection) or 0.0)
        while self._after is not None:
            async with self.database.connect() as connection:
                page = await store.all_replies(connection, run_id, self._after, self._page)
            self._version += book.add(page)
            self._after = page.ids[-1] if len(page.ids) == self._page else None
            yield
        async with self.database.connect() as connection:
            old = [key for key, (_, created) in book.waiting.items() if created < book.since]
            for start in range(0, len(old), IDS_AT_A_TIME):
                self._version += book.add(await store.these_replies(connection, run_id, old[start : start + IDS_AT_A_TIME]))
            self._version += book.add(await store.new_replies(connection, run_id, book.since))
        book.look_from()

    async def _evaluate(self) -> None:
        """Make figures of what was read, on a thread; look up verdicts that the run rests on and others have paid for."""
        found = await asyncio.to_thread(evaluate, self._decisions, self._replies, self._identities)
        missing = [key for key in found.comparison.missing.tolist() if key not in self._tried][:MOST_BORROWED]
        if missing:
            async with self.database.connect() as connection:
                self._replies.borrow(await browse.replies_about(connection, missing, list(self._identities)))
            self._tried.update(missing)
            found = await asyncio.to_thread(evaluate, self._decisions, self._replies, self._identities)
        judges = whose(all_judges(self._standing.run, self._identities, found), self._identities)
        self._deep = await with_pairs(self.database, self._standing.run.id, found, self._deep, judges)
