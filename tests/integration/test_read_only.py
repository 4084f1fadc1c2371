"""Databases that can be read and not written: on a disk that is mounted so, in a folder of somebody else, in an archive."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager

import pytest
from surveyed import route_steps, routing
from typer.testing import CliRunner

from judgeflow.cli.app import app
from judgeflow.clock import VirtualClock
from judgeflow.errors import StoreUnavailable
from judgeflow.store import SqlStore
from judgeflow.store.queries import summary

READING = (
    ("db", "info", "--json", "--url"),
    ("db", "check", "--url"),
    ("report", "--json", "--url"),
    ("export", "--what", "calls", "--out", "-", "--url"),
    ("replay", "--resamples", "100", "--json"),
)


@pytest.fixture(scope="module")
def routed(tmp_path_factory):
    """A database with a run, which its last process has closed."""
    path = tmp_path_factory.mktemp("routed") / "v.db"
    clock = VirtualClock()

    async def main():
        async with routing(str(path), clock) as scheduler:
            await route_steps(scheduler, 2)

    clock.run(main())
    return path


@pytest.fixture
def path(routed, tmp_path):
    """A copy of it, under a name that means something in a URI."""
    (tmp_path / "theirs").mkdir()
    return shutil.copy(routed, tmp_path / "theirs" / "v #1?.db")


@contextmanager
def only_readable(folder):
    """Let nobody write in a folder: by its rights; by a mount for root, whom rights do not stop."""
    if os.getuid() != 0:
        rights = {item: item.stat().st_mode for item in (*folder.iterdir(), folder)}
        for item in rights:
            item.chmod(0o555 if item is folder else 0o444)
        try:
            yield
        finally:
            for item in reversed(rights):
                item.chmod(rights[item])
        return
    for command in (("mount", "--bind", folder, folder), ("mount", "-o", "remount,bind,ro", folder)):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a folder takes root")
    try:
        yield
    finally:
        subprocess.run(("umount", "-l", folder), check=True)


def said(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.exception
    return result.stdout


def everything(path):
    """What all verbs that only read say, without the moment at which they say it."""
    return [[part for part in said(*verb, path).split(", ") if '"at":' not in part] for verb in READING]


def log_a_name(path):
    """Rename the run as a process that goes on: that stands in the log, and not yet in the file."""
    database = sqlite3.connect(path)
    database.execute("UPDATE run SET name = 'logged'")
    database.commit()
    return closing(database)


def runs(path):
    return [run.name for run in asyncio.run(summary(str(path))).runs]


def test_every_verb_that_only_reads_says_of_a_folder_that_cannot_be_written_what_it_says_otherwise(path):
    before = everything(path)
    with only_readable(path.parent):
        assert everything(path) == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_a_process_that_may_write_has_logged_is_read_too(path):
    with log_a_name(path), only_readable(path.parent):
        assert runs(path) == ["logged"]


def test_a_log_that_cannot_be_read_without_writing_is_told_with_what_to_do_and_the_copy_can_be_read(path, tmp_path):
    archive, mine = tmp_path / "archive", tmp_path / "mine"
    archive.mkdir()
    mine.mkdir()
    log = path.with_name(path.name + "-wal")
    with log_a_name(path):
        for file in (path, log):
            shutil.copy(file, archive)
    with only_readable(archive), pytest.raises(StoreUnavailable) as caught:
        runs(archive / path.name)
    assert f"part of it is in {log.name}, which SQLite cannot read without writing" in str(caught.value)
    assert f"copy {path.name} and {log.name} to where you may write both, and read the copy with --url" in str(caught.value)
    for file in archive.iterdir():
        shutil.copyfile(file, mine / file.name)
    assert runs(mine / path.name) == ["logged"]


async def test_what_is_to_be_written_still_names_the_folder(path):
    with only_readable(path.parent), pytest.raises(StoreUnavailable, match=f"the folder {path.parent} cannot be written"):
        await SqlStore.open(str(path))
