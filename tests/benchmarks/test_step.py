"""The benchmark of a step: its bound is the least there is, and it tells a scheduler that dawdles from one that does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cases import step as case
from benchmarks.runner import as_text, report
from benchmarks.virtual_step import Setting, play
from benchmarks.windows import earliest_sends, peak

SMALL = {"requests_per_minute": 20, "share": 0.18, "prompts": 16, "steps": 2}


def test_requests_go_in_bursts_of_the_limit_one_window_apart():
    assert earliest_sends(5, 7.0, limit=2, period_s=60.0) == [7.0, 7.0, 67.0, 67.0, 127.0]


def test_what_was_sent_before_counts_until_it_has_left_the_window():
    assert earliest_sends(3, 50.0, limit=2, period_s=60.0, before=[-20.0, 0.0, 10.0]) == [60.0, 70.0, 120.0]


@given(st.integers(1, 12), st.integers(1, 4), st.lists(st.integers(0, 100), max_size=4))
def test_the_bound_keeps_the_limit_and_no_request_of_it_could_go_earlier(count, limit, before):
    earlier = [float(moment) for moment in sorted(before)][-limit:]
    moments = earliest_sends(count, 100.0, limit, 60.0, earlier)
    everything = earlier + moments
    assert peak(moments, [1] * count, 60.0) <= limit
    for index, moment in enumerate(moments):
        known = everything[: len(earlier) + index]
        floor = max([100.0, *moments[:index]])
        assert moment == floor or sum(moment - 1.0 - 60.0 < other <= moment - 1.0 for other in known) >= limit


def test_the_peak_is_what_the_fullest_window_holds():
    assert peak([0.0, 30.0, 59.0, 60.0, 200.0], [5, 7, 1, 4, 11], 60.0) == 13
    assert peak([], [], 60.0) == 0


def compared(**settings):
    setting = Setting(**SMALL | settings)
    run = play(setting)
    return run, case.bounded(run, setting.requests_per_minute, setting.limits.period_s)


def test_a_step_takes_as_long_as_the_judge_and_its_limit_make_it():
    run, steps = compared()
    assert [len(step.sent) for step in run.steps] == [34, 34]
    assert run.turned_away == 0
    assert all(1.0 <= step.vs_own_window <= step.vs_bound <= 1.02 for step in steps)
    assert all(step.send_delay_s < 0.1 for step in steps)


def test_a_scheduler_that_holds_requests_back_is_found_out():
    _, steps = compared(max_in_flight=4)
    assert all(step.vs_bound > 1.2 and step.send_delay_s > 10.0 for step in steps)


def test_a_run_is_the_same_every_time_and_another_one_with_another_seed():
    first, again, other = play(Setting(**SMALL)), play(Setting(**SMALL)), play(Setting(**SMALL, seed=1))
    assert [(step.seconds, step.sent) for step in first.steps] == [(step.seconds, step.sent) for step in again.steps]
    assert [step.seconds for step in first.steps] != [step.seconds for step in other.steps]


def test_a_token_limit_of_what_was_reserved_at_most_makes_no_step_slower():
    free = play(Setting(**SMALL))
    needed = peak([sent.at for sent in free.log], [sent.reserved for sent in free.log], Setting(**SMALL).limits.period_s)
    bound, half = (play(Setting(**SMALL, tokens_per_minute=tokens)) for tokens in (needed, needed // 2))
    assert [step.seconds for step in bound.steps] == [step.seconds for step in free.steps]
    assert sum(step.seconds for step in half.steps) > sum(step.seconds for step in free.steps)


def test_what_is_judged_in_time_and_what_came_late_is_counted_against_the_deadline():
    run = play(Setting(**SMALL | {"steps": 3}, deadline_s=60.0, pause_s=60.0))
    found = case.timed(run, 60.0)
    assert found.overrun_s <= 0.1
    assert found.blocked_s <= 60.1
    assert 0 < found.judged <= 0.18
    assert 0 < found.late_calls < 34


def test_a_small_case_gives_its_figures_and_tables(monkeypatch):
    small = {"WORKLOAD": 8, "RATES": (10,), "SHARES": (0.34,), "DEADLINES_S": (120.0,), "FEW_IN_FLIGHT": (2,)}
    for name, value in small.items():
        monkeypatch.setattr(case, name, value)
    result = report("step", 1, 0)
    assert set(case.GOALS) <= set(result["figures"])
    assert "MISSED" not in as_text(result)
    rows = [line for line in result["tables"].splitlines() if line.startswith("| 10 |")]
    assert len(rows) == 5 + case.has_pipelined_mode() * len(case.PIPELINED)


@pytest.mark.parametrize("share", [0.06, 0.09, 0.18])
def test_the_reference_workload_asks_the_share_it_names(share):
    setting = Setting(requests_per_minute=1000, share=share, prompts=64, steps=1)
    assert len(play(setting).log) == 2 * int(share * 6 * 64)
