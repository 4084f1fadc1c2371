"""What a survey keeps of a run: sums of what is past, and some forty bytes for each reply and for each pair that was asked about.

Nothing here reads or awaits.  The order in which rows come in makes no difference to what is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from judgeflow.report.figures import QUANTILES, Spread
from judgeflow.report.pressure import together
from judgeflow.store.columns import Flags, Floats, Keys, Numbers, joined
from judgeflow.store.decided import JUDGED, Cases, Decisions, Span
from judgeflow.store.survey import CHARGED, OPEN, Replies, StepRow
from judgeflow.types import Cost, ReadingStatus

MINUTE_S = 60
PICO = 10**12
"""Parts of a dollar that the store's accounts are exact to."""

SLACK_S = 120.0
"""By so much the clocks of several machines on one database may differ: reservations that are so new are looked at again."""


@dataclass(slots=True)
class Ends:
    """The ends of every step, by its number and in the order in which they came.  Changed by `add` alone."""

    by_step: dict[int, list[StepRow]] = field(default_factory=dict)
    last_id: int = 0

    def add(self, rows: Iterable[StepRow]) -> set[int]:
        """Take in what is new, and return the numbers of the steps concerned."""
        new = [row for row in rows if row.id > self.last_id]
        for row in new:
            self.by_step.setdefault(row.step, []).append(row)
            self.last_id = row.id
        return {row.step for row in new}


@dataclass(frozen=True, slots=True)
class StepDecisions:
    """What is kept of one step's decisions: how many were asked about and drawn, spreads, and those that a judge may speak on."""

    asks: int
    audits: int
    uncertainty: Spread | None
    acquisition: Spread | None
    cases: Cases


class Digest:
    """Makes `StepDecisions` of spans that come in order."""

    def __init__(self) -> None:
        self._open: list[Decisions] = []  # parts of a step that has more; changed by `add` alone

    def add(self, span: Span, page: Decisions) -> dict[int, StepDecisions]:
        """Take in a span, and return the steps that have ended with it."""
        self._open.append(page)
        if span.high is not None:
            return {}
        parts, self._open = self._open, []
        whole = parts[0] if len(parts) == 1 else Decisions.joined(parts)
        return {int(step): _digested(whole, int(step)) for step in np.unique(whole.steps)}


def _digested(page: Decisions, step: int) -> StepDecisions:
    every = slice(*np.searchsorted(page.steps, (step, step + 1)))
    cases = page.cases.part(slice(*np.searchsorted(page.of_steps, (step, step + 1))))
    return StepDecisions(
        asks=int(cases.asked.sum()),
        audits=int((cases.asked & cases.audit).sum()),
        uncertainty=spread(page.uncertainties[every]),
        acquisition=spread(page.acquisitions[every]),
        cases=cases,
    )


def spread(values: Floats) -> Spread | None:
    """Return the distribution of those that are numbers, exactly: each quantile is one of the values; None without any."""
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    found = np.quantile(known, QUANTILES, method="inverted_cdf")
    return Spread(quantiles=tuple(float(value) for value in found), of=len(known))


@dataclass(frozen=True, slots=True)
class Testimony:
    """Replies as columns: whose (a number in `ReplyBook.judges`), of which pair, and what they say.  `understood` may count as verdicts."""

    keys: Keys
    prompts: Keys
    judges: NDArray[np.int16]
    canonical: Flags
    samples: NDArray[np.int16]
    understood: Flags
    preferred: NDArray[np.int8]
    strong: Flags
    latencies: NDArray[np.float32]
    ended: Floats

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(slots=True)
class JudgeSums:
    """What adds up about one judge, in whole numbers, so that the order makes no difference; minutes are counted from 1970."""

    calls: int = 0
    unanswered: int = 0
    requests_paid: int = 0
    tokens_paid: int = 0
    picodollars: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    requests: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    begun: Counter[int] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)

    @property
    def spent(self) -> Cost:
        """What its closed reservations count for."""
        return Cost(requests=self.requests_paid, tokens=self.tokens_paid, usd=self.picodollars / PICO)


