"""Reports of benchmark cases: for people, for programs, and on paper."""

import json

import pytest

from benchmarks import runner
from benchmarks.real_data import judged_credit, recorded_choice
from judgeflow import Pair


def test_a_case_without_its_data_is_skipped_in_words_and_in_json(monkeypatch, tmp_path):
    monkeypatch.setenv("JUDGEFLOW_DATA", str(tmp_path / "nowhere"))
    result = runner.report("uncertainty_quality", None, 0)
    assert "skipped: no data" in runner.as_text(result)
    told = json.loads(runner.as_json(result))
    assert told["figures"] == {}
    assert told["skipped"].startswith("no data")


def test_a_report_says_which_goals_are_reached_and_json_leaves_the_tables_out():
    result = {
        "case": "scoring",
        "figures": {"fast": 1.5, "good": 0.7},
        "goals": {"fast": {"op": "<=", "value": 2.0}, "good": {"op": ">=", "value": 0.8}},
        "size": 1,
        "seed": 0,
        "machine": "here",
        "versions": {"python": "3"},
        "tables": "| a |",
    }
    fast, good = runner.as_text(result).splitlines()[1:]
    assert "1.5" in fast
    assert fast.endswith("reached")
    assert good.endswith("MISSED")
    assert "tables" not in json.loads(runner.as_json(result))


def test_a_written_report_states_its_command_and_holds_the_tables(tmp_path):
    result = {
        "case": "scoring",
        "figures": {"fast": 1.5},
        "goals": {"fast": {"op": "<=", "value": 2.0}},
        "size": 1,
        "seed": 7,
        "machine": "here",
        "versions": {"python": "3"},
        "tables": runner.table(["a", "b"], [["1", "2"]]),
    }
    text, data = runner.write(result, tmp_path / "results", "python -m benchmarks scoring --write")
    assert "`python -m benchmarks scoring --write` (seed 7), on here" in text.read_text()
    assert "| fast | 1.5 | <= 2: reached |" in text.read_text()
    assert "| a | b |\n| --- | --- |\n| 1 | 2 |" in text.read_text()
    assert json.loads(data.read_text())["figures"] == {"fast": 1.5}
    assert text.name.endswith("-scoring.md")


def judged(**winners):
    judge = {"j": {order: {"winner": winner} for order, winner in winners.items()}}
    return Pair(prompt="p", response_a="x", response_b="y", label="a", metadata={"judge": judge})


@pytest.mark.parametrize(
    ("winners", "choice"),
    [
        (("a", "a"), "a"),
        (("b", "tie"), "b"),
        (("tie", "tie"), "tie"),
        (("a", "b"), "inconsistent"),
        ((None, "b"), "b"),
        ((None, None), None),
    ],
)
def test_two_recorded_orders_make_one_choice(winners, choice):
    assert recorded_choice(judged(order_ab=winners[0], order_ba=winners[1]), "j") == choice


def test_a_judge_that_was_not_recorded_says_nothing():
    assert recorded_choice(judged(order_ab="a"), "another") is None


def test_a_judge_that_contradicts_itself_or_is_silent_leaves_the_scorer_its_credit():
    pair = judged(order_ab="a")
    assert [judged_credit(pair, choice, 0.0) for choice in ("a", "b", "tie", "inconsistent", None)] == [1.0, 0.0, 0.5, 0.0, 0.0]
    assert judged_credit(pair, "inconsistent", 1.0) == 1.0
