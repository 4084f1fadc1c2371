"""Many steps and minutes in few: nothing is lost of what adds up, and peaks stay."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_figures import a_step

from judgeflow.report.figures import MinuteFigures, Spread
from judgeflow.report.thinning import bundled, merged, thinned_minutes, thinned_steps


def minutes(*requests, start=0.0):
    return [MinuteFigures(start=start + 60.0 * place, requests=n, tokens=10 * n, backlog=1) for place, n in enumerate(requests)]


@given(st.integers(0, 500), st.integers(1, 50))
def test_bundles_hold_everything_once_and_in_order(length, most):
    found = bundled(range(length), most)

    assert [each for bundle in found for each in bundle] == list(range(length))
    assert len(found) <= most
    assert len({len(bundle) for bundle in found[:-1]}) <= 1


def test_few_steps_stay_as_they_are():
    steps = tuple(a_step(number) for number in range(7))
    assert thinned_steps(steps, 7) == steps


def test_what_is_not_known_of_one_step_is_not_known_of_its_bundle():
    assert merged([a_step(0), replace(a_step(1), asked=None)]).asked is None


def test_counts_add_up_and_the_last_step_says_what_remains():
    steps = [a_step(number) for number in range(30)]
    thin = thinned_steps(steps, 4)

    assert len(thin) == 4
    assert sum(step.pairs for step in thin) == sum(step.pairs for step in steps)
    assert sum(sum(step.sources.values()) for step in thin) == sum(sum(step.sources.values()) for step in steps)
    assert sum(step.spent.requests for step in thin) == sum(step.spent.requests for step in steps)
    assert thin[-1].remaining == steps[-1].remaining
    assert [step.step for step in thin] == [7, 15, 23, 29]


def test_averages_weigh_what_they_are_about_and_skip_what_is_not_known():
    one = replace(a_step(0), pairs=100, threshold=1.0, waited_s={"max": 9.0}, uncertainty=Spread(quantiles=(1.0,) * 5, of=30))
    two = replace(a_step(1), pairs=300, threshold=2.0, waited_s={"p50": 2.0, "max": 4.0}, uncertainty=Spread(quantiles=(2.0,) * 5, of=10))
    none = replace(a_step(2), pairs=50, threshold=None, waited_s={}, uncertainty=None)
    found = merged([one, two, none])

    assert found.threshold == pytest.approx(1.75)
    assert found.waited_s == {"p50": pytest.approx(2.0), "max": 9.0}
    assert found.uncertainty == Spread(quantiles=(pytest.approx(1.25),) * 5, of=40)


def test_the_fullest_minute_is_kept():
    found = thinned_minutes(minutes(*[1] * 500, 99, *[1] * 500), 50)

    assert len(found) <= 51
    assert max(minute.requests for minute in found) == 99


def test_a_pause_is_empty_instead_of_a_slope_from_one_end_to_the_other():
    found = thinned_minutes([*minutes(5, 6), *minutes(7, start=6000.0)])

    assert [(minute.start, minute.requests) for minute in found] == [(0.0, 5), (60.0, 6), (120.0, 0), (5940.0, 0), (6000.0, 7)]
    assert {minute.backlog for minute in found} == {1}
