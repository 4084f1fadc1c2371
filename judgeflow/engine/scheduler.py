"""The scheduler: judgeflow's front door.  It checks its parts, opens a `Session` on the caller's loop and hands steps to it."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

from judgeflow.clock import LoopClock
from judgeflow.config import SCORERLESS, BudgetConfig, RoutingConfig
from judgeflow.config.consistency import check_adaptive, check_deadline, check_ranking, check_scorer, check_steps
from judgeflow.engine.batcher import ScoringThread
from judgeflow.engine.events import Observers
from judgeflow.engine.late import LateOutcomes
from judgeflow.engine.loop_thread import LoopThread, in_running_loop
from judgeflow.engine.panel import Panel
from judgeflow.engine.retry import RetryPolicy
from judgeflow.engine.rules import Orders, Rules
from judgeflow.engine.seat import OpenGate, Seat
from judgeflow.engine.session import Session
from judgeflow.engine.streaming import stream_steps
from judgeflow.errors import ConfigurationError, JudgeflowError, UsageError
from judgeflow.ports import Clock, Gate, Judge, Observer, Scorer, Store
from judgeflow.routing.budget import Budget
from judgeflow.routing.margin import Margin
from judgeflow.routing.pacing import Pacer
from judgeflow.types import Cost, Group, JudgeState, LateOutcome, Outcome, Pair, RunState, StepResult, Stock

if TYPE_CHECKING:
    from judgeflow.config import Config

GREATEST_STEP = 10**12
"""The greatest number that a step may be given."""

StoreSource = Store | Callable[[], Awaitable[Store]]


class Scheduler:
    """Routes pairs: to the scorer where it is certain, to the judge where that is worth it, to the store where it is known.

    >>> async with Scheduler.from_config("judgeflow.toml") as scheduler:
    ...     step = await scheduler.route(pairs, step=17)

    A scheduler belongs to the event loop that it was opened in; `route` may be called concurrently there.  Synchronous callers
    use `route_sync`, which keeps a private loop on a thread.  `store` may be an opened store, which stays the caller's to close, or
    an async function that opens one, which the scheduler then closes.  `timeout_s` is how long one attempt at asking may take: it
    stands for the judge's latency until that is known.  Raises `ConfigurationError` for parts that do not fit.

    Several judges are given as `judges`, in order of preference, each a `Seat` with its own gate or a bare `Judge`; `routing.panel` says
    how they share the work.  `gate` is one judge's; `retry`, `max_in_flight` and `timeout_s` then hold for bare judges.
    """

    def __init__(
        self,
        *,
        store: StoreSource,
        judge: Judge | None = None,
        judges: Sequence[Judge | Seat] = (),
        scorer: Scorer | None = None,
        gate: Gate | None = None,
        routing: RoutingConfig | None = None,
        budget: BudgetConfig | None = None,
        run: str = "default",
        orders: Orders = "both",
        graded: bool = False,
        retry: RetryPolicy | None = None,
        retry_failed: bool = False,
        max_in_flight: int = 64,
        timeout_s: float = 120.0,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.run = run
        self._routing, self._budget = routing or RoutingConfig(), budget or BudgetConfig()
        self._seats = _seats(judge, judges, gate, retry=retry or RetryPolicy(), max_in_flight=max_in_flight, timeout_s=timeout_s)
        _check_parts(self._routing, self._budget, self._seats, scorer, orders)
        self._store_source = store
        self._scorer = scorer
        self._clock = clock or LoopClock()
        self._observers = Observers(observers)
        self._settings = dict(settings or {})
        self._rules = Rules(
            judges=tuple(seat.judge.identity for seat in self._seats),
            weights=tuple(seat.weight for seat in self._seats) if self._routing.panel == "weights" else (),
            routing=self._routing,
            margin=Margin(self._routing.verdict_margin),
            orders=orders,
            graded=graded,
            has_scorer=scorer is not None,
            retry_failed=retry_failed,
        )
        self._session: Session | None = None
        self._late_outcomes = LateOutcomes()
        self._stopped = False  # by stop(), until the scheduler is closed
        self._thread: LoopThread | None = None
        self._starting = threading.Lock()  # of the thread: synchronous callers may be on several
        self._observers.follow(self)

    @classmethod
    def from_config(
        cls, config: str | Path | Config = "judgeflow.toml", *, run_input: bytes = b"", observers: Sequence[Observer] = ()
    ) -> Scheduler:
        """Build a scheduler from a configuration file, or a loaded `Config`.

        `run_input` identifies the data of a run that has no [run] name.  Raises `ConfigurationError`.
        """
        from judgeflow.build import build_scheduler

        return build_scheduler(config, run_input=run_input, observers=observers)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def open(self) -> None:
        """Open the store, continue the run and start asking.  Raises `StoreError`, or `UsageError` if it is open already."""
        if self._session is not None:
            raise UsageError("this scheduler is open already; it belongs to one event loop")
        store = self._store_source if isinstance(self._store_source, Store) else await self._store_source()
        try:
            self._session = await self._new_session(store)
        except BaseException:
            await self._close_store(store)
            raise

    async def _new_session(self, store: Store) -> Session:
        state = await store.open_run(self.run, self._settings, self._rules.judges[0] if self._rules.judges else None)
        for identity in self._rules.judges[1:]:
            await store.open_run(self.run, self._settings, identity)
        await self._match_margin(store, state.last_step)
        self._tell_if_held(state.reserved)
        budget = Budget(self._budget.stock, self._budget.steps)
        for seat in self._seats:
            await self._remember(seat, store)
        panel = self._new_panel(store, budget) if self._seats else None
        if panel is not None:
            panel.start()
        session = Session(
            run=self.run,
            rules=self._rules,
            store=store,
            panel=panel,
            scoring=ScoringThread(self._scorer) if self._scorer else None,
            budget=budget,
            pacer=Pacer(self._routing, self._budget, state.pacing),
            clock=self._clock,
            observers=self._observers,
            last_step=state.last_step,
            late_outcomes=self._late_outcomes,
        )
        if self._stopped:
            session.stop()
        return session

    def _tell_if_held(self, held: Cost) -> None:
        """Say how much of the budget cannot be spent, since others have it, or had it when they died."""
        if held.requests and self._budget.stock != Stock():
            self._observers.notice("budget_put_aside", requests=held.requests, tokens=held.tokens, usd=round(held.usd, 8))

    async def _match_margin(self, store: Store, last_step: int | None) -> None:
        """Learn a matched margin again from what the run left to the scorer in its last step."""
        if self._rules.margin.matched and last_step is not None:
            decided = (await store.decisions(self.run, last_step)).values()
            self._rules.margin.learn(decision.logit for decision in decided if decision.source == "scorer")

    async def _remember(self, seat: Seat, store: Store) -> None:
        """Let the gate of a judge know what earlier processes sent within the last window."""
        if seat.gate.period_s > 0:
            wall = self._clock.wall()
            seat.gate.remember(await store.dispatches(seat.judge.identity, wall - seat.gate.period_s), wall)

    def _new_panel(self, store: Store, budget: Budget) -> Panel:
        return Panel(
            self._seats,
            self._routing.panel,
            store=store,
            budget=budget,
            run=self.run,
            clock=self._clock,
            observers=self._observers,
        )

    async def aclose(self) -> None:
        """Ask nothing more, wait for what is in flight, store it, and close the judge and the store.  Idempotent."""
        session, self._session = self._session, None
        self._stopped = False
        if session is None:
            return
        try:
            await session.aclose()
        finally:
            for seat in self._seats:
                await seat.judge.aclose()
            await self._close_store(session.store)
            self._observers.close()

    async def _close_store(self, store: Store) -> None:
        if store is not self._store_source:
            await store.aclose()

    def stop(self) -> None:
        """Ask nothing more until the scheduler is closed, also if it is not open yet.  May be called from any thread.

        Steps under way return once their requests in flight are answered and stored.
        """
        self._stopped = True
        session = self._session
        if session is None:
            return
        if in_running_loop() and session.loop is asyncio.get_running_loop():
            session.stop()
        elif not session.loop.is_closed():
            session.loop.call_soon_threadsafe(session.stop)

    @property
    def refusal(self) -> JudgeflowError | None:
        """Why the judge, or every judge, cannot be used at the moment; None while one answers.  To be asked on the scheduler's loop."""
        panel = self._session.panel if self._session else None
        return panel.refusal if panel else None

    def refusal_sync(self) -> JudgeflowError | None:
        """`refusal` for synchronous trainers; None where it is not open."""

        async def refusal() -> JudgeflowError | None:
            return self.refusal

        thread = self._thread
        return None if thread is None else thread.run(refusal())

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        panel = self._session.panel if self._session else None
        return panel.in_flight if panel else 0

    @property
    def judge_states(self) -> tuple[JudgeState, ...]:
        """How it stands with each judge now: what is under way, what waits, whether it is down.  Any thread may ask."""
        session = self._session
        return session.panel.states if session is not None and session.panel is not None else ()

    async def state(self) -> RunState:
        """Return what the run has spent and put aside so far, by all its processes."""
        return await self._opened().store.run_state(self.run)

    async def route(
        self, pairs: Sequence[Pair], step: int | None = None, *, on_outcome: Callable[[int, Outcome], None] | None = None
    ) -> StepResult:
        """Return one outcome per pair, in input order, by the step's deadline.

        Without a step number, which is 0 or more, steps count up from the run's last.  `on_outcome` is called with the index of each pair
        and its outcome as soon as that is final; it must be quick, and where it raises it is handed no more of the step.  Never raises for
        one bad pair or a failing judge: such pairs have source "fallback", and so have those that could not be asked about because the
        store cannot be used: nothing is asked that was not recorded.  Raises `StoreClosed` if the store is closed meanwhile, and
        `UsageError` for misuse.
        """
        return await self._opened().run_step(_checked(pairs), _number(step), emit=on_outcome)

    async def route_groups(self, groups: Sequence[Group], step: int | None = None) -> StepResult:
        """Route all pairs of every group; the result's `advantages()` are per response.  Raises like `route`."""
        ids = [group.id for group in groups]
        if len(set(ids)) != len(ids):
            raise UsageError("two groups of one step have the same id; advantages are returned by id")
        pairs = [pair for group in groups for pair in group.pairs()]
        return await self._opened().run_step(pairs, _number(step), tuple(groups))

    async def stream(self, pairs: Iterable[Pair] | AsyncIterable[Pair], *, chunk: int = 256) -> AsyncIterator[Outcome]:
        """Yield outcomes as they become final, in no fixed order; memory holds a few chunks of `chunk` pairs, each a step."""
        async for outcome in stream_steps(self._opened(), pairs, chunk):
            yield outcome

    def notice(self, event: str, **fields: object) -> None:
        """Tell the observers something that the operator should know; for those who route by this scheduler."""
        self._observers.notice(event, **fields)

    def late_outcomes(self) -> list[LateOutcome]:
        """Return the verdicts that have come after their step had returned, oldest first, each once.

        There are some with `after_deadline = "keep"` only.  A pair is among them if its outcome was a fallback for lack of time and the
        judge has spoken since; its verdict is stored, and later steps find it.  The last 10,000 are kept until they are taken, also
        when the scheduler is closed meanwhile.
        """
        return self._late_outcomes.take()

    def route_sync(self, pairs: Sequence[Pair], step: int | None = None) -> StepResult:
        """`route` for synchronous trainers, on a private loop thread that starts with the first call.  End with `close()`."""
        return self._synchronously().run(self.route(pairs, step))

    def route_groups_sync(self, groups: Sequence[Group], step: int | None = None) -> StepResult:
        """`route_groups` for synchronous trainers; see `route_sync`."""
        return self._synchronously().run(self.route_groups(groups, step))

    def close(self) -> None:
        """Close a scheduler that was used with `route_sync`, as `aclose`.  Interrupted, it leaves what is in flight.  Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                thread.run(self.aclose())
            finally:
                thread.stop()

    def abandon(self) -> None:
        """Leave what is in flight, for a scheduler that was used with `route_sync`: a later run asks it again.  Calls that wait raise.

        For programs that end: the store is left open.  Does nothing while `close` is at work, which can be interrupted.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()
            self._session = None

    def _synchronously(self) -> LoopThread:
        if in_running_loop():
            raise UsageError("route_sync was called inside an event loop, which it would block; await route() instead")
        with self._starting:
            if self._thread is None:
                self._thread = self._start_thread()
            return self._thread

    def _start_thread(self) -> LoopThread:
        if self._session is not None:
            raise UsageError("this scheduler is open in an event loop; use route() there, or another scheduler here")
        thread = LoopThread()
        try:
            thread.run(self.open())
        except BaseException:
            thread.stop()
            raise
        return thread

    def _opened(self) -> Session:
        if self._session is None:
            raise UsageError("the scheduler is not open; use it as `async with scheduler:`")
        if self._session.loop is not asyncio.get_running_loop():
            raise UsageError("the scheduler was opened in another event loop; one scheduler belongs to one loop")
        return self._session


