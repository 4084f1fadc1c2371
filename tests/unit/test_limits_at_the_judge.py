"""The judge's own windows, with the real scheduler in virtual time: slow connections, stalls, restarts, large questions."""

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judgeflow import Scheduler
from judgeflow.clock import LoopClock, VirtualClock
from judgeflow.config import LimitsConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import JudgeUnreachable, RateLimited, ReplyLost
from judgeflow.judges.gate import WindowGate
from judgeflow.ports import DEPARTURE
from judgeflow.store import MemoryStore
from judgeflow.testing import JudgeLimits, ScriptedJudge, Watcher, arithmetic_pairs
from judgeflow.types import Cost, Pair

ALWAYS = RoutingConfig(policy="always")
MARGIN_S = 0.5
LONGEST = 1024
virtual = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class ArrivalClock(LoopClock):
    """The clock of a judge elsewhere: what arrives while this side stands still arrives when it arrives."""

    arrived_at = None

    def now(self):
        now, self.arrived_at = super().now() if self.arrived_at is None else self.arrived_at, None
        return now


class FarJudge(ScriptedJudge):
    """A strict judge far away: connecting takes up to `connect_s`, each question's way up to `way_s`, and some are lost on it.

    At times the whole loop stands still for up to `stall_s`, as it does when somebody blocks it or the machine sleeps.
    """

    def __init__(self, *, clock, connect_s=0.0, way_s=0.0, stall_s=0.0, loss=0.0, seed=0, **settings):
        super().__init__(clock=ArrivalClock(), seed=seed, **settings)
        self.clock, self.connect_s, self.way_s, self.stall_s, self.loss = clock, connect_s, way_s, stall_s, loss
        self.dice = random.Random(seed)

    async def ask(self, question):
        departure = DEPARTURE.get()
        departure.hold()
        if self.dice.random() < 0.2:
            self.clock.advance(self.dice.uniform(0.0, self.stall_s))
        await asyncio.sleep(self.dice.uniform(0.0, self.connect_s))
        if self.dice.random() < self.loss:
            raise JudgeUnreachable
        departure.sent()
        way_s = self.dice.uniform(0.0, self.way_s)
        arrives_at = self.clock.now() + way_s
        await asyncio.sleep(way_s)
        if self.dice.random() < self.loss:
            raise ReplyLost
        self._clock.arrived_at = arrives_at
        return await super().ask(question)


def gate(clock, **limits):
    return WindowGate(LimitsConfig(margin_s=MARGIN_S, **limits), clock, longest_reply=LONGEST)


def scheduling(clock, judge, gate, store=None, **settings):
    chosen = {"store": store or MemoryStore(clock.wall), "routing": ALWAYS, "max_in_flight": 200} | settings
    return Scheduler(judge=judge, gate=gate, clock=clock, **chosen)


@virtual
@given(
    st.sampled_from(["burst", "paced"]),
    st.integers(5, 25),
    st.floats(0, 90),
    st.sampled_from([0.0, 5.0, 200.0]),
    st.floats(0, 0.3),
    st.integers(0, 99),
)
def test_no_window_of_the_judge_is_passed_whatever_delays_a_question_on_this_side(start, requests, connect_s, stall_s, loss, seed):
    async def main(clock):
        judge = FarJudge(
            clock=clock,
            connect_s=connect_s,
            way_s=MARGIN_S,
            stall_s=stall_s,
            loss=loss,
            latency="uniform:0:40",
            limits=JudgeLimits(requests_per_minute=requests, headers=False),
            seed=seed,
        )
        async with scheduling(clock, judge, gate(clock, requests_per_minute=requests, start=start)) as scheduler:
            await scheduler.route(arithmetic_pairs(25, seed=seed))
        return judge.statistics

    clock = VirtualClock()
    seen = clock.run(main(clock))
    assert seen.answered > 0
    assert seen.provoked_429 == 0


def test_counting_from_the_grant_would_pass_the_window():
    """What the property above rests on: a judge that tells nothing counts as asked at once, and slow connections then do harm."""

    class Silent(FarJudge):
        async def ask(self, question):
            await self.clock.sleep(self.dice.uniform(0.0, self.connect_s))
            return await ScriptedJudge.ask(self, question)

    async def main(clock):
        judge = Silent(clock=clock, connect_s=20.0, limits=JudgeLimits(requests_per_minute=20, headers=False))
        async with scheduling(clock, judge, gate(clock, requests_per_minute=20)) as scheduler:
            await scheduler.route(arithmetic_pairs(40))
        return judge.statistics.provoked_429

    clock = VirtualClock()
    assert clock.run(main(clock)) > 0


