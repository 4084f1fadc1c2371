"""What the engine needs from the world, as Protocols.  Each docstring is the contract; `judgeflow.testing` proves it.

Threads: every async method runs on the loop that opened the scheduler.  `Scorer.score` alone runs on a thread of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

from judgeflow.types import (
    Call,
    CallEvent,
    Cost,
    Decision,
    Dispatch,
    JudgeIdentity,
    JudgeState,
    Pair,
    Preference,
    Question,
    RateHeaders,
    Reading,
    Reply,
    Reservation,
    RunState,
    StepStatistics,
    Stock,
    Usage,
)


@runtime_checkable
class Scorer(Protocol):
    """A preference model with uncertainty.

    `score` is synchronous and batched, is called from one thread at a time, and returns one `Preference` per pair in input order.
    The engine hands it up to 256 pairs a call, in canonical order, and negates the logit for the other, so antisymmetry is exact.
    Raises `ScorerError` (or anything else): the batch is then tried again in halves, and what still fails has no preference.
    """

    @property
    def fingerprint(self) -> str:
        """Name of the exact weights and settings: the same fingerprint gives the same preferences."""
        ...

    def score(self, pairs: Sequence[Pair]) -> Sequence[Preference]:
        """Return one preference per pair, in order."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Someone who answers one directed question at a time.

    `ask` is one attempt: it returns a `Reply`, or raises a `JudgeError`, and never returns None.  Retries, limits and budgets are
    the engine's.  It may be called concurrently.  `read` is pure and versioned: the same reply always reads the same.
    """

    @property
    def identity(self) -> JudgeIdentity:
        """What verdicts are keyed by."""
        ...

    def cost(self, question: Question) -> Cost:
        """Return the worst case of asking once: one request, prompt tokens plus the longest allowed reply, USD.

        Pure, thread-safe and possibly slow (it counts tokens): called off the loop.  Raises `QuestionRejected` for a question that
        this judge would not take, for instance a too long one: it is then not asked.
        """
        ...

    async def ask(self, question: Question) -> Reply:
        """Ask once.  Raises `JudgeError`; `error.maybe_paid` tells whether it may have cost something."""
        ...

    def read(self, reply: Reply) -> Reading:
        """Return what the reply says about the order it was shown."""
        ...

    async def aclose(self) -> None:
        """Release connections.  Idempotent."""
        ...


class Departure(Protocol):
    """How a judge tells when a question is on its way: limits hold at the judge, and connecting to it may take a while.

    A judge may leave it alone: a question then counts as sent when `Judge.ask` is called.
    """

    def hold(self) -> None:
        """The question is not sent yet."""
        ...

    def sent(self) -> None:
        """All of it has been handed to the network now."""
        ...


DEPARTURE: ContextVar[Departure | None] = ContextVar("judgeflow_departure", default=None)
"""The departure of the question that this task asks; set by the dispatcher around `Judge.ask`."""

OPEN_FOR_S = 1800.0
"""A reservation that has been open for longer was left behind by a process that is gone: nobody waits for the gate, or rests, so long."""


@runtime_checkable
class Store(Protocol):
    """The verdict database: replies, budgets and decisions.

    Whatever a method has returned from is durable.  First write wins: settling a call that is already stored charges for it but
    keeps the stored reply.  Reads see every earlier completed write.  All methods raise `StoreUnavailable` when the database
    cannot be used now; the engine then tries a write of something paid again.  A write that can never be stored raises `StoreError`
    and harms no other.  Methods may be called concurrently; every reservation is checked and taken in one transaction, so spent plus
    reserved never passes the stock, whoever else writes to the same database.
    """

    async def open_run(self, name: str, config: Mapping[str, object], judge: JudgeIdentity | None) -> RunState:
        """Create the run, or continue it, and register the judge; return what it has spent so far.

        Reservations that an earlier process left open stay charged at their worst case.
        """
        ...

    async def read(self, call_keys: Sequence[bytes]) -> Mapping[bytes, Call]:
        """Return the stored calls among `call_keys` (at most a few thousand at a time are sensible)."""
        ...

    async def decisions(self, run: str, step: int) -> Mapping[bytes, Decision]:
        """Return what was decided in this step of this run, by pair key; empty if it was never planned."""
        ...

    async def record_plan(self, run: str, step: int, decisions: Sequence[Decision], pacing: Mapping[str, Any] | None = None) -> None:
        """Store planned decisions before anything is asked.  The first plan of a pair in a step stays.

        `pacing` (what JSON can hold) is what the run's pacer has learnt with this plan: kept in the same transaction instead of what
        was there, so that a step which is found decided has been learnt from; None leaves what is there.  A store may write thousands
        of decisions in several transactions, `pacing` with the last: what a crash has cut off is then planned again.
        """
        ...

    async def record_step(self, statistics: StepStatistics, decisions: Sequence[Decision]) -> None:
        """Store how a step ended: its statistics, and source and status of its decisions.

        A decision planned without a threshold gets that of the step: pairs may be asked about before it is known.
        """
        ...

    async def reserve(self, run: str, reservation: Reservation, stock: Stock) -> bool | Call:
        """Put budget aside if spent + reserved + this stays within `stock`; return whether it was.

        If the call is stored already, by whichever run or process, nothing is put aside and the stored call is returned.  Looking
        and taking are one transaction.  Two processes may still ask the same question at the same time: what is under way
        elsewhere is not known here, and the second reply is then charged and not kept.
        """
        ...

    async def settle(self, run: str, reservation: Reservation, question: Question, call: Call) -> None:
        """Store a paid reply and charge its actual cost instead of the reservation, in one transaction."""
        ...

    async def charge(self, run: str, reservation: Reservation) -> None:
        """Charge a reservation at its worst case: the reply is lost, the money may be gone."""
        ...

    async def release(self, run: str, reservation: Reservation) -> None:
        """Give a reservation back: nothing was served."""
        ...

    async def run_state(self, run: str) -> RunState:
        """Return what the run has spent and put aside, all processes together, and its last pacing."""
        ...

    async def dispatches(self, judge: JudgeIdentity, since: float) -> Sequence[Dispatch]:
        """Return what all runs and processes have sent, since `since` (Unix time in seconds), to judges with this judge's id.

        Nobody knows what became of a reservation that is open: it may be sent at this very moment, unless it was made more than
        `OPEN_FOR_S` before `since`.
        """
        ...

    async def aclose(self) -> None:
        """Finish every accepted write, then release the database.  Idempotent."""
        ...


@runtime_checkable
class Permit(Protocol):
    """Leave to send one request.  Whoever has it says what becomes of it: `sent`, then one of `settle`, `lost` and `cancel`.

    It counts as sent later than now until `sent` is called.
    """

    def sent(self) -> None:
        """The request is sent now.  Where it is sent again, or sending took longer, the last time counts."""
        ...

    def hold(self) -> None:
        """It is not sent yet after all: it counts until one window after the next `sent`."""
        ...

    def settle(self, usage: Usage) -> None:
        """The judge took these tokens for it; `Usage()` for a request that was turned away."""
        ...

    def lost(self) -> None:
        """What the judge took for it will never be known."""
        ...

    def cancel(self) -> None:
        """It was never sent and does not count."""
        ...


@runtime_checkable
class Gate(Protocol):
    """The judge's rate limits: passing it is permission to send one request now.

    `admit` is awaited by one coroutine at a time (the dispatcher), in FIFO order.
    """

    @property
    def period_s(self) -> float:
        """How long a request counts after it was sent, in seconds; 0 where nothing is limited."""
        ...

    @property
    def keeps_reserved(self) -> bool:
        """Whether a reply that is shorter than the longest possible one gives no tokens back to the window."""
        ...

    async def admit(self, tokens: int) -> Permit:
        """Wait until one more request of at most `tokens` fits into every window, and count it.

        Raises `ValueError` for a request that can never fit.
        """
        ...

    def remember(self, dispatches: Sequence[Dispatch], wall: float) -> None:
        """Count what an earlier process sent; `wall` is Unix time now, in seconds.

        A gate that has admitted something already remembers what was sent in this process, and ignores the call.
        """
        ...

    def pause(self, seconds: float) -> None:
        """Admit nothing for `seconds` from now (a judge's retry-after).  The longest pause counts."""
        ...

    def heed(self, rates: RateHeaders, permit: Permit | None = None) -> Mapping[str, float]:
        """Take in what the judge says about its limits, for a while and only to be stricter.  Called where it says something.

        `permit` is that of the request it answers.  Returns what is stricter now: `requests_per_minute` and `tokens_per_minute`
        where they are lower than configured, `requests_left_by_others` and `tokens_left_by_others` where others use the account
        too, `held_s` where nothing is admitted for so many seconds.
        """
        ...

    def capacity(self, until: float) -> Stock:
        """Return how many requests and tokens can pass between now and `until` (clock seconds); None where there is no limit.

        Pauses and a paced start count; what waits to be admitted does not.  `usd` is None.
        """
        ...


@runtime_checkable
class Clock(Protocol):
    """Time as the engine sees it."""

    def now(self) -> float:
        """Monotonic seconds; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Unix time in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        ...


@runtime_checkable
class Observer(Protocol):
    """Is told what happens; must be quick and is never waited for.  An observer that raises is ignored from then on."""

    def call(self, event: CallEvent) -> None:
        """One attempt at asking the judge has ended."""
        ...

    def step(self, statistics: StepStatistics) -> None:
        """One step is complete."""
        ...

    def notice(self, event: str, **fields: object) -> None:
        """Something the operator should know: the budget is spent, the judge is unreachable, tokens are estimated."""
        ...

    def close(self) -> None:
        """The scheduler is closed: nothing more will be told."""
        ...


@runtime_checkable
class BeginningObserver(Observer, Protocol):
    """An observer that wants to know of a step's beginning too.  A step that is cancelled has a beginning and no end."""

    def begin(self, run: str, step: int) -> None:
        """A step begins; called in the context of whoever has called `route`."""
        ...


class Followed(Protocol):
    """What a scheduler shows of itself at any time, to any thread."""

    @property
    def judge_states(self) -> Sequence[JudgeState]:
        """How it stands with each judge now; empty while the scheduler is closed."""
        ...


@runtime_checkable
class FollowingObserver(Observer, Protocol):
    """An observer that looks for itself how things are, at moments of its own."""

    def follow(self, scheduler: Followed) -> None:
        """This scheduler may be looked at; called when it is made."""
        ...
