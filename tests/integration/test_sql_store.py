"""The verdict database against the world: other processes, sudden death, damage, full disks and foreign files."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest
from sqlalchemy import event, text

import judgeflow.store.sql as sql_module
from judgeflow.errors import ConfigurationError, SchemaMismatch, StoreError, StoreUnavailable
from judgeflow.keys import pair_keys, prompt_from_body, questions
from judgeflow.store import SqlStore, migrate
from judgeflow.store.check import check
from judgeflow.store.engines import normalise_url
from judgeflow.store.queries import summary
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_question, make_reservation, settle
from judgeflow.types import Cost, Message, Pair, Reply, Stock, Usage

PREAMBLE = """
import asyncio, os, sys
from judgeflow.errors import StoreError
from judgeflow.store import SqlStore
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_question, make_reservation, settle
from judgeflow.types import Stock
path = sys.argv[1]
"""


def start(script, *arguments):
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return out


def set_mode(path, mode):
    Path(path).chmod(mode)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "verdicts.db"


@pytest.fixture
async def store(path):
    store = await SqlStore.open(str(path))
    await store.open_run(RUN, {}, JUDGE)
    yield store
    await store.aclose()


def set_on_writer(store, pragma):
    with store._writer.engine.begin() as connection:
        connection.execute(text(f"PRAGMA {pragma}"))


# Several processes


async def test_two_processes_share_one_stock_to_the_last_request(path):
    script = """
        async def main():
            store = await SqlStore.open(path)
            await store.open_run(RUN, {}, JUDGE)
            names = [f"{sys.argv[2]}-{i}" for i in range(300)]
            granted = await asyncio.gather(*(store.reserve(RUN, make_reservation(name), Stock(requests=400)) for name in names))
            await store.aclose()
            print(granted.count(True))
        asyncio.run(main())
    """
    processes = [start(script, path, name) for name in ("one", "two")]
    granted = [int(finish(process)) for process in processes]
    assert sum(granted) == 400
    store = await SqlStore.open(str(path))
    assert (await store.run_state(RUN)).reserved.requests == 400
    await store.aclose()


async def test_processes_that_create_one_database_at_the_same_time_do_not_disturb_each_other(path):
    script = """
        async def main():
            store = await SqlStore.open(path)
            await store.open_run(RUN, {}, JUDGE)
            await store.aclose()
        asyncio.run(main())
    """
    for process in [start(script, path) for _ in range(3)]:
        finish(process)
    assert (await summary(str(path))).rows["run"] == 1


async def test_a_file_that_another_process_is_still_creating_is_waited_for(path):
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    soon = threading.Timer(0.3, other.execute, ["COMMIT"])
    soon.start()
    store = await SqlStore.open(str(path))
    await store.aclose()
    soon.join()
    other.close()
    assert all(finding.ok for finding in await check(str(path)))


async def test_every_acknowledged_reply_is_there_after_the_process_was_killed(path):
    script = """
        async def produce(store, numbers):
            for number in numbers:
                question = make_question(number)
                await settle(store, f"r{number}", question, make_call(question))
                print(question.call_key.hex(), flush=True)

        async def main():
            store = await SqlStore.open(path)
            await store.open_run(RUN, {}, JUDGE)
            numbers = iter(range(10**9))
            await asyncio.gather(*(produce(store, numbers) for _ in range(16)))
        asyncio.run(main())
    """
    process = start(script, path)
    acknowledged = [process.stdout.readline().strip() for _ in range(300)]
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged += [line for line in rest.split("\n")[:-1] if len(line) == 64]

    store = await SqlStore.open(str(path))
    found = await store.read([bytes.fromhex(key) for key in acknowledged])
    await store.aclose()
    assert len(found) == len(acknowledged) >= 300
    assert all(finding.ok for finding in await check(str(path)))


# What lies at the address


async def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StoreUnavailable, match=rf"the folder {tmp_path}/nowhere does not exist; create it"):
        await SqlStore.open(str(tmp_path / "nowhere" / "x.db"))


async def test_a_folder_in_place_of_a_file_is_said_to_be_one(tmp_path):
    with pytest.raises(StoreUnavailable, match="is a folder; choose a file"):
        await SqlStore.open(str(tmp_path))


async def test_an_empty_file_becomes_a_database(path):
    path.touch()
    await (await SqlStore.open(str(path))).aclose()
    assert (await migrate.inspect(str(path))).kind == "current"


OPEN_AS_NOBODY = """
    async def main():
        os.setuid(65534)
        try:
            await SqlStore.open(path)
        except StoreError as error:
            print(type(error).__name__, error)
    asyncio.run(main())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