@pytest.mark.parametrize("charge", ["reserved", "actual"])
def test_token_windows_hold_at_a_judge_and_are_nearly_full(charge):
    limit = 60_000

    class Padded(ScriptedJudge):
        """Puts nearly twice the prompt aside, as a client without the judge's vocabulary does."""

        def cost(self, question):
            exact = super().cost(question)
            return Cost(requests=1, tokens=LONGEST + int(1.9 * (exact.tokens - LONGEST)), usd=0.0)

    async def main(clock):
        limits = JudgeLimits(tokens_per_minute=limit, charge=charge)
        judge = Padded(clock=clock, latency="uniform:1:4", limits=limits)
        async with scheduling(clock, judge, gate(clock, tokens_per_minute=limit, charge=charge)) as scheduler:
            await scheduler.route(arithmetic_pairs(220))
        return judge.statistics, judge._desk.meter("").windows["tokens"].share

    clock = VirtualClock()
    seen, share = clock.run(main(clock))
    assert seen.provoked_429 == 0
    assert share > 0.95


# Restarts


@pytest.mark.parametrize("killed_after", [0.5, 30.0, 59.0, 61.0, 90.0])
@pytest.mark.parametrize("limits", [{"requests_per_minute": 20}, {"tokens_per_minute": 30_000}], ids=["requests", "tokens"])
def test_a_process_that_is_killed_and_started_again_at_once_passes_no_window(limits, killed_after):
    """The first process ends like a killed one: nothing of it runs on.  Half a second later the second is there."""
    clock, pairs = VirtualClock(), arithmetic_pairs(40)
    judge = FarJudge(
        clock=clock, connect_s=3.0, way_s=MARGIN_S, latency="uniform:5:50", limits=JudgeLimits(headers=False, **limits), seed=3
    )
    store = MemoryStore(clock.wall)

    async def first():
        scheduler = scheduling(clock, judge, gate(clock, **limits), store)
        await scheduler.open()
        await asyncio.wait([asyncio.ensure_future(scheduler.route(pairs))], timeout=killed_after)

    async def second():
        async with scheduling(clock, judge, gate(clock, **limits), store.reopen()) as scheduler:
            return await scheduler.route(pairs)

    clock.run(first())
    clock.advance(0.5)
    step = clock.run(second())
    assert judge.statistics.provoked_429 == 0
    assert step.statistics.statuses == {"ok": 40}


def test_a_wall_clock_that_jumps_changes_nothing_while_a_run_is_under_way_and_makes_nobody_early_afterwards():
    class Jumping(VirtualClock):
        jump = 0.0

        def wall(self):
            return super().wall() + self.jump

    clock, store, limits = Jumping(), None, {"requests_per_minute": 20}
    judge = ScriptedJudge(clock=clock, latency=2.0, limits=JudgeLimits(headers=False, **limits))
    store = MemoryStore(clock.wall)

    async def main():
        async with scheduling(clock, judge, gate(clock, **limits), store) as scheduler:
            step = asyncio.ensure_future(scheduler.route(arithmetic_pairs(30)))
            for jump in (7200.0, -86_400.0, 0.0):
                await clock.sleep(25.0)
                clock.jump = jump
            await step
        clock.jump = -3600.0
        async with scheduling(clock, judge, gate(clock, **limits), store.reopen()) as scheduler:
            await scheduler.route(arithmetic_pairs(60)[30:])

    clock.run(main())
    assert judge.statistics.answered == 120
    assert judge.statistics.provoked_429 == 0


def test_requests_of_another_judge_do_not_count():
    async def main(clock):
        store = MemoryStore(clock.wall)
        for model in ("one", "other"):
            judge = ScriptedJudge(clock=clock, model=model, latency=1.0)
            async with scheduling(clock, judge, gate(clock, requests_per_minute=20), store) as scheduler:
                await scheduler.route(arithmetic_pairs(10))
        return clock.now()

    clock = VirtualClock()
    assert clock.run(main(clock)) < 5.0


