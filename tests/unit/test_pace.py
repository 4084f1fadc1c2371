"""Whether a run is at work can only be told by what it has written."""

import pytest

from judgeflow.ports import OPEN_FOR_S
from judgeflow.report.news import news_of
from judgeflow.store.runs import PACES, RunRow, Standing, longest_reply_s, pace_of
from judgeflow.types import Cost

NOW = 1_000_000.0
JUDGE = {"retry_for_s": 600.0, "timeout_s": 120.0}


def state(*, ago=0.0, last=None, steps=None, planned=None, seconds=None, reserved=0, unended=None, repeats=False, config=None):
    """A run whose steps are numbered from 0, if nothing else is said."""
    run = RunRow(1, "helpful", {"judge": JUDGE} if config is None else config, Cost(), Cost(requests=reserved), NOW - 5000)
    ended = steps if steps is not None else 0 if last is None else last + 1
    facts = {"steps": ended, "last_step": last, "step_seconds": seconds, "planned": planned, "unended": unended, "repeats": repeats}
    return Standing(run=run, active_at=NOW - ago, **facts)


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


@pytest.mark.parametrize(
    ("facts", "pace"),
    [
        ({"ago": 9000, "last": 9, "steps": 9, "planned": 10}, "quiet"),
        ({"ago": 9000, "last": 9, "steps": 9, "planned": 10, "unended": 10}, "interrupted"),
        ({"ago": 1, "last": 9, "steps": 9, "planned": 10, "unended": 10}, "running"),
        ({"ago": 1, "last": 10, "steps": 10, "planned": 10}, "finished"),
        ({"ago": 1, "last": 503, "steps": 4, "planned": 10}, "running"),
        ({"ago": 1, "last": 7, "steps": 10, "planned": 10}, "finished"),
        ({"ago": 9000, "last": 9, "planned": 10, "unended": 10}, "interrupted"),
        ({"ago": 1, "last": 4, "steps": 10, "planned": 10, "repeats": True}, "running"),
        ({"ago": 9000, "last": 4, "steps": 10, "planned": 10, "repeats": True}, "quiet"),
    ],
    ids=[
        *(
            "numbered from 1, before the last",
            "numbered from 1, killed in the last",
            "numbered from 1, in the last",
            "numbered from 1, done",
        ),
        *(
            "numbered from 500",
            "the last to end is not the highest",
            "killed in one more than planned",
            "gone back to 4",
            "stopped after 4",
        ),
    ],
)
def test_a_run_is_finished_by_the_steps_that_have_ended_and_not_by_their_numbers(facts, pace):
    assert pace_of(state(**facts), NOW) == pace


@pytest.mark.parametrize(
    ("facts", "pace"),
    [
        ({"ago": 59, "unended": 4}, "running"),
        ({"ago": 719, "unended": 4}, "quiet"),
        ({"ago": 721, "unended": 4}, "interrupted"),
        ({"ago": 721, "unended": 4, "seconds": 300}, "running"),
        ({"ago": 901, "unended": 4, "seconds": 300}, "interrupted"),
        ({"ago": 721, "unended": 4, "config": {}}, "quiet"),
        ({"ago": OPEN_FOR_S + 1, "unended": 4, "config": {}}, "interrupted"),
    ],
)
def test_a_step_that_does_not_end_is_interrupted_once_nothing_has_come_for_longer_than_a_reply_takes(facts, pace):
    assert pace_of(state(last=3, reserved=2, **facts), NOW) == pace


@pytest.mark.parametrize(("facts", "pace"), [({}, "quiet"), ({"planned": 4}, "finished")])
def test_what_a_killed_process_has_put_aside_proves_nothing_about_the_one_that_went_on(facts, pace):
    assert pace_of(state(ago=9000, last=3, reserved=2, **facts), NOW) == pace


def test_the_most_patient_judge_tells_how_long_a_reply_may_take():
    assert longest_reply_s({"judge": JUDGE}) == 720.0
    assert longest_reply_s({"judges": {"a": JUDGE, "b": JUDGE | {"timeout_s": 400.0}}}) == 1000.0
    assert longest_reply_s({"judge": {"model": "m"}}) == OPEN_FOR_S


def test_every_pace_is_told_in_words_of_its_own():
    told = {pace: news_of(state(ago=800, last=3, planned=9, unended=4), pace) for pace in PACES}
    assert {pace: words.split()[0].strip(":").lower() for pace, words in told.items()} == {pace: pace for pace in PACES}
    assert told["interrupted"] == (
        "Interrupted in step 4 after 1970-01-12 13:33 UTC: step 3 has ended (9 steps are planned), 0 replies paid for. "
        "No reply takes longer than 12 min."
    )
