"""The judges of a scheduler as one: the session asks the panel, which has a dispatcher for each judge.

All judges share the run's budget and the store; limits, experience and the circuit breaker are each judge's own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from judgeflow.engine.accounts import Purse
from judgeflow.engine.backlog import Backlog
from judgeflow.engine.dispatcher import Dispatcher
from judgeflow.engine.events import Observers
from judgeflow.engine.inflight import Arrival
from judgeflow.engine.jobs import Order
from judgeflow.engine.seat import PanelMode, Seat
from judgeflow.errors import JudgeflowError, StoreUnavailable
from judgeflow.ports import Clock, Judge, Store
from judgeflow.routing.budget import Budget
from judgeflow.routing.threshold import INSTANT_S, PROBE_REQUESTS, in_time
from judgeflow.types import Cost, JudgeState, Pressure, RunState, Stock

PROBE = 2.0
"""Questions that a judge is given which may be probed: one pair, in both orders."""


class Panel:
    """One dispatcher for each seat, in the order of preference; a judge's place is its index.

    With one judge it is that judge's dispatcher and no more.  It has no state of its own.
    """

    def __init__(
        self,
        seats: Sequence[Seat],
        mode: PanelMode,
        *,
        store: Store,
        budget: Budget,
        run: str,
        clock: Clock,
        observers: Observers,
    ) -> None:
        self.judges: tuple[Judge, ...] = tuple(seat.judge for seat in seats)
        self._weights = tuple(seat.weight for seat in seats) if mode == "weights" else ()
        self._clock = clock
        self._purse = Purse()
        self._backlog = Backlog(clock, observers)
        several = len(seats) > 1
        self._dispatchers = tuple(
            Dispatcher(
                seat=seat,
                store=store,
                budget=budget,
                purse=self._purse,
                backlog=self._backlog,
                run=run,
                clock=clock,
                observers=observers,
                named=several,
                has_stand_in=mode == "fallback" and place < len(seats),
            )
            for place, seat in enumerate(seats, start=1)
        )

    def start(self) -> None:
        """Begin to let questions out."""
        for dispatcher in self._dispatchers:
            dispatcher.start()

    def submit(self, order: Order) -> asyncio.Future[Arrival]:
        """Queue a question to the judge that it is for; see `Dispatcher.submit`."""
        return self._dispatchers[order.place].submit(order)

    def join(self, call_key: bytes, deadline: float | None) -> None:
        """Somebody else waits for this question too, whoever is asked."""
        for dispatcher in self._dispatchers:
            dispatcher.line.join(call_key, deadline)

    def leave(self, call_key: bytes, reason: JudgeflowError) -> None:
        """Somebody does not wait any more."""
        for dispatcher in self._dispatchers:
            dispatcher.line.leave(call_key, reason)

    def is_queued(self, call_key: bytes) -> bool:
        """Whether this question is still to be sent."""
        return any(dispatcher.line.is_queued(call_key) for dispatcher in self._dispatchers)

    def has_room(self, place: int) -> bool:
        """Whether one more question to that judge would be let out before any other, as far as places in flight decide it."""
        return self._dispatchers[place].has_room

    def tell_when_free(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever a question is done with."""
        for dispatcher in self._dispatchers:
            dispatcher.line.freed.add(tell)

    def tell_no_more(self, tell: Callable[[], None]) -> None:
        """Do not call `tell` any more."""
        for dispatcher in self._dispatchers:
            dispatcher.line.freed.discard(tell)

    def halt(self, reason: JudgeflowError) -> None:
        """Send nothing more, ever; what is under way may come back."""
        for dispatcher in self._dispatchers:
            dispatcher.halt(reason)

    async def drain(self) -> None:
        """Wait until nothing is under way and everything is written.  Call `halt` first."""
        for dispatcher in self._dispatchers:
            await dispatcher.drain()
        await self._backlog.aclose()

    def store_failed(self, error: StoreUnavailable) -> None:
        """The store cannot be used: nothing is asked until it works again."""
        self._backlog.failed(error)

    async def reserved(self) -> None:
        """Wait until what is being reserved at this moment is."""
        for dispatcher in self._dispatchers:
            await dispatcher.reserved()

    async def released(self) -> None:
        """Wait until budget of questions that are not sent after all is given back."""
        for dispatcher in self._dispatchers:
            await dispatcher.books.released()

    @property
    def store_failure(self) -> StoreUnavailable | None:
        """Why the store cannot be used, since that was told; None while it can."""
        return self._backlog.failure

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return sum(dispatcher.in_flight for dispatcher in self._dispatchers)

    @property
    def low_s(self) -> list[float]:
        """For how many seconds in all each judge has been asked less at a time than configured."""
        now = self._clock.now()
        return [dispatcher.concurrency.low_s(now) for dispatcher in self._dispatchers]

    def take_pressure(self, low_before_s: Sequence[float]) -> dict[str, Pressure]:
        """Return which judges had too much to do since this was asked last, by their ids; see `Strain.take`."""
        now, found = self._clock.now(), dict[str, Pressure]()
        for dispatcher, before_s in zip(self._dispatchers, low_before_s, strict=True):
            judge, pressure = dispatcher.seat.judge.identity.id, dispatcher.health.strain.take(now, before_s)
            if not pressure.is_none:
                found[judge] = found[judge].beside(pressure) if judge in found else pressure
        return found

    @property
    def states(self) -> tuple[JudgeState, ...]:
        """How it stands with each judge now; any thread may ask."""
        return tuple(dispatcher.state for dispatcher in self._dispatchers)

    @property
    def open(self) -> int:
        """Reservations of this process that are not closed yet."""
        return self._purse.open

    @property
    def refusal(self) -> JudgeflowError | None:
        """Why no judge is asked at the moment; None as long as one is."""
        refusals = [dispatcher.refusal for dispatcher in self._dispatchers]
        return refusals[0] if all(refusals) else None

    # What a plan needs to know

    def plan(self, place: int, cost: Cost) -> None:
        """Count a question that the judge at `place` will be asked."""
        self._dispatchers[place].books.plan(cost)

    def unplan(self, place: int, cost: Cost) -> None:
        """The question is not asked of that judge after all."""
        self._dispatchers[place].books.unplan(cost)

    def expected(self, place: int, worst: Cost) -> Cost:
        """Return what a worst case will probably come to with that judge."""
        return self._dispatchers[place].experience.expected(worst)

    def has_company(self, state: RunState) -> bool:
        """Whether another process has questions of this run under way, or has left some behind."""
        return state.reserved.requests > self._purse.open + sum(dispatcher.accounts.pending for dispatcher in self._dispatchers)

    def as_expected(self, state: RunState) -> RunState:
        """Return the run's state, with what this process has put aside counted at what it will probably come to."""
        reserved = state.reserved
        for dispatcher in self._dispatchers:
            ours = dispatcher.accounts.reserved
            reserved = reserved - ours + dispatcher.experience.expected(ours)
        return replace(state, reserved=reserved)

    @property
    def up(self) -> list[int]:
        """The places of the judges that are not down."""
        return [
            place
            for place, dispatcher in enumerate(self._dispatchers)
            if dispatcher.health.breaker.state == "closed" and dispatcher.left_alone is None
        ]

    def too_slow_s(self, deadline_s: float) -> float | None:
        """Return how long the quickest judge's slower replies take (seconds), if that is longer than a whole step may; else None."""
        now = self._dispatchers[0].clock.now()
        latency_s = min(each.experience.latency_s(each.seat.timeout_s, deadline_s, now) for each in self._dispatchers)
        return latency_s if latency_s >= deadline_s else None

    def in_time(self, left_s: float, deadline_s: float) -> Stock:
        """Return what can be asked of all judges so that the replies are there in `left_s` seconds.

        A judge that is down counts for nothing, unless all are.  By weights, as much as leaves no judge with more than it can bear.
        """
        bounds = [_in_time(dispatcher, left_s, deadline_s) for dispatcher in self._dispatchers]
        shares = self._weights or (1.0,) * len(bounds)
        counted = [(bounds[place], shares[place]) for place in self.up or range(len(bounds))]
        return Stock(
            requests=self._together([(bound.requests, share) for bound, share in counted]),
            tokens=self._together([(bound.tokens, share) for bound, share in counted]),
        )

    def _together(self, bounds: Sequence[tuple[int | None, float]]) -> int | None:
        limits = [(limit, share) for limit, share in bounds if limit is not None]
        if self._weights:
            total = sum(share for _, share in bounds)
            return min((int(limit * total / share) for limit, share in limits), default=None)
        return sum(limit for limit, _ in limits) if len(limits) == len(bounds) else None

    def in_turn(self, left_s: float, deadline_s: float) -> list[float]:
        """Return how many questions each judge may have so that one more, and then another after its reply, are answered in time."""
        return [_in_turn(dispatcher, left_s, deadline_s) for dispatcher in self._dispatchers]

    def questions(self, place: int) -> int:
        """How many questions that judge has, under way or waiting."""
        return len(self._dispatchers[place].line)

    def rooms(self, left_s: float | None, deadline_s: float | None) -> list[float]:
        """Return how many questions each judge can be asked now: none if it is down, one pair if it may be probed."""
        return [self._room(dispatcher, left_s, deadline_s) for dispatcher in self._dispatchers]

    @staticmethod
    def _room(dispatcher: Dispatcher, left_s: float | None, deadline_s: float | None) -> float:
        if dispatcher.halted or dispatcher.left_alone is not None:
            return 0.0
        if dispatcher.health.breaker.state != "closed":
            return PROBE if dispatcher.health.wait_s == 0 else 0.0
        if left_s is None or deadline_s is None:
            return math.inf
        requests = _in_time(dispatcher, left_s, deadline_s).requests
        return math.inf if requests is None else requests