async def test_a_folder_that_may_not_be_written_is_named_before_anything_is_paid_for():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        await (await SqlStore.open(f"{folder}/old.db")).aclose()
        set_mode(folder, 0o555)
        for name in ("new.db", "old.db"):
            out = finish(start(OPEN_AS_NOBODY, f"{folder}/{name}"))
            assert out.startswith(f"StoreUnavailable {folder}/{name}: the folder {folder} cannot be written; make it writable")


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
@pytest.mark.parametrize(("mode", "message"), [(0o444, "cannot be read and written"), (0o000, "cannot be read and written")])
async def test_a_file_that_may_not_be_written_is_named(mode, message):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        await (await SqlStore.open(f"{folder}/v.db")).aclose()
        set_mode(folder, 0o777)
        set_mode(f"{folder}/v.db", mode)
        assert message in finish(start(OPEN_AS_NOBODY, f"{folder}/v.db"))


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user takes root")
async def test_a_folder_that_may_not_even_be_entered_is_an_error_of_the_store():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        set_mode(folder, 0o700)
        address = f"{folder}/inner/v.db"
        assert finish(start(OPEN_AS_NOBODY, address)).startswith(f"StoreUnavailable {address}")


async def test_a_file_that_is_no_database_is_named_and_left_alone(path):
    path.write_bytes(b"these are my notes, not a database\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match=r"verdicts\.db: it is damaged or no SQLite database; restore a backup"):
        await SqlStore.open(str(path))
    assert path.read_bytes() == before


async def test_damage_inside_the_file_is_told_by_name_and_found_by_check(store, path):
    asked = [make_question(number) for number in range(60)]
    for number, question in enumerate(asked):
        await settle(store, f"r{number}", question, make_call(question, Reply(text="x" * 2000)))
    await store.aclose()
    content = path.read_bytes()
    kept = len(content) // 2
    path.write_bytes(content[:kept] + b"\xff" * (len(content) - kept))

    damaged = await SqlStore.open(str(path))
    with pytest.raises(StoreUnavailable, match=r"verdicts\.db: it is damaged; save a copy"):
        await damaged.read([question.call_key for question in asked])
    await damaged.aclose()
    findings = {finding.check: finding for finding in await check(str(path))}
    assert findings["schema"].ok
    assert not findings["pages"].ok


async def test_a_database_of_another_program_is_refused_and_left_alone(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE experiments (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    for attempt in (SqlStore.open, migrate.upgrade):
        with pytest.raises(SchemaMismatch, match=r"verdicts\.db belongs to another program; choose another \[store\] url"):
            await attempt(str(path))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_an_older_database_is_not_upgraded_in_passing_but_the_command_is_named(path):
    await migrate.upgrade(str(path), "0001")
    before = path.read_bytes()
    with pytest.raises(SchemaMismatch) as caught:
        await SqlStore.open(str(path))
    assert str(caught.value) == (
        f"{path} has schema 0001, this judgeflow needs {migrate.REVISIONS[-1]}; run: judgeflow db upgrade --url sqlite+aiosqlite:///{path}"
    )
    assert path.read_bytes() == before


async def test_a_newer_database_names_both_revisions(store, path):
    await store.aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE judgeflow_schema SET version_num = '9001'")
    connection.close()
    for attempt in (SqlStore.open, migrate.upgrade):
        with pytest.raises(SchemaMismatch, match=rf"has schema 9001, .* up to {migrate.REVISIONS[-1]}; upgrade judgeflow"):
            await attempt(str(path))


@pytest.mark.parametrize(
    ("url", "directory", "expected"),
    [
        ("x.db", ".", "sqlite+aiosqlite:///x.db"),
        ("x.db", "runs", "sqlite+aiosqlite:///runs/x.db"),
        ("/data/x.db", "runs", "sqlite+aiosqlite:////data/x.db"),
        ("sqlite:///x.db", ".", "sqlite+aiosqlite:///x.db"),
        ("sqlite+aiosqlite:///a b/x.db", "runs", "sqlite+aiosqlite:///runs/a b/x.db"),
        ("sqlite+aiosqlite:////data/x.db", "runs", "sqlite+aiosqlite:////data/x.db"),
    ],
)
def test_addresses_and_plain_paths_name_the_same_databases(url, directory, expected):
    assert normalise_url(url, directory) == expected
    assert normalise_url(expected) == expected


@pytest.mark.parametrize("url", ["", ":memory:", "sqlite+aiosqlite://", "sqlite:///:memory:", "mysql://host/db", "://", "what://x/y"])
def test_an_address_that_cannot_be_a_verdict_database_is_a_configuration_error(url):
    with pytest.raises(ConfigurationError, match=r"\[store\] url"):
        normalise_url(url)


# While it is in use


async def test_a_full_disk_is_told_and_writing_goes_on_once_there_is_room(store):
    set_on_writer(store, "max_page_count=60")
    question = make_question()
    large = make_call(question, Reply(text="x" * 1_000_000))
    writes = [store.settle(RUN, make_reservation(f"r{i}"), question, large) for i in range(3)]
    errors = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(error, StoreUnavailable) and "the disk is full; free some space" in str(error) for error in errors)
    set_on_writer(store, "max_page_count=1000000")
    await store.settle(RUN, make_reservation("r0"), question, large)
    assert question.call_key in await store.read([question.call_key])
    assert (await store.run_state(RUN)).spent.requests == 1


async def test_a_database_locked_by_another_program_is_told_and_reading_goes_on(store, path):
    set_on_writer(store, "busy_timeout=0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another process has kept it locked"):
        await store.reserve(RUN, make_reservation("r"), Stock())
    assert await store.read([b"?" * 32]) == {}
    other.execute("ROLLBACK")
    other.close()
    assert await store.reserve(RUN, make_reservation("r"), Stock())


async def test_a_reply_of_a_judge_that_no_run_registered_is_refused_and_its_neighbours_are_kept(path):
    store = await SqlStore.open(str(path))
    await store.open_run("unjudged", {}, None)
    question = make_question()
    bad = store.settle("unjudged", make_reservation("bad"), question, make_call(question))
    good = store.reserve("unjudged", make_reservation("good"), Stock())
    refused, granted = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(refused, StoreError)
    assert "open_run registers the run and its judge" in str(refused)
    assert granted is True
    await store.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text="[[A]]", finish_reason={"type": "stop"}),
        Reply(text="[[A]]", usage=Usage(prompt=2**63 + 5)),
        Reply(text="[[A]]", usd=float("nan")),
    ],
    ids=["type", "overflow", "nan"],
)
async def test_a_value_that_no_column_takes_is_an_error_of_its_own_write_and_its_neighbours_are_kept(store, reply):
    asked = [make_question(number) for number in range(3)]
    calls = [make_call(asked[0]), make_call(asked[1], reply), make_call(asked[2])]
    writes = [
        store.settle(RUN, make_reservation(f"r{n}"), question, call) for n, (question, call) in enumerate(zip(asked, calls, strict=True))
    ]
    first, refused, last = await asyncio.gather(*writes, return_exceptions=True)
    assert (first, last) == (None, None)
    assert type(refused) is StoreError
    assert "cannot hold a value" in str(refused)
    assert (await store.read([question.call_key for question in asked])).keys() == {asked[0].call_key, asked[2].call_key}
    assert (await store.run_state(RUN)).spent.requests == 2