class ReplyBook:
    """All reservations of a run and the replies to them.

    `sums` are by the judge's fingerprint, empty bytes where nobody knows it, of what is closed; `waiting` has open reservations by id, with
    their judge and when they were made.  Changed by `add`, `borrow` and `look_from` alone.
    """

    def __init__(self) -> None:
        self.sums: dict[bytes, JudgeSums] = {}
        self.judges: list[bytes] = []
        self.waiting: dict[str, tuple[bytes, float]] = {}
        self.since = 0.0  # what was made before is not looked at again, unless it is waiting
        self._newest = 0.0
        self._recent: dict[str, float] = {}  # closed, and made since then
        self._parts: list[Testimony] = []
        self._borrowed: list[Testimony] = []

    def add(self, page: Replies) -> bool:
        """Take in a page; return whether it brought anything new, or something that waits."""
        before = len(self.waiting)
        is_open = np.array([state == OPEN for state in page.states], dtype=np.bool_)
        known = np.array([each in self._recent for each in page.ids], dtype=np.bool_)
        closed = ~is_open & ~known
        names = self._numbers(page.judges)
        for place in np.flatnonzero(is_open & ~known).tolist():
            self.waiting[page.ids[place]] = (page.judges[place], float(page.created[place]))
        for place in np.flatnonzero(closed & (page.created >= self.since)).tolist():
            self._recent[page.ids[place]] = float(page.created[place])
        for key in self.waiting.keys() & {page.ids[place] for place in np.flatnonzero(closed).tolist()}:
            del self.waiting[key]
        if closed.any():
            self._add_closed(page, names, closed)
        self._newest = max(self._newest, float(page.created.max(initial=0.0)))
        return bool(closed.any()) or len(self.waiting) != before

    def look_from(self, newest: float | None = None) -> None:
        """Move on: the next look begins a little before the newest reservation, of those that are here or `newest`."""
        self.since = max(self.since, (self._newest if newest is None else newest) - SLACK_S)
        self._recent = {key: created for key, created in self._recent.items() if created >= self.since}

    def _add_closed(self, page: Replies, names: NDArray[np.int16], closed: Flags) -> None:
        for number in np.unique(names[closed]):
            _add_up(self.sums[self.judges[number]], page, closed & (names == number))
        replied = closed & page.replied
        if replied.any():
            self._parts.append(_testimony(page, names, replied))

    def _numbers(self, fingerprints: Sequence[bytes]) -> NDArray[np.int16]:
        """Return the places of judges in `judges`, where new ones are added."""
        for judge in dict.fromkeys(fingerprints):
            if judge not in self.sums:
                self.sums[judge] = JudgeSums()
                self.judges.append(judge)
        places = {judge: place for place, judge in enumerate(self.judges)}
        return np.array([places[judge] for judge in fingerprints], dtype=np.int16)

    def borrow(self, page: Replies) -> None:
        """Take in replies that others have paid for: they are verdicts, but nothing that these judges did in this run."""
        if len(page.ids):
            self._borrowed.append(_testimony(page, self._numbers(page.judges), page.replied))

    def testimony(self, *, borrowed: bool) -> Testimony:
        """Return all replies, also borrowed ones if wished."""
        self._parts = [_joined(self._parts)]
        return _joined(self._parts + self._borrowed) if borrowed else self._parts[0]


