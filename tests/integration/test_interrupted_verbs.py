"""Ctrl-C in the middle of a verb that works on a database: exit code 130, one line about what is kept, and no traceback."""

import os
import subprocess
import sys

import pytest
from surveyed import PAIRS, route_steps, routing
from typer.testing import CliRunner

from judgeflow.cli.app import app as whole
from judgeflow.cli.db import app
from judgeflow.clock import VirtualClock
from judgeflow.testing.pairs import pair_lines

PRESS = """
import os, runpy, signal, sys
pressed = False

def press(when):
    global pressed
    if when and not pressed:
        pressed = True
        os.kill(os.getpid(), signal.SIGINT)
"""
MERGING = """
from judgeflow.store import merge
merge.PAGE, add = 4, merge._add

def adding(connection, table, page, compare, found):
    press(found.source == "two.db" and table.name == "call")
    return add(connection, table, page, compare, found)

merge._add = adding
"""
IMPORTING = """
from judgeflow.cli import import_
from judgeflow.store.evidence import EvidenceWriter
import_.BATCH, write = 8, EvidenceWriter.write

def writing(writer, batch):
    press(writer.taken["label"].new == 16)
    return write(writer, batch)

EvidenceWriter.write = writing
"""
REPLAYING = """
import judgeflow.replay.compare as comparing
comparing.compare = lambda *_, **__: press(True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two databases with a run each, and a file of labelled pairs."""
    folder = tmp_path_factory.mktemp("interrupted")
    clock = VirtualClock()

    async def main():
        for name in ("one", "two"):
            async with routing(str(folder / f"{name}.db"), clock, run=name) as scheduler:
                await route_steps(scheduler, 1, first=0 if name == "one" else 1)

    clock.run(main())
    (folder / "pairs.jsonl").write_bytes(b"".join(pair_lines(PAIRS[:40])))
    return folder


def interrupted(folder, when, *words):
    """Run a verb that is interrupted at a certain moment; return the last line, which must be the only one about it."""
    command = [sys.executable, "-c", f"{PRESS}{when}\nrunpy.run_module('judgeflow', run_name='__main__')", *words]
    silent = os.environ | {"RANK": "1"}  # no progress, which a busy machine would have time for
    ended = subprocess.run(command, cwd=folder, env=silent, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (130, ""), ended.stderr
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("created")]
    return line


def content(path):
    result = CliRunner().invoke(app, ["info", "--json", "--url", str(path)])
    assert result.exit_code == 0, result.exception
    return result.stdout


def test_a_merge_takes_back_the_source_it_was_at_and_keeps_those_before_it(folder):
    said = interrupted(folder, MERGING, "db", "merge", "one.db", "two.db", "--into", "all.db")
    kept = "one.db came in before, as a whole; nothing of two.db was taken; the same command brings in the rest"
    assert said == f"interrupted: {kept}"
    assert '"name": "one"' in content(folder / "all.db")
    assert '"name": "two"' not in content(folder / "all.db")
    assert CliRunner().invoke(app, ["merge", str(folder / "two.db"), "--into", str(folder / "all.db")]).exit_code == 0
    assert '"name": "two"' in content(folder / "all.db")


def test_an_import_says_how_much_is_stored_and_the_same_command_brings_in_the_rest(folder):
    said = interrupted(folder, IMPORTING, "import", "pairs.jsonl", "--url", "imported.db")
    assert said == "interrupted: 16 of 40 records are stored, if not some more; the same command goes on from there"
    assert '"labels": {"pairs.jsonl": 16}' in content(folder / "imported.db")
    url = str(folder / "imported.db")
    assert CliRunner().invoke(whole, ["import", str(folder / "pairs.jsonl"), "--url", url]).exit_code == 0
    assert '"labels": {"pairs.jsonl": 40}' in content(url)


def test_a_replay_says_that_it_keeps_nothing(folder):
    said = interrupted(folder, REPLAYING, "replay", "one.db")
    assert said == "interrupted: a replay only reads, and nothing of it was written; the same command begins again"


def test_a_source_that_is_not_there_is_told_before_anything_is_created_or_taken(folder):
    said = CliRunner().invoke(app, ["merge", str(folder / "one.db"), str(folder / "three.db"), "--into", str(folder / "new.db")])
    assert "three.db: no such file; name a verdict database that is there" in str(said.exception)
    assert not (folder / "new.db").exists()
