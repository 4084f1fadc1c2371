"""The gate: windows in virtual time, and asyncio-throttle behind the same face."""

import asyncio
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.clock import LoopClock, VirtualClock
from judgeflow.config import LimitsConfig
from judgeflow.judges.gate import ThrottleGate, WindowGate
from judgeflow.ports import Permit
from judgeflow.types import RateHeaders, Standing, Stock, Usage


async def send(gate: WindowGate, tokens: int) -> Permit:
    permit = await gate.admit(tokens)
    permit.sent()
    return permit


def grants(limits: LimitsConfig, count: int, tokens: int = 1) -> list[float]:
    clock = VirtualClock()

    async def main() -> list[float]:
        gate, times = WindowGate(limits, clock), []
        for _ in range(count):
            await send(gate, tokens)
            times.append(clock.now())
        return times

    return clock.run(main())


def test_a_fresh_window_is_admitted_at_once_and_the_rest_one_window_plus_margin_later():
    times = grants(LimitsConfig(requests_per_minute=3), 7)
    assert times[:3] == [0.0] * 3
    assert times[3:6] == [pytest.approx(60.5)] * 3
    assert times[6] == pytest.approx(121.0)


def test_token_limits_weigh_requests():
    times = grants(LimitsConfig(tokens_per_minute=1000, margin_s=0.0), 5, tokens=400)
    assert times == [0.0, 0.0, 60.0, 60.0, 120.0]


def test_a_request_larger_than_the_token_limit_is_an_error():
    with pytest.raises(ValueError, match="can never fit"):
        grants(LimitsConfig(tokens_per_minute=1000), 1, tokens=1001)


def test_settling_tokens_lets_the_next_request_through_earlier():
    clock = VirtualClock()

    async def main() -> float:
        gate = WindowGate(LimitsConfig(tokens_per_minute=1000, charge="actual"), clock)
        permit = await send(gate, 900)
        permit.settle(Usage(prompt=60, completion=40))
        await send(gate, 900)
        return clock.now()

    assert clock.run(main()) == 0.0


def test_settling_tokens_lets_a_request_through_that_is_waiting_already():
    clock = VirtualClock()

    async def main() -> float:
        gate = WindowGate(LimitsConfig(tokens_per_minute=1000, charge="actual"), clock)
        permit = await send(gate, 900)
        waiting = asyncio.ensure_future(send(gate, 900))
        await clock.sleep(20.0)
        permit.settle(Usage(prompt=60, completion=40))
        await waiting
        return clock.now()

    assert clock.run(main()) == 20.0


def test_a_waiting_request_that_is_cancelled_just_when_something_changes_is_cancelled():
    clock = VirtualClock()

    async def main() -> None:
        gate = WindowGate(LimitsConfig(requests_per_minute=1), clock)
        permit = await send(gate, 1)
        waiting = asyncio.ensure_future(gate.admit(1))
        await clock.sleep(1.0)
        permit.settle(Usage())
        waiting.cancel()
        await asyncio.wait([waiting], timeout=10.0)
        assert waiting.cancelled()

    clock.run(main())


def test_a_pause_holds_everybody_back_and_the_longest_counts():
    clock = VirtualClock()

    async def main() -> float:
        gate = WindowGate(LimitsConfig(), clock)
        gate.pause(20.0)
        gate.pause(5.0)
        assert gate.capacity(clock.now() + 100) == Stock()
        await send(gate, 1)
        return clock.now()

    assert clock.run(main()) == 20.0


def test_capacity_counts_what_can_pass_before_a_moment():
    clock = VirtualClock()

    async def main() -> list[Stock]:
        gate = WindowGate(LimitsConfig(requests_per_minute=10, margin_s=0.0), clock)
        for _ in range(4):
            await send(gate, 1)
        return [gate.capacity(clock.now() + ahead) for ahead in (30.0, 60.0, 125.0)]

    assert clock.run(main()) == [Stock(requests=6), Stock(requests=16), Stock(requests=26)]


