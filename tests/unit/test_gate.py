"""The gate: windows in virtual time, and asyncio-throttle behind the same face."""

import asyncio
import itertools
import time

import pytest

from judgeflow.clock import LoopClock, VirtualClock
from judgeflow.config import LimitsConfig
from judgeflow.judges.gate import ThrottleGate, WindowGate
from judgeflow.types import Stock


def grants(limits: LimitsConfig, count: int, tokens: int = 1) -> list[float]:
    clock = VirtualClock()

    async def main() -> list[float]:
        gate, times = WindowGate(limits, clock), []
        for _ in range(count):
            await gate.admit(tokens)
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
        gate = WindowGate(LimitsConfig(tokens_per_minute=1000), clock)
        settle = await gate.admit(900)
        settle(100)
        await gate.admit(900)
        return clock.now()

    assert clock.run(main()) == 0.0


def test_settling_tokens_lets_a_request_through_that_is_waiting_already():
    clock = VirtualClock()

    async def main() -> float:
        gate = WindowGate(LimitsConfig(tokens_per_minute=1000), clock)
        settle = await gate.admit(900)
        waiting = asyncio.ensure_future(gate.admit(900))
        await clock.sleep(20.0)
        settle(100)
        await waiting
        return clock.now()

    assert clock.run(main()) == 20.0


def test_a_pause_holds_everybody_back_and_the_longest_counts():
    clock = VirtualClock()

    async def main() -> float:
        gate = WindowGate(LimitsConfig(), clock)
        gate.pause(20.0)
        gate.pause(5.0)
        assert gate.capacity(clock.now() + 100) == Stock()
        await gate.admit(1)
        return clock.now()

    assert clock.run(main()) == 20.0


def test_capacity_counts_what_can_pass_before_a_moment():
    clock = VirtualClock()

    async def main() -> list[Stock]:
        gate = WindowGate(LimitsConfig(requests_per_minute=10, margin_s=0.0), clock)
        for _ in range(4):
            await gate.admit(1)
        return [gate.capacity(clock.now() + ahead) for ahead in (30.0, 60.0, 125.0)]

    assert clock.run(main()) == [Stock(requests=6), Stock(requests=16), Stock(requests=26)]


def test_capacity_weighs_tokens_and_ends_with_a_pause():
    clock = VirtualClock()

    async def main() -> list[Stock]:
        gate = WindowGate(LimitsConfig(requests_per_minute=10, tokens_per_minute=1000, margin_s=0.0), clock)
        await gate.admit(300)
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
    gate = ThrottleGate(LimitsConfig(requests_per_minute=1, window_s=0.2, margin_s=0.0), LoopClock())
    await gate.admit(1)
    waiting = asyncio.create_task(gate.admit(1))
    await asyncio.wait([waiting], timeout=0.1)
    began = time.monotonic()
    gate.pause(0.5)
    await waiting
    assert time.monotonic() - began >= 0.49


@pytest.mark.parametrize("start", ["burst", "paced"])
async def test_asyncio_throttle_keeps_the_window_in_real_time(start):
    limits = LimitsConfig(requests_per_minute=5, window_s=0.2, start=start)
    gate, times = ThrottleGate(limits, LoopClock()), []
    for _ in range(14):
        await gate.admit(1)
        times.append(time.monotonic())
    for first, sixth in zip(times, times[5:], strict=False):
        assert sixth - first > 0.2
    if start == "paced":
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.2 / 5 * 0.9


async def test_a_gate_without_limits_lets_everything_through():
    gate = ThrottleGate(LimitsConfig(), LoopClock())
    await asyncio.gather(*(gate.admit(10**6) for _ in range(100)))
    assert gate.capacity(1e12) == Stock()