def _add_up(sums: JudgeSums, page: Replies, chosen: Flags) -> None:
    place = np.flatnonzero(chosen)
    replied = place[page.replied[place]]
    sums.calls += len(replied)
    sums.unanswered += sum(page.states[each] == CHARGED for each in place.tolist())
    sums.requests_paid += int(page.requests[place].sum())
    sums.tokens_paid += int(page.tokens[place].sum())
    sums.picodollars += sum(round(usd * PICO) for usd in page.usd[place].tolist())
    sums.statuses.update(page.statuses[each] for each in replied.tolist())
    sent = place[page.sends[place] > 0]
    at = np.where(np.isnan(page.sent[sent]), page.created[sent], page.sent[sent])
    _count(sums.requests, at, page.sends[sent])
    _count(sums.tokens, at, page.tokens[sent])
    _count(sums.begun, page.created[place], np.ones(len(place), dtype=np.int64))
    _count(sums.ended, page.ended[place], np.ones(len(place), dtype=np.int64))


def _count(minutes: Counter[int], at: Floats, amounts: Numbers) -> None:
    """Add amounts to the minutes in which they fell."""
    places, where = np.unique((at // MINUTE_S).astype(np.int64), return_inverse=True)
    sums = np.bincount(where, weights=amounts, minlength=len(places))
    minutes.update({int(minute): int(amount) for minute, amount in zip(places, sums, strict=True)})


def _testimony(page: Replies, names: NDArray[np.int16], chosen: Flags) -> Testimony:
    understood = np.array([status == ReadingStatus.OK for status in page.statuses], dtype=np.bool_)
    return Testimony(
        keys=page.keys[chosen],
        prompts=page.prompts[chosen],
        judges=names[chosen],
        canonical=page.canonical[chosen],
        samples=page.samples[chosen].astype(np.int16),
        understood=understood[chosen],
        preferred=page.preferred[chosen].astype(np.int8),
        strong=page.strong[chosen],
        latencies=page.latencies[chosen].astype(np.float32),
        ended=page.ended[chosen],
    )


_NOTHING = Testimony(
    keys=np.empty(0, dtype=np.uint64),
    prompts=np.empty(0, dtype=np.uint64),
    judges=np.empty(0, dtype=np.int16),
    canonical=np.empty(0, dtype=np.bool_),
    samples=np.empty(0, dtype=np.int16),
    understood=np.empty(0, dtype=np.bool_),
    preferred=np.empty(0, dtype=np.int8),
    strong=np.empty(0, dtype=np.bool_),
    latencies=np.empty(0, dtype=np.float32),
    ended=np.empty(0, dtype=np.float64),
)


def _joined(parts: Sequence[Testimony]) -> Testimony:
    if len(parts) == 1:
        return parts[0]
    return joined(Testimony, [_NOTHING, *parts])


def merged(rows: Sequence[StepRow]) -> StepRow:
    """Return all ends of one step as one: spending adds up, what became of its pairs is as it ended last.

    What an earlier end has paid for is stored when the step is routed again: it stays the judge's (see `_sources`).
    """
    last, paid = rows[-1], [row for row in rows if row.calls]
    totals: dict[str, Any] = {
        name: sum(getattr(row, name) for row in rows)
        for name in ("calls", "spent_requests", "spent_tokens", "spent_usd", "prompt_tokens", "completion_tokens", "seconds")
    }
    waited = max(paid, key=lambda row: row.calls).latency_s if paid else {}
    longest = {"max": max(row.latency_s["max"] for row in paid if "max" in row.latency_s)} if waited else {}
    noted = [row.pressure for row in rows if row.pressure is not None]
    agreement = next((row.agreement for row in reversed(rows) if row.agreement is not None), None)
    pressure = together(noted) if noted else None
    return last._replace(**totals, sources=_sources(rows), latency_s={**waited, **longest}, agreement=agreement, pressure=pressure)


def _sources(rows: Sequence[StepRow]) -> dict[str, int]:
    """Return who decided the pairs as the step ended last; of its verdicts, those that any end had from the judge are the judge's."""
    last = rows[-1].sources
    verdicts = sum(last.get(source, 0) for source in JUDGED)
    judged = min(verdicts, sum(row.sources.get("judge", 0) for row in rows))
    counts = {**last, "judge": judged, "store": verdicts - judged}
    return {source: number for source, number in counts.items() if number}
