"""`judgeflow db`: what a user sees of a database that is missing, sound, old or damaged."""

import asyncio
import json
import sqlite3
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from judgeflow.cli.db import app
from judgeflow.errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from judgeflow.keys import pair_keys, questions
from judgeflow.store import SqlStore, migrate
from judgeflow.store.schema import REVISIONS
from judgeflow.testing.store_contract import JUDGE, RUN, make_call, make_decision, make_statistics, reserved, settle
from judgeflow.types import Pair, Reading, ReadingStatus, Reply, Usage


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "verdicts.db"


@pytest.fixture
def filled(path):
    """Three pairs in both orders: two agree, one is inconsistent; one refusal; one orphan reservation."""

    async def fill():
        store = await SqlStore.open(str(path))
        await store.open_run(RUN, {}, JUDGE)
        reply = Reply(text="[[A]]", usage=Usage(prompt=70, completion=30), usd=0.01)
        for number, agree in enumerate((True, True, False)):
            pair = Pair(prompt="Which?", response_a=f"a{number}", response_b=f"b{number}")
            for question, preferred in zip(questions(pair, pair_keys(pair), JUDGE.fingerprint), (1, -1 if agree else 1), strict=True):
                reading = Reading(status=ReadingStatus.OK, preferred=preferred)
                await settle(store, question.nonce, question, replace(make_call(question, reply), reading=reading))
        harmful = Pair(prompt="No?", response_a="a", response_b="b")
        refused = questions(harmful, pair_keys(harmful), JUDGE.fingerprint)[0]
        await settle(store, "refused", refused, make_call(refused, reply, ReadingStatus.REFUSED))
        await reserved(store, "orphan")
        await store.record_step(make_statistics(4), [make_decision(1)])
        await store.aclose()

    asyncio.run(fill())
    return path


def db(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def change(path, *statements):
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_upgrade_creates_a_missing_database_and_says_so(path):
    result = db("upgrade", "--url", path)
    assert result.exit_code == 0
    assert f"schema nothing -> {REVISIONS[-1]}" in result.stdout
    assert "is up to date" in db("upgrade", "--url", path).stdout


def test_the_command_in_the_error_about_an_older_database_mends_it(path):
    asyncio.run(migrate.upgrade(str(path), "0001"))
    error = db("info", "--url", path).exception
    assert isinstance(error, SchemaMismatch)
    command = str(error).partition("run: ")[2].split()
    assert command[:2] == ["judgeflow", "db"]
    result = db(*command[2:], "--json")
    assert json.loads(result.stdout)["before"] == "0001"
    assert db("check", "--url", path).exit_code == 0


def test_the_address_comes_from_the_configuration_in_this_folder(path):
    path.parent.joinpath("runs").mkdir()
    path.parent.joinpath("judgeflow.toml").write_text(
        '[run]\ndirectory = "runs"\n[judge]\nmodel = "m"\n[routing]\npolicy = "always"\n[store]\nurl = "sqlite+aiosqlite:///mine.db"\n'
    )
    assert db("upgrade").exit_code == 0
    assert (path.parent / "runs" / "mine.db").exists()
    assert db("upgrade", "--config", path.parent / "judgeflow.toml").exit_code == 0


def test_without_a_configuration_the_database_is_judgeflow_db(path):
    assert db("upgrade").exit_code == 0
    assert (path.parent / "judgeflow.db").exists()


def test_a_configuration_that_does_not_exist_is_an_error(path):
    assert isinstance(db("info", "--config", "none.toml").exception, ConfigurationError)


def test_info_of_a_missing_database_creates_nothing_and_names_the_command(path):
    error = db("info", "--url", path).exception
    assert isinstance(error, SchemaMismatch)
    assert f"judgeflow db upgrade --url sqlite+aiosqlite:///{path}" in str(error)
    assert not path.exists()


def test_info_counts_rows_agreement_and_spend(filled):
    found = json.loads(db("info", "--url", filled, "--json").stdout)
    assert found["rows"] | {"judge": 1, "call": 7, "pair": 4, "run": 1, "step": 1, "decision": 1, "reservation": 8} == found["rows"]
    assert found["size"] >= filled.stat().st_size
    [judge] = found["judges"]
    assert (judge["id"], judge["calls"], judge["statuses"], judge["pairs"]) == (JUDGE.id, 7, {"ok": 6, "refused": 1}, 3)
    assert judge["agreement"] == pytest.approx(2 / 3)
    [run] = found["runs"]
    assert run["spent"] == {"requests": 7, "tokens": 700, "usd": 0.07}
    assert (run["open_reservations"], run["reserved"]["requests"], run["last_step"], run["steps"]) == (1, 1, 4, 1)


def test_info_is_readable(filled):
    out = db("info", "--url", filled).stdout
    for expected in ("verdicts.db", "call", "contract", "1 refused", "0.667 of 3", "0.0700", RUN):
        assert expected in out


def test_info_shows_long_judge_ids_whole_and_fingerprints_to_name_them_by(filled):
    long = "http://judge.example:8000/v1/a/very/long/path/to/the/server Some-Organisation/Some-Model-With-A-Long-Name-70B-Instruct"
    change(filled, f"UPDATE judge SET id = '{long}'", "INSERT INTO judge SELECT zeroblob(32), id, model, parameters, created_at FROM judge")
    out = db("info", "--url", filled).stdout
    assert "…" not in out
    assert JUDGE.fingerprint.hex()[:8] in out
    assert "00000000" in out
    assert f"@{JUDGE.fingerprint.hex()[:8]}" in "".join(line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│"))


def test_check_of_a_sound_database_names_open_reservations_and_succeeds(filled):
    result = db("check", "--url", filled)
    assert result.exit_code == 0
    assert "1 open, 1 request, " in result.stdout
    assert "WRONG" not in result.stdout


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE text SET body = 'forged' WHERE body = 'a1'", "texts"),
        ("UPDATE text SET conversational = 1 WHERE body = 'a1'", "texts"),
        ("UPDATE pair SET low = high", "pairs"),
        ("DELETE FROM judge", "references"),
        ("UPDATE run SET spent_requests = 1", "budgets"),
        ("UPDATE run SET reserved_usd = 0", "budgets"),
        ("DELETE FROM reservation WHERE id = 'orphan'", "budgets"),
    ],
)
def test_check_says_what_is_wrong_and_fails(filled, damage, finding):
    change(filled, damage)
    result = db("check", "--url", filled, "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert finding in {item["check"] for item in answer["findings"] if not item["ok"]}
    printed = db("check", "--url", filled)
    assert f"WRONG {finding}: " in printed.stdout
    assert "restore a backup, or save what can be read: `sqlite3 COPY .recover" in printed.stderr


def test_a_file_too_damaged_to_be_checked_is_told_with_the_way_to_save_it(filled):
    change(filled, "PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray(filled.read_bytes())
    whole[100:4096] = b"\xff" * 3996  # the page that says where the tables are
    filled.write_bytes(whole)
    told = str(db("check", "--url", filled).exception)
    assert "sqlite3 COPY .recover | sqlite3 NEW.db" in told
    assert "lists what it finds" not in told


def test_a_file_that_is_no_database_is_an_error_of_the_store(path):
    path.write_text("not a database at all, only some notes\n" * 30)
    for verb in ("info", "check", "upgrade"):
        assert isinstance(db(verb, "--url", path).exception, StoreUnavailable)
