"""The invariants as state machines: whatever callers, judges, stores and processes do, in any order, on the real scheduler.

The judge keeps the books: who asked what and when, what it served, and what each process has received.  Each send is compared with
them on the spot, everything else after every rule.  A process that crashes reaches neither store nor judge any more and is never closed.
Rate limits are a process's own, two that run at the same time have two of them; but a process remembers those that were before it.
"""

import asyncio
import itertools
import math
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import judgeflow.clock as clock_module
from judgeflow import Scheduler, StoreUnavailable
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.ending import GRACE_S
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import PermanentJudgeError, RateLimited
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore, SqlStore
from judgeflow.store.check import check
from judgeflow.store.ledger import ReservationState
from judgeflow.testing import FakeScorer, ScriptedJudge, arithmetic_pairs
from judgeflow.testing.faults import parse_faults
from judgeflow.types import Cost, RunState, StepResult

PAIRS = arithmetic_pairs(12)
MOST_ENDINGS = 3
RUN = "default"
MODES = [
    "",
    "429:0.3",
    "429-bare:0.3",
    "500:0.3,503:0.2",
    "hang:0.3",
    "reset:0.2,504:0.2",
    "no-tag:0.2,length:0.1",
    "slow:0.5",
    "quota:1",
    "500:1",
    "429:0.05,429-bare:0.05,500:0.05,503:0.05,504:0.05,hang:0.05,reset:0.05,garbage:0.05,refusal:0.05,400:0.05",
]
SOURCES = {"scorer", "judge", "store", "fallback"}
SPOKEN = {"ok", "one_order"}
SILENT = {"deadline", "budget", "interrupted", "store_error", "rate_limited", "overloaded", "reply_lost", "unparseable"}
SILENT |= {"truncated", "refused", "rejected", "judge_stopped", "judge_error", "unreachable"}


@dataclass
class Sent:
    """One request, as the judge saw it come; `tokens` is what is known of it: the worst case, then what it took."""

    at: float
    tokens: int


@dataclass(eq=False)
class Process:
    """One scheduler, and what the judge and the store know of it."""

    scheduler: Scheduler | None = None
    inner: object = None
    dead: bool = False
    sent: list[Sent] = field(default_factory=list)
    remembered: list[Sent] = field(default_factory=list)  # what processes have sent that were over before this one began
    granted: dict[bytes, int] = field(default_factory=dict)
    reservations: set[str] = field(default_factory=set)
    asking: set[bytes] = field(default_factory=set)
    received: set[bytes] = field(default_factory=set)
    saved: set[bytes] = field(default_factory=set)


class World:
    """A clock, a store, a judge and its books, for as many processes as come and go."""

    def __init__(self, *, stock, rpm, tpm, in_flight, deadline_s, policy, seed):
        self.clock = VirtualClock()
        self.limits = LimitsConfig(requests_per_minute=rpm, tokens_per_minute=tpm)
        self.stock, self.deadline_s, self.policy, self.in_flight = stock, deadline_s, policy, in_flight
        self.judge = ScriptedJudge(clock=self.clock, latency="uniform:1:20", timeout_s=40.0, seed=seed)
        self.served = Cost()
        self.settled: dict[bytes, int] = {}
        self.ticks = itertools.count()
        self.store_down = self.store_slow = False
        self.complaints: list[str] = []  # an error raised in a judge would be the engine's to handle
        self.trouble = 0  # how often the store was down so far
        self.lost: list[asyncio.Future] = []

    async def never(self):
        """Where the dead wait: the loop alone would let them be collected."""
        self.lost.append(asyncio.get_running_loop().create_future())
        await self.lost[-1]

    # The store, in memory

    def make_store(self):
        self.memory = MemoryStore()

    async def open_store(self):
        return self.memory.reopen()

    def state(self) -> RunState:
        ledger = self.memory._contents.ledgers.get(RUN)
        return RunState(name=RUN, spent=ledger.spent, reserved=ledger.reserved) if ledger else RunState(name=RUN)

    def stored(self) -> set[bytes]:
        return set(self.memory._contents.calls)

    def open_reservations(self) -> dict[str, bytes]:
        """Ids, and what they are for."""
        entries = self.memory._contents.ledgers[RUN].entries.items()
        return {number: entry.call_key for number, entry in entries if entry.state is ReservationState.OPEN}

    @contextmanager
    def store_at_work(self):
        yield

    async def check_store(self):
        """Nothing more to look at."""

    # A process

    def scheduler(self, process: Process) -> Scheduler:
        return Scheduler(
            store=Handle(self, process),
            judge=Line(self, process),
            scorer=FakeScorer(PAIRS),
            gate=WindowGate(self.limits, self.clock),
            routing=RoutingConfig(policy=self.policy, threshold=0.0, step_deadline_s=self.deadline_s),
            budget=self.stock,
            retry=RetryPolicy(attempts=3, for_s=150.0),
            run=RUN,
            max_in_flight=self.in_flight,
            clock=self.clock,
        )


