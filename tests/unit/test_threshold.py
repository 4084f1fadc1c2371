"""What a step can hope for: expected costs, latencies, and what comes back in time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.routing.threshold import Experience, in_time, slow, with_headroom
from judgeflow.types import Cost, Stock

WORST = Cost(requests=2, tokens=1000, usd=0.5)
counts = st.one_of(st.none(), st.integers(0, 500))
windows = st.builds(Stock, requests=counts, tokens=counts)
queues = st.builds(Cost, requests=st.integers(0, 50), tokens=st.integers(0, 500))
seconds = st.floats(-10, 500)


def learned(*shares: float) -> Experience:
    experience = Experience()
    for share in shares:
        actual = Cost(requests=1, tokens=round(1000 * share), usd=0.5 * share)
        hear(experience, reserved=Cost(requests=1, tokens=1000, usd=0.5), actual=actual)
    return experience


def hear(experience, *, latency_s=1.0, now=0.0, number=1, reserved=Cost(), actual=Cost()):  # noqa: B008
    experience.learn(now=now, number=number, latency_s=latency_s, reserved=reserved, actual=actual)


def test_before_anything_is_known_the_worst_case_is_expected():
    assert Experience().expected(WORST) == WORST


def test_replies_that_took_a_fifth_of_what_was_put_aside_are_expected_to_go_on_so_and_requests_stay_exact():
    expected = learned(0.1, 0.3).expected(WORST)
    assert expected.requests == 2
    assert expected.tokens == pytest.approx(200, abs=2)
    assert expected.usd == pytest.approx(0.1, abs=0.001)


def test_a_judge_that_becomes_wordy_is_noticed():
    assert learned(*[0.1] * 500, *[0.9] * 300).expected(WORST).tokens > 850


def test_without_a_price_dollars_are_no_object():
    experience = Experience()
    hear(experience, reserved=Cost(requests=1, tokens=10), actual=Cost(requests=1, tokens=5))
    assert experience.expected(Cost(requests=1, tokens=10)) == Cost(requests=1, tokens=5)


@pytest.mark.parametrize(("deadline_s", "expected"), [(600.0, 120.0), (60.0, 30.0)])
def test_an_unknown_latency_is_the_timeout_but_at_most_half_of_the_deadline(deadline_s, expected):
    assert Experience().latency_s(120.0, deadline_s, now=0.0) == expected


def test_a_known_latency_is_that_of_the_slower_replies():
    experience = Experience()
    for latency in range(1, 101):
        hear(experience, latency_s=float(latency), number=latency)
    assert experience.latency_s(500.0, 500.0, now=0.0) == slow([float(n) for n in range(1, 101)]) == 90.0


def test_a_burst_whose_slow_replies_come_last_is_judged_by_what_was_sent_last_not_by_what_came_last():
    """1,000 requests sent at one moment, and answered in an order of their own: the quick ones first."""
    experience = Experience()
    sent = random.Random(0).sample(range(1000), 1000)
    for latency, number in enumerate(sent):
        hear(experience, latency_s=float(latency), number=number)
    assert experience.latency_s(5000.0, 5000.0, now=0.0) == pytest.approx(900, abs=60)


def test_what_a_judge_took_ten_minutes_ago_counts_until_something_newer_is_heard():
    experience = Experience()
    for number in range(100):
        hear(experience, latency_s=90.0, number=number)
    assert (experience.latency_s(120.0, 60.0, now=700.0), experience.is_old(700.0), experience.is_old(500.0)) == (90.0, True, False)
    hear(experience, latency_s=5.0, number=100, now=700.0)
    assert (experience.latency_s(120.0, 60.0, now=700.0), experience.is_old(700.0)) == (5.0, False)


def wave(windows: Stock, queued: Cost = Cost(), *, under_way: int = 0, seconds: float = 60.0, latency_s: float = 20.0) -> Stock:  # noqa: B008
    return in_time(windows, queued, under_way=under_way, max_in_flight=10, seconds=seconds, latency_s=latency_s)


def test_requests_pass_in_waves_of_what_may_be_in_flight():
    assert wave(Stock()) == Stock(requests=30)
    assert wave(Stock(), under_way=7).requests == 23
    assert wave(Stock(), seconds=19.9).requests == 0
    assert wave(Stock(), latency_s=0.0) == Stock()


def test_what_is_queued_goes_first():
    assert wave(Stock(requests=25, tokens=1000), Cost(requests=5, tokens=400)) == Stock(requests=20, tokens=600)
    assert wave(Stock(requests=3, tokens=100), Cost(requests=5, tokens=400)) == Stock(requests=0, tokens=0)


def test_a_request_weighs_its_worst_case_in_the_token_window_until_its_reply_is_there():
    """A fifth of the worst case, there after a third of a minute: on average 1/3 x 1 + 2/3 x 1/5 = 7/15 of the worst case."""
    tokens = Stock(tokens=1000)
    assert wave(tokens, seconds=120.0).tokens == 1000
    assert in_time(tokens, Cost(), under_way=0, max_in_flight=10, seconds=120.0, latency_s=20.0, token_share=0.2).tokens == 428
    assert in_time(tokens, Cost(), under_way=0, max_in_flight=10, seconds=30.0, latency_s=20.0, token_share=0.2).tokens == 200


@given(windows, queues, st.integers(0, 64), st.integers(1, 64), seconds, st.floats(0, 100))
def test_no_more_is_promised_than_the_windows_admit(admitted, queued, under_way, max_in_flight, left, latency_s):
    promised = in_time(admitted, queued, under_way=under_way, max_in_flight=max_in_flight, seconds=left, latency_s=latency_s)
    assert promised.usd is None
    for bound, value in ((admitted.requests, promised.requests), (admitted.tokens, promised.tokens)):
        assert bound is None or 0 <= value <= bound


@given(windows, queues, st.integers(0, 64), seconds, seconds, st.floats(0, 100), st.floats(0, 2))
def test_with_more_time_no_less_is_promised(admitted, queued, under_way, one, other, latency_s, token_share):
    short, long = (
        in_time(admitted, queued, under_way=under_way, max_in_flight=8, seconds=left, latency_s=latency_s, token_share=token_share)
        for left in sorted((one, other))
    )
    assert (short.requests is None) == (long.requests is None)
    assert short.requests is None or short.requests <= long.requests
    assert short.tokens is None or short.tokens <= long.tokens


def test_the_last_reservation_still_fits_where_costs_are_planned_at_less_than_the_worst_case():
    headroom = Cost(tokens=800, usd=0.25)
    assert with_headroom(Stock(tokens=5000), Stock(tokens=5000), headroom) == Stock(tokens=4200)
    assert with_headroom(Stock(requests=9, tokens=1000), Stock(requests=9, tokens=5000), headroom) == Stock(requests=9, tokens=1000)
    assert with_headroom(Stock(usd=0.2), Stock(usd=0.2), headroom) == Stock(usd=0.0)
    assert with_headroom(Stock(), Stock(), headroom) == Stock()
