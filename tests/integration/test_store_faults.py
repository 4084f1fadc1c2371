"""Faults of the database's file, provoked for real: full disks, files that may not be written, damage, and logs that are not its own.

Whatever happens, the error says what and what to do, nothing that was paid for is lost, and nothing is paid for that cannot be kept.
"""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from judgeflow import Scheduler
from judgeflow.config import JudgeConfig, RoutingConfig
from judgeflow.errors import StoreUnavailable
from judgeflow.judges.client import HttpJudge
from judgeflow.store import SqlStore
from judgeflow.store.check import check
from judgeflow.testing import FakeJudge, Watcher, arithmetic_pairs
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_question, settle
from judgeflow.types import Reply
from judgeflow.verdicts.prompt import load_template

IN_FLIGHT = 4


def command(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture
def disk():
    """A disk of four megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        if os.getuid() != 0 or command("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder).returncode:
            pytest.skip("mounting a small disk takes root")
        try:
            yield Path(folder)
        finally:
            command("umount", "-l", folder)


def fill(folder, *, leaving=0):
    """Fill the disk up to so many bytes; return the file that takes the room."""
    ballast = folder / "ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast.write_bytes(b"\0" * (free - leaving))
    return ballast


class Alarm(Watcher):
    """A watcher that sets an event when the store has recovered."""

    def __init__(self):
        super().__init__()
        self.recovered = asyncio.Event()

    def notice(self, event, **fields):
        super().notice(event, **fields)
        if event == "store_recovered":
            self.recovered.set()

    def count(self, event):
        return sum(name == event for name, _ in self.notices)


def scheduling(server, store, *observers):
    judge = HttpJudge(JudgeConfig(base_url=server.base_url, model="fake-judge"), load_template("default"))
    return Scheduler(store=store, judge=judge, routing=RoutingConfig(policy="always"), max_in_flight=IN_FLIGHT, observers=observers)


def stored(path):
    with sqlite3.connect(path) as database:
        number = database.execute("select count(*) from call").fetchone()[0]
    database.close()
    return number


# Full disks


async def test_a_disk_that_is_full_from_the_beginning_is_told_before_anything_is_asked(disk):
    fill(disk, leaving=8192)
    with pytest.raises(StoreUnavailable, match=r"v\.db: the disk is full; free some space, or choose another \[store\] url"):
        await SqlStore.open(str(disk / "v.db"))


async def test_when_the_disk_fills_up_asking_stops_steps_go_on_and_with_room_everything_paid_for_is_written(disk):
    pairs, seen = arithmetic_pairs(150), Alarm()
    store = await SqlStore.open(str(disk / "v.db"))
    async with FakeJudge.from_pairs(pairs, latency=0.002) as server, scheduling(server, store, seen) as scheduler:
        ballast = fill(disk, leaving=500_000)
        full = await scheduler.route(pairs)
        assert {"ok", "store_error"} <= set(full.statistics.statuses) <= {"ok", "one_order", "store_error"}
        asked = server.statistics.requests
        assert asked - stored(disk / "v.db") <= 3 * IN_FLIGHT
        later = [await scheduler.route(pairs) for _ in range(3)]
        assert all(len(step.outcomes) == 150 and step.statistics.statuses["store_error"] > 100 for step in later)
        assert server.statistics.requests == asked
        assert seen.count("store_failed") == 1
        assert "the disk is full; free some space" in seen.notices[0][1]["error"]
        assert isinstance(scheduler.refusal, StoreUnavailable)
        ballast.unlink()
        await seen.recovered.wait()
        assert scheduler.refusal is None
        assert stored(disk / "v.db") == server.statistics.answered == asked
        small = await scheduler.route(pairs[:40])
        assert small.statistics.statuses == {"ok": 40}
        assert max(server.statistics.question_answers.values()) == 1
    await store.aclose()
    assert all(finding.ok for finding in await check(str(disk / "v.db")))


CONFIG = """
[judge]
base_url = "{url}"
model = "fake-judge"
[limits]
max_in_flight = 4
[routing]
policy = "always"
"""


def prepare(folder, server, pairs):
    """Write what `judgeflow route` needs in a folder."""
    lines = [json.dumps({name: getattr(pair, name) for name in ("id", "prompt", "response_a", "response_b")}) for pair in pairs]
    (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "judgeflow.toml").write_text(CONFIG.format(url=server.base_url))


async def judgeflow(folder, *words):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "judgeflow", *words), cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, said = await process.communicate()
    return process.returncode, out.decode(), said.decode()


async def route(folder, url):
    return await judgeflow(folder, "route", "pairs.jsonl", "--out", "outcomes.jsonl", "--json", "--set", f"store.url={url}")


@pytest.mark.slow
async def test_a_command_whose_disk_fills_up_ends_with_one_message_and_with_room_the_same_command_asks_what_is_missing(disk, tmp_path):
    pairs = arithmetic_pairs(200)
    await (await SqlStore.open(str(disk / "v.db"))).aclose()
    async with FakeJudge.from_pairs(pairs, latency=0.002) as server:
        prepare(tmp_path, server, pairs)
        ballast = fill(disk, leaving=600_000)
        code, _, said = await route(tmp_path, disk / "v.db")
        assert code == 1
        assert "the disk is full; free some space" in said.splitlines()[-1]
        assert said.count("store_failed") == 1
        assert "Traceback" not in said
        kept, asked = stored(disk / "v.db"), server.statistics.requests
        assert 0 < kept <= asked <= kept + 3 * IN_FLIGHT
        ballast.unlink()
        command("mount", "-o", "remount,size=8m", str(disk))
        code, _, said = await route(tmp_path, disk / "v.db")
        assert code == 0, said
        assert server.statistics.requests == asked + 400 - kept
        code, out, _ = await judgeflow(tmp_path, "db", "check", "--url", str(disk / "v.db"))
        assert code == 0, out


# Files that may not be written


async def test_a_file_that_not_even_root_may_write_is_named_before_anything_is_asked(tmp_path):
    path = tmp_path / "v.db"
    await (await SqlStore.open(str(path))).aclose()
    if os.getuid() != 0 or command("chattr", "+i", str(path)).returncode:
        pytest.skip("making a file immutable takes root and a file system that can")
    try:
        with pytest.raises(StoreUnavailable, match=r"v\.db: (the file cannot be read and written; change its permissions|it cannot be)"):
            await SqlStore.open(str(path))
    finally:
        command("chattr", "-i", str(path))


async def test_a_disk_that_is_mounted_read_only_is_named_before_anything_is_asked(disk):
    await (await SqlStore.open(str(disk / "v.db"))).aclose()
    assert command("mount", "-o", "remount,ro", str(disk)).returncode == 0
    for name in ("v.db", "new.db"):
        with pytest.raises(StoreUnavailable, match=rf"{name}: the folder {disk} cannot be written; make it writable"):
            await SqlStore.open(str(disk / name))


# Damage


async def test_a_database_that_is_damaged_under_a_run_stops_the_asking_and_is_told_once(tmp_path):
    path, pairs, seen = tmp_path / "v.db", arithmetic_pairs(120), Alarm()
    store = await SqlStore.open(str(path))
    async with FakeJudge.from_pairs(pairs) as server, scheduling(server, store, seen) as scheduler:
        await scheduler.route(pairs[:40])
        with store._writer.engine.begin():  # what is in the log is read from there: bring it into the file
            pass
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))
        asked = server.statistics.requests
        steps = [await scheduler.route(pairs) for _ in range(3)]
        assert all(len(step.outcomes) == 120 and set(step.statistics.statuses) == {"store_error"} for step in steps)
        assert server.statistics.requests - asked <= 3 * IN_FLIGHT
        assert seen.count("store_failed") == 1
        assert "v.db: it is damaged; save a copy and restore a backup" in next(
            fields["error"] for event, fields in seen.notices if event == "store_failed"
        )
    await store.aclose()


async def test_a_database_whose_header_is_overwritten_is_named_by_every_verb(tmp_path):
    path = tmp_path / "v.db"
    await (await SqlStore.open(str(path))).aclose()
    with path.open("r+b") as file:
        file.write(b"no longer a database")
    for open_it in (SqlStore.open, check):
        with pytest.raises(StoreUnavailable, match=r"v\.db: it is damaged or no SQLite database; restore a backup"):
            await open_it(str(path))


# Logs: -wal files


WRITE_AND_DIE = """
import asyncio, os, signal, sys
from judgeflow.store import SqlStore
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_question, settle

async def main():
    store = await SqlStore.open(sys.argv[1])
    await store.open_run(RUN, {}, JUDGE)
    for number in range(20):
        question = make_question(number)
        await settle(store, f"r{number}", question, make_call(question))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def write_and_die(path):
    ended = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, path], check=False)
    assert ended.returncode == -signal.SIGKILL
    return path.with_name(path.name + "-wal")


