"""Ctrl-C in the middle of a verb that works on a database: exit code 130, one line about what is kept, and no traceback."""

import json
import os
import re
import shutil
import signal
import sqlite3
from contextlib import closing

import pytest
from surveyed import PAIRS, route_steps, routing
from typer.testing import CliRunner

from judgeflow.cli.app import app as whole
from judgeflow.cli.db import app
from judgeflow.clock import VirtualClock
from judgeflow.testing.pairs import pair_lines

# The moments at which Ctrl-C is pressed.  Each puts something into the way of a verb.


def merging(press, put):
    from judgeflow.store import merge

    add = merge._add

    def adding(connection, table, page, compare, found):
        press(found.source == "two.db" and table.name == "call")
        return add(connection, table, page, compare, found)

    put(merge, "PAGE", 4)
    put(merge, "_add", adding)


def importing(press, put):
    from judgeflow.cli import import_
    from judgeflow.store.evidence import EvidenceWriter

    write = EvidenceWriter.write

    def writing(writer, batch):
        press(writer.taken["label"].new == 16)
        return write(writer, batch)

    put(import_, "BATCH", 8)
    put(EvidenceWriter, "write", writing)


def replaying(press, put):
    from judgeflow.replay import compare

    put(compare, "compare", lambda *_, **__: press(True))


def exporting(press, put):
    from judgeflow.cli import export

    write = export._Sink._write

    def writing(sink, chunk):
        write(sink, chunk)
        press(True)

    put(export._Sink, "_write", writing)


def completing(press, put):
    from judgeflow.cli.record_files import RecordFile

    complete = RecordFile.complete

    def completes(file):
        press("test" in str(file._file.partial))
        return complete(file)

    put(RecordFile, "complete", completes)


def checking(press, put):
    from judgeflow.store import check

    guarded = check._guarded

    async def checks(name, run, at):
        press(name == "calls")
        return await guarded(name, run, at)

    put(check, "_guarded", checks)


def deleting(press, put):
    from judgeflow.store import compact

    drop = compact._drop

    def dropping(connection, table, gone, stop):
        if table.name == "pair":
            bare = connection.connection
            bare.create_function("press", 1, press)
            bare.execute(
                "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) SELECT max(press(n = 1000)) FROM endless"
            )
        return drop(connection, table, gone, stop)

    put(compact, "_drop", dropping)


def rewriting(press, put):
    from judgeflow.store import compact

    rewrite = compact._rewrite

    def rewrites(connection, stop, tell):
        press(True)
        assert stop.wait(300)
        return rewrite(connection, stop, tell)

    put(compact, "_rewrite", rewrites)


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


@pytest.fixture
def interrupted(judgeflow, monkeypatch):
    """Run a verb that is interrupted at a certain moment; return the last line, which must be the only one about it."""

    def run(folder, when, *words, printed=""):
        pressed = []

        def press(now):
            if now and not pressed:
                pressed.append(now)
                os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as here:
            when(press, here.setattr)
            ended = judgeflow(folder, *words, environment={"RANK": "1"})  # no progress, which a busy machine would have time for
        assert ended.code == 130, ended.err
        assert ended.out.startswith(printed) if printed else ended.out == ""
        assert "Traceback" not in ended.err
        (line,) = [line for line in ended.err.splitlines() if not line.startswith("created")]
        return line

    return run


def content(path):
    result = CliRunner().invoke(app, ["info", "--json", "--url", str(path)])
    assert result.exit_code == 0, result.exception
    return result.stdout


def test_a_merge_takes_back_the_source_it_was_at_and_keeps_those_before_it(interrupted, folder):
    said = interrupted(folder, merging, "db", "merge", "one.db", "two.db", "--into", "all.db")
    kept = "one.db came in before, as a whole; nothing of two.db was taken; the same command brings in the rest"
    assert said == f"interrupted: {kept}"
    assert '"name": "one"' in content(folder / "all.db")
    assert '"name": "two"' not in content(folder / "all.db")
    assert CliRunner().invoke(app, ["merge", str(folder / "two.db"), "--into", str(folder / "all.db")]).exit_code == 0
    assert '"name": "two"' in content(folder / "all.db")


