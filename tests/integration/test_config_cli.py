"""`judgeflow config`, `doctor` and `logs`, as somebody types them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib

import pytest
from typer.testing import CliRunner

from judgeflow.build import build_scheduler
from judgeflow.cli.app import app
from judgeflow.cli.overrides import overrides
from judgeflow.config import load_config
from judgeflow.errors import ConfigurationError, UsageError
from judgeflow.testing import FakeJudge, JudgeLimits, serve_in_thread

SETTINGS = """\
[judge]
base_url = "{base_url}"
model = "fake-judge"
extra_body = {{top_p = 0.9, tags = ["a", "b"]}}

[judges.local]
base_url = "{base_url}"
model = "small"

[judges.local.limits]
requests_per_minute = 20

[routing]
policy = "always"

[store]
url = "verdicts.db"
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judgeflow.toml").write_text(SETTINGS.format(base_url="http://127.0.0.1:1/v1"))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


# config


def test_what_config_show_prints_is_a_configuration_that_says_the_same(here):
    shown = run("config", "show").stdout
    (here / "again.toml").write_text(shown)
    assert load_config(here / "again.toml", environ={}) == load_config(here / "judgeflow.toml", environ={})


def test_config_show_names_where_each_value_was_set(here, monkeypatch):
    monkeypatch.setenv("JUDGEFLOW_BUDGET__REQUESTS", "500")
    sections = json.loads(run("config", "show", "--json", "--set", "routing.seed=3").stdout)
    assert sections["budget"]["requests"] == {"value": 500, "origin": "environment variable JUDGEFLOW_BUDGET__REQUESTS"}
    assert sections["routing"]["seed"] == {"value": 3, "origin": "--set routing.seed"}
    assert sections["judges.local.limits"]["requests_per_minute"] == {"value": 20, "origin": "judgeflow.toml:11"}
    assert sections["limits"]["max_in_flight"] == {"value": 64, "origin": "default"}


def test_config_show_is_toml_with_its_origins_as_comments(here):
    lines = run("config", "show").stdout.splitlines()
    assert next(line for line in lines if line.startswith("model")).endswith("# judgeflow.toml:3")
    assert "# temperature is not set" in lines
    assert tomllib.loads("\n".join(lines))["judge"]["extra_body"] == {"top_p": 0.9, "tags": ["a", "b"]}


def test_config_check_warns_of_what_is_seldom_meant(here):
    result = run("config", "check")
    assert result.exit_code == 0
    assert "warning: [budget]: nothing limits what a run may cost" in result.stdout
    assert "warning: [limits]: no rate limit is kept" in result.stdout
    assert "[judges.local.limits]: no rate" not in result.stdout
    assert result.stdout.endswith("judgeflow.toml is sound\n")


def test_config_check_has_nothing_to_say_about_a_careful_configuration(here):
    careful = ["--set", "budget.requests=10", "--set", "limits.requests_per_minute=10"]
    assert json.loads(run("config", "check", "--json", *careful).stdout) == {"config": "judgeflow.toml", "ok": True, "warnings": []}


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("judge.api_key_env=NOBODY_SETS_THIS", "NOBODY_SETS_THIS is not set"),
        ("judge.template=missing.toml", "missing.toml cannot be read"),
        ("scorer.path=nowhere", "nowhere is no folder"),
        ("judge.modle=x", "did you mean model?"),
        ("log.path=nowhere/run.log", "[log] path: nowhere/run.log cannot be written: No such file or directory; name a file in a folder"),
        (
            "log.tensorboard=judgeflow.toml/board",
            "[log] tensorboard: judgeflow.toml/board cannot be written: Not a directory; name a folder",
        ),
    ],
)
def test_config_check_finds_what_a_run_would_stop_at(here, setting, named):
    result = run("config", "check", "--set", setting)
    assert isinstance(result.exception, ConfigurationError)
    assert named in str(result.exception)


# doctor


