"""Structured logs: what they hold, and what they never hold."""

import json
import os
import subprocess
import sys

import pytest

from judgeflow.config import LogConfig
from judgeflow.engine.events import Observers
from judgeflow.errors import ConfigurationError
from judgeflow.observe.log import console_log, file_log
from judgeflow.testing import Watcher
from judgeflow.types import CallEvent, Cost, StepStatistics, Usage

CALL = CallEvent(
    run="r",
    call_key=b"\x01" * 32,
    pair_key=b"\x02" * 32,
    order="swapped",
    outcome="ok",
    attempt=2,
    latency_s=1.23456789,
    usage=Usage(prompt=100, completion=20, reasoning=5),
    usd=0.001,
)
STEP = StepStatistics(
    run="r",
    step=3,
    pairs=10,
    threshold=None,
    sources={"judge": 4, "scorer": 6},
    statuses={"ok": 10},
    calls=8,
    spent=Cost(requests=8, tokens=960, usd=0.008),
    prompt_tokens=800,
    completion_tokens=160,
    agreement=2 / 3,
    latency_s={"p50": 1.0},
    remaining={"requests": 92, "tokens": None},
    seconds=2.0,
)


def written(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_event_is_one_json_line_with_time_level_and_every_figure(tmp_path):
    log = file_log(LogConfig(), tmp_path / "run.log")
    log.call(CALL)
    log.step(STEP)
    log.notice("budget_spent", requests_left=0)
    log.close()
    call, step, notice = written(tmp_path / "run.log")
    assert (call["event"], call["call"], call["order"], call["attempt"]) == ("call", "01" * 8, "swapped", 2)
    assert (call["prompt_tokens"], call["completion_tokens"], call["reasoning_tokens"]) == (100, 20, 5)
    assert "error" not in call
    assert (step["event"], step["sources"], step["calls"], step["tokens"]) == ("step", {"judge": 4, "scorer": 6}, 8, 960)
    assert (step["remaining"], step["latency_s"]) == ({"requests": 92}, {"p50": 1.0})
    assert (notice["event"], notice["level"], notice["requests_left"]) == ("budget_spent", "warning", 0)
    assert all(event["timestamp"].endswith("Z") for event in (call, step, notice))


def test_what_foreign_code_says_does_not_end_the_log(tmp_path):
    log = file_log(LogConfig(), tmp_path / "run.log")
    log.notice("scorer_failed", error="half an emoji: \ud83d", count=2**80, odd={1, 2})
    log.step(STEP)
    log.close()
    odd, step = written(tmp_path / "run.log")
    assert (odd["error"], odd["count"], odd["odd"]) == ("half an emoji: \ud83d", 2**80, "{1, 2}")
    assert step["event"] == "step"


def test_a_second_run_appends_to_the_file(tmp_path):
    for _ in range(2):
        log = file_log(LogConfig(), tmp_path / "run.log")
        log.step(STEP)
        log.close()
    assert len(written(tmp_path / "run.log")) == 2


def test_a_level_leaves_lesser_events_out(tmp_path):
    log = file_log(LogConfig(level="warning"), tmp_path / "run.log")
    log.call(CALL)
    log.step(STEP)
    log.notice("judge_stopped", error="401")
    log.close()
    assert [event["event"] for event in written(tmp_path / "run.log")] == ["judge_stopped"]


def test_a_log_file_that_cannot_be_opened_names_the_setting(tmp_path):
    with pytest.raises(ConfigurationError, match=r"\[log\] path: .*no/such.*cannot be written"):
        file_log(LogConfig(), tmp_path / "no/such" / "run.log")


def test_the_console_format_is_lines_for_people(tmp_path):
    log = file_log(LogConfig(format="console"), tmp_path / "run.log")
    log.step(STEP)
    log.close()
    assert "step=3" in (tmp_path / "run.log").read_text()


def test_the_terminal_shows_steps_and_notices_and_attempts_only_when_debugging(capsys):
    for level, expected in (("info", 2), ("debug", 3)):
        log = console_log(LogConfig(level=level))
        log.call(CALL)
        log.step(STEP)
        log.notice("scorer_failed", error="nan")
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == expected
    assert "sources='judge 4, scorer 6'" in lines[1]
    assert "agreement=0.667" in lines[1]
    assert "threshold" not in lines[1]


def test_a_notice_about_one_of_several_judges_has_its_id_as_calls_do_and_its_seat():
    told = Watcher()
    observers = Observers([told])
    observers.naming("gpt@api", "judges.reserve")("judge_opened", error="down")
    observers.naming("gpt@api", "gpt@api")("judge_closed")
    assert told.notices == [
        ("judge_opened", {"judge": "gpt@api", "seat": "judges.reserve", "error": "down"}),
        ("judge_closed", {"judge": "gpt@api"}),
    ]


# Rotation: what docs/logs.md says


def test_a_log_that_is_truncated_in_place_goes_on_at_its_beginning(tmp_path):
    path = tmp_path / "run.log"
    log = file_log(LogConfig(), path)
    log.step(STEP)
    copy = path.read_bytes()
    os.truncate(path, 0)
    log.call(CALL)
    log.close()
    assert json.loads(copy)["event"] == "step"
    assert [event["event"] for event in written(path)] == ["call"]


def test_a_log_that_is_renamed_takes_the_running_process_along_and_the_next_one_begins_anew(tmp_path):
    path, old = tmp_path / "run.log", tmp_path / "run.log.1"
    log = file_log(LogConfig(), path)
    log.step(STEP)
    path.rename(old)
    log.call(CALL)
    assert not path.exists()
    log.close()
    after = file_log(LogConfig(), path)
    after.notice("budget_spent")
    after.close()
    assert [event["event"] for event in written(old)] == ["step", "call"]
    assert [event["event"] for event in written(path)] == ["budget_spent"]


@pytest.mark.slow
def test_lines_of_several_processes_stay_whole(tmp_path):
    program = """
from pathlib import Path
from judgeflow.config import LogConfig
from judgeflow.observe.log import file_log
log = file_log(LogConfig(), Path("run.log"))
for number in range(500):
    log.notice("other", number=number, padding="x" * 7 * number)
log.close()
"""
    log, count = file_log(LogConfig(), tmp_path / "run.log"), 0
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path) as process:
        while process.poll() is None:
            log.notice("one", number=count, padding="x" * (count % 3000))
            count += 1
    log.close()
    numbers = {who: [event["number"] for event in written(tmp_path / "run.log") if event["event"] == who] for who in ("one", "other")}
    assert numbers == {"one": list(range(count)), "other": list(range(500))}
