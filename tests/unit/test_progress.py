"""Which progress is shown to whom, and what it says."""

import io

import pytest

from judgeflow.cli.progress import _Lines, choose_look, watched
from judgeflow.cli.route_progress import RouteProgress
from judgeflow.config import BudgetConfig
from judgeflow.types import CallEvent, Cost, Outcome, Pair, Usage


@pytest.mark.parametrize(
    ("environ", "terminal", "wanted", "look"),
    [
        ({"TERM": "xterm"}, True, True, "bar"),
        ({"TERM": "dumb"}, True, True, "lines"),
        ({}, False, True, "lines"),
        ({"TERM": "xterm"}, True, False, "nothing"),
        ({"RANK": "0", "LOCAL_RANK": "1"}, True, True, "bar"),  # torchrun's RANK is the number among all processes
        ({"RANK": "1", "SLURM_PROCID": "0"}, False, True, "nothing"),
        ({"SLURM_PROCID": "2", "LOCAL_RANK": "0"}, False, True, "nothing"),
        ({"LOCAL_RANK": "1"}, True, True, "nothing"),
    ],
)
def test_a_bar_is_for_terminals_lines_for_logs_and_other_ranks_are_silent(environ, terminal, wanted, look):
    assert choose_look(environ, terminal=terminal, wanted=wanted) == look


def test_lines_come_soon_and_then_ever_more_seldom_with_speed_and_time_left_and_one_at_the_end():
    now, stream = 0.0, io.StringIO()
    tell = _Lines(stream, lambda: "loss 0.5", lambda: now)
    for second in range(1, 201):
        now = float(second)
        tell("training", 2 * second, 400)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training 2/400, loss 0.5"
    assert lines[1] == "training 6/400, 2/s, 3:17 left, loss 0.5"
    assert [int(line.split()[1].partition("/")[0]) // 2 for line in lines] == [1, 3, 7, 15, 31, 63, 123, 183, 200]
    assert lines[-1] == "training 400/400, 2/s, loss 0.5"


def test_work_of_less_than_a_second_leaves_no_line():
    stream = io.StringIO()
    tell = _Lines(stream, str, lambda: 0.5)
    assert list(watched([1, 2, 3], "playing", tell)) == [1, 2, 3]
    assert stream.getvalue() == ""


def test_where_nobody_knows_how_much_there_is_only_what_is_done_is_told():
    now, stream = 0.0, io.StringIO()
    tell = _Lines(stream, str, lambda: now)
    for second in (1, 4):
        now = float(second)
        tell("exporting", 1000 * second, 0)
    assert stream.getvalue().splitlines() == ["exporting 1,000", "exporting 4,000, 1,000/s"]


def event(error=None):
    usage = Usage(prompt=900, completion=100)
    return CallEvent(
        run="r", call_key=b"", pair_key=b"", order="canonical", outcome="ok", attempt=1, latency_s=1.0, usage=usage, usd=0.25, error=error
    )


def outcome(source):
    return Outcome(pair=Pair(prompt="p", response_a="a", response_b="b"), logit=0.0, source=source)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"usd": 5.0, "requests": 10}, "1.75/5 USD"),
        ({"tokens": 10_000}, "4,000/10,000 tokens"),
        ({"requests": 10}, "4/10 calls"),
        ({}, "4 calls"),
    ],
)
def test_what_the_run_has_spent_counts_from_its_first_command_on(budget, words):
    progress = RouteProgress(8, BudgetConfig(**budget))
    progress.spent(Cost(requests=2, tokens=2000, usd=1.25))
    for each in (event(), event(), event(error="429")):
        progress.call(each)
    assert progress.words() == f"{words}, 0 in flight"


def test_pairs_that_cost_no_time_say_nothing_of_the_speed_until_a_reply_comes():
    told = []
    progress = RouteProgress(8, BudgetConfig())
    progress.tell = lambda *what: told.append(what)
    for source in ("scorer", "scorer", "store", "judge"):
        progress.outcome(0, outcome(source))
    assert told == [("pairs", 4, 8)]
    assert progress.words() == "judged 50%, 0 calls, 0 in flight"