@pytest.fixture
def judge():
    with serve_in_thread(
        FakeJudge(models=["fake-judge", "small"], api_keys=["sesame"], limits=JudgeLimits(requests_per_minute=90))
    ) as running:
        yield running


def examine(here, judge, *arguments, key="sesame"):
    (here / "judgeflow.toml").write_text(SETTINGS.format(base_url=judge.base_url))
    keys = [part for section in ("judge", "judges.local") for part in ("--set", f"{section}.api_key_env=DOOR")]
    environment = {"DOOR": key}
    return CliRunner().invoke(app, ["doctor", *keys, *arguments], env=environment)


def test_the_doctor_finds_nothing_wrong_and_pays_for_nothing(here, judge):
    result = examine(here, judge)
    assert result.exit_code == 0
    assert f"ok    judge: {judge.base_url} is there and knows fake-judge" in result.stdout
    assert f"ok    judges.local: {judge.base_url} is there and knows small" in result.stdout
    assert "note  database: verdicts.db holds nothing yet" in result.stdout
    assert re.search(r"note  tokens: small of \[judges.local\] is estimated: .* if TIKTOKEN_CACHE_DIR names a folder", result.stdout)
    assert judge.statistics.requests == 0
    assert not (here / "verdicts.db").exists()


def test_the_doctor_asks_every_judge_if_told_to_and_keeps_the_replies(here, judge):
    result = examine(here, judge, "--ask", "--json")
    findings = {finding["check"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert findings["question to judge"]["ok"]
    assert findings["question to judges.local"]["ok"]
    assert "its headers say that a window admits 90 requests" in findings["question to judge"]["detail"]
    assert judge.statistics.requests == 4
    assert "4" in run("db", "info").stdout
    assert "ok    database: verdicts.db can be read and written (schema 0007); `judgeflow db check`" in examine(here, judge).stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "judge.model=other"], "has no model 'other'; it has fake-judge, small"),
        (["--set", "judge.base_url=http://127.0.0.1:9/v1"], "http://127.0.0.1:9/v1 cannot be reached"),
        (["--set", "judge.template=missing.toml"], "missing.toml cannot be read"),
        (["--set", "store.url=nowhere/verdicts.db"], "the folder"),
        (["--set", "scorer.path=nowhere"], "nowhere"),
    ],
)
def test_the_doctor_names_what_does_not_work(here, judge, arguments, named):
    result = examine(here, judge, *arguments)
    wrong = [line for line in result.stdout.splitlines() if line.startswith("WRONG")]
    assert result.exit_code == 1
    assert any(named in line for line in wrong)


def test_the_doctor_tells_a_wrong_key_from_a_missing_server(here, judge):
    assert "refuses the API key (401: Incorrect API key provided.); check the key in DOOR" in examine(here, judge, key="open").stdout


def test_the_doctor_tells_what_a_judge_says_to_a_question_that_it_does_not_accept(here):
    with serve_in_thread(FakeJudge(models=["fake-judge", "small"], api_keys=["sesame"], faults=["400"] * 2)) as judge:
        result = examine(here, judge, "--ask")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("WRONG")]
    assert "question to judge: no verdict (rejected)" in line
    assert "answered 400: This request is not acceptable, as scripted." in line


# who watches


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            ["tracing.enabled=true"],
            "tracing: [tracing] enabled: OTEL_TRACES_EXPORTER: no exporter 'nobody' is installed; there are console",
        ),
        (
            ["log.path=nowhere/run.log"],
            "log: [log] path: nowhere/run.log cannot be written: No such file or directory; name a file in a folder",
        ),
        (["log.path=."], "log: [log] path: . cannot be written: Is a directory"),
        (["log.tensorboard=judgeflow.toml"], "tensorboard: [log] tensorboard: judgeflow.toml cannot be written: "),
        (["metrics.port={taken}"], "metrics: [metrics] port: 127.0.0.1:{taken} cannot be had: "),
    ],
    ids=["no exporter", "no folder", "a folder for a log", "a file for a folder", "a port that is taken"],
)
def test_the_doctor_finds_what_keeps_a_run_from_being_watched_in_the_words_of_the_run(here, judge, taken, monkeypatch, settings, told):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nobody")
    settings = [each.format(taken=taken) for each in settings]
    result = examine(here, judge, *(part for each in settings for part in ("--set", each)))
    wrong = [line for line in result.stdout.splitlines() if line.startswith("WRONG ")]
    assert result.exit_code == 1
    assert len(wrong) == 1
    assert wrong[0].startswith("WRONG " + told.format(taken=taken))
    with pytest.raises(ConfigurationError) as refused:
        build_scheduler(load_config(here / "judgeflow.toml", overrides(settings)))
    assert wrong[0] == f"WRONG {told.partition(':')[0]}: {refused.value}"


