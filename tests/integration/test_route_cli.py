"""`judgeflow route` as a user runs it: a configuration file, a judge over HTTP, a database file; a process where it dies or is stopped."""

import asyncio
import json
import re
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from command import Ended
from held import held

from judgeflow.cli.outcomes_file import OutcomesFile
from judgeflow.records import outcome_line, read_pairs
from judgeflow.testing import FakeJudge, Opinions, arithmetic_pairs, serve_in_thread
from judgeflow.types import Outcome, Pair
from judgeflow.verdicts.prompt import load_template

DATA = Path(__file__).parents[3] / "shared" / "data"
SECRET = "sk-test-7c1e0f"


async def start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "judgeflow", *arguments),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "COVERAGE_PROCESS_START": "", "TERM": "dumb"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> Ended:
    out, err = await process.communicate()
    return Ended(process.returncode, out.decode(), err.decode())


async def in_own_process(folder: Path, *arguments: str) -> Ended:
    """Run one command line in a process of its own."""
    return await end(await start(folder, *arguments))


def write_pairs(folder: Path, pairs: list[Pair]) -> list[Pair]:
    keys = ("id", "prompt", "response_a", "response_b", "label")
    lines = [json.dumps({key: getattr(pair, key) for key in keys}) for pair in pairs]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return pairs


def configure(folder: Path, server: FakeJudge, extra: str = "") -> None:
    judge = f'[judge]\nbase_url = "{server.base_url}"\nmodel = "fake-judge"\nid = "fake"\ntimeout_s = 300.0\n'
    (folder / "judgeflow.toml").write_text(f'{judge}\n[routing]\npolicy = "always"\n\n[log]\npath = "run.log"\n{extra}')


async def requests_at(server: FakeJudge) -> int:
    """How many requests have arrived: what asks comes after whatever has been sent before."""
    async with aiohttp.ClientSession() as session, session.get(server.base_url.removesuffix("/v1") + "/stats") as response:
        return (await response.json())["requests"]


def stored_calls(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "judgeflow.db")) as database:
        return database.execute("select count(*) from call").fetchone()[0]


async def stopping(process: asyncio.subprocess.Process) -> str:
    """What a process says when it stops; how far it is may be said before."""
    while not (line := await process.stderr.readline()).startswith(b"stopping"):
        assert line
    return line.decode()


ROUTE = ("route", "pairs.jsonl", "--out", "outcomes.jsonl")


async def test_a_file_is_routed_in_order_and_a_second_run_makes_no_request(tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(30))
    async with FakeJudge.from_pairs(pairs, accuracy=1.0) as server:
        configure(tmp_path, server)
        first = await in_own_process(tmp_path, *ROUTE, "--json", "--step-size", "8")
        assert (first.code, server.statistics.requests) == (0, 60)
        outcomes = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
        second = await in_own_process(tmp_path, *ROUTE, "--json", "--step-size", "8")
        assert (second.code, server.statistics.requests) == (0, 60)
    assert [outcome["id"] for outcome in outcomes] == [pair.id for pair in pairs]
    assert {(outcome["source"], outcome["choice"] == outcome["label"]) for outcome in outcomes} == {("judge", True)}
    summary = json.loads(first.out)
    assert (summary["calls"], summary["sources"], summary["accuracy"]["choice"]) == (60, {"judge": 30}, 1.0)
    assert json.loads(second.out)["sources"] == {"store": 30}
    assert not (tmp_path / "outcomes.jsonl.partial").exists()


def test_the_outcomes_file_is_a_file_of_pairs_that_can_be_routed_again(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(3))
    with serve_in_thread(FakeJudge.from_pairs(pairs)) as server:
        configure(tmp_path, server)
        judgeflow(tmp_path, *ROUTE)
    again, bad = read_pairs(tmp_path / "outcomes.jsonl")
    assert again == pairs
    assert bad == []
    assert outcome_line(Outcome(pair=pairs[0], logit=0.0, source="scorer")).endswith(b"\n")


MOMENTS = [
    50,
    pytest.param(1, marks=pytest.mark.slow),
    *(pytest.param(answered, marks=pytest.mark.exhaustive) for answered in (7, 24, 73, 99, 118)),
]


