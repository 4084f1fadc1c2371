"""The scheduler: judgeflow's front door.  It checks its parts, opens a `Session` on the caller's loop and hands steps to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from judgeflow.clock import LoopClock
from judgeflow.config import SCORERLESS, BudgetConfig, RoutingConfig, check_adaptive, check_ranking
from judgeflow.engine.batcher import ScoringThread
from judgeflow.engine.dispatcher import Dispatcher
from judgeflow.engine.events import Observers
from judgeflow.engine.loop_thread import LoopThread, in_running_loop
from judgeflow.engine.retry import RetryPolicy
from judgeflow.engine.session import Session
from judgeflow.engine.step import Orders, Rules
from judgeflow.engine.streaming import stream_steps
from judgeflow.errors import ConfigurationError, JudgeflowError, UsageError
from judgeflow.ports import Clock, Gate, Judge, Observer, Scorer, Settle, Store
from judgeflow.routing.budget import Budget
from judgeflow.routing.pacing import Pacer
from judgeflow.types import Group, Outcome, Pair, RateHeaders, StepResult, Stock

if TYPE_CHECKING:
    from judgeflow.config import Config

StoreSource = Store | Callable[[], Awaitable[Store]]


class Scheduler:
    """Routes pairs: to the scorer where it is certain, to the judge where that is worth it, to the store where it is known.

    >>> async with Scheduler.from_config("judgeflow.toml") as scheduler:
    ...     step = await scheduler.route(pairs, step=17)

    A scheduler belongs to the event loop that it was opened in; `route` may be called concurrently there.  Synchronous callers
    use `route_sync`, which keeps a private loop on a thread.  `store` may be an opened store, which stays the caller's to close, or
    an async function that opens one, which the scheduler then closes.  `timeout_s` is how long one attempt at asking may take: it
    stands for the judge's latency until that is known.  Raises `ConfigurationError` for parts that do not fit.
    """

    def __init__(
        self,
        *,
        store: StoreSource,
        judge: Judge | None = None,
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
        _check_parts(self._routing, self._budget, judge, scorer)
        self._store_source = store
        self._judge = judge
        self._scorer = scorer
        self._gate = gate or _OpenGate()
        self._retry = retry or RetryPolicy()
        self._max_in_flight = max_in_flight
        self._timeout_s = timeout_s
        self._clock = clock or LoopClock()
        self._observers = Observers(observers)
        self._settings = dict(settings or {})
        self._rules = Rules(
            judge=judge.identity if judge else None,
            routing=self._routing,
            orders=orders,
            graded=graded,
            has_scorer=scorer is not None,
            retry_failed=retry_failed,
        )
        self._session: Session | None = None
        self._stopped = False  # by stop(), until the scheduler is closed
        self._thread: LoopThread | None = None

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
        state = await store.open_run(self.run, self._settings, self._rules.judge)
        budget = Budget(self._budget.stock, self._budget.steps)
        dispatcher = self._new_dispatcher(self._judge, store, budget) if self._judge else None
        if dispatcher is not None:
            dispatcher.start()
        session = Session(
            run=self.run,
            rules=self._rules,
            store=store,
            judge=self._judge,
            dispatcher=dispatcher,
            gate=self._gate,
            scoring=ScoringThread(self._scorer) if self._scorer else None,
            budget=budget,
            pacer=Pacer(self._routing, self._budget, state.pacing),
            clock=self._clock,
            observers=self._observers,
            last_step=state.last_step,
            timeout_s=self._timeout_s,
        )
        if self._stopped:
            session.stop()
        return session

    def _new_dispatcher(self, judge: Judge, store: Store, budget: Budget) -> Dispatcher:
        return Dispatcher(
            judge=judge,
            store=store,
            gate=self._gate,
            budget=budget,
            run=self.run,
            clock=self._clock,
            retry=self._retry,
            observers=self._observers,
            max_in_flight=self._max_in_flight,
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
            if self._judge is not None:
                await self._judge.aclose()
            await self._close_store(session.store)
            self._observers.close()

    async def _close_store(self, store: Store) -> None:
        if store is not self._store_source:
            await store.aclose()

    def stop(self) -> None:
        """Ask nothing more until the scheduler is closed, also if it is not open yet.

        Steps under way return once their requests in flight are answered and stored.
        """
        self._stopped = True
        if self._session is not None:
            self._session.stop()

    @property
    def refusal(self) -> JudgeflowError | None:
        """Why the judge cannot be used at the moment; None while it answers."""
        dispatcher = self._session.dispatcher if self._session else None
        return dispatcher.refusal if dispatcher else None

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        dispatcher = self._session.dispatcher if self._session else None
        return dispatcher.in_flight if dispatcher else 0

    async def route(self, pairs: Sequence[Pair], step: int | None = None) -> StepResult:
        """Return one outcome per pair, in input order, by the step's deadline.

        Without a step number, steps count up from the run's last.  Never raises for one bad pair or a failing judge: such pairs
        have source "fallback".  Raises `StoreUnavailable` before anything is asked, and `UsageError` for misuse.
        """
        return await self._opened().run_step(_checked(pairs), step)

    async def route_groups(self, groups: Sequence[Group], step: int | None = None) -> StepResult:
        """Route all pairs of every group; the result's `advantages()` are per response.  Raises like `route`."""
        ids = [group.id for group in groups]
        if len(set(ids)) != len(ids):
            raise UsageError("two groups of one step have the same id; advantages are returned by id")
        pairs = [pair for group in groups for pair in group.pairs()]
        return await self._opened().run_step(pairs, step, tuple(groups))

    async def stream(self, pairs: Iterable[Pair] | AsyncIterable[Pair], *, chunk: int = 256) -> AsyncIterator[Outcome]:
        """Yield outcomes as they become final, in no fixed order; memory holds a few chunks of `chunk` pairs, each a step."""
        async for outcome in stream_steps(self._opened(), pairs, chunk):
            yield outcome

    def route_sync(self, pairs: Sequence[Pair], step: int | None = None) -> StepResult:
        """`route` for synchronous trainers, on a private loop thread that starts with the first call.  End with `close()`."""
        return self._synchronously().run(self.route(pairs, step))

    def route_groups_sync(self, groups: Sequence[Group], step: int | None = None) -> StepResult:
        """`route_groups` for synchronous trainers; see `route_sync`."""
        return self._synchronously().run(self.route_groups(groups, step))

    def close(self) -> None:
        """Close a scheduler that was used with `route_sync`.  Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.run(self.aclose())
            thread.stop()

    def _synchronously(self) -> LoopThread:
        if in_running_loop():
            raise UsageError("route_sync was called inside an event loop, which it would block; await route() instead")
        if self._thread is None:
            if self._session is not None:
                raise UsageError("this scheduler is open in an event loop; use route() there, or another scheduler here")
            thread = LoopThread()
            try:
                thread.run(self.open())
            except BaseException:
                thread.stop()
                raise
            self._thread = thread
        return self._thread

    def _opened(self) -> Session:
        if self._session is None:
            raise UsageError("the scheduler is not open; use it as `async with scheduler:`")
        if self._session.loop is not asyncio.get_running_loop():
            raise UsageError("the scheduler was opened in another event loop; one scheduler belongs to one loop")
        return self._session


class _OpenGate:
    """The gate of a judge without rate limits."""

    async def admit(self, tokens: int) -> Settle:
        del tokens
        return lambda _: None

    def pause(self, seconds: float) -> None:
        """Without a limit there is nothing to hold back."""

    def heed(self, rates: RateHeaders) -> Mapping[str, float]:
        del rates
        return {}

    def capacity(self, until: float) -> Stock:
        del until
        return Stock()


def _check_parts(routing: RoutingConfig, budget: BudgetConfig, judge: Judge | None, scorer: Scorer | None) -> None:
    if judge is None and routing.policy != "never":
        raise ConfigurationError(f"policy {routing.policy!r} needs a judge; pass judge=, or use policy 'never'")
    if scorer is None and routing.policy not in SCORERLESS:
        raise ConfigurationError(f"policy {routing.policy!r} ranks pairs by a scorer; pass scorer=, or use {', '.join(SCORERLESS)}")
    try:
        check_adaptive(routing, budget)
        check_ranking(routing)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _checked(pairs: Sequence[Pair]) -> Sequence[Pair]:
    for index, pair in enumerate(pairs):
        if not isinstance(pair, Pair):
            raise UsageError(f"item {index} is {type(pair).__name__}, not Pair")
    return pairs