def test_the_doctor_leaves_nothing_of_what_would_watch_behind(here, judge, monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    (here / "there.log").write_text("as it was\n")
    before = {path.name for path in here.iterdir()}
    port = unused()
    watching = ["log.path=run.log", "log.tensorboard=board/new", "tracing.enabled=true", f"metrics.port={port}"]
    settings = [part for each in watching for part in ("--set", each)]
    result = examine(here, judge, *settings)
    assert result.exit_code == 0
    for told in (
        "log: run.log can be written",
        "tensorboard: board/new can be",
        "tracing: spans can be",
        f"metrics: 127.0.0.1:{port} is free",
    ):
        assert f"ok    {told}" in result.stdout
    examine(here, judge, "--set", "log.path=there.log")
    assert run("config", "check", *settings).exit_code == 0
    assert {path.name for path in here.iterdir()} == before
    assert (here / "there.log").read_text() == "as it was\n"


def unused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_port_that_a_run_has_taken_does_not_make_a_configuration_unsound(here, taken):
    assert run("config", "check", "--set", f"metrics.port={taken}").exit_code == 0


# logs

EVENTS = [
    {"event": "call", "outcome": "ok", "latency_s": 1.23456, "level": "info", "timestamp": "2026-01-01T00:00:00.1Z"},
    {"event": "call", "outcome": "rate_limited", "error": "too many requests", "level": "info", "timestamp": "2026-01-01T00:00:01Z"},
    {"event": "judge_opened", "judge": "j", "level": "warning", "timestamp": "2026-01-01T00:00:02Z"},
    {"event": "step", "sources": {"judge": 2, "scorer": 8}, "level": "info", "timestamp": "2999-01-01T00:00:03Z"},
]


@pytest.fixture
def log(here):
    path = here / "run.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in EVENTS))
    return path


def test_logs_are_one_readable_line_an_event(log):
    lines = run("logs", "run.jsonl").stdout.splitlines()
    assert len(lines) == len(EVENTS)
    assert lines[0].split() == ["2026-01-01", "00:00:00", "info", "call", "outcome=ok", "latency_s=1.235"]
    assert "error='too many requests'" in lines[1]
    assert "sources=judge:2,scorer:8" in lines[3]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--event", "step"], [3]),
        (["--event", "step", "-e", "judge_opened"], [2, 3]),
        (["--level", "warning"], [2]),
        (["--where", "outcome=rate_limited"], [1]),
        (["--since", "10m"], [3]),
        (["--lines", "2"], [2, 3]),
        (["--lines", "5"], [0, 1, 2, 3]),
        (["--event", "call", "-n", "1"], [1]),
        (["--lines", "0"], []),
    ],
)
def test_logs_are_filtered(log, arguments, shown):
    lines = run("logs", "run.jsonl", "--json", *arguments).stdout.splitlines()
    assert [json.loads(line) for line in lines] == [EVENTS[index] for index in shown]