@pytest.mark.parametrize("answered", MOMENTS)
async def test_a_killed_run_asks_only_what_was_not_stored_when_it_is_started_again(tmp_path, answered):
    pairs = write_pairs(tmp_path, arithmetic_pairs(60))
    async with FakeJudge.from_pairs(pairs, latency=0.03) as server:
        configure(tmp_path, server, "[limits]\nmax_in_flight = 4\n")
        process = await start(tmp_path, *ROUTE)
        while server.statistics.answered < answered:
            await asyncio.sleep(0)
        process.kill()
        assert (await end(process)).code == -signal.SIGKILL
        before, stored = await requests_at(server), stored_calls(tmp_path)
        assert before - stored <= 8
        resumed = await in_own_process(tmp_path, *ROUTE, "--json")
        assert resumed.code == 0
        assert server.statistics.requests - before == 120 - stored
    assert json.loads(resumed.out)["calls"] == 120 - stored


async def test_ctrl_c_waits_for_replies_that_are_paid_for_and_exits_130(tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(60))
    async with held(pairs, answers=6) as server:
        configure(tmp_path, server, "[limits]\nmax_in_flight = 6\n")
        process = await start(tmp_path, *ROUTE)
        while server.statistics.requests < 12:
            await asyncio.sleep(0)
        process.send_signal(signal.SIGINT)
        assert "stopping: waiting for 6 requests in flight" in await stopping(process)
        server.let_go()
        ended = await end(process)
        assert ended.code == 130
        partial = (tmp_path / "outcomes.jsonl.partial").read_text()
        decided = sum(json.loads(line)["source"] != "fallback" for line in partial.splitlines())
        assert 0 < decided < 60
        assert f"{decided} of 60 pairs are decided, the outcomes so far are in outcomes.jsonl.partial" in ended.err
        assert re.search(r"│ outcomes +│ outcomes\.jsonl\.partial +│", ended.out)
        assert server.statistics.answered == server.statistics.requests == stored_calls(tmp_path) < 120
        assert (await in_own_process(tmp_path, *ROUTE)).code == 0
        assert server.statistics.requests == 120


async def test_a_second_ctrl_c_leaves_at_once_and_says_what_is_lost(tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(20))
    async with FakeJudge.from_pairs(pairs, faults=["hang"] * 6) as server:
        configure(tmp_path, server, "[limits]\nmax_in_flight = 6\n")
        process = await start(tmp_path, *ROUTE)
        while server.statistics.requests < 6:
            await asyncio.sleep(0)
        process.send_signal(signal.SIGINT)
        assert "stopping: waiting for 6 requests in flight" in await stopping(process)
        process.send_signal(signal.SIGTERM)
        ended = await end(process)
    assert (ended.code, ended.out) == (130, "")
    (line,) = [line for line in ended.err.splitlines() if not line.startswith("pairs ")]  # how far it is may be said at any time
    assert line.startswith("left: the replies of 6 requests in flight are lost, and the budget counts them at their worst case")


def test_logs_hold_one_event_per_call_and_step_and_neither_texts_nor_secrets(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(5))
    with serve_in_thread(FakeJudge.from_pairs(pairs)) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, "--json", "--set", "judge.api_key_env=JUDGE_KEY", environment={"JUDGE_KEY": SECRET})
    log = (tmp_path / "run.log").read_text()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events == ["call"] * 10 + ["step"]
    for text in (log, ended.out, ended.err, (tmp_path / "judgeflow.db").read_bytes().decode("latin-1")):
        assert SECRET not in text
    assert not any(pair.prompt in log or pair.response_a in log for pair in pairs)
    assert json.loads(ended.out)["pairs"] == 5


def test_settings_come_from_the_file_then_the_environment_then_the_flags(judgeflow, tmp_path):
    write_pairs(tmp_path, arithmetic_pairs(10))
    with serve_in_thread(FakeJudge()) as server:
        configure(tmp_path, server)
        variables = {"JUDGEFLOW_BUDGET__REQUESTS": "8"}
        by_variable = judgeflow(tmp_path, *ROUTE, "--json", environment=variables)
        assert server.statistics.requests == 8
        by_flag = judgeflow(tmp_path, *ROUTE, "--json", "--set", "budget.requests=2", environment=variables)
        assert server.statistics.requests == 10
    assert json.loads(by_variable.out)["statuses"] == {"ok": 4, "budget": 6}
    assert json.loads(by_flag.out)["remaining"] == {"requests": 0, "tokens": None, "usd": None}


