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