def _seats(
    judge: Judge | None, judges: Sequence[Judge | Seat], gate: Gate | None, *, retry: RetryPolicy, max_in_flight: int, timeout_s: float
) -> list[Seat]:
    """Return one seat for each judge.  Raises `ConfigurationError` for judges that do not go together."""
    if judges and (judge is not None or gate is not None):
        given = "gate" if judge is None else "judge"
        raise ConfigurationError(f"{given}= is for one judge alone; with judges= give each one a Seat(judge=..., gate=...) of its own")

    def seat(of: Judge) -> Seat:
        return Seat(judge=of, gate=gate or OpenGate(), retry=retry, max_in_flight=max_in_flight, timeout_s=timeout_s)

    seats = [each if isinstance(each, Seat) else seat(each) for each in (judges if judge is None else [judge])]
    labels = [each.label for each in seats]
    for each in seats:
        if labels.count(each.label) > 1:
            raise ConfigurationError(
                f"two judges are called {each.label!r}; give their seats names to tell them apart: Seat(name=..., ...)"
            )
        if sum(other.gate is each.gate for other in seats) > 1:
            raise ConfigurationError(f"judge {each.label!r}: another one has the same gate; give each Seat(gate=...) a gate of its own")
        if not (math.isfinite(each.weight) and each.weight > 0):
            raise ConfigurationError(f"judge {each.label!r}: a weight is a positive number, not {each.weight}")
    return seats