def test_identical_too_long_and_refused_pairs_are_labelled_in_the_outcomes(judgeflow, tmp_path):
    same = Pair(prompt="p", response_a="same", response_b="same", label="a")
    pairs = [same, Pair(prompt="p", response_a="x " * 500_000, response_b="b")]
    write_pairs(tmp_path, pairs + arithmetic_pairs(1))
    with serve_in_thread(FakeJudge(faults=["refusal", "refusal"])) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, "--json")
    outcomes = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert ended.code == 0
    summary = json.loads(ended.out)
    (step,) = [event for event in map(json.loads, (tmp_path / "run.log").read_text().splitlines()) if event["event"] == "step"]
    assert (summary["sources"], summary["labelled"]) == ({"fallback": 2}, {"logit": 1})
    assert (step["sources"], step["statuses"]) == (summary["sources"], summary["statuses"])
    assert [(o["source"], o["status"], o["choice"]) for o in outcomes] == [
        ("scorer", "identical", "tie"),
        ("fallback", "too_long", None),
        ("fallback", "refused", None),
    ]
    said = "not asked: 1 pair is longer than [judge] max_prompt_tokens = 120000 admit, the first is pair 2 of pairs.jsonl; shorten them"
    assert said in ended.err


def test_pairs_that_no_limit_admits_are_named_by_place_id_and_both_keys(judgeflow, tmp_path):
    long = [Pair(id=f"long-{number}", prompt="p", response_a="x " * 9_000, response_b="b" * number) for number in (1, 2)]
    write_pairs(tmp_path, [*arithmetic_pairs(3), *long])
    with serve_in_thread(FakeJudge()) as server:
        configure(tmp_path, server, "[limits]\ntokens_per_minute = 9000\ncharge = 'actual'\n")
        ended = judgeflow(tmp_path, *ROUTE, "--step-size", "2")
    keys = "[judge] max_prompt_tokens = 120000 and [limits] tokens_per_minute = 9000"
    assert f"not asked: 2 pairs are longer than {keys} admit, the first is pair 4 (long-1) of pairs.jsonl" in ended.err
    assert (ended.code, server.statistics.answered) == (0, 6)


def test_bad_records_can_be_left_out_and_are_counted(judgeflow, tmp_path):
    write_pairs(tmp_path, arithmetic_pairs(2))
    with (tmp_path / "pairs.jsonl").open("a") as stream:
        stream.write('{"prompt": "p", "response_a": ""}\n')
    with serve_in_thread(FakeJudge()) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, "--json", "--on-bad-record", "skip")
    assert ended.code == 0
    assert "pairs.jsonl:3: skipped: response_b is missing" in ended.err
    assert (json.loads(ended.out)["pairs"], json.loads(ended.out)["skipped"]) == (2, 1)


BAD_PAIRS = {
    '{"prompt": "p", "response_a": "x"': ["pairs.jsonl:2: not valid JSON", "Nothing was begun"],
    '{"prompt": "p", "response_a": "x"}': ["pairs.jsonl:2: response_b is missing"],
    '{"prompt": "p", "response_a": "x", "response_b": "  "}': ["pairs.jsonl:2: response_b is empty"],
    '{"prompt": [], "response_a": "x", "response_b": "y"}': ["pairs.jsonl:2: prompt"],
    '{"prompt": "p", "response_a": "x", "response_b": "y", "label": "A"}': ["pairs.jsonl:2: label is 'A'"],
}


@pytest.mark.parametrize("record", BAD_PAIRS)
def test_a_bad_record_is_named_by_file_and_line_before_anything_is_spent(judgeflow, tmp_path, record):
    write_pairs(tmp_path, arithmetic_pairs(1))
    with (tmp_path / "pairs.jsonl").open("a") as stream:
        stream.write(record + "\n")
    with serve_in_thread(FakeJudge()) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE)
        assert server.statistics.requests == 0
    assert ended.code == 2
    assert all(words in ended.err for words in BAD_PAIRS[record]), ended.err
    assert "Traceback" not in ended.err


BAD_SETTINGS = {
    "[limits]\nrequest_per_minute = 5\n": ["judgeflow.toml:13", "did you mean requests_per_minute"],
    "[limit]\nx = 1\n": ["[limit]", "did you mean limits"],
    '[budget]\nrequests = "many"\n': ["judgeflow.toml:13", "[budget] requests", "integer"],
    "[budget]\nrequests = -1\n": ["judgeflow.toml:13", "[budget] requests", "greater than or equal to 0"],
    "[budget\n": ["not valid TOML", "judgeflow.toml:12"],
}


