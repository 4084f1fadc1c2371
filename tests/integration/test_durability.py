"""Verdicts are kept like money in a bank: outcomes are shown when they are safe, and many share one file."""

import asyncio
import sqlite3
import sys

import pytest
from held import held
from sqlalchemy import event

from judgeflow import Scheduler
from judgeflow.config import JudgeConfig, RoutingConfig
from judgeflow.errors import StoreUnavailable
from judgeflow.judges.client import HttpJudge
from judgeflow.store import SqlStore
from judgeflow.store.check import check
from judgeflow.store.sql import DECISIONS_PER_WRITE
from judgeflow.store.writer import MOST_WAITING, GroupWriter
from judgeflow.testing import FakeJudge, arithmetic_pairs
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_question, make_reservation
from judgeflow.types import Decision, Reply, Stock
from judgeflow.verdicts.prompt import load_template

# Outcomes and commits

READER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
for line in sys.stdin:
    keys = [bytes.fromhex(key) for key in line.split()]
    found = sum(database.execute("select count(*) from call where key = ?", (key,)).fetchone()[0] for key in keys)
    print(found, len(keys), flush=True)
"""


def scheduling(server, store, **settings):
    judge = HttpJudge(JudgeConfig(base_url=server.base_url, model="fake-judge"), load_template("default"))
    return Scheduler(store=store, judge=judge, routing=RoutingConfig(policy="always"), max_in_flight=8, **settings)


async def test_whoever_is_handed_an_outcome_finds_its_replies_in_the_database_from_another_process(tmp_path):
    path, pairs = tmp_path / "v.db", arithmetic_pairs(60)
    store = await SqlStore.open(str(path))
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READER, str(path)), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    async with FakeJudge.from_pairs(pairs, latency="uniform:0:0.01") as server, scheduling(server, store) as scheduler:
        judged = 0
        async for outcome in scheduler.stream(pairs, chunk=20):
            keys = [call.key.hex() for call in outcome.verdict.calls]
            reader.stdin.write((" ".join(keys) + "\n").encode())
            assert (await reader.stdout.readline()).split() == [b"2", b"2"]
            judged += outcome.source == "judge"
    assert judged == 60
    reader.stdin.close()
    await reader.wait()
    await store.aclose()


async def test_no_outcome_is_handed_out_while_its_commit_waits_for_another_program(tmp_path):
    path, pairs = tmp_path / "v.db", arithmetic_pairs(4)
    store = await SqlStore.open(str(path))
    async with held(pairs) as server, scheduling(server, store) as scheduler:
        stream = scheduler.stream(pairs)
        first = asyncio.ensure_future(anext(stream))
        while server.statistics.requests < 8:
            await asyncio.sleep(0)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        server.let_go()
        while server.statistics.answered < 8 or scheduler.in_flight:
            await asyncio.sleep(0)
        assert not first.done()
        other.execute("ROLLBACK")
        other.close()
        outcomes = [await first] + [outcome async for outcome in stream]
        assert {outcome.source for outcome in outcomes} == {"judge"}
    await store.aclose()


# Many processes

WRITER = """
import asyncio, sys
from judgeflow.store import SqlStore
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_question, settle

async def main(path, number, times):
    store = await SqlStore.open(path)
    await store.open_run(RUN, {}, JUDGE)
    for turn in range(times):  # two transactions each
        question = make_question(number * times + turn)
        await settle(store, f"{number}-{turn}", question, make_call(question))
    await store.aclose()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""
WATCHER = """
import asyncio, sys
from judgeflow.store import SqlStore
from judgeflow.testing.store_contract import JUDGE, RUN, make_question

async def main(path, total):
    store = await SqlStore.open(path)
    await store.open_run(RUN, {}, JUDGE)
    keys, seen = [make_question(number).call_key for number in range(total)], 0
    while seen < total:
        found, state = len(await store.read(keys)), await store.run_state(RUN)
        assert seen <= found <= state.spent.requests, (seen, found, state)
        seen = found
        print("looked", flush=True)
    await store.aclose()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def start(script, *arguments):
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *map(str, arguments)), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def end(process):
    out, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    return out.decode()


async def check_company(path, *, writers, readers, times):
    """Writers and readers share one file; each writer makes `2 * times` transactions, one after the other.

    Nobody writes before all readers have looked for the first time.
    """
    total = writers * times
    await (await SqlStore.open(str(path))).aclose()
    reading = [await start(WATCHER, path, total) for _ in range(readers)]
    assert [await process.stdout.readline() for process in reading] == [b"looked\n"] * readers
    writing = [await start(WRITER, path, number, times) for number in range(writers)]
    await asyncio.gather(*map(end, [*reading, *writing]))
    store = await SqlStore.open(str(path))
    state = await store.run_state(RUN)
    await store.aclose()
    assert (state.spent.requests, state.reserved.requests) == (total, 0)
    assert all(finding.ok for finding in await check(str(path)))


@pytest.mark.slow
async def test_four_processes_that_write_hundreds_of_times_and_two_that_read_do_not_lock_each_other_out(tmp_path):
    await check_company(tmp_path / "v.db", writers=4, readers=2, times=100)


# One writer for all


async def test_a_plan_of_many_decisions_lets_others_write_in_between(tmp_path):
    store = await SqlStore.open(str(tmp_path / "v.db"))
    await store.open_run(RUN, {}, JUDGE)
    decisions = [Decision(pair_key=number.to_bytes(32), asked=True) for number in range(5 * DECISIONS_PER_WRITE)]
    plan = asyncio.ensure_future(store.record_plan(RUN, 0, decisions, {"learnt": 1}))
    await asyncio.sleep(0)
    for number in range(3):
        assert await store.reserve(RUN, make_reservation(f"r{number}"), Stock())
        assert not plan.done()
    await plan
    assert len(await store.decisions(RUN, 0)) == len(decisions)
    assert (await store.run_state(RUN)).pacing == {"learnt": 1}
    await store.aclose()


async def test_a_transaction_takes_few_writes_of_long_texts_and_many_of_short_ones(tmp_path):
    store = await SqlStore.open(str(tmp_path / "v.db"))
    await store.open_run(RUN, {}, JUDGE)
    begun = []
    event.listen(store._writer.engine, "begin", begun.append)

    async def transactions(text, first):
        begun.clear()
        asked = [make_question(number) for number in range(first, first + 20)]
        replies = [make_call(question, Reply(text=text)) for question in asked]
        reserved = [make_reservation(f"r{number}") for number in range(first, first + 20)]
        await asyncio.gather(*(store.settle(RUN, *each) for each in zip(reserved, asked, replies, strict=True)))
        return len(begun)

    assert await transactions("short", 0) == 1
    assert 2 <= await transactions("x" * 1_000_000, 100) <= 10
    await store.aclose()


async def test_what_waits_for_the_writer_is_bounded_also_where_callers_have_left():
    held, committed = asyncio.Event(), []

    async def commit(operations):
        await held.wait()
        committed.extend(operations)
        return operations

    writer = GroupWriter(commit)
    first = asyncio.ensure_future(writer.submit(-1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = [asyncio.ensure_future(writer.submit(number)) for number in range(MOST_WAITING)]
    await asyncio.sleep(0)
    for caller in waiting[:100]:
        caller.cancel()
    with pytest.raises(StoreUnavailable, match="too far behind: 8,192 writes wait for it already"):
        await writer.submit(-2)
    held.set()
    await asyncio.gather(first, *waiting, return_exceptions=True)
    await writer.aclose()
    assert committed == [-1, *range(MOST_WAITING)]
