"""Nobody spends more than the budget: a thousand calls at a time, several processes on one database, and processes that are killed.

What was spent is counted by the judge; what the database says may be more (a reply that was lost is charged at its worst case), never less.
"""

import asyncio
import functools
import itertools
import json
import signal
import sqlite3
import sys
from contextlib import closing

import pytest

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, JudgeConfig, RoutingConfig
from judgeflow.judges.client import HttpJudge
from judgeflow.store import MemoryStore, SqlStore
from judgeflow.store.check import check
from judgeflow.testing import FakeJudge, ScriptedJudge, arithmetic_pairs
from judgeflow.verdicts.prompt import load_template

ALWAYS = RoutingConfig(policy="always")
PRICES = {"prompt_usd_per_mtok": 2.0, "completion_usd_per_mtok": 8.0}


def spent_at(judge) -> dict[str, float]:
    """What a judge has served, in the units of a budget."""
    seen = judge.statistics
    tokens = seen.prompt_tokens + seen.completion_tokens
    usd = (seen.prompt_tokens * PRICES["prompt_usd_per_mtok"] + seen.completion_tokens * PRICES["completion_usd_per_mtok"]) / 1e6
    return {"requests": seen.answered, "tokens": tokens, "usd": usd}


LIMITS = {"requests": {"requests": 300}, "tokens": {"tokens": 200_000}, "usd": {"usd": 0.5}}


@pytest.mark.parametrize(
    "limit", [pytest.param(limit, id=unit, marks=pytest.mark.exhaustive if unit == "usd" else ()) for unit, limit in LIMITS.items()]
)
def test_a_thousand_concurrent_calls_spend_no_more_than_the_budget_and_nearly_all_of_it(limit):
    ((unit, stock),) = limit.items()
    pairs, clock, store = arithmetic_pairs(1000), VirtualClock(), MemoryStore()
    judge = ScriptedJudge(clock=clock, latency="uniform:1:3", **PRICES)

    async def main():
        async with Scheduler(store=store, judge=judge, routing=ALWAYS, budget=BudgetConfig(**limit), clock=clock) as scheduler:
            return await asyncio.gather(*(scheduler.route([pair]) for pair in pairs))

    steps = clock.run(main())
    state = asyncio.run(store.run_state("default"))
    assert 0.95 * stock <= spent_at(judge)[unit] <= stock
    assert getattr(state.spent, unit) == pytest.approx(spent_at(judge)[unit])
    assert state.reserved.requests == 0
    assert {outcome.status for step in steps for outcome in step.outcomes} <= {"ok", "one_order", "budget"}


@pytest.mark.exhaustive
async def test_over_http_a_thousand_concurrent_calls_on_a_database_spend_no_more_than_the_budget(tmp_path):
    pairs, url = arithmetic_pairs(1000), f"sqlite+aiosqlite:///{tmp_path}/verdicts.db"
    async with FakeJudge.from_pairs(pairs) as server:
        judge = HttpJudge(JudgeConfig(base_url=server.base_url, model="fake-judge"), load_template("default"))
        store = functools.partial(SqlStore.open, url)
        async with Scheduler(store=store, judge=judge, routing=ALWAYS, budget=BudgetConfig(requests=150)) as scheduler:
            steps = await asyncio.gather(*(scheduler.route([pair]) for pair in pairs))
        assert server.statistics.requests == server.statistics.answered == 150
    assert sum(step.statistics.sources.get("judge", 0) for step in steps) == 75
    assert all(finding.ok for finding in await check(url))


# Processes


async def start(folder, number, *settings):
    """Start `judgeflow route` on the `number`-th file of pairs."""
    flags = itertools.chain.from_iterable(("--set", setting) for setting in settings)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "judgeflow", "route", f"pairs{number}.jsonl", "--out", f"outcomes{number}.jsonl", "--json", *flags),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def prepare(folder, server, files):
    """Write files of pairs, and the configuration of one run that they share."""
    for number, pairs in enumerate(files):
        lines = [json.dumps({key: getattr(pair, key) for key in ("id", "prompt", "response_a", "response_b")}) for pair in pairs]
        (folder / f"pairs{number}.jsonl").write_text("\n".join(lines) + "\n")
    judge = f'[judge]\nbase_url = "{server.base_url}"\nmodel = "fake-judge"\nid = "fake"\ntimeout_s = 30.0\n'
    prices = "".join(f"{name} = {price}\n" for name, price in PRICES.items())
    (folder / "judgeflow.toml").write_text(
        f'[run]\nname = "shared"\n{judge}{prices}[routing]\npolicy = "always"\n[limits]\nmax_in_flight = 4\n'
    )


