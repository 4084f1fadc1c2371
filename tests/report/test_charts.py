"""Charts: what is drawn, the sentence beside it, and the table under it say the same, and are what the figures say."""

import json
import math
from dataclasses import replace

import pytest
from made_figures import HOSTILE, a_hostile_run, a_judge, a_run, a_step

from judgeflow.report.charts import charts_of
from judgeflow.report.figures import Forecast, Lift, MinuteFigures
from judgeflow.report.thinning import MOST_POINTS
from judgeflow.types import Cost, Stock


def charts(run):
    return {chart.id: chart for chart in charts_of(run)}


def curve(chart, name):
    return next(each for each in chart.figure["data"] if each["name"] == name)


def column(chart, name):
    place = chart.table.columns.index(name)
    return [row[place] for row in chart.table.rows]


@pytest.mark.parametrize("length", [1, 2, 40, 3000])
def test_every_chart_is_json_with_a_sentence_and_a_table_of_its_numbers(length):
    found = charts(a_run(length))

    assert list(found) == ["budget", "sources", "share", "uncertainty", "load", "waiting", "consistency", "lift"]
    for chart in found.values():
        assert json.loads(json.dumps(chart.figure, allow_nan=False))["data"]
        assert chart.text.endswith(".")
        assert chart.table.rows
        assert {len(row) for row in chart.table.rows} == {len(chart.table.columns)}


def test_a_run_that_has_not_begun_has_nothing_to_show():
    nothing = Lift(routed=None, audited=None, difference=None, per_hundred=None, per_hundred_at_random=None)
    assert charts_of(a_run(steps=(), judges=(), forecast=None, lift=nothing)) == ()


def test_the_budget_burns_down_and_goes_on_as_forecast():
    budget = charts(a_run(40, forecast=Forecast(kind="requests", steps_left=10.0, seconds_left=7200.0, steps_wanted=30)))["budget"]

    left = curve(budget, "requests")["y"]
    assert left[0] > left[-1] == pytest.approx(0.38)
    ahead = curve(budget, "requests, forecast")
    assert (ahead["x"], ahead["y"]) == ([39, 49], [pytest.approx(0.38), pytest.approx(0.0)])
    assert "38% of 10,000 requests and 53% of $25.00 are left" in budget.text
    assert "requests last for 10 more steps (2 h), 30 steps are still wanted." in budget.text


def test_a_far_forecast_leaves_the_past_its_room():
    budget = charts(a_run(10, forecast=Forecast(kind="usd", steps_left=1e6, seconds_left=None)))["budget"]

    ahead = curve(budget, "dollars, forecast")
    assert ahead["x"] == [9, 29]
    assert ahead["y"][1] == pytest.approx(ahead["y"][0], rel=1e-4)


def test_without_a_budget_paid_replies_are_shown():
    steps = [replace(a_step(number), remaining={}, spent=Cost(requests=number)) for number in range(5)]
    budget = charts(a_run(steps=tuple(steps), stock=Stock(), forecast=None))["budget"]

    assert curve(budget, "paid replies")["y"] == [0, 1, 2, 3, 4]
    assert "No budget is set. 10 replies were paid for in 5 steps." in budget.text


def test_sources_of_a_step_add_up_and_a_fallback_says_why():
    sources = charts(a_run(20))["sources"]

    shares = [each["y"] for each in sources.figure["data"]]
    assert all(sum(parts) == pytest.approx(1, abs=1e-4) for parts in zip(*shares, strict=True))
    assert column(sources, "fallback (judge_unreachable)")[5] == 7
    assert column(sources, "fallback (deadline)")[5] == 2
    assert "fallback" not in sources.table.columns


def test_a_fallback_without_a_status_is_a_fallback_all_the_same():
    step = replace(a_step(0), sources={"judge": 10, "fallback": 5}, statuses={"ok": 12, "deadline": 3})
    sources = charts(a_run(steps=(step,)))["sources"]

    assert dict(zip(sources.table.columns, sources.table.rows[0], strict=True)) == {
        "step": 0,
        "judge": 10,
        "fallback (deadline)": 3,
        "fallback": 2,
    }


def test_steps_without_a_threshold_or_an_uncertainty_are_drawn_without():
    steps = tuple(replace(a_step(number), threshold=None, uncertainty=None, acquisition=None) for number in range(3))
    found = charts(a_run(steps=steps))

    assert "uncertainty" not in found
    assert "yaxis2" not in found["share"].figure["layout"]
    assert "No threshold decided." in found["share"].text


