"""Whether a run is at work can only be told by what it has written."""

import pytest

from judgeflow.store.paging import RunState
from judgeflow.store.survey import RunRow
from judgeflow.types import Cost
from judgeflow.web.desk import pace_of

NOW = 1_000_000.0


def state(*, ago=0.0, last=None, planned=None, seconds=None, reserved=0):
    run = RunRow(1, "helpful", {}, Cost(), Cost(requests=reserved), NOW - 5000)
    return RunState(run=run, steps=0, last_step=last, step_seconds=seconds, active_at=NOW - ago, planned=planned)


@pytest.mark.parametrize(
    ("facts", "pace"),
    [
        ({"ago": 1}, "running"),
        ({"ago": 59, "last": 3}, "running"),
        ({"ago": 61, "last": 3}, "quiet"),
        ({"ago": 500, "last": 3, "seconds": 200}, "running"),
        ({"ago": 601, "last": 3, "seconds": 200}, "quiet"),
        ({"ago": 1, "last": 9, "planned": 10}, "finished"),
        ({"ago": 9000, "last": 9, "planned": 10}, "finished"),
        ({"ago": 1, "last": 9, "planned": 10, "reserved": 2}, "running"),
        ({"ago": 1, "last": 8, "planned": 10}, "running"),
        ({"ago": 9000, "last": 8, "planned": 10}, "quiet"),
    ],
)
def test_a_run_is_running_while_it_writes_finished_once_its_steps_are_done_and_quiet_else(facts, pace):
    assert pace_of(state(**facts), NOW) == pace
