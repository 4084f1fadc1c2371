"""The circuit breaker by itself: numbers and times go in, states come out."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judgeflow.routing.breaker import NEWCOMERS_PATIENCE, PATIENCE_S, RUN, Breaker

EVEN = 0.5  # jitter that leaves a cool-down as it is


def breaker(patience=5, *, known=True):
    made = Breaker(first_s=1.0, longest_s=30.0, patience=patience)
    made.sent(1)
    if known:
        made.answered(1)
    return made


def fail(made, count, *, now=0.0, first=2):
    """Send `count` different questions and let each fail; return what each has changed."""
    for number in range(first, first + count):
        made.sent(number)
    return [made.failed(now, number, number.to_bytes(4, "little"), EVEN) for number in range(first, first + count)]


def test_different_questions_that_fail_one_after_the_other_open_it_and_it_says_so_once():
    made = breaker()
    assert fail(made, RUN + 5) == [None] * (RUN - 1) + ["opened"] + [None] * 5
    assert (made.state, made.wait_s(0.25), made.gave_up) == ("open", 0.75, False)


def test_one_answer_in_between_keeps_it_closed():
    made = breaker()
    fail(made, RUN - 1)
    made.answered(1)
    assert fail(made, RUN - 1, first=100) == [None] * (RUN - 1)
    assert made.state == "closed"


def test_one_question_that_nobody_can_answer_does_not_open_it_however_often_it_is_tried():
    made = breaker()
    for number in range(2, 100):
        made.sent(number)
        assert made.failed(0.0, number, b"poison", EVEN) is None
    assert made.wait_s(0.0) == 0


def test_after_the_cool_down_exactly_one_question_goes_out():
    made = breaker()
    fail(made, RUN)
    assert made.wait_s(1.0) == 0
    assert made.sent(50) is True
    assert (made.state, made.wait_s(1e9)) == ("half_open", math.inf)


def test_a_probe_that_is_answered_closes_it_and_one_that_fails_makes_the_next_wait_longer_up_to_a_limit():
    made = breaker(patience=100)
    fail(made, RUN)
    now, waits = 0.0, []
    for number in range(50, 58):
        waits.append(made.wait_s(now))
        now += waits[-1]
        made.sent(number)
        assert made.failed(now, number, b"q", EVEN) == "probe_failed"
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    made.sent(58)
    assert (made.answered(58), made.state, made.probes, made.open_s(now)) == ("closed", "closed", 9, now)
    fail(made, RUN, now=now, first=60)
    assert made.wait_s(now) == 1


def test_what_was_sent_before_it_opened_changes_nothing_when_it_fails_later():
    made = breaker()
    for number in range(2, 80):
        made.sent(number)
    for number in range(2, 2 + RUN):
        made.failed(0.0, number, number.to_bytes(4, "little"), EVEN)
    made.sent(80)
    assert made.answered(80) == "closed"
    assert [made.failed(5.0, number, number.to_bytes(4, "little"), EVEN) for number in range(12, 80)] == [None] * 68
    assert made.state == "closed"


def test_any_answer_closes_it_when_attempts_failed_but_after_a_refusal_only_one_to_what_was_sent_later():
    failing, refused = breaker(), breaker()
    fail(failing, RUN)
    assert failing.answered(2) == "closed"
    refused.sent(2), refused.sent(3)
    assert refused.refused(0.0, 3, EVEN) == "opened"
    assert refused.answered(2) is None
    refused.sent(4)
    assert refused.answered(4) == "closed"


def test_a_judge_is_given_up_when_as_many_probes_have_failed_as_it_has_patience():
    made, now = breaker(patience=3), 0.0
    fail(made, RUN)
    for number, gave_up in ((50, False), (51, False), (52, True), (53, True)):
        now += made.wait_s(now)
        made.sent(number)
        made.failed(now, number, b"q", EVEN)
        assert made.gave_up is gave_up
    assert made.wait_s(now) > 0
    made.sent(54)
    made.answered(54)
    assert not made.gave_up


def test_a_judge_whose_probe_hangs_for_minutes_is_given_up_with_it():
    made = breaker(patience=5)
    fail(made, RUN)
    made.sent(50)
    made.failed(PATIENCE_S - 1.0, 50, b"q", EVEN)
    assert not made.gave_up
    made.sent(51)
    made.failed(PATIENCE_S + 60.0, 51, b"q", EVEN)
    assert made.gave_up


def test_without_patience_it_is_given_up_as_soon_as_it_opens():
    made = breaker(patience=0)
    fail(made, RUN)
    assert (made.gave_up, made.wait_s(0.0)) == (True, 1.0)


@pytest.mark.parametrize("how", ["refused", "last", "never answered"])
def test_who_is_not_there_or_refuses_service_is_given_up_at_once_and_the_next_question_may_probe(how):
    made = breaker(known=how == "refused")
    made.sent(2)
    if how == "refused":
        made.refused(7.0, 2, EVEN)
    elif how == "last":
        made.failed(7.0, 2, b"q", EVEN, last=True)
    else:
        fail(made, RUN, now=7.0)
        for number in range(50, 50 + NEWCOMERS_PATIENCE):
            made.sent(number)
            made.failed(7.0, number, b"q", EVEN)
    assert (made.gave_up, made.wait_s(7.0)) == (True, 0.0)
    made.sent(60)
    made.failed(7.0, 60, b"q", EVEN)
    assert made.wait_s(7.0) >= 2.0  # but not twice without a pause


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["answer", "fail", "refuse", "leave"]), st.floats(0, 40)), max_size=60), st.integers(0, 4))
def test_whatever_happens_never_more_than_one_probe_is_out_and_every_opening_ends_only_with_an_answer(fates, patience):
    made = Breaker(first_s=1.0, longest_s=30.0, patience=patience)
    now, number, out, opened = 0.0, 0, [], False
    for fate, pause in fates:
        now += pause
        while made.wait_s(now) == 0 and len(out) < 12:
            number += 1
            was_closed = made.state == "closed"
            assert made.sent(number) is not was_closed
            out.append((number, not was_closed))
        assert sum(probe for _, probe in out) <= 1
        if fate == "leave" or not out:
            continue
        attempt, _ = out.pop(0)
        if fate == "answer":
            change = made.answered(attempt)
        elif fate == "fail":
            change = made.failed(now, attempt, attempt.to_bytes(4, "little"), EVEN)
        else:
            change = made.refused(now, attempt, EVEN)
        if change == "closed":
            out = [(other, False) for other, _ in out]
        assert (change == "opened") <= (not opened)
        assert (change == "closed") <= (opened and fate == "answer")
        opened = (opened or change == "opened") and change != "closed"
        assert opened == (made.state != "closed")