def test_lines_that_are_no_events_are_counted_and_a_half_written_last_line_waits(log):
    log.write_bytes(b"not json\n" + log.read_bytes() + b'{"event": "half')
    result = run("logs", "run.jsonl")
    assert len(result.stdout.splitlines()) == len(EVENTS)
    assert "run.jsonl: 1 line is no event" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--event", "stpe"], "--event stpe: no event of a log has this name; did you mean step? docs/logs.md has all"),
        (["--event", "zzz"], "--event zzz: no event of a log has this name; it has call, judge_opened, step; docs/logs.md has all"),
        (["-e", "step", "-e", "store_faild"], "--event store_faild: no event of a log has this name; did you mean store_failed"),
        (["--where", "outcom=ok"], "--where outcom: no event of a log has this field; did you mean outcome? docs/logs.md has all"),
    ],
)
def test_a_name_that_no_event_has_is_refused_with_what_is_near(log, arguments, told):
    result = run("logs", "run.jsonl", *arguments)
    assert isinstance(result.exception, UsageError)
    assert str(result.exception).startswith(f"run.jsonl: {told}")
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["-e", "store_failed"], ["-w", "usd=1"], ["-w", "outcome=refused"], ["-e", "step", "-w", "outcome=ok"]]
)
def test_filters_that_nothing_passes_say_so(log, arguments):
    result = run("logs", "run.jsonl", *arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "run.jsonl: none of 4 events passes\n"


def test_a_field_of_an_observer_of_ones_own_can_be_asked_for(log):
    log.write_text(log.read_text() + '{"event": "reward_hacked", "score": 3}\n')
    assert run("logs", "run.jsonl", "-e", "reward_hacked", "-w", "score=3").stdout.split() == ["reward_hacked", "score=3"]


def test_what_is_no_log_is_refused_where_it_begins(here):
    (here / "pairs.jsonl").write_text('\n{"prompt": "2 + 2?", "response_a": "4", "response_b": "5"}\n')
    with pytest.raises(UsageError, match=r"^pairs\.jsonl:2: an object of prompt, response_a, response_b: has no `event`"):
        raise run("logs", "pairs.jsonl").exception
    (here / "notes.txt").write_text("2026-01-01 [info] step\n")
    with pytest.raises(UsageError, match=r'^notes\.txt:1: a line that is no JSON object: has no `event`.*\[log\] format = "json"'):
        raise run("logs", "notes.txt").exception
    (here / "empty.jsonl").write_text("")
    assert run("logs", "empty.jsonl").stderr == "empty.jsonl: no event has been written yet\n"


def test_logs_finds_the_log_of_the_configuration(log, here):
    (here / "judgeflow.toml").write_text('[judge]\nmodel = "m"\n[routing]\npolicy = "always"\n[log]\npath = "run.jsonl"\n')
    assert len(run("logs").stdout.splitlines()) == len(EVENTS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [([], "this configuration writes no log"), (["missing.jsonl"], "missing.jsonl: cannot be read: No such file")],
)
def test_a_log_that_cannot_be_read_is_named(here, arguments, named):
    assert named in str(run("logs", *arguments).exception)


def test_where_nothing_says_which_log_is_meant_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no judgeflow.toml to say where the log is; name the log" in str(run("logs").exception)


@pytest.mark.parametrize("arguments", [["--since", "soon"], ["--level", "loud"], ["--where", "outcome"]])
def test_a_filter_that_makes_no_sense_is_a_usage_error(log, arguments):
    result = run("logs", "run.jsonl", *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_logs_follows_a_growing_log_also_when_a_new_one_takes_its_place(log):
    # Whoever is started in the background of a shell inherits that interrupts are ignored.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "judgeflow", "logs", str(log), "--follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"}, text=True) as process:
        assert [json.loads(process.stdout.readline()) for _ in EVENTS] == EVENTS
        with log.open("a") as stream:
            stream.write('{"event": "added"}\n')
        assert json.loads(process.stdout.readline()) == {"event": "added"}
        fresh = log.with_name("fresh")
        fresh.write_text('{"event": "rotated"}\n')
        fresh.replace(log)
        assert json.loads(process.stdout.readline()) == {"event": "rotated"}
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(300) == 0
        finally:
            process.kill()