# Large questions


@virtual
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60), st.integers(1000, 2500), st.integers(0, 99))
def test_a_large_question_waits_for_those_before_it_only_and_for_one_window_at_most(sizes, limit, seed):
    """Questions go in the order in which they came, each as soon as it fits beside those before it, however large it is."""
    clock, times, dice = VirtualClock(), [], random.Random(seed)

    async def main():
        passing = WindowGate(LimitsConfig(tokens_per_minute=limit, margin_s=0.0), clock)
        for size in sizes:
            if dice.random() < 0.2:
                await clock.sleep(dice.uniform(0, 50))
            asked_at = clock.now()
            (await passing.admit(size)).sent()
            times.append((asked_at, clock.now(), size))

    clock.run(main())
    for index, (asked_at, now, size) in enumerate(times):
        before = [(at, weight) for _, at, weight in times[:index]]
        assert sum(weight for at, weight in before if now < at + 60.0 - 1e-9) + size <= limit
        assert now - asked_at <= 60.0 + 1e-6
        if now > asked_at:  # a moment earlier it did not fit
            assert sum(weight for at, weight in before if now <= at + 60.0 + 1e-6) + size > limit


def test_small_questions_never_overtake_a_large_one_that_waits():
    """Two large ones among many small ones: with room for four small or one large at a time, the large ones come in their place."""
    small = [Pair(id=f"small-{n}", prompt=f"q{n}", response_a="a", response_b="b") for n in range(12)]
    large = [Pair(id=f"large-{n}", prompt=f"Q{n} " + "word " * 3000, response_a="a", response_b="b") for n in range(2)]
    pairs = [*small[:4], large[0], *small[4:8], large[1], *small[8:]]
    asked = []

    class Noting(ScriptedJudge):
        async def ask(self, question):
            asked.append(str(question.prompt)[:3].strip())
            return await super().ask(question)

    async def main(clock):
        judge = Noting(clock=clock, latency=1.0)
        async with scheduling(clock, judge, gate(clock, tokens_per_minute=6000), orders="first") as scheduler:
            steps = []
            for pair in pairs:  # one after the other: within a step the ranking decides
                steps.append(asyncio.ensure_future(scheduler.route([pair])))
                await clock.sleep(0.001)
            await asyncio.gather(*steps)

    clock = VirtualClock()
    clock.run(main(clock))
    assert asked == [str(pair.prompt)[:3].strip() for pair in pairs]


# A judge that wants to be left alone


class Tired(ScriptedJudge):
    """Turns everything away for an hour from the tenth question on, without any rate headers."""

    async def ask(self, question):
        if self.statistics.requests >= 10 and self._clock.now() < 3600.0:
            self.statistics.requests += 1
            raise RateLimited("come back later", retry_after_s=3600.0 - self._clock.now())
        return await super().ask(question)


def test_a_judge_that_wants_more_rest_than_a_question_waits_for_declines_everything_at_once_and_is_left_alone():
    pairs, seen = arithmetic_pairs(200), Watcher()

    async def main(clock):
        judge = Tired(clock=clock, latency=1.0)
        settings = {"retry": RetryPolicy(for_s=600.0), "max_in_flight": 4, "observers": [seen]}
        async with scheduling(clock, judge, gate(clock), **settings) as scheduler:
            first = await scheduler.route(pairs[:100])
            took, asked = clock.now(), judge.statistics.requests
            second = await scheduler.route(pairs[100:])
            waited, more = clock.now() - took, judge.statistics.requests - asked
            await clock.sleep(3600.0)
            third = await scheduler.route(pairs)
            return first, took, asked, second, waited, more, third, str(scheduler.refusal)

    clock = VirtualClock()
    first, took, asked, second, waited, more, third, refusal = clock.run(main(clock))
    assert first.statistics.statuses["rate_limited"] >= 95
    assert took < 10.0
    assert asked <= 14
    assert second.statistics.statuses == {"rate_limited": 100}
    assert (waited, more) == (0.0, 0)
    assert third.statistics.statuses == {"ok": 200}
    assert refusal == "None"
    assert [event for event, _ in seen.notices] == ["in_flight_lowered", "judge_stopped", "in_flight_recovered"]
    assert "left alone for" in seen.notices[1][1]["error"]