def test_capacity_weighs_tokens_and_ends_with_a_pause():
    clock = VirtualClock()

    async def main() -> list[Stock]:
        gate = WindowGate(LimitsConfig(requests_per_minute=10, tokens_per_minute=1000, margin_s=0.0), clock)
        await send(gate, 300)
        gate.pause(70.0)
        return [gate.capacity(clock.now() + ahead) for ahead in (30.0, 75.0, 135.0)]

    assert clock.run(main()) == [Stock(requests=0, tokens=0), Stock(requests=10, tokens=1000), Stock(requests=20, tokens=2000)]


@pytest.mark.parametrize("gate_type", [WindowGate, ThrottleGate])
def test_a_paced_start_does_not_promise_a_whole_window_at_once(gate_type):
    clock = VirtualClock()

    async def main() -> list[Stock]:
        gate = gate_type(LimitsConfig(requests_per_minute=60, start="paced", margin_s=0.0), clock)
        return [gate.capacity(clock.now() + ahead) for ahead in (0.5, 9.5, 599.5)]

    assert clock.run(main()) == [Stock(requests=1), Stock(requests=10), Stock(requests=600)]


def test_a_paced_start_in_virtual_time_spreads_requests_evenly():
    assert grants(LimitsConfig(requests_per_minute=60, start="paced", margin_s=0.0), 4) == [0.0, 1.0, 2.0, 3.0]


async def test_a_pause_that_begins_while_a_request_waits_for_its_turn_holds_it_back():
    gate = ThrottleGate(LimitsConfig(requests_per_minute=1, window_s=1.0, margin_s=0.0), LoopClock())
    await send(gate, 1)
    waiting = asyncio.create_task(send(gate, 1))
    await asyncio.sleep(0)
    began = time.monotonic()
    gate.pause(1.3)
    await waiting
    assert time.monotonic() - began >= 1.29


@pytest.mark.parametrize("start", ["burst", "paced"])
async def test_asyncio_throttle_keeps_the_window_in_real_time(start):
    limits = LimitsConfig(requests_per_minute=5, window_s=0.2, start=start)
    gate, times = ThrottleGate(limits, LoopClock()), []
    for _ in range(14):
        await send(gate, 1)
        times.append(time.monotonic())
    for first, sixth in zip(times, times[5:], strict=False):
        assert sixth - first > 0.2
    if start == "paced":
        assert times[4] - times[0] > 4 * 0.2 / 5


async def test_a_gate_without_limits_lets_everything_through():
    gate = ThrottleGate(LimitsConfig(), LoopClock())
    await asyncio.gather(*(send(gate, 10**6) for _ in range(100)))
    assert gate.capacity(1e12) == Stock()


def test_a_wait_shorter_than_the_loops_clock_can_tell_ends():
    clock = VirtualClock()

    async def main() -> float:
        gate = WindowGate(LimitsConfig(), clock)
        gate.pause(5e-10)
        await asyncio.wait_for(gate.admit(1), 1.0)
        return clock.now()

    assert clock.run(main()) < 1e-5


# What replies say


def hear(gate: WindowGate, **standing: float) -> Mapping[str, float]:
    return gate.heed(RateHeaders(requests=Standing(**standing)))


async def admitted(gate: WindowGate, clock: VirtualClock, count: int, tokens: int = 1) -> list[float]:
    times = []
    for _ in range(count):
        await send(gate, tokens)
        times.append(clock.now())
    return times


def test_a_lower_limit_than_the_configured_one_holds_for_a_window_from_when_it_was_said_last():
    clock = VirtualClock()

    async def main() -> tuple[list[float], list[Stock]]:
        gate = WindowGate(LimitsConfig(requests_per_minute=4, margin_s=0.0), clock)
        assert hear(gate, limit=2) == {"requests_per_minute": 2}
        promised = [gate.capacity(60.0)]
        times = await admitted(gate, clock, 3)
        promised.append(gate.capacity(clock.now()))
        return times + await admitted(gate, clock, 3), promised

    times, promised = clock.run(main())
    assert times == [0.0, 0.0, 60.0, 60.0, 60.0, 60.0]
    assert promised == [Stock(requests=4), Stock(requests=3)]


