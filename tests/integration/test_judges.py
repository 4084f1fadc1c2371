"""Several judges over real HTTP, one verdict database in SQLite, and judges that go down and come back."""

import asyncio
import functools
import json
import os
import sqlite3
import sys
from contextlib import closing

import pytest
from held import held

from judgeflow import Scheduler
from judgeflow.config import JudgeConfig, RoutingConfig, load_config
from judgeflow.engine.retry import RetryPolicy
from judgeflow.judges.client import HttpJudge
from judgeflow.store import SqlStore
from judgeflow.testing import FakeJudge, JudgeLimits, Watcher, arithmetic_pairs
from judgeflow.verdicts.prompt import load_template

QUICK = RetryPolicy(attempts=14, for_s=300.0, base_s=0.01, cap_s=0.05)
ALWAYS = RoutingConfig(policy="always")


def judge_of(server, name="fake"):
    settings = JudgeConfig(base_url=server.base_url, model="fake-judge", id=name, timeout_s=300.0)
    return HttpJudge(settings, load_template("default"))


@pytest.fixture
def database(tmp_path):
    return functools.partial(SqlStore.open, f"sqlite+aiosqlite:///{tmp_path}/verdicts.db")


def configure(folder, one, two, extra="", limits=""):
    text = f"""
[judge]
id = "one"
base_url = "{one.base_url}"
model = "fake-judge"
prompt_usd_per_mtok = 10.0
{extra}

[judges.second]
id = "two"
base_url = "{two.base_url}"
model = "fake-judge"

{limits}

[routing]
policy = "always"
panel = "{"weights" if extra else "fallback"}"

[store]
url = "{folder}/verdicts.db"
"""
    (folder / "judgeflow.toml").write_text(text)
    return load_config(folder / "judgeflow.toml", environ={})


@pytest.mark.parametrize("fault", ["reset", "500", "garbage"])
async def test_an_outage_is_waited_out_with_single_probes(database, fault):
    """Ten pairs are judged; then everything under way fails, at most 19 requests before that is an outage, and then single ones."""
    pairs, seen, outage = arithmetic_pairs(40), Watcher(), 20
    async with FakeJudge.from_pairs(pairs, faults=["ok"] * 20 + [fault] * outage, latency=0.01) as server:
        async with Scheduler(
            store=database, judge=judge_of(server), routing=ALWAYS, retry=QUICK, observers=[seen], max_in_flight=10
        ) as scheduler:
            await scheduler.route(pairs[:10])
            step = await scheduler.route(pairs[10:])
            assert scheduler.refusal is None
        assert server.statistics.requests == 80 + outage
    assert step.statistics.statuses == {"ok": 30}
    assert [event for event, _ in seen.notices] == ["judge_opened", "judge_half_open", "judge_closed"]
    assert 2 <= seen.notices[-1][1]["probes"] <= 11


async def test_when_the_first_server_dies_in_a_step_the_second_finishes_it_and_both_are_in_the_database(tmp_path):
    pairs = arithmetic_pairs(60)
    one, two = held(pairs, answers=20), FakeJudge.from_pairs(pairs)
    async with two:
        async with one:
            settings = configure(tmp_path, one, two, limits="[limits]\nmax_in_flight = 8")
            scheduler = Scheduler.from_config(settings)
            await scheduler.open()
            routing = asyncio.create_task(scheduler.route(pairs))
            while one.statistics.answered < 20:
                await asyncio.sleep(0.01)
        step = await routing
        again = await scheduler.route([pair.swapped() for pair in pairs])
        await scheduler.aclose()
        requests = two.statistics.requests
    assert step.statistics.statuses == {"ok": 60}
    assert {outcome.verdict.judge.id for outcome in step.outcomes} == {"one", "two"}
    assert all({call.judge for call in outcome.verdict.calls} == {outcome.verdict.judge.fingerprint} for outcome in step.outcomes)
    assert again.statistics.sources == {"store": 60}
    assert again.logits == tuple(-logit for logit in step.logits)
    assert requests == step.statistics.judges["two"].requests
    with closing(sqlite3.connect(tmp_path / "verdicts.db")) as database:
        assert dict(database.execute("select judge.id, count(*) from call join judge on judge.fingerprint = call.judge group by 1")) == {
            "one": one.statistics.answered,
            "two": two.statistics.answered,
        }


async def test_two_judges_share_the_pairs_by_weight_and_each_keeps_its_own_limit(tmp_path):
    pairs = arithmetic_pairs(60)
    strict = JudgeLimits(requests_per_minute=40, window_s=0.5)
    limits = "[judges.second.limits]\nrequests_per_minute = 40\nwindow_s = 0.5\nmargin_s = 0.5\nmax_in_flight = 4"
    async with FakeJudge.from_pairs(pairs) as one, FakeJudge.from_pairs(pairs, limits=strict) as two:
        async with Scheduler.from_config(configure(tmp_path, one, two, "weight = 0.5", limits)) as scheduler:
            step = await scheduler.route(pairs)
        assert step.statistics.statuses == {"ok": 60}
        assert two.statistics.provoked_429 == 0
        assert two.statistics.max_concurrency <= 4
        assert one.statistics.answered + two.statistics.answered == 120
        assert 8 <= one.statistics.answered / 2 <= 32  # 20 expected, standard deviation 3.7
        paid = step.statistics.judges
        assert (paid["one"].requests, paid["two"].requests) == (one.statistics.answered, two.statistics.answered)
        assert paid["one"].usd == step.statistics.spent.usd > 0 == paid["two"].usd


async def test_the_command_line_tells_what_each_judge_did(tmp_path):
    pairs = arithmetic_pairs(20)
    lines = [json.dumps({"prompt": pair.prompt, "response_a": pair.response_a, "response_b": pair.response_b}) for pair in pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    async with FakeJudge.from_pairs(pairs) as one, FakeJudge.from_pairs(pairs) as two:
        configure(tmp_path, one, two, "weight = 1.5")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "judgeflow", "route", "pairs.jsonl", "--out", "outcomes.jsonl", "--json"),
            cwd=tmp_path,
            env=os.environ | {"TERM": "dumb"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        answered = {"one": one.statistics.answered, "two": two.statistics.answered}
    assert process.returncode == 0, err.decode()
    judges = json.loads(out)["judges"]
    assert {name: judge["calls"] for name, judge in judges.items()} == answered
    assert {name: 2 * judge["pairs"] for name, judge in judges.items()} == answered
    outcomes = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert [outcome["judge"] for outcome in outcomes].count("one") == judges["one"]["pairs"]