class SqlWorld(World):
    """The same with a database in a file."""

    def make_store(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "verdicts.db"

    async def open_store(self):
        return await SqlStore.open(str(self.path), wall=self.clock.wall)

    def _rows(self, statement):
        with closing(sqlite3.connect(self.path)) as database:
            return database.execute(statement).fetchall() if self.path.exists() else []

    def state(self) -> RunState:
        units = ("requests", "tokens", "usd")
        names = ", ".join(f"{kind}_{unit}" for kind in ("spent", "reserved") for unit in units)
        rows = self._rows(f"select {names} from run") if self._rows("select 1 from sqlite_master where name = 'run'") else []
        if not rows:
            return RunState(name=RUN)
        spent, reserved = (Cost(**dict(zip(units, part, strict=True))) for part in (rows[0][:3], rows[0][3:]))
        return RunState(name=RUN, spent=spent, reserved=reserved)

    def stored(self) -> set[bytes]:
        return {key for (key,) in self._rows("select key from call")}

    def open_reservations(self) -> dict[str, bytes]:
        return dict(self._rows("select id, call_key from reservation where state = 'open'"))

    @contextmanager
    def store_at_work(self):
        """The driver has threads of its own: time stands still while they work."""
        loop = asyncio.get_running_loop()
        loop._busy_threads += 1
        try:
            yield
        finally:
            loop._busy_threads -= 1

    async def check_store(self):
        with self.store_at_work():
            findings = await check(f"sqlite+aiosqlite:///{self.path}")
        assert [finding for finding in findings if not finding.ok] == []


class Handle:
    """A store as one process reaches it: slow, or locked, when the world says so, and out of reach once the process is dead."""

    def __init__(self, world, process):
        self.world, self.process = world, process

    async def _call(self, name, *arguments):
        world, process, key = self.world, self.process, _key_of(name, arguments)
        tick = next(world.ticks)
        await self._reach(slow=world.store_slow)
        with world.store_at_work():
            if process.inner is None:
                process.inner = await world.open_store()
            result = await getattr(process.inner, name)(*arguments)
        if name == "reserve" and result is True:
            process.granted[key] = tick
            process.reservations.add(arguments[1].id)
        if name == "settle":
            world.settled.setdefault(key, next(world.ticks))
        await self._reach(slow=False, down=world.store_down and name in {"settle", "charge", "release"})
        if name == "settle":
            process.saved.add(key)
        return result

    async def _reach(self, *, slow, down=None):
        if slow:
            await asyncio.sleep(1.0)
        if self.process.dead:
            await self.world.never()
        if self.world.store_down if down is None else down:
            raise StoreUnavailable("locked")

    async def aclose(self):
        """The world closes it."""


def _key_of(name, arguments):
    return arguments[1].call_key if name in {"reserve", "settle"} else b""


def _forwarded(name):
    async def method(self, *arguments):
        return await self._call(name, *arguments)

    return method


_READING = ("read", "decisions", "run_state", "dispatches")
for _name in (*_READING, "open_run", "record_plan", "record_step", "reserve", "settle", "charge", "release"):
    setattr(Handle, _name, _forwarded(_name))


class Line:
    """The judge as one process reaches it.  Keeps the books, and complains about a request that should not have come."""

    def __init__(self, world, process):
        self.world, self.process = world, process
        self.identity, self.cost, self.read = world.judge.identity, world.judge.cost, world.judge.read

    async def ask(self, question):
        world, process, key = self.world, self.process, question.call_key
        if process.dead:
            await self.world.never()
        sent = Sent(world.clock.now(), world.judge.cost(question).tokens)
        process.sent.append(sent)
        self._check_request(key, sent.at)
        process.asking.add(key)
        try:
            reply = await world.judge.ask(question)
            sent.tokens = reply.usage.total
            world.served += Cost(requests=1, tokens=reply.usage.total, usd=reply.usd)
        except (RateLimited, PermanentJudgeError):  # turned away: not served, not charged
            sent.tokens = 0
            raise
        finally:
            process.asking.discard(key)
            if process.dead:
                await self.world.never()
        process.received.add(key)
        return reply

    def _check_request(self, key, now):
        world, process, limits = self.world, self.process, self.world.limits
        settled = world.settled.get(key)
        window = [sent for sent in (*process.remembered, *process.sent) if now - 60.0 < sent.at]
        wrong = {
            "asked while it was asked": key in process.asking,
            "asked again by the process that has the reply": key in process.received,
            "asked without a reservation": key not in world.open_reservations().values(),
            "asked although the reply was stored when it was reserved": settled is not None and process.granted[key] > settled,
            "too many requests in a minute": len(window) > (limits.requests_per_minute or math.inf),
            "too many tokens in a minute": sum(sent.tokens for sent in window) > (limits.tokens_per_minute or math.inf),
        }
        world.complaints += [complaint for complaint, is_so in wrong.items() if is_so]

    async def aclose(self):
        """The line may be used again."""


def check_outcomes(world, pairs, result, *, closed=False):
    """Every pair an outcome, in order, finite, rightly labelled, in time; the same for equal pairs and the opposite for swapped ones."""
    assert [outcome.pair for outcome in result.outcomes] == pairs
    by_pair = {}
    for outcome in result.outcomes:
        assert math.isfinite(outcome.logit)
        assert outcome.source in SOURCES
        assert (outcome.verdict is not None) == (outcome.source in {"judge", "store"})
        labels = SPOKEN if outcome.source != "fallback" else SILENT | {"scorer_failed"} if closed else SILENT
        assert outcome.status in labels
        assert by_pair.setdefault(outcome.pair, outcome).logit == outcome.logit
    for pair, outcome in by_pair.items():
        assert pair.swapped() not in by_pair or by_pair[pair.swapped()].logit == -outcome.logit
    assert world.deadline_s is None or result.statistics.seconds <= world.deadline_s + 2 * GRACE_S + 1e-6


stocks = st.one_of(
    st.builds(BudgetConfig, requests=st.integers(2, 40)),
    st.builds(BudgetConfig, tokens=st.integers(1_500, 40_000)),
    st.just(BudgetConfig()),
)


def step_of(start, size, odd):
    pairs = PAIRS[start : start + size]
    swapped = [pair.swapped() for pair in pairs]
    return {"": pairs, "swapped": swapped, "twice": pairs * 2, "both": [*pairs, *swapped]}[odd]


a_step = st.builds(step_of, st.integers(0, 8), st.integers(1, 6), st.sampled_from(["", "", "swapped", "twice", "both"]))


class Machine(RuleBasedStateMachine):
    """Processes route overlapping steps while everything that can happen happens."""

    world_type = World

    @initialize(
        stock=stocks,
        rpm=st.sampled_from([None, 3, 15]),
        tpm=st.sampled_from([None, 6_000]),
        in_flight=st.sampled_from([1, 3, 8]),
        deadline_s=st.sampled_from([None, 10.0, 90.0]),
        policy=st.sampled_from(["always", "error"]),
        seed=st.integers(0, 99),
        company=st.booleans(),
    )
    def begin(self, company, **chosen):
        self.world = self.world_type(**chosen)
        self.world.make_store()
        self.executor = ThreadPoolExecutor(max_workers=1)  # one: what runs on threads comes back in the order in which it was given
        self.runner = asyncio.Runner(loop_factory=lambda: clock_module._VirtualLoop(self.world.clock))
        self.runner.get_loop().set_default_executor(self.executor)
        self.processes: list[Process] = []
        self.crashed: list[Process] = []
        self.closed: list[Process] = []
        self.steps: list[tuple[Process, list, asyncio.Task]] = []
        self.tasks: list[asyncio.Task] = []
        self.endings = 0
        for _ in range(1 + company):
            self.open_another()

    def run(self, work):
        """Run `work`; what takes two days hangs."""
        return self.runner.run(asyncio.wait_for(work, 200_000.0))

    def one(self, which):
        return self.processes[which % len(self.processes)]

    @precondition(lambda self: len(self.processes) < 2)
    @rule()
    def open_another(self):
        process = Process(remembered=[sent for ended in (*self.crashed, *self.closed) for sent in ended.sent])
        process.scheduler = self.world.scheduler(process)
        self.run(process.scheduler.open())
        self.processes.append(process)

    @precondition(lambda self: self.processes)
    @rule(which=st.integers(0, 1), step=a_step)
    def route(self, which, step):
        process = self.one(which)
        self.tasks.append(self.runner.get_loop().create_task(process.scheduler.route(step)))
        self.steps.append((process, step, self.tasks[-1]))

    @precondition(lambda self: self.processes)
    @rule(steps=st.lists(st.tuples(st.integers(0, 1), a_step), min_size=2, max_size=4), turns=st.integers(0, 20))
    def route_several(self, steps, turns):
        for which, step in steps:
            self.route(which, step)
            self.let_the_loop_turn(turns)

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 61.0, 300.0]))
    def let_time_pass(self, seconds):
        self.run(self.world.clock.sleep(seconds))

    @rule(count=st.integers(1, 30))
    def let_the_loop_turn(self, count):
        async def turn():
            for _ in range(count):
                await asyncio.sleep(0)

        self.run(turn())

    @precondition(lambda self: self.tasks)  # not `steps`: which of them are over is a matter of threads
    @rule(which=st.integers(0, 5))
    def cancel(self, which):
        self.tasks[max(-len(self.tasks), -1 - which)].cancel()

    @precondition(lambda self: self.processes and self.endings < MOST_ENDINGS)
    @rule(which=st.integers(0, 1), how=st.sampled_from(["stop", "close", "crash"]))
    def end(self, which, how):
        process = self.one(which)
        self.endings += 1
        if how == "stop":
            process.scheduler.stop()
        elif how == "crash":
            process.dead = True
            self.processes.remove(process)
            self.crashed.append(process)
            self.steps = [step for step in self.steps if step[0] is not process]
        else:
            self.run(process.scheduler.aclose())
            self.processes.remove(process)
            self.closed.append(process)

    @rule(mode=st.sampled_from(MODES), seed=st.integers(0, 9))
    def change_the_judges_mood(self, mode, seed):
        self.world.judge._desk._faults = parse_faults(mode, seed=seed)

    @rule(slow=st.booleans())
    def slow_the_store(self, slow):
        self.world.store_slow = slow

    @rule(seconds=st.sampled_from([1.0, 15.0, 60.0]))
    def lock_the_store_for_a_while(self, seconds):
        self.world.store_down = True
        self.world.trouble += 1
        self.let_time_pass(seconds)
        self.nothing_is_overspent_and_everything_served_is_counted()
        self.world.store_down = False

    @invariant()
    def nothing_is_overspent_and_everything_served_is_counted(self):
        if not hasattr(self, "world"):
            return
        assert self.world.complaints == [], self.world.complaints
        state, served = self.world.state(), self.world.served
        taken = state.spent + state.reserved
        assert self.world.stock.stock.admits(taken)
        assert served.requests <= taken.requests
        assert served.tokens <= taken.tokens

    @invariant()
    def finished_steps_are_whole(self):
        for step in [step for step in getattr(self, "steps", ()) if step[2].done()]:
            self.steps.remove(step)
            process, pairs, task = step
            if task.cancelled():
                continue
            error = task.exception()
            if error is None:
                assert isinstance(task.result(), StepResult)
                check_outcomes(self.world, pairs, task.result(), closed=process in self.closed)
            else:
                assert isinstance(error, StoreUnavailable), repr(error)
                assert self.world.trouble or process in self.closed

    def teardown(self):
        if hasattr(self, "runner"):
            try:
                self.end_well()
            finally:
                self.tear_down()

    def end_well(self):
        """Everything recovers; every step ends; whoever has not crashed has nothing put aside and lost nothing."""
        world = self.world
        world.store_slow = False
        world.judge._desk._faults = parse_faults("")
        self.run(world.clock.sleep(3_000.0))
        self.finished_steps_are_whole()
        assert self.steps == []
        for process in list(self.processes):
            assert process.scheduler.in_flight == 0
            self.run(process.scheduler.aclose())
            self.closed.append(process)
        stored = world.stored()
        for process in self.closed:
            assert process.received <= stored
        for process in self.crashed:
            assert process.saved <= stored
        self.nothing_is_overspent_and_everything_served_is_counted()
        held = world.open_reservations()
        assert len(held) == world.state().reserved.requests
        for process in self.closed:
            assert process.reservations.isdisjoint(held)
        self.run(world.check_store())
        self.ask_the_rest(stored)

    def ask_the_rest(self, stored):
        """A last process: what is stored is not asked for, by whomever it was paid."""
        last = Process()
        last.scheduler = self.world.scheduler(last)
        self.run(last.scheduler.open())
        check_outcomes(self.world, PAIRS, self.run(last.scheduler.route(PAIRS)))
        self.run(last.scheduler.aclose())
        assert last.received.isdisjoint(stored)
        self.closed.append(last)

    def tear_down(self):
        for process in [*self.processes, *self.crashed, *self.closed]:
            if process.inner is not None:
                self.runner.run(process.inner.aclose())
        while left := asyncio.all_tasks(self.runner.get_loop()):  # of dead processes
            for task in left:
                task.cancel()
            self.runner.run(asyncio.wait(left))
        self.runner.close()
        self.executor.shutdown()
        if isinstance(self.world, SqlWorld):
            self.world.folder.cleanup()


class SqlMachine(Machine):
    world_type = SqlWorld


def profile(examples, steps):
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    return settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks)


class TestInMemory(Machine.TestCase):
    settings = profile(15, 25)


class TestOnADatabase(SqlMachine.TestCase):
    settings = profile(3, 12)


@pytest.mark.exhaustive
class TestInMemoryAtLength(Machine.TestCase):
    settings = profile(300, 60)


@pytest.mark.exhaustive
class TestOnADatabaseAtLength(SqlMachine.TestCase):
    settings = profile(40, 30)