@pytest.mark.parametrize("standing", [{"limit": 4}, {"limit": 10**18}, {"remaining": 3, "reset_s": 50.0}, {"remaining": 0}, {}])
def test_what_is_not_stricter_than_the_settings_changes_nothing(standing):
    clock = VirtualClock()

    async def main() -> list[float]:
        gate = WindowGate(LimitsConfig(requests_per_minute=4, margin_s=0.0), clock)
        assert hear(gate, **standing) == {}
        assert gate.capacity(0.0) == Stock(requests=4)
        return await admitted(gate, clock, 5)

    assert clock.run(main()) == [0.0] * 4 + [60.0]


def test_a_higher_limit_that_is_said_meanwhile_does_not_raise_the_lower_one():
    clock = VirtualClock()

    async def main() -> list[float]:
        gate = WindowGate(LimitsConfig(requests_per_minute=4, margin_s=0.0), clock)
        hear(gate, limit=1)
        times = await admitted(gate, clock, 1)
        await clock.sleep(30.0)
        assert hear(gate, limit=3) == {"requests_per_minute": 1}
        return times + await admitted(gate, clock, 2)

    assert clock.run(main()) == [0.0, 60.0, 60.0]


@pytest.mark.parametrize("start", ["burst", "paced"])
@pytest.mark.parametrize("configured", [None, 6])
def test_a_limit_is_learnt_whatever_is_configured(start, configured):
    clock = VirtualClock()

    async def main() -> list[float]:
        gate = WindowGate(LimitsConfig(requests_per_minute=configured, start=start, margin_s=0.0), clock)
        times = await admitted(gate, clock, 2)
        assert hear(gate, limit=2) == {"requests_per_minute": 2}
        assert gate.capacity(clock.now() + 1.0) == Stock(requests=0)
        return times + await admitted(gate, clock, 1)

    assert clock.run(main())[2] >= 60.0


def test_nothing_left_holds_everything_back_until_the_reset():
    clock = VirtualClock()

    async def main() -> list[float]:
        gate = WindowGate(LimitsConfig(requests_per_minute=100), clock)
        assert hear(gate, remaining=0, reset_s=12.0) == {"held_s": 12.0}
        assert gate.heed(RateHeaders(tokens=Standing(remaining=0, reset_s=20.0))) == {"held_s": 20.0}
        assert gate.capacity(19.0).requests == 0
        return await admitted(gate, clock, 2)

    assert clock.run(main()) == [20.0, 20.0]


def test_a_hold_ends_after_ten_minutes_whatever_the_header_says():
    clock = VirtualClock()

    async def main() -> list[float]:
        gate = WindowGate(LimitsConfig(), clock)
        hear(gate, remaining=0, reset_s=86_400.0)
        return await admitted(gate, clock, 1)

    assert clock.run(main()) == [600.0]


@pytest.mark.parametrize(("reset_s", "start", "third"), [(60.0, "burst", 60.0), (60.0, "paced", 60.0), (300.0, "burst", 330.0)])
def test_nothing_left_because_of_our_own_requests_is_what_the_window_counts_already(reset_s, start, third):
    """Two a minute, sent at 0 and at 30 s: the next may go at 60 s, though the judge's window is empty at 90 s only."""
    clock = VirtualClock()

    async def main() -> float:
        gate = WindowGate(LimitsConfig(requests_per_minute=2, start=start, margin_s=0.0), clock)
        await send(gate, 1)
        await clock.sleep(30.0)
        await send(gate, 1)
        hear(gate, remaining=0, reset_s=reset_s)
        return (await admitted(gate, clock, 1))[0]

    assert clock.run(main()) == third