def _check_parts(routing: RoutingConfig, budget: BudgetConfig, seats: Sequence[Seat], scorer: Scorer | None, orders: Orders) -> None:
    if not seats and routing.policy != "never":
        raise ConfigurationError(f"policy {routing.policy!r} needs a judge; pass judge= or judges=, or use policy 'never'")
    if scorer is None and routing.policy not in SCORERLESS:
        raise ConfigurationError(f"policy {routing.policy!r} ranks pairs by a scorer; pass scorer=, or use {', '.join(SCORERLESS)}")
    try:
        check_adaptive(routing, budget)
        check_steps(budget)
        check_ranking(routing)
        check_deadline(routing)
        check_scorer(routing, orders, has_scorer=scorer is not None)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _number(step: object) -> int | None:
    """Return a step's number.  Raises `UsageError` for what is none: a number too large to count on from would stop the run for good."""
    if step is None:
        return None
    number = step.__index__() if isinstance(step, SupportsIndex) else -1
    if not 0 <= number <= GREATEST_STEP:
        raise UsageError(f"step is {step!r}; expected is a whole number from 0 to {GREATEST_STEP:,}")
    return number


def _checked(pairs: Sequence[Pair]) -> Sequence[Pair]:
    for index, pair in enumerate(pairs):
        if not isinstance(pair, Pair):
            raise UsageError(f"item {index} is {type(pair).__name__}, not Pair")
    return pairs