def accounts(folder) -> dict[str, float]:
    with closing(sqlite3.connect(folder / "judgeflow.db")) as database:
        database.row_factory = sqlite3.Row
        return dict(database.execute("select * from run where name = 'shared'").fetchone())


async def check_sound(folder):
    findings = await check(f"sqlite+aiosqlite:///{folder}/judgeflow.db")
    assert [finding for finding in findings if not finding.ok] == []


async def until(condition):
    while not condition():
        await asyncio.sleep(0.005)


async def check_shared(folder, limit, *, killed, overlapping=False):
    """Processes share a run until the budget is spent; those of `killed` are killed under way and started again."""
    ((unit, stock),) = limit.items()
    pairs = arithmetic_pairs(120)
    files = [pairs[:70], pairs[50:][::-1]] if overlapping else [pairs[:60], pairs[60:]]
    setting = f"budget.{unit}={stock}"
    async with FakeJudge.from_pairs(pairs, latency="uniform:0.01:0.05") as server:
        prepare(folder, server, files)
        processes = [await start(folder, number, setting) for number in range(2)]
        await until(lambda: server.statistics.answered >= 12)
        for number in killed:
            processes[number].kill()
            await processes[number].communicate()
            processes[number] = await start(folder, number, setting)
        ends = [await process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0, 0], ends
        served = spent_at(server)[unit]
        run = accounts(folder)
        assert served <= stock
        assert served <= run[f"spent_{unit}"] + run[f"reserved_{unit}"] + 1e-9 <= stock + 2e-9
        assert run["reserved_requests"] <= 2 * 4 * len(killed)  # what was in flight, and as many put aside ahead
        assert served + run[f"reserved_{unit}"] >= 0.6 * stock  # nothing is lost but what the killed ones have left put aside
    await check_sound(folder)
    statuses = [json.loads(line)["status"] for number in range(2) for line in (folder / f"outcomes{number}.jsonl").read_text().splitlines()]
    assert len(statuses) == sum(map(len, files))
    assert set(statuses) <= {"ok", "one_order", "budget"}
    assert "budget" in statuses


async def test_two_processes_on_one_database_one_of_which_is_killed_spend_no_more_than_their_budget(tmp_path):
    await check_shared(tmp_path, {"requests": 60}, killed=[1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("overlapping", [False, True], ids=["other pairs", "common pairs"])
@pytest.mark.parametrize("killed", [[], [0], [0, 1]], ids=["none killed", "one killed", "both killed"])
@pytest.mark.parametrize("limit", [{"requests": 80}, {"tokens": 60_000}, {"usd": 0.3}], ids=["requests", "tokens", "usd"])
async def test_processes_on_one_database_spend_no_more_than_their_budget(tmp_path, limit, killed, overlapping):
    await check_shared(tmp_path, limit, killed=killed, overlapping=overlapping)


# Stopping


async def check_stopped(folder, number, after, *, faults="", latency="uniform:0.01:0.05"):
    """A signal stops a run after `after` requests: what was paid for is kept, and the same command asks nothing of it again."""
    pairs = arithmetic_pairs(60)
    async with FakeJudge.from_pairs(pairs, latency=latency, faults=faults) as server:
        prepare(folder, server, [pairs])
        process = await start(folder, 0)
        await until(lambda: server.statistics.requests >= after)
        process.send_signal(number)
        _, said = await process.communicate()
        assert process.returncode == 130, said
        run, answered = accounts(folder), server.statistics.answered
        assert (run["spent_requests"], run["reserved_requests"]) == (answered, 0)
        assert answered < 120
        await check_sound(folder)
        resumed = await start(folder, 0)
        await resumed.communicate()
        assert resumed.returncode == 0
        assert server.statistics.answered == accounts(folder)["spent_requests"] == 120
        assert max(server.statistics.question_answers.values()) == 1


@pytest.mark.exhaustive
async def test_a_run_that_is_terminated_keeps_what_was_paid_for_and_puts_nothing_aside(tmp_path):
    await check_stopped(tmp_path, signal.SIGTERM, 17)


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("after", [1, 5, 40, 90, 110])
async def test_a_run_that_is_stopped_at_any_moment_keeps_what_was_paid_for(tmp_path, number, after):
    await check_stopped(tmp_path, number, after)


@pytest.mark.exhaustive
@pytest.mark.parametrize("after", [6, 30])
async def test_a_run_that_is_stopped_while_the_judge_fails_and_turns_away_ends_and_keeps_what_was_paid_for(tmp_path, after):
    await check_stopped(tmp_path, signal.SIGTERM, after, faults="429:0.2,500:0.2,503:0.1")