def test_a_question_heavier_than_the_learnt_limit_waits_for_an_empty_window_and_is_not_refused():
    clock = VirtualClock()

    async def main() -> list[float]:
        gate = WindowGate(LimitsConfig(tokens_per_minute=10_000, margin_s=0.0), clock)
        times = await admitted(gate, clock, 1, tokens=100)
        await clock.sleep(10.0)
        assert gate.heed(RateHeaders(tokens=Standing(limit=1000))) == {"tokens_per_minute": 1000}
        return times + await admitted(gate, clock, 1, tokens=5000)

    assert clock.run(main()) == [0.0, 60.0]


heard = st.tuples(st.none() | st.integers(1, 12), st.none() | st.integers(0, 2), st.none() | st.integers(0, 90))
moments = st.lists(st.tuples(st.integers(0, 20), st.none() | heard), max_size=40)


def sending(moments, limits: LimitsConfig, *, listening: bool) -> tuple[list[float], list[tuple[int, float, int]]]:
    """Send one request after each pause, and hear what is said before it; return when requests went, and (which request
    was next, when, limit) of what was said."""
    clock, times, said = VirtualClock(), [], []

    async def main() -> None:
        gate = WindowGate(limits, clock)
        for pause, header in moments:
            await clock.sleep(float(pause))
            if header is not None and listening:
                limit, remaining, reset_s = header
                hear(gate, limit=limit, remaining=remaining, reset_s=reset_s)
                said.extend([(len(times), clock.now(), limit)] if limit is not None else [])
            await send(gate, 1)
            times.append(clock.now())

    clock.run(main())
    return times, said


@given(moments, st.none() | st.integers(1, 10), st.sampled_from(["burst", "paced"]))
def test_headers_never_let_anything_through_earlier_and_the_lowest_limit_is_kept(moments, requests, start):
    limits = LimitsConfig(requests_per_minute=requests, start=start, margin_s=0.0)
    heedless, _ = sending(moments, limits, listening=False)
    times, said = sending(moments, limits, listening=True)
    assert all(later >= earlier for earlier, later in zip(heedless, times, strict=True))
    for index, now in enumerate(times):
        in_force = [limit for before, at, limit in said if before <= index and now < at + 60.0]
        allowed = min([*in_force, *([requests] if requests else [])], default=None)
        assert allowed is None or sum(now - 60.0 + 1e-9 < at for at in times[: index + 1]) <= allowed


async def test_asyncio_throttle_keeps_what_replies_say_too():
    gate, times = ThrottleGate(LimitsConfig(requests_per_minute=50, window_s=0.2), LoopClock()), []
    gate.heed(RateHeaders(requests=Standing(limit=5)))
    for _ in range(6):
        await send(gate, 1)
        times.append(time.monotonic())
    assert times[5] - times[0] >= 0.2


async def test_a_gate_remembers_one_window_of_requests_and_not_all_of_them():
    gate = ThrottleGate(LimitsConfig(window_s=0.01), LoopClock())
    for _ in range(20):
        await send(gate, 1)
        await asyncio.sleep(0.005)
    assert len(gate._account._requests._log) < 10


@pytest.mark.parametrize("gate_type", [WindowGate, ThrottleGate])
def test_a_gate_that_has_waited_in_one_event_loop_waits_in_the_next_one_too(gate_type):
    gate = gate_type(LimitsConfig(tokens_per_minute=1000, window_s=0.05, margin_s=0.0), LoopClock())

    async def two_requests() -> None:
        for _ in range(2):
            permit = await gate.admit(600)
            permit.sent()
            permit.lost()

    for _ in range(2):
        asyncio.run(two_requests())


def test_what_others_take_of_an_account_is_over_with_the_judges_reset():
    """Some judges tell their limits only when they turn somebody away: nobody tells later that there is room again."""
    clock, times = VirtualClock(), []

    async def main() -> None:
        gate = WindowGate(LimitsConfig(), clock)
        await send(gate, 1)
        hear(gate, limit=60, remaining=0, reset_s=2.0)
        for _ in range(5):
            await send(gate, 1)
            times.append(clock.now())

    clock.run(main())
    assert times[0] >= 2.0
    assert times[-1] < 2.1
