"""A step that is cancelled, stopped or closed at any moment: nothing paid is lost or paid again, no budget stays put aside.

Every moment means every iteration of the event loop while the step runs, so every await of everything that works for it.
"""

import asyncio
import itertools
import types

import pytest

import judgeflow.clock as clock_module
from judgeflow import Scheduler, StoreUnavailable
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, JudgeLimits, ScriptedJudge, arithmetic_pairs
from judgeflow.types import StepResult

PAIRS = arithmetic_pairs(8)
MAYBE_PAID = ("hang", "reset", "504")
NEVER = 10**9


class CountingLoop(clock_module._VirtualLoop):
    """Calls `action` after `left` more iterations."""

    left, action = NEVER, None

    def _run_once(self):
        super()._run_once()
        self.left -= 1
        if self.left == 0:
            self.action()


def in_virtual_time(main):
    clock = VirtualClock()
    with asyncio.Runner(loop_factory=lambda: CountingLoop(clock)) as runner:
        return runner.run(main(clock))


class House:
    """A store, a judge that fails now and then, and schedulers that come and go."""

    def __init__(self, clock, *, deadline_s=None):
        self.clock, self.deadline_s = clock, deadline_s
        self.store = MemoryStore()
        self.judge = ScriptedJudge(
            clock=clock,
            faults="500:0.1,reset:0.1,504:0.05,hang:0.05,429:0.05",
            latency="uniform:1:5",
            timeout_s=8.0,
            limits=JudgeLimits(requests_per_minute=12),
        )

    def scheduler(self):
        return Scheduler(
            store=self.store.reopen(),
            judge=self.judge,
            scorer=FakeScorer(PAIRS),
            gate=WindowGate(LimitsConfig(requests_per_minute=12), self.clock),
            routing=RoutingConfig(policy="error", threshold=0.0, step_deadline_s=self.deadline_s),
            budget=BudgetConfig(requests=60),
            retry=RetryPolicy(attempts=4, for_s=300.0),
            max_in_flight=4,
            clock=self.clock,
        )

    async def check(self, *, abandoned=False):
        """Nothing is put aside any more, and what is spent is what the judge has served, or may have charged for."""
        state, seen = await self.store.reopen().run_state("default"), self.judge.statistics
        if abandoned:  # as after a crash: what was under way stays charged at its worst case
            seen_at_least = seen.answered + sum(seen.faults[fault] for fault in MAYBE_PAID)
            assert seen_at_least <= state.spent.requests + state.reserved.requests <= 60
            return
        assert (state.reserved.requests, state.reserved.tokens) == (0, 0)
        assert state.spent.requests == seen.answered + sum(seen.faults[fault] for fault in MAYBE_PAID) <= 60
        assert len(self.store._contents.calls) == seen.answered
        assert max(seen.question_answers.values(), default=0) <= 1


async def end_of(step):
    """What a step came to: its result, or how it was ended."""
    try:
        return await step
    except (asyncio.CancelledError, StoreUnavailable) as error:
        return error


def run_disturbed(moment, action, *, company=False, deadline_s=None):
    """Disturb a step at the `moment`-th iteration; return whether it was over by then."""

    async def main(clock):
        house, loop = House(clock, deadline_s=deadline_s), asyncio.get_running_loop()
        closing = []
        async with house.scheduler() as scheduler:
            step = asyncio.create_task(scheduler.route(PAIRS, step=0))
            other = asyncio.create_task(scheduler.route(PAIRS[4:], step=1)) if company else None
            actions = {
                "cancel": step.cancel,
                "stop": scheduler.stop,
                "close": lambda: closing.append(asyncio.ensure_future(scheduler.aclose())),
            }
            loop.action, loop.left = actions[action], moment
            ended = await end_of(step)
            over, loop.left = loop.left > 0, NEVER
            if isinstance(ended, StepResult):
                assert [outcome.pair for outcome in ended.outcomes] == PAIRS
            else:
                assert isinstance(ended, asyncio.CancelledError if action == "cancel" else StoreUnavailable)
            asked = house.judge.statistics.requests
            if other is not None:
                assert len((await other).outcomes) == 4
            await clock.sleep(600.0)
            await house.check()
            assert other is not None or house.judge.statistics.requests == asked or over
            assert scheduler.in_flight == 0
            if action == "cancel":
                assert scheduler._session._planning._budget.planned.requests == 0
                again = await scheduler.route(PAIRS, step=2)
                assert {"interrupted", "budget"}.isdisjoint(again.statistics.statuses)
        for closed in closing:
            await closed
        await clock.sleep(60.0)  # a gate forgets with its scheduler what was sent in the last minute
        async with house.scheduler() as scheduler:
            assert len((await scheduler.route(PAIRS, step=3)).outcomes) == 8
        await house.check()
        assert house.judge.statistics.provoked_429 == 0
        return over

    return in_virtual_time(main)