@pytest.mark.parametrize("settings", BAD_SETTINGS)
def test_a_bad_setting_is_named_by_key_and_line_before_anything_is_spent(judgeflow, tmp_path, settings):
    write_pairs(tmp_path, arithmetic_pairs(1))
    with serve_in_thread(FakeJudge()) as server:
        configure(tmp_path, server, settings)
        ended = judgeflow(tmp_path, *ROUTE)
        assert server.statistics.requests == 0
    assert ended.code == 2
    assert all(words in ended.err for words in BAD_SETTINGS[settings]), ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--set", "routing.policy=random"), 2, "nothing to adapt to"),
        (("--set", "routing.policy=error"), 2, "ranks pairs by a scorer"),
        (("--set", "judge.api_key_env=NO_SUCH_VARIABLE"), 2, "NO_SUCH_VARIABLE is not set"),
        (("--set", "judge.model=other"), 1, "answered 404"),
        (("--set", "judge.base_url=http://127.0.0.1:9/v1"), 1, "cannot be reached"),
        (("--set", "judge.template=nope"), 2, "packaged are default, verdict-abc, verdict-scale"),
        (("--set", "judge.base_url=localhost:80"), 2, "not an http:// or https:// address"),
        (("--config", "absent.toml"), 2, "no such configuration file"),
        (("--out", "no/such/folder/o.jsonl"), 2, "does not exist"),
        (("--out", "pairs.jsonl/o.jsonl"), 2, "Not a directory"),
        (("--out", "pairs.jsonl"), 2, "would overwrite pairs.jsonl, the pairs"),
        (("--out", "./judgeflow.toml"), 2, "would overwrite judgeflow.toml, the configuration"),
        (("--out", "/dev/null"), 2, "a device or a pipe"),
        (("--on-bad-record", "ignore"), 2, "fatal"),
    ],
)
def test_a_wrong_call_says_what_to_do_and_spends_nothing(judgeflow, tmp_path, flags, code, words):
    write_pairs(tmp_path, arithmetic_pairs(3))
    with serve_in_thread(FakeJudge()) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, *flags)
        assert server.statistics.answered == 0
    assert ended.code == code, ended.err
    assert words in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "outcomes.jsonl").exists()


async def test_a_database_in_a_folder_that_is_not_there_is_named_and_nothing_is_spent(tmp_path):
    write_pairs(tmp_path, arithmetic_pairs(3))
    async with FakeJudge() as server:
        configure(tmp_path, server)
        ended = await in_own_process(tmp_path, *ROUTE, "--set", "store.url=sqlite+aiosqlite:///no/such/folder/x.db")
        assert server.statistics.answered == 0
    assert ended.code == 1
    assert "no/such/folder" in ended.err
    assert "Traceback" not in ended.err


def outcomes_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]


def test_a_judge_that_turns_everybody_away_stops_the_run_and_the_same_command_goes_on(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(4))
    with serve_in_thread(FakeJudge.from_pairs(pairs, faults="429-bare:1")) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, "--set", "judge.retry_for_s=0.01")
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("judgeflow: stopped: 0 of 4 pairs are decided")
    assert "4 pairs went without the judge (rate_limited 4)" in ended.err
    with serve_in_thread(FakeJudge.from_pairs(pairs)) as server:
        configure(tmp_path, server)
        again = judgeflow(tmp_path, *ROUTE, "--json")
    assert (again.code, json.loads(again.out)["sources"]) == (0, {"judge": 4})


@pytest.mark.parametrize(("faults", "status"), [("503:1", "overloaded"), ("reset:1", "reply_lost")])
def test_a_judge_that_fails_is_told_at_the_end_and_by_the_exit_code_though_every_pair_has_its_outcome(judgeflow, tmp_path, faults, status):
    pairs = write_pairs(tmp_path, arithmetic_pairs(4))
    patience = ("--set", "judge.retry_attempts=1", "--set", "judge.retry_for_s=0.01")
    with serve_in_thread(FakeJudge.from_pairs(pairs, faults=faults)) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, *patience)
    assert ended.code == 1
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"judgeflow: 4 pairs went without the judge ({status} 4); the last error: the judge at http://127.0.0.1:")
    assert last.endswith("; the same command asks again what is missing")
    assert [outcome["status"] for outcome in outcomes_of(tmp_path)] == [status] * 4
    with serve_in_thread(FakeJudge.from_pairs(pairs)) as server:
        configure(tmp_path, server)
        again = judgeflow(tmp_path, *ROUTE, "--json")
    assert (again.code, json.loads(again.out)["sources"]) == (0, {"judge": 4})