def test_an_import_says_how_much_is_stored_and_the_same_command_brings_in_the_rest(interrupted, folder):
    said = interrupted(folder, importing, "import", "pairs.jsonl", "--url", "imported.db")
    assert said == "interrupted: 16 of 40 records are stored, if not some more; the same command goes on from there"
    assert '"labels": {"pairs.jsonl": 16}' in content(folder / "imported.db")
    url = str(folder / "imported.db")
    assert CliRunner().invoke(whole, ["import", str(folder / "pairs.jsonl"), "--url", url]).exit_code == 0
    assert '"labels": {"pairs.jsonl": 40}' in content(url)


@pytest.fixture
def copied(folder, tmp_path):
    """A folder with a database of its own."""
    shutil.copy(folder / "one.db", tmp_path / "one.db")
    return tmp_path


def test_an_export_keeps_nothing_of_a_file_that_is_not_whole(interrupted, copied):
    (copied / "out.jsonl").write_text("as it was")
    said = interrupted(copied, exporting, "export", "--url", "one.db", "--out", "out.jsonl")
    assert said == "interrupted: nothing is kept of what was to be out.jsonl; the same command begins again"
    assert sorted(path.name for path in copied.iterdir() if path.suffix != ".db") == ["out.jsonl"]
    assert (copied / "out.jsonl").read_text() == "as it was"


def test_an_export_that_is_interrupted_between_two_files_names_the_one_that_is_whole(interrupted, copied):
    said = interrupted(copied, completing, "export", "--url", "one.db", "--out", "out.jsonl", "--split-by-prompt", "0.5")
    left = "nothing is kept of what was to be out.test.jsonl; the same command begins again"
    assert said == f"interrupted: out.train.jsonl is written as a whole; {left}"
    assert [path.name for path in copied.iterdir() if "out" in path.name] == ["out.train.jsonl"]


def test_an_export_to_stdout_says_how_many_records_are_there(interrupted, copied):
    said = interrupted(copied, exporting, "export", "--url", "one.db", "--out", "-", "--what", "calls", printed='{"pair_key"')
    assert re.fullmatch(r"interrupted: [1-9]\d* whole records are on stdout, and the rest is missing; the same command begins again", said)


def test_a_check_says_what_it_has_found_so_far(interrupted, copied):
    said = interrupted(copied, checking, "db", "check", "--url", "one.db")
    assert said == "interrupted: after 6 checks, and nothing is wrong so far; a check only reads, and the same command begins again"
    with closing(sqlite3.connect(copied / "one.db")) as database, database:
        database.execute("UPDATE text SET body = 'another' WHERE rowid = 1")
    said = interrupted(copied, checking, "db", "check", "--url", "one.db")
    assert re.search(r"^interrupted: after 6 checks, WRONG texts: text \w+ is not what its hash says; a check only reads", said), said


def rows(path):
    return json.loads(content(path))["rows"]


def test_compacting_takes_back_what_it_was_deleting_at_once(interrupted, copied):
    before = rows(copied / "one.db")
    said = interrupted(copied, deleting, "db", "compact", "--url", "one.db", "--drop-replies-older-than", "1")
    assert said == "interrupted: nothing was changed; the same command begins again"
    assert rows(copied / "one.db") == before


def test_compacting_says_that_the_rows_are_gone_where_only_their_space_is_left(interrupted, copied):
    size = (copied / "one.db").stat().st_size
    said = interrupted(copied, rewriting, "db", "compact", "--url", "one.db", "--drop-replies-older-than", "1")
    assert said == "interrupted: the rows are gone, and their space is still part of the file; the same command gives it back"
    assert rows(copied / "one.db")["call"] == 0
    assert (copied / "one.db").stat().st_size >= size
    assert CliRunner().invoke(app, ["compact", "--url", str(copied / "one.db")]).exit_code == 0
    assert (copied / "one.db").stat().st_size < size


def test_a_replay_says_that_it_keeps_nothing(interrupted, folder):
    said = interrupted(folder, replaying, "replay", "one.db")
    assert said == "interrupted: a replay only reads, and nothing of it was written; the same command begins again"


def test_a_source_that_is_not_there_is_told_before_anything_is_created_or_taken(folder):
    said = CliRunner().invoke(app, ["merge", str(folder / "one.db"), str(folder / "three.db"), "--into", str(folder / "new.db")])
    assert "three.db: no such file; name a verdict database that is there" in str(said.exception)
    assert not (folder / "new.db").exists()