async def test_concurrent_writes_share_transactions(store):
    commits = []
    event.listen(store._writer.engine, "commit", commits.append)
    await asyncio.gather(*(store.reserve(RUN, make_reservation(f"r{i}"), Stock()) for i in range(500)))
    assert len(commits) <= 3


async def test_texts_are_hashed_on_a_worker_thread(store, monkeypatch):
    threads = []

    def recording(*arguments):
        threads.append(threading.get_ident())
        return build_rows(*arguments)

    build_rows = sql_module.build_rows
    monkeypatch.setattr(sql_module, "build_rows", recording)
    await settle(store, "r", make_question(), make_call(make_question()))
    assert threads
    assert threading.get_ident() not in threads


async def rows_of(store, statement):
    return await store._reader.visit(lambda connection: connection.execute(text(statement)).all())


async def test_both_orders_share_one_pair_and_every_text_is_stored_once(store):
    prompt = (Message(role="user", content="Why?"),)
    pairs = [Pair(prompt=prompt, response_a="one", response_b=other) for other in ("two", "three")]
    for number, question in enumerate(question for pair in pairs for question in questions(pair, pair_keys(pair), JUDGE.fingerprint)):
        await settle(store, f"r{number}", question, make_call(question))
    rows = await rows_of(store, "SELECT body, conversational FROM text ORDER BY body")
    (counts,) = await rows_of(store, "SELECT (SELECT count(*) FROM pair), (SELECT count(*) FROM call)")
    assert [body for body, conversational in rows if not conversational] == ["one", "three", "two"]
    assert [prompt_from_body(body, conversational=True) for body, conversational in rows if conversational] == [prompt]
    assert tuple(counts) == (2, 4)


