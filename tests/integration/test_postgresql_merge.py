"""`judgeflow db merge` with databases on a real PostgreSQL server, in both directions."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import select

from judgeflow.errors import StoreError
from judgeflow.keys import pair_keys, questions
from judgeflow.store import SqlStore, merge, schema
from judgeflow.store.check import check
from judgeflow.store.evidence import Evidence, EvidenceWriter, Known
from judgeflow.store.merge import merge as bring_in
from judgeflow.store.queries import reading
from judgeflow.store.reparse import reparse
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_decision, make_statistics, reserved, settle
from judgeflow.types import Pair, Preference, Reply
from judgeflow.verdicts.prompt import load_template

ODD = "\x00 \x1a \x1a0 \x1a1"
"""Characters that PostgreSQL does not take, and the escapes that stand for them there."""

RENUMBERED = {"id", "run_id"}


@pytest.fixture
async def source(tmp_path):
    """A file with something in every table, more than a page of some, and odd characters wherever a text may stand."""
    path = tmp_path / "source.db"
    store = await SqlStore.open(str(path))
    await store.open_run(ODD, {"note": ODD}, JUDGE)
    await store.open_run(RUN, {}, JUDGE)
    pair = Pair(prompt=ODD, response_a=ODD + "a", response_b=ODD + "b")
    for question in questions(pair, pair_keys(pair), JUDGE.fingerprint):
        await settle(store, question.nonce, question, make_call(question, Reply(text=f"[[A]] {ODD}", reasoning=ODD, finish_reason=ODD)))
    await reserved(store, ODD)
    for step in range(6):
        await store.record_step(make_statistics(step), [make_decision(number) for number in range(250)])
    await store.aclose()
    await reparse(str(path), template=load_template("verdict-scale"))
    await asyncio.to_thread(_record, str(path))
    return str(path)


def _record(path):
    writer = asyncio.run(EvidenceWriter.open(path))
    for start in range(0, 1200, 400):
        pairs = [Pair(prompt=f"{ODD}{number}", response_a=f"a{number}", response_b="b") for number in range(start, start + 400)]
        label, scores = Known(preferred=1, source=ODD, category=ODD), {ODD: Preference(logit=0.25, uncertainty=0.5)}
        writer.write([Evidence(pair=pair, keys=pair_keys(pair), label=label, scores=scores) for pair in pairs])
    writer.close()


async def everything(url):
    """All rows by table, without the numbers that each database gives its own runs and steps."""
    async with reading(url) as connection:
        tables = {table.name: (await connection.execute(select(table))).mappings().all() for table in schema.metadata.sorted_tables}
    return {
        name: sorted(repr([(key, value) for key, value in row.items() if key not in RENUMBERED]) for row in rows)
        for name, rows in tables.items()
    }


async def unsound(url):
    return [finding for finding in await check(url) if not finding.ok]


async def test_what_is_merged_into_a_server_and_back_into_a_file_is_the_same(source, postgresql_url, tmp_path):
    before, back = await everything(source), str(tmp_path / "back.db")
    assert all(rows for name, rows in before.items() if name != "pacing")
    there = await bring_in(source, postgresql_url)
    assert await unsound(postgresql_url) == []
    assert there.added["text"] > 2 * merge.PAGE
    await bring_in(postgresql_url, back)
    assert await everything(back) == await everything(postgresql_url) == before
    again = await bring_in(source, postgresql_url)
    assert (sum(again.added.values()), again.other_replies, again.other_readings, again.other_values) == (0, 0, 0, 0)
    assert again.known_runs == [ODD, RUN]


async def test_runs_that_come_in_beside_others_do_not_take_the_numbers_of_those_to_come(source, postgresql_url):
    store = await SqlStore.open(postgresql_url)
    for name, step in (("before", 1), ("after", 2)):
        await store.open_run(name, {}, JUDGE)
        await store.record_step(replace(make_statistics(step), run=name), [])
        if name == "before":
            await bring_in(source, postgresql_url)
    await store.aclose()
    found = await everything(postgresql_url)
    assert (len(found["run"]), len(found["step"])) == (4, 8)
    assert await unsound(postgresql_url) == []


@pytest.mark.slow
async def test_a_merge_that_is_interrupted_leaves_the_server_as_it_was(source, postgresql_url, monkeypatch):
    monkeypatch.setattr(merge, "PAGE", 100)
    before, loop = await everything(postgresql_url), asyncio.get_running_loop()
    task = asyncio.create_task(bring_in(source, postgresql_url, tell=lambda _done, _total: loop.call_soon_threadsafe(task.cancel)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await everything(postgresql_url) == before
    assert (await bring_in(source, postgresql_url)).added["run"] == 2


@pytest.mark.slow
async def test_a_source_with_rows_that_refer_to_missing_ones_is_told_in_one_line_and_brings_nothing(source, postgresql_url):
    with closing(sqlite3.connect(source)) as database:
        database.execute("UPDATE call SET judge = x'01'")
        database.commit()
    before = await everything(postgresql_url)
    with pytest.raises(StoreError, match=r"`judgeflow db check --url .*source.db` tells what is wrong with it") as caught:
        await bring_in(source, postgresql_url)
    assert "\n" not in str(caught.value)
    assert "<class" not in str(caught.value)
    assert await everything(postgresql_url) == before