def test_steps_whose_decisions_are_gone_are_gaps():
    steps = (a_step(0), replace(a_step(1), asked=None, audits=None, uncertainty=None, acquisition=None), a_step(2))
    found = charts(a_run(steps=steps, asked=None))

    assert curve(found["share"], "asked about")["y"][1] is None
    assert column(found["share"], "share asked about")[1] is None
    assert column(found["uncertainty"], "step") == [0, 2]
    assert "were to be asked about" not in found["share"].text


def test_load_is_told_against_the_limits_of_every_judge():
    other = replace(a_judge("other", scale=0.5), tokens_per_minute=None)
    load = charts(a_run(judges=(a_judge(), other)))["load"]

    assert "gpt-4.1-judge: at most 88 requests (98% of the limit)" in load.text
    assert "tokens (no limit set) in a minute" in load.text
    limits = [each for each in load.figure["data"] if each["name"].endswith("limit")]
    assert [(each["name"], each["yaxis"], each["y"]) for each in limits] == [
        ("gpt-4.1-judge, limit", "y", [90, 90]),
        ("gpt-4.1-judge, limit", "y2", [60000, 60000]),
        ("other, limit", "y", [45, 45]),
    ]


def test_the_backlog_is_that_of_all_judges_together():
    first = MinuteFigures(start=0.0, requests=1, tokens=1, backlog=4)
    other = MinuteFigures(start=60.0, requests=1, tokens=1, backlog=5)
    judges = (replace(a_judge("one"), minutes=(first,)), replace(a_judge("two"), minutes=(first, other)))
    waiting = charts(a_run(judges=judges))["waiting"]

    assert curve(waiting, "open questions")["y"] == [8, 9, 9]
    assert "At most 9 questions were open at once." in waiting.text


def test_a_run_within_one_minute_has_a_level_to_see_and_no_backlog_is_no_panel():
    minute = MinuteFigures(start=60.0, requests=7, tokens=70, backlog=0)
    found = charts(a_run(2, judges=(replace(a_judge("one"), minutes=(minute,)),)))

    level = curve(found["load"], "one")
    assert (level["x"], level["y"]) == (["1970-01-01 00:01:00", "1970-01-01 00:02:00"], [7, 7])
    assert "yaxis2" not in found["waiting"].figure["layout"]


def test_a_budget_that_is_spent_is_said_to_be():
    budget = charts(a_run(3, forecast=Forecast(kind="requests", steps_left=0.0, seconds_left=0.0, steps_wanted=0)))["budget"]

    assert "No requests are left for another step." in budget.text
    assert not any("forecast" in each["name"] for each in budget.figure["data"])


def test_a_judge_nobody_can_judge_yet_is_not_drawn_but_stands_in_the_table():
    new = replace(a_judge("new"), agree=None, first=None)
    found = charts(a_run(judges=(a_judge(), new)))["consistency"]

    assert all(each["y"] == ["gpt-4.1-judge"] for each in found.figure["data"])
    assert found.table.rows[1] == ("new", *(None,) * 8)


def test_intervals_reach_from_their_low_to_their_high_end():
    run = a_run()
    point = charts(run)["lift"].figure["data"][0]

    assert point["x"][0] - point["error_x"]["arrayminus"][0] == pytest.approx(run.lift.routed.low, abs=1e-4)
    assert point["x"][0] + point["error_x"]["array"][0] == pytest.approx(run.lift.routed.high, abs=1e-4)
    assert "+14.0 points (+8.0 to +20.0)" in charts(run)["lift"].text


def test_a_run_of_thousands_of_steps_is_drawn_in_some_hundred_kilobytes_and_says_so():
    found = charts(a_run(3000))

    assert len(column(found["budget"], "step")) == MOST_POINTS
    assert column(found["budget"], "step")[-1] == 2999
    assert all("Each point stands for 15 steps." in found[name].text for name in ("budget", "sources", "share", "uncertainty", "waiting"))
    assert "A point is the fullest of several minutes." in found["load"].text
    assert len(json.dumps([chart.figure for chart in found.values()])) < 250_000


def test_names_of_others_reach_plotly_escaped_and_short():
    for chart in charts_of(a_hostile_run()):
        for series in chart.figure["data"]:
            for name in [series["name"], *(each for each in series["y"] if isinstance(each, str))]:
                assert "<" not in name
                assert len(name) < 120
        assert HOSTILE not in chart.text


def test_a_number_that_is_none_draws_a_gap_instead_of_breaking_the_page():
    steps = (a_step(0), replace(a_step(1), waited_s={"p50": math.nan, "max": 3.0}), a_step(2))
    waiting = charts(a_run(steps=steps))["waiting"]

    assert curve(waiting, "median")["y"][1] is None
    assert curve(waiting, "90%")["y"][1] is None
