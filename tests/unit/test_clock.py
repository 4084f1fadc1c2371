import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.clock import LoopClock, VirtualClock

unhurried = settings(deadline=None)


def test_an_hour_of_virtual_sleep_is_an_hour_on_the_clock():
    clock = VirtualClock()
    clock.run(clock.sleep(3600))
    assert clock.now() == 3600.0


def test_timers_longer_than_a_day_are_kept_to_the_second():
    clock = VirtualClock()
    clock.run(clock.sleep(40 * 86_400 + 0.5))
    assert clock.now() == pytest.approx(40 * 86_400 + 0.5)


def test_wall_time_moves_with_virtual_time():
    clock = VirtualClock(start=100.0, epoch=1_700_000_000.0)
    assert (clock.now(), clock.wall()) == (100.0, 1_700_000_000.0)
    clock.run(clock.sleep(7))
    assert (clock.now(), clock.wall()) == (107.0, 1_700_000_007.0)


def test_a_second_run_goes_on_where_the_first_ended():
    clock = VirtualClock()
    clock.run(clock.sleep(10))
    clock.run(clock.sleep(5))
    assert clock.now() == 15.0


def test_a_run_returns_the_result_and_passes_on_the_error():
    clock = VirtualClock()

    async def answer():
        await clock.sleep(60)
        return 42

    async def fail():
        await clock.sleep(60)
        raise LookupError("nothing there")

    assert clock.run(answer()) == 42
    with pytest.raises(LookupError, match="nothing there"):
        clock.run(fail())
    assert clock.now() == 120.0


def test_the_clock_moved_by_hand_never_goes_back():
    clock = VirtualClock()
    clock.advance(2.5)
    assert clock.now() == 2.5
    with pytest.raises(ValueError, match="time does not go back by 1"):
        clock.advance(-1)
    assert clock.now() == 2.5


def test_the_loops_own_timeouts_obey_virtual_time():
    clock = VirtualClock()

    async def wait_too_long():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await clock.sleep(3600)
        return clock.now(), asyncio.get_running_loop().time()

    assert clock.run(wait_too_long()) == (30.0, 30.0)


@unhurried
@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=20))
def test_sleepers_wake_in_the_order_of_their_times_and_exactly_then(delays):
    clock = VirtualClock()
    woken = []

    async def sleeper(seconds):
        await clock.sleep(seconds)
        woken.append((clock.now(), seconds))

    async def everybody():
        await asyncio.gather(*(sleeper(seconds) for seconds in delays))

    clock.run(everybody())
    assert woken == [(float(seconds), seconds) for seconds in sorted(delays)]


def test_time_stands_still_while_a_thread_works():
    clock = VirtualClock()
    release = threading.Event()

    async def work_beside_a_timer():
        timer = asyncio.create_task(clock.sleep(3600))
        thread = asyncio.create_task(asyncio.to_thread(release.wait))
        for _ in range(3):
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(release.set)
        assert await thread
        brought_back_at = clock.now()
        await timer
        return brought_back_at

    assert clock.run(work_beside_a_timer()) == 0.0
    assert clock.now() == 3600.0


async def test_the_loop_clock_is_the_running_loops_time():
    clock = LoopClock()
    before = asyncio.get_running_loop().time()
    await clock.sleep(0)
    assert before <= clock.now() <= asyncio.get_running_loop().time()
    assert clock.wall() > 1_700_000_000


def test_the_loop_clock_outside_a_loop_says_that_none_is_running():
    with pytest.raises(RuntimeError, match="no running event loop"):
        LoopClock().now()