def disturb_everywhere(first, stride, action, **settings):
    """Disturb a step at every `stride`-th moment, until it is over before that."""
    for moment in itertools.count(first, stride):
        if run_disturbed(moment, action, **settings):
            return
        assert moment < 5000


SETTINGS = {"alone": {}, "in company": {"company": True}, "deadline": {"deadline_s": 12.0}}
DISTURBANCES = [(action, name) for action in ("cancel", "stop", "close") for name in SETTINGS if (action, name) != ("close", "in company")]


@pytest.mark.parametrize(("action", "setting"), DISTURBANCES)
def test_a_step_that_is_disturbed_at_any_moment_leaves_budget_windows_and_store_consistent(action, setting):
    disturb_everywhere(1, 23, action, **SETTINGS[setting])


@pytest.mark.exhaustive
@pytest.mark.parametrize("first", range(1, 6))
@pytest.mark.parametrize(("action", "setting"), DISTURBANCES)
def test_a_step_that_is_disturbed_at_every_single_moment_leaves_everything_consistent(action, setting, first):
    disturb_everywhere(first, 5, action, **SETTINGS[setting])


@types.coroutine
def cancelled_at(work, moment, *, when_ready):
    """Run `work`; at its `moment`-th await cancel the task: while it waits, or in the moment in which what it waits for is there."""
    task, outcome = asyncio.current_task(), None
    resume = work.send
    for number in itertools.count(1):
        try:
            awaited = resume(outcome)
        except StopIteration as stop:
            return stop.value
        if number == moment and when_ready and awaited is not None:
            awaited.add_done_callback(lambda _: task.cancel())
        elif number == moment:
            task.cancel()
        try:
            outcome, resume = (yield awaited), work.send
        except BaseException as error:  # whatever it is, it is the work's
            outcome, resume = error, work.throw


async def outlook(scheduler):
    """Read a stream as far as its third outcome."""
    stream = scheduler.stream(PAIRS, chunk=4)
    try:
        return [await anext(stream) for _ in range(3)]
    finally:
        await stream.aclose()


@pytest.mark.parametrize("when_ready", [False, True], ids=["while it waits", "when it is ready"])
@pytest.mark.parametrize("call", ["open", "route", "stream", "aclose"])
def test_a_call_that_is_cancelled_at_any_of_its_awaits_leaves_everything_consistent(call, when_ready):
    for moment in itertools.count(1):
        if cancel_call(call, moment, when_ready=when_ready):
            assert moment > 1
            return
        assert moment < 500


def cancel_call(call, moment, *, when_ready):
    """Cancel a call at its `moment`-th await; return whether it had fewer."""

    async def main(clock):
        house = House(clock)
        scheduler = house.scheduler()
        works = {
            "open": scheduler.open,
            "route": lambda: scheduler.route(PAIRS),
            "stream": lambda: outlook(scheduler),
            "aclose": scheduler.aclose,
        }
        if call != "open":
            await scheduler.open()
        step = asyncio.ensure_future(scheduler.route(PAIRS[:3])) if call == "aclose" else None
        await clock.sleep(2.0)
        ended = await end_of(asyncio.ensure_future(as_coroutine(cancelled_at(works[call](), moment, when_ready=when_ready))))
        await clock.sleep(300.0)
        await scheduler.aclose()
        if step is not None:
            assert len((await step).outcomes) == 3
        async with house.scheduler() as later:
            assert len((await later.route(PAIRS)).outcomes) == 8
        await house.check(abandoned=call == "aclose")
        assert house.judge.statistics.provoked_429 == 0
        return not isinstance(ended, asyncio.CancelledError)

    return in_virtual_time(main)


async def as_coroutine(work):
    return await work