def test_a_judge_that_refuses_service_stops_the_run_with_what_it_has_in_the_partial_file(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(9))
    with serve_in_thread(FakeJudge.from_pairs(pairs, faults=["ok"] * 6 + ["quota"] * 99)) as server:
        configure(tmp_path, server, "[limits]\nmax_in_flight = 1\n")
        ended = judgeflow(tmp_path, *ROUTE, "--step-size", "3")
        assert server.statistics.requests == 7
    assert ended.code == 1
    assert re.search(r"│ outcomes +│ outcomes\.jsonl\.partial +│", ended.out)
    last = ended.err.splitlines()[-1]
    assert last.startswith("judgeflow: stopped: 3 of 9 pairs are decided, the outcomes so far are in outcomes.jsonl.partial; ")
    assert "3 pairs went without the judge (judge_stopped 3); the last error: the judge at" in last
    assert not (tmp_path / "outcomes.jsonl").exists()


@pytest.mark.parametrize(
    ("faults", "flags", "status"),
    [
        ("refusal:1", (), "refused"),
        ("no-tag:1", (), "unparseable"),
        ("length:1", (), "truncated"),
        ("400:1", (), "rejected"),
        ("hang:1", ("--set", "routing.step_deadline_s=0.2", "--set", "judge.timeout_s=0.4"), "deadline"),
        ("", ("--set", "budget.requests=0"), "budget"),
        ("", ("--set", "judge.max_prompt_tokens=1"), "too_long"),
    ],
)
def test_what_the_user_limited_or_the_judge_answered_is_no_failure_of_the_run(judgeflow, tmp_path, faults, flags, status):
    pairs = write_pairs(tmp_path, arithmetic_pairs(2))
    with serve_in_thread(FakeJudge.from_pairs(pairs, faults=faults)) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, *flags)
    assert ended.code == 0, ended.err
    assert [outcome["status"] for outcome in outcomes_of(tmp_path)] == [status] * 2


async def test_replies_that_come_after_their_step_are_counted_as_paid(tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(4))
    async with held(pairs) as server:
        configure(tmp_path, server)
        process = await start(tmp_path, *ROUTE, "--set", "routing.step_deadline_s=3")
        while not (tmp_path / "run.log").exists() or '"step"' not in (tmp_path / "run.log").read_text():
            await asyncio.sleep(0.01)
        server.let_go()
        late = await end(process)
        again = await in_own_process(tmp_path, *ROUTE, "--json")
        paid = server.statistics.prompt_tokens + server.statistics.completion_tokens
    assert re.search(r"│ judge calls paid +│ 0 +│", late.out)
    assert re.search(rf"│ paid, but too late +│ 8 calls, {paid:,} tokens, stored +│", late.out)
    assert json.loads(again.out)["late"] == {"calls": 0, "tokens": 0, "usd": 0.0}
    assert json.loads(again.out)["sources"] == {"store": 4}


def test_what_a_judge_says_to_the_first_question_that_it_does_not_accept_is_told_once(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(3))
    with serve_in_thread(FakeJudge.from_pairs(pairs, faults="400:1")) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE)
    told = [line for line in ended.err.splitlines() if "warning: a question is not accepted" in line]
    assert len(told) == 1
    assert "answered 400: This request is not acceptable, as scripted." in told[0]


async def test_a_file_that_another_run_is_writing_is_refused_before_anything_is_asked(tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(3))
    async with FakeJudge.from_pairs(pairs) as server:
        configure(tmp_path, server)
        with OutcomesFile(tmp_path / "outcomes.jsonl", {}):
            refused = await in_own_process(tmp_path, *ROUTE)
        assert server.statistics.requests == 0
        assert (await in_own_process(tmp_path, *ROUTE)).code == 0
    assert refused.code == 2
    assert refused.err.startswith("judgeflow: --out outcomes.jsonl: another judgeflow is writing outcomes.jsonl.partial")