async def test_a_cancelled_read_leaves_the_store_usable(store):
    for delay in range(6):
        task = asyncio.create_task(store.read([make_question(number).call_key for number in range(2000)]))
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    assert await asyncio.gather(*(store.read([b"?" * 32]) for _ in range(20))) == [{}] * 20


async def test_a_reservation_that_another_process_has_closed_meanwhile_is_not_charged_twice(store, path):
    mine, other = make_reservation("mine"), make_reservation("other")
    await store.reserve(RUN, mine, Stock())
    await store.reserve(RUN, other, Stock())
    elsewhere = await SqlStore.open(str(path))
    await elsewhere.open_run(RUN, {}, JUDGE)
    await elsewhere.charge(RUN, mine)
    await elsewhere.aclose()
    await asyncio.gather(store.charge(RUN, mine), store.charge(RUN, other))
    state = await store.run_state(RUN)
    assert state.spent == mine.cost + other.cost
    assert state.reserved == Cost()


async def test_a_reservation_that_another_process_has_closed_is_counted_once_and_forgotten(tmp_path):
    stores = [await SqlStore.open(str(tmp_path / "verdicts.db")) for _ in range(2)]
    ours, theirs = stores
    await ours.open_run(RUN, {}, JUDGE)
    shared, own = make_reservation("shared"), make_reservation("own")
    assert await ours.reserve(RUN, shared, Stock()) is True
    assert await ours.reserve(RUN, own, Stock()) is True
    await theirs.charge(RUN, shared)
    await asyncio.gather(ours.charge(RUN, shared), ours.release(RUN, own))
    state = await ours.run_state(RUN)
    assert (state.spent, state.reserved) == (shared.cost, Cost())
    assert not ours._open_entries
    for store in stores:
        await store.aclose()
