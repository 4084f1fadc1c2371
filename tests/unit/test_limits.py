"""The sliding window, checked against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.routing.limits import Pace, SlidingWindow

eighths = st.integers(0, 240).map(lambda n: n / 8)  # sums of these are exact
arrivals = st.lists(st.tuples(eighths, st.integers(1, 5)), max_size=40)


def admit_all(window: SlidingWindow, gaps_and_weights) -> list[tuple[float, int]]:
    """Admit each arrival as early as the window lets it; return (time, weight)."""
    now, log = 0.0, []
    for gap, weight in gaps_and_weights:
        now += gap
        while (wait := window.wait_s(now, weight)) > 0:
            now += wait
        window.admit(now, weight)
        log.append((now, weight))
    return log


@given(arrivals, st.integers(5, 12), st.integers(1, 60))
def test_no_sliding_window_ever_holds_more_than_the_limit(gaps, limit, period):
    log = admit_all(SlidingWindow(limit, period), gaps)
    for end, _ in log:
        assert sum(weight for at, weight in log if end - period < at <= end) <= limit


@given(arrivals, st.integers(5, 12))
def test_nobody_waits_longer_than_until_enough_has_left_the_window(gaps, limit):
    window, period = SlidingWindow(limit, 10.0), 10.0
    log = admit_all(window, gaps)
    now = log[-1][0] if log else 0.0
    wait = window.wait_s(now, 3)
    if wait > 0:
        just_before = now + wait - 1 / 16
        assert sum(weight for at, weight in log if just_before - period < at <= just_before) + 3 > limit


def test_a_request_that_can_never_fit_is_an_error_not_an_endless_wait():
    with pytest.raises(ValueError, match="can never fit a limit of 100"):
        SlidingWindow(100, 60.0).wait_s(0.0, 101)


def test_settling_with_fewer_tokens_makes_room_at_once():
    window = SlidingWindow(100, 60.0)
    entry = window.admit(0.0, 90)
    assert window.wait_s(1.0, 50) == pytest.approx(59.0)
    window.correct(entry, 40)
    assert window.wait_s(1.0, 50) == 0.0


def test_settling_after_the_window_has_passed_changes_nothing():
    window = SlidingWindow(100, 60.0)
    entry = window.admit(0.0, 90)
    assert window.used(61.0) == 0
    window.correct(entry, 10)
    assert window.used(61.0) == 0


@given(st.lists(eighths, max_size=15), eighths)
def test_capacity_is_what_a_greedy_sender_gets_through(gaps, ahead):
    window, limit, period = SlidingWindow(4, 20.0), 4, 20.0
    now = max((at for at, _ in admit_all(window, [(gap, 1) for gap in gaps])), default=0.0)
    promised = window.capacity(now, now + ahead)
    sent, clock = 0, now
    while (clock := clock + window.wait_s(clock)) < now + ahead:
        window.admit(clock)
        sent += 1
    assert abs(promised - sent) <= limit
    assert promised <= (ahead // period + 1) * limit


@given(st.lists(eighths, max_size=15), eighths)
def test_capacity_is_never_more_than_what_really_passes_up_to_that_moment(gaps, ahead):
    window = SlidingWindow(4, 20.0)
    now = max((at for at, _ in admit_all(window, [(gap, 1) for gap in gaps])), default=0.0)
    promised, sent, clock = window.capacity(now, now + ahead), 0, now
    while (clock := clock + window.wait_s(clock)) <= now + ahead:
        window.admit(clock)
        sent += 1
    assert promised == sent


@given(arrivals, st.integers(5, 12), eighths, eighths, eighths)
def test_capacity_grows_with_time_and_looking_ahead_changes_nothing(gaps, limit, start, one, other):
    window = SlidingWindow(limit, 20.0)
    now = max((at for at, _ in admit_all(window, gaps)), default=0.0)
    used = window.used(now)
    short, long = (window.capacity(now + start, now + start + ahead) for ahead in sorted((one, other)))
    assert short <= long
    assert window.used(now) == used


def test_capacity_before_now_is_nothing():
    assert SlidingWindow(4, 20.0).capacity(10.0, 5.0) == 0


# Sending takes time


def test_what_is_not_sent_yet_counts_however_long_that_takes():
    window = SlidingWindow(1, 60.0)
    entry = window.admit(0.0)
    window.hold(entry)
    assert window.wait_s(1000.0) > 0
    window.stamp(entry, 1000.0)
    assert window.wait_s(1000.0) == 60.0


def test_what_is_sent_again_counts_from_the_last_time():
    window = SlidingWindow(2, 60.0)
    entry = window.admit(0.0)
    for now in (10.0, 10.0, 50.0):
        window.stamp(entry, now)
    assert (window.used(109.0), window.used(110.0)) == (1, 0)
    window.stamp(entry, 200.0)
    assert (window.used(200.0), window.used(260.0)) == (1, 0)


def test_a_request_that_is_sent_twice_at_the_same_moment_weighs_once():
    window = SlidingWindow(5, 60.0)
    entry = window.admit(0.0, 3)
    window.stamp(entry, 0.0)
    window.hold(entry)
    window.stamp(entry, 0.0)
    window.admit(30.0, 2)
    assert window.wait_s(30.0, 4) == 60.0
    assert window.capacity(30.0, 89.0) == 3


def test_a_pace_spreads_requests_and_lets_a_late_one_catch_up():
    pace, times, now = Pace(20, 200.0), [], 0.0
    for late in (0.0, 4.0, 0.0, 35.0, 0.0, 0.0):
        now += pace.wait_s(now) + late
        pace.admit(now)
        times.append(now)
    assert times == [0.0, 14.0, 20.0, 65.0, 65.0, 75.0]
