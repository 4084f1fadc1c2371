"""What the pages show, read through a window on the database and kept as long as nothing has changed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from judgeflow.plurals import plural
from judgeflow.report.compose import whose
from judgeflow.report.figures import PairFigures, RunFigures
from judgeflow.report.news import news_of
from judgeflow.report.pairs import pair_figures
from judgeflow.report.survey import Survey
from judgeflow.store import identities, paging, runs, searching
from judgeflow.store.paging import Order
from judgeflow.store.runs import Pace, RunRow, Standing, pace_of
from judgeflow.store.searching import Found, Hit
from judgeflow.store.window import Window
from judgeflow.web.kept import Kept
from judgeflow.web.live import News, version_of
from judgeflow.web.shown import JudgePage, PairRow, judge_row, pair_row

PAIRS_A_PAGE = 50
HITS_A_PAGE = 20
RUNS_KEPT = 8
"""So many runs have their figures in memory."""

FIGURES_S = 0.2
"""What reading figures may take before a page is shown with what there is."""

SLICE_S = 2.0
"""So long a reading goes on before it looks whether it is still wanted."""

STRETCH = 2000
"""Pairs that one statement of a search looks at: some tens of milliseconds."""

SEARCH_S = 2.0
"""What a search may take before it shows what it has, and offers to go on."""


class Unknown(Exception):
    """There is nothing of this name; the message says what was looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHead:
    """One run as the list of runs and the top of its page show it: `pace` says whether it is at work, `news` in one sentence."""

    run: RunRow
    state: Standing
    pace: Pace
    news: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPage:
    """Some pairs of a step; `of` is how many it has."""

    run: RunHead
    step: int
    order: Order
    page: int
    of: int
    pairs: tuple[PairRow, ...]

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return max(1, -(-self.of // PAIRS_A_PAGE))


class Desk:
    """Answers questions about one database.  Raises `Unknown`, and `StoreError` as `Window`; used on one loop."""

    def __init__(self, window: Window, *, wall: Callable[[], float] = time.time) -> None:
        self.where = window.where
        self._window = window
        self._wall = wall
        # What was read of the runs that were looked at last; written by `_survey` alone.
        self._surveys: OrderedDict[int, Survey] = OrderedDict()
        # Readings under way by run, and how often one took longer than a visitor waits: the page is to read itself again then.
        self._readings: dict[int, asyncio.Task[RunFigures]] = {}
        self._late: Counter[int] = Counter()
        self._closed = False
        self._figures: Kept[RunFigures] = Kept(RUNS_KEPT)

    async def runs(self) -> tuple[RunHead, ...]:
        """Return every run, the one last at work first."""
        async with self._window.connect() as connection:
            return tuple(map(self._head, await runs.runs(connection)))

    async def run(self, number: int) -> RunHead:
        """Return one run."""
        async with self._window.connect() as connection:
            state = await runs.run(connection, number)
        if state is None:
            raise Unknown(f"There is no run {number} in {self.where}.")
        return self._head(state)

    async def figures(self, state: Standing, version: str) -> RunFigures:
        """Return the figures of a run, read anew when `version` is another one.

        A long run takes a while the first time: then `complete` is false, and the next call goes on with what is missing.
        """
        found = await self._figures.get(state.run.id, version, lambda: self._read(state))
        if not found.complete:
            self._figures.forget(state.run.id)
        return found

    async def _read(self, state: Standing) -> RunFigures:
        """Read what is new; what takes longer than a visitor waits goes on without them.

        A reading that began before may miss what has ended since, so another one follows it.
        """
        survey, number = self._survey(state), state.run.id
        before = self._readings.get(number)
        if before is not None:
            await asyncio.wait([before], timeout=FIGURES_S)
        reading = self._readings.get(number)  # that one still, or one that somebody else has begun since
        if reading is None:
            reading = self._readings[number] = asyncio.create_task(self._read_all(number, survey))
            reading.add_done_callback(_noticed)
        done, _ = await asyncio.wait([reading], timeout=FIGURES_S)
        return reading.result() if done else await survey.refresh(deep=False)

    async def _read_all(self, number: int, survey: Survey) -> RunFigures:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            found = await survey.refresh(within_s=SLICE_S)
            while not found.complete and not self._closed:
                found = await survey.refresh(within_s=SLICE_S)
            return found
        finally:
            if loop.time() - started > FIGURES_S:
                self._late[number] += 1
            del self._readings[number]

    async def aclose(self) -> None:
        """Stop reading."""
        self._closed = True
        await asyncio.gather(*self._readings.values(), return_exceptions=True)

    async def recent_figures(self, heads: Iterable[RunHead]) -> list[RunFigures]:
        """Return the figures of the runs that were last at work, as far as they are complete."""
        recent = [head.state for head in heads][:RUNS_KEPT]
        found = [await self.figures(state, (await self.news(state.run.id)).version) for state in recent]
        return [figures for figures in found if figures.complete]

    def _survey(self, state: Standing) -> Survey:
        survey, number = self._surveys.get(state.run.id), state.run.id
        if survey is None or survey.name != state.run.name:
            survey = self._surveys[number] = Survey(self._window, state, wall=self._wall, monotonic=time.monotonic)
        self._surveys.move_to_end(number)
        while len(self._surveys) > RUNS_KEPT:
            self._surveys.popitem(last=False)
        return survey

    async def judges(self) -> JudgePage:
        """Return every judge, and what it did in the runs that were last at work."""
        async with self._window.connect() as connection:
            known = (await identities.judges(connection)).values()
        heads = await self.runs()
        numbers = {head.run.name: head.run.id for head in heads}
        recent = await self.recent_figures(heads)
        told = [(figures.name, judge) for figures in recent for judge in figures.judges]
        rows = tuple(judge_row(identity, [(numbers[run], run, judge) for run, judge in told]) for identity in known)
        return JudgePage(judges=rows, complete=len(recent) == min(len(heads), RUNS_KEPT), latest=min(len(heads), RUNS_KEPT), of=len(heads))

    async def step(self, number: int, step: int, order: Order, page: int) -> StepPage:
        """Return a page of a step's pairs; pages count from 1."""
        head = await self.run(number)
        called = await self._judges_of(head)
        async with self._window.connect() as connection:
            size = await paging.step_size(connection, number, step)
            skip = (page - 1) * PAIRS_A_PAGE
            found = await paging.step_page(connection, number, step, order=order, skip=skip, limit=PAIRS_A_PAGE, judges=called)
        if not size:
            raise Unknown(f"Run {head.run.name!r} has decided nothing in step {step}.")
        if not found:
            raise Unknown(f"Step {step} has {plural(size, 'pair')}, so there is no page {page}.")
        return StepPage(run=head, step=step, order=order, page=page, of=size, pairs=tuple(pair_row(each, called) for each in found))

    async def _judges_of(self, head: RunHead) -> dict[bytes, str]:
        """Return what the judges of a run are called, by fingerprint; until its replies are read, all judges of the database."""
        figures = await self.figures(head.state, (await self.news(head.run.id)).version)
        async with self._window.connect() as connection:
            there = await identities.judges(connection)
        own = whose(figures.judges, there) if figures.complete else frozenset()
        return {key: name for key, name in identities.names(there).items() if key in own or not own}

    async def pair(self, key: str, number: int | None = None, step: int | None = None) -> PairFigures:
        """Return a pair with its replies, and what a step of a run decided about it; with a run, those of its judges."""
        judges = None if number is None else await self._judges_of(await self.run(number))
        found = await pair_figures(self._window, key, run_id=number, step=step, judges=judges)
        if found is None:
            raise Unknown(f"There is no pair {key} in {self.where}; texts are kept of pairs that were asked about.")
        return found

    async def search(self, words: str, after: bytes) -> Found:
        """Look for a text from behind a pair's key; what takes too long ends with what was found so far."""
        give_up = time.monotonic() + SEARCH_S
        hits: list[Hit] = []
        while True:
            async with self._window.connect() as connection:
                found = await searching.search(connection, words, after=after, limit=HITS_A_PAGE - len(hits), stretch=STRETCH)
            hits += found.hits
            if found.upto is None or len(hits) >= HITS_A_PAGE or time.monotonic() > give_up:
                return Found(hits=tuple(hits), upto=found.upto, share=found.share)
            after = found.upto

    async def news(self, number: int | None = None) -> News:
        """Return what is new about a run, or about all."""
        async with self._window.connect() as connection:
            pulse = await runs.pulse(connection, number)
        try:
            heads = await self.runs() if number is None else (await self.run(number),)
        except Unknown as error:  # somebody has put another database there
            return News(version=version_of(str(error)), summary=str(error))
        paces = [(head.run.id, head.pace) for head in heads]
        return News(version=version_of(pulse, paces, self._late[number or 0]), summary=_summary(heads, number))

    def _head(self, state: Standing) -> RunHead:
        pace = pace_of(state, self._wall())
        return RunHead(run=state.run, state=state, pace=pace, news=news_of(state, pace))


def _noticed(reading: asyncio.Task[RunFigures]) -> None:
    """Take notice of how a reading ended: what failed is read again when somebody asks, and told to them."""
    if not reading.cancelled():
        reading.exception()


def _summary(heads: tuple[RunHead, ...], number: int | None) -> str:
    """What to say to who watches a run, or the list of all."""
    if number is not None:
        return heads[0].news
    if not heads:
        return "There is no run yet."
    return f"{plural(len(heads), 'run')}; last at work was {heads[0].run.name}. {heads[0].news}"