async def test_a_full_disk_is_one_message_and_exit_code_1(tmp_path):
    same = "x" * 1_000_000
    write_pairs(tmp_path, [Pair(prompt="p", response_a=same, response_b=same)])
    async with FakeJudge() as server:
        configure(tmp_path, server)
        command = f"ulimit -f 1500; exec {sys.executable} -m judgeflow {' '.join(ROUTE)}"  # blocks of a kilobyte
        process = await asyncio.create_subprocess_exec("bash", "-c", command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
        _, said = await process.communicate()
    assert process.returncode == 1
    assert "judgeflow: outcomes.jsonl.partial cannot be written: File too large; " in said.decode()
    assert "Traceback" not in said.decode()


def test_a_new_database_is_told_and_one_that_is_there_is_not(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(1))
    with serve_in_thread(FakeJudge.from_pairs(pairs)) as server:
        configure(tmp_path, server)
        first, second = [judgeflow(tmp_path, *ROUTE, "--set", "store.url=sqlite:///mine.db") for _ in range(2)]
    assert first.err.splitlines()[0] == "created new verdict database mine.db"
    assert "created" not in second.err


OWN_TEMPLATE = """
user = "Which? {prompt} {response_a} {response_b} End with [[1]], [[2]] or [[0]]."
[verdicts]
"[[1]]" = "first"
"[[2]]" = "second"
"[[0]]" = "tie"
"""


def test_replies_that_nobody_can_read_are_told_once_and_early_with_the_template_and_without_texts(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(20))
    (tmp_path / "own.toml").write_text(OWN_TEMPLATE)
    with serve_in_thread(FakeJudge.from_pairs(pairs)) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, "--set", "judge.template=own.toml")
    (warning,) = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
    assert "none of the first 20 replies holds a verdict (unparseable 20)" in warning
    assert "template own.toml" in warning
    assert "judgeflow db info" in warning
    assert ended.code == 0


def test_a_fake_judge_that_is_given_the_template_replies_in_its_tags(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(20))
    (tmp_path / "own.toml").write_text(OWN_TEMPLATE)
    tags = load_template("own.toml", tmp_path).verdicts
    with serve_in_thread(FakeJudge(Opinions(truth=Opinions.truths(pairs), accuracy=1.0, verdict_format=tags))) as server:
        configure(tmp_path, server)
        ended = judgeflow(tmp_path, *ROUTE, "--json", "--set", "judge.template=own.toml")
    assert json.loads(ended.out)["accuracy"]["choice"] == 1.0
    assert "warning" not in ended.err


def test_one_readable_reply_among_many_is_no_reason_for_a_warning(judgeflow, tmp_path):
    pairs = write_pairs(tmp_path, arithmetic_pairs(20))
    with serve_in_thread(FakeJudge.from_pairs(pairs, faults=["ok"] + ["no-tag"] * 39)) as server:
        configure(tmp_path, server, "[limits]\nmax_in_flight = 1\n")
        ended = judgeflow(tmp_path, *ROUTE)
    assert "warning: " not in ended.err


async def test_a_database_of_another_program_is_left_alone(tmp_path):
    write_pairs(tmp_path, arithmetic_pairs(1))
    with closing(sqlite3.connect(tmp_path / "judgeflow.db")) as database:
        database.execute("create table bookmarks (url text)")
    async with FakeJudge() as server:
        configure(tmp_path, server)
        ended = await in_own_process(tmp_path, *ROUTE)
        assert server.statistics.requests == 0
    assert ended.code == 1
    assert "judgeflow.db" in ended.err
    assert "another program" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.skipif(not DATA.exists(), reason="skipped: no data")
def test_recorded_o1_mini_verdicts_on_judgebench_are_reproduced(judgeflow, tmp_path):
    source = DATA / "judgebench_gpt4o.jsonl"
    (tmp_path / "pairs.jsonl").symlink_to(source)
    with serve_in_thread(FakeJudge.from_recorded(source)) as server:
        configure(tmp_path, server)
        scale = ("--json", "--set", "judge.template=verdict-scale", "--set", "judge.model=o1-mini")
        ended = judgeflow(tmp_path, *ROUTE, *scale)
        again = judgeflow(tmp_path, *ROUTE, *scale)
        assert server.statistics.requests == 700
    summary = json.loads(ended.out)
    accuracy = {name: f"{value:.3f}" for name, value in summary["accuracy"].items()}
    assert (summary["pairs"], summary["calls"], f"{summary['agreement']:.3f}") == (350, 700, "0.686")
    assert (accuracy["choice_ab"], accuracy["choice_ba"], accuracy["choice"]) == ("0.709", "0.746", "0.657")
    assert json.loads(again.out)["sources"] == {"store": 350}
    outcomes = [json.loads(line)["id"] for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert outcomes == [json.loads(line)["id"] for line in source.read_text().splitlines()]