async def fill_store(path, numbers):
    store = await SqlStore.open(str(path))
    await store.open_run(RUN, {}, JUDGE)
    for number in numbers:
        question = make_question(number)
        await settle(store, f"old{number}", question, make_call(question, Reply(text="x" * 3000)))
    await store.aclose()


async def test_a_log_that_is_deleted_after_an_unclean_death_takes_its_replies_with_it_and_nothing_else(tmp_path):
    path = tmp_path / "v.db"
    await fill_store(path, range(100, 140))
    write_and_die(path).unlink()
    assert all(finding.ok for finding in await check(str(path)))
    store = await SqlStore.open(str(path))
    keys = [make_question(number).call_key for number in range(140)]
    assert set(await store.read(keys)) == set(keys[100:])
    assert (await store.run_state(RUN)).spent.requests == 40
    await store.aclose()


@pytest.mark.slow
async def test_a_log_of_another_database_is_told_as_damage(tmp_path):
    await fill_store(tmp_path / "v.db", range(100, 140))
    shutil.copy(write_and_die(tmp_path / "other.db"), tmp_path / "v.db-wal")
    for open_it in (SqlStore.open, check):
        with pytest.raises(StoreUnavailable, match=r"v\.db: it is damaged; save a copy and restore a backup"):
            await open_it(str(tmp_path / "v.db"))