def _in_time(dispatcher: Dispatcher, left_s: float, deadline_s: float) -> Stock:
    """What can be asked of one judge so that its replies are there in `left_s` seconds of a step's `deadline_s`."""
    experience, now = dispatcher.experience, dispatcher.clock.now()
    latency_s = experience.latency_s(dispatcher.seat.timeout_s, deadline_s, now)
    if latency_s >= left_s and experience.is_old(now):
        return Stock(requests=PROBE_REQUESTS)
    return in_time(
        dispatcher.gate.capacity(now + left_s - latency_s),
        dispatcher.books.planned + experience.expected(dispatcher.books.queued),
        under_way=dispatcher.in_flight,
        max_in_flight=dispatcher.concurrency.limit,
        seconds=left_s,
        latency_s=latency_s,
        token_share=experience.token_share,
        keeps_reserved=dispatcher.gate.keeps_reserved,
    )


def _in_turn(dispatcher: Dispatcher, left_s: float, deadline_s: float) -> float:
    """See `Panel.in_turn`: two latencies after it was sent, both replies are there.  Of a new judge nobody knows that."""
    now, under_way, experience = dispatcher.clock.now(), dispatcher.in_flight, dispatcher.experience
    if experience.mean_latency_s is None:
        return 0.0
    latency_s = experience.latency_s(dispatcher.seat.timeout_s, deadline_s, now)
    if latency_s < INSTANT_S:
        return math.inf
    if 2 * latency_s > left_s:
        return 0.0
    windows = dispatcher.gate.capacity(now + left_s - 2 * latency_s).requests
    places = dispatcher.concurrency.limit * int(left_s / latency_s - 1)
    return places if windows is None else min(places, windows + under_way)
