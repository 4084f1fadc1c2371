"""`judgeflow db reparse | merge | compact | info | check` on files that a small real run has made."""

import asyncio
import itertools
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from judgeflow import Scheduler
from judgeflow.cli.db import app
from judgeflow.errors import ConfigurationError, SchemaMismatch, StoreError, StoreUnavailable, UsageError
from judgeflow.store import migrate
from judgeflow.store.merge import merge
from judgeflow.store.reparse import reparse
from judgeflow.testing import FakeJudge, arithmetic_pairs
from judgeflow.verdicts.prompt import load_template

PAIRS = arithmetic_pairs(14)
DAY = 86_400

FLIPPED = (
    'user = "{prompt} {response_a} {response_b}"\n[verdicts]\n'
    '"<verdict>A</verdict>" = "second"\n"<verdict>B</verdict>" = "slightly first"\n"[[nothing]]" = "tie"\n'
)


def configuration(server, run, database="judgeflow.db", template="default"):
    judge = f'[judge]\nbase_url = "{server.base_url}"\nmodel = "fake-judge"\nid = "fake"\ntemplate = "{template}"\n'
    return f'{judge}[routing]\npolicy = "always"\n[run]\nname = "{run}"\n[store]\nurl = "{database}"\n'


async def route(folder, pairs, run, **options):
    """Route pairs in two steps against a judge over HTTP."""
    async with FakeJudge.from_pairs(pairs, accuracy=0.8, position_bias=0.2, tie_rate=0.1) as server:
        (folder / "judgeflow.toml").write_text(configuration(server, run, **options))
        async with Scheduler.from_config(folder / "judgeflow.toml") as scheduler:
            await scheduler.route(pairs[: len(pairs) // 2])
            await scheduler.route(pairs[len(pairs) // 2 :])


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Two databases that share some pairs: `one.db` with run-one, `two.db` with run-two."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        asyncio.run(route(folder, PAIRS[:10], "run-one", database="one.db"))
        asyncio.run(route(folder, PAIRS[6:], "run-two", database="two.db"))
    return folder


@pytest.fixture
def folder(original, tmp_path, monkeypatch):
    for name in ("one.db", "two.db"):
        shutil.copy(original / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def db(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments):
    result = db(*arguments, "--json")
    assert result.exit_code == 0, result.exception or result.output
    return json.loads(result.stdout)


def read(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement, values).fetchall()


def change(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def assert_sound(path):
    result = db("check", "--url", path)
    assert result.exit_code == 0, result.output


def everything(path, *tables):
    return {table: sorted(map(repr, read(path, f"SELECT * FROM {table}"))) for table in tables}


VERDICTS = ("text", "pair", "call", "reading", "score", "label")


class TestReparse:
    def test_replies_read_by_their_own_rules_stay_as_they_are(self, folder):
        before = everything("one.db", "call", "reading")
        found = answer("reparse", "--url", "one.db")
        assert (found["calls"], found["changes"], found["renewed"], found["examples"]) == (20, [], 0, [])
        assert everything("one.db", "call", "reading") == before

    def test_other_rules_change_readings_and_the_old_ones_are_kept(self, folder):
        Path("flipped.toml").write_text(FLIPPED)
        before = dict(read("one.db", "SELECT key, status || coalesce(preferred, '') FROM call"))
        expected = {"first": "second", "second": "slightly first", "tie": "unparseable"}
        found = answer("reparse", "--url", "one.db", "--template", "flipped.toml")
        assert {change["before"]: change["after"] for change in found["changes"]} == expected
        assert sum(change["calls"] for change in found["changes"]) == 20
        kept = read("one.db", "SELECT call_key, status || coalesce(preferred, ''), template, next_template FROM reading")
        assert {key: reading for key, reading, *_ in kept} == before
        flipped, own = load_template("flipped.toml").hash, load_template("default").hash
        assert {(template, after) for *_, template, after in kept} == {(own, flipped)}
        assert_sound("one.db")

    def test_a_second_run_changes_nothing(self, folder):
        Path("flipped.toml").write_text(FLIPPED)
        answer("reparse", "--url", "one.db", "--template", "flipped.toml")
        after = everything("one.db", "call", "reading")
        assert answer("reparse", "--url", "one.db", "--template", "flipped.toml")["changes"] == []
        assert everything("one.db", "call", "reading") == after

    def test_reading_by_their_own_rules_again_restores_what_they_said(self, folder):
        Path("flipped.toml").write_text(FLIPPED)
        before = everything("one.db", "call")
        answer("reparse", "--url", "one.db", "--template", "flipped.toml")
        answer("reparse", "--url", "one.db")
        assert everything("one.db", "call") == before
        flipped = load_template("flipped.toml").hash
        assert read("one.db", "SELECT count(*) FROM reading WHERE template = ?", flipped) == [(20,)]
        assert_sound("one.db")

    def test_a_dry_run_tells_the_same_and_changes_nothing(self, folder):
        Path("flipped.toml").write_text(FLIPPED)
        before = everything("one.db", "call", "reading")
        told = answer("reparse", "--url", "one.db", "--template", "flipped.toml", "--dry-run")
        assert everything("one.db", "call", "reading") == before
        assert answer("reparse", "--url", "one.db", "--template", "flipped.toml") | {"dry_run": True} == told

    def test_agreement_before_and_after_is_that_of_the_database(self, folder):
        Path("flipped.toml").write_text(FLIPPED)
        [before] = answer("info", "--url", "one.db")["judges"]
        [found] = answer("reparse", "--url", "one.db", "--template", "flipped.toml")["agreement"]
        [after] = answer("info", "--url", "one.db")["judges"]
        assert (found["pairs_before"], found["pairs_after"]) == (before["pairs"], after["pairs"])
        assert (found["before"], found["after"]) == (pytest.approx(before["agreement"]), pytest.approx(after["agreement"]))

    def test_readings_of_an_older_parser_are_renewed_without_leaving_a_trace(self, folder):
        before = everything("one.db", "call")
        change("one.db", "UPDATE call SET parser_version = 0")
        found = answer("reparse", "--url", "one.db")
        assert (found["renewed"], found["changes"]) == (20, [])
        assert everything("one.db", "call") == before
        assert read("one.db", "SELECT count(*) FROM reading") == [(0,)]

    def test_what_a_newer_parser_has_read_stays(self, folder):
        change("one.db", "UPDATE call SET parser_version = 99, status = 'unparseable', preferred = NULL")
        assert answer("reparse", "--url", "one.db")["newer"] == 20
        assert read("one.db", "SELECT DISTINCT parser_version FROM call") == [(99,)]

    def test_a_judge_with_a_template_of_its_own_is_named_with_the_command_that_reads_it(self, folder):
        change("one.db", "UPDATE judge SET parameters = json_set(parameters, '$.template', 'abcd')")
        error = db("reparse", "--url", "one.db").exception
        assert isinstance(error, ConfigurationError)
        assert "judgeflow db reparse --judge 'fake' --template FILE.toml" in str(error)
        assert answer("reparse", "--url", "one.db", "--judge", "fake", "--template", "default")["calls"] == 20

    def test_an_unknown_judge_is_told_with_those_that_are_there(self, folder):
        assert "no such judge; there are fake" in str(db("reparse", "--url", "one.db", "--judge", "other").exception)

    def test_a_judge_without_replies_is_told_with_those_that_have_some(self, folder):
        change("one.db", "INSERT INTO judge SELECT x'aa', 'silent', model, parameters, created_at FROM judge")
        assert "judges with replies: fake" in str(db("reparse", "--url", "one.db", "--judge", "silent").exception)
        assert answer("reparse", "--url", "one.db", "--judge", "fake")["calls"] == 20

    def test_one_of_two_judges_with_the_same_id_is_named_by_the_beginning_of_its_fingerprint(self, folder):
        asyncio.run(route(folder, PAIRS[:3], "other", database="one.db", template="verdict-scale"))
        counts = dict(read("one.db", "SELECT lower(hex(judge)), count(*) FROM call GROUP BY 1"))
        error = db("reparse", "--url", "one.db", "--judge", "fake").exception
        assert isinstance(error, UsageError)
        for fingerprint, calls in counts.items():
            name = f"fake@{fingerprint[:8]}"
            assert name in str(error)
            for way in (name, fingerprint[:10]):
                assert answer("reparse", "--url", "one.db", "--judge", way)["calls"] == calls
            change("one.db", "UPDATE call SET status = 'unparseable', preferred = NULL")
            found = answer("reparse", "--url", "one.db", "--judge", name)
            assert {example["judge"] for example in found["examples"]} == {name}

    def test_it_is_readable(self, folder):
        Path("flipped.toml").write_text(FLIPPED)
        out = db("reparse", "--url", "one.db", "--template", "flipped.toml", "--dry-run").stdout
        for expected in ("20 replies, 20 would be read differently", "slightly first", "first -> second", "<verdict>A</verdict>"):
            assert expected in out

    def test_whoever_is_interrupted_runs_it_again_and_ends_up_with_the_same(self, folder, monkeypatch):
        Path("flipped.toml").write_text(FLIPPED)
        flipped = load_template("flipped.toml")
        monkeypatch.setattr("judgeflow.store.reparse.PAGE", 6)
        shutil.copy("one.db", "whole.db")

        def interrupt(_what, done, _total):
            if done >= 12:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            asyncio.run(reparse("one.db", template=flipped, tell=interrupt))
        assert read("one.db", "SELECT count(*) FROM reading") == [(12,)]
        assert_sound("one.db")
        rest = asyncio.run(reparse("one.db", template=flipped))
        assert sum(rest.changes.values()) == 8
        asyncio.run(reparse("whole.db", template=flipped))
        assert everything("one.db", "call") == everything("whole.db", "call")

    def test_a_run_may_go_on_beside_it(self, folder):
        Path("flipped.toml").write_text(FLIPPED)

        async def both():
            return await asyncio.gather(
                reparse("one.db", template=load_template("flipped.toml")), route(folder, PAIRS, "beside", database="one.db")
            )

        found, _ = asyncio.run(both())
        assert sum(found.changes.values()) >= 20
        assert_sound("one.db")


class TestMerge:
    def test_two_databases_become_one_that_is_sound(self, folder):
        found = answer("merge", "one.db", "two.db", "--into", "all.db")
        first, second = found["sources"]
        assert (first["added"]["call"], second["added"]["call"], second["known"]["call"]) == (20, 8, 8)
        assert (first["runs"], second["runs"]) == ({"run-one": "run-one"}, {"run-two": "run-two"})
        assert_sound("all.db")
        names = {run["name"]: run["spent"] for run in answer("info", "--url", "all.db")["runs"]}
        [alone] = answer("info", "--url", "two.db")["runs"]
        assert names["run-two"] == alone["spent"]

    def test_a_verdict_that_is_merged_is_not_asked_again(self, folder):
        answer("merge", "two.db", "--into", "one.db")
        asyncio.run(route(folder, PAIRS, "third", database="one.db"))
        assert read("one.db", "SELECT spent_requests FROM run WHERE name = 'third'") == [(0,)]

    def test_another_reply_to_the_same_question_is_counted_and_never_taken(self, folder):
        change("two.db", "UPDATE call SET text = 'something else ' || text")
        before = everything("one.db", "call")["call"]
        [found] = answer("merge", "two.db", "--into", "one.db")["sources"]
        assert (found["other_replies"], len(found["named"]), found["added"]["call"]) == (8, 5, 8)
        assert set(before) <= set(everything("one.db", "call")["call"])

    def test_old_readings_come_with_their_reply_alone(self, folder):
        Path("flipped.toml").write_text(FLIPPED)
        answer("reparse", "--url", "two.db", "--template", "flipped.toml")
        change("two.db", "UPDATE call SET text = 'other' WHERE key = (SELECT min(key) FROM call)")
        answer("merge", "one.db", "two.db", "--into", "all.db")
        lost = read("two.db", "SELECT min(key) FROM call WHERE text = 'other'")[0][0]
        shared = read("one.db", "SELECT count(*) FROM call WHERE key = ?", lost)[0][0]
        assert read("all.db", "SELECT count(*) FROM reading") == [(16 - shared,)]
        assert_sound("all.db")

    def test_a_run_of_a_name_that_is_taken_is_left_out_and_named(self, folder):
        change("two.db", "UPDATE run SET name = 'run-one'")
        result = db("merge", "two.db", "--into", "one.db")
        assert isinstance(result.exception, StoreError)
        assert "run-one of two.db" in str(result.exception)
        assert "--rename-runs SUFFIX" in str(result.exception)
        assert read("one.db", "SELECT count(*) FROM call") == [(28,)]
        assert_sound("one.db")

    def test_a_suffix_gives_it_another_name(self, folder):
        change("two.db", "UPDATE run SET name = 'run-one'")
        [found] = answer("merge", "two.db", "--into", "one.db", "--rename-runs=-2")["sources"]
        assert found["runs"] == {"run-one": "run-one-2"}
        assert read("one.db", "SELECT name, count(*) FROM run JOIN decision ON run.id = run_id GROUP BY 1") == [
            ("run-one", 10),
            ("run-one-2", 8),
        ]
        assert_sound("one.db")
        [again] = answer("merge", "two.db", "--into", "one.db", "--rename-runs=-2")["sources"]
        assert again["known_runs"] == ["run-one"]

    def test_a_dry_run_tells_the_same_and_changes_nothing(self, folder):
        before = everything("one.db", *VERDICTS, "run", "reservation")
        told = answer("merge", "two.db", "--into", "one.db", "--dry-run")
        assert everything("one.db", *VERDICTS, "run", "reservation") == before
        assert answer("merge", "two.db", "--into", "one.db")["sources"] == told["sources"]

    def test_a_source_that_breaks_half_way_brings_nothing(self, folder):
        change("two.db", "UPDATE call SET judge = x'01' WHERE key = (SELECT max(key) FROM call)")
        before = everything("one.db", *VERDICTS, "run")
        error = db("merge", "two.db", "--into", "one.db").exception
        assert isinstance(error, StoreError)
        assert "`judgeflow db check --url two.db` tells what is wrong" in str(error)
        assert everything("one.db", *VERDICTS, "run") == before

    def test_an_older_source_names_the_command_that_upgrades_it(self, folder):
        asyncio.run(migrate.upgrade("old.db", "0004"))
        error = db("merge", "old.db", "--into", "one.db").exception
        assert isinstance(error, SchemaMismatch)
        assert "judgeflow db upgrade --url" in str(error)
        assert "old.db" in str(error)

    def test_a_database_is_not_merged_into_itself(self, folder):
        assert isinstance(db("merge", "one.db", "--into", folder / "one.db").exception, ConfigurationError)

    def test_it_is_readable(self, folder):
        out = db("merge", "one.db", "two.db", "--into", "all.db").stdout
        for expected in ("two.db:", "there already", "run run-two"):
            assert expected in out


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.sampled_from(["one.db", "two.db", "three.db"]), min_size=3, max_size=5).filter(lambda names: len(set(names)) == 3))
def test_merging_in_any_order_and_again_gives_the_same_up_to_who_came_first(original, tmp_path_factory, order):
    """Keys are the union; of a key with two replies the first source's is kept."""
    folder = tmp_path_factory.mktemp("merge")
    for name, source in (("one.db", "one.db"), ("two.db", "two.db"), ("three.db", "two.db")):
        shutil.copy(original / source, folder / name)
    change(folder / "three.db", "UPDATE call SET text = 'from three'", "UPDATE run SET name = 'run-three'")

    async def merge_all():
        for name in order:
            await merge(str(folder / name), str(folder / "all.db"))

    asyncio.run(merge_all())
    expected = {}
    for name in dict.fromkeys(order):
        expected = dict(read(folder / name, "SELECT key, text FROM call")) | expected
    assert dict(read(folder / "all.db", "SELECT key, text FROM call")) == expected
    assert {name for (name,) in read(folder / "all.db", "SELECT name FROM run")} == {"run-one", "run-two", "run-three"}
    assert_sound(folder / "all.db")


def make_old(path, days):
    """Let everything have happened so many days earlier."""
    tables = ("run", "step", "call", "reservation")
    change(path, *(f"UPDATE {table} SET created_at = created_at - {days * DAY}" for table in tables))


class TestCompact:
    def test_without_options_nothing_that_is_in_use_goes(self, folder):
        before = everything("one.db", *VERDICTS, "run", "step", "decision", "reservation")
        assert set(answer("compact", "--url", "one.db")["rows"].values()) == {0}
        assert everything("one.db", *VERDICTS, "run", "step", "decision", "reservation") == before

    def test_an_old_run_shrinks_and_goes_on_counting_what_it_has_spent(self, folder):
        make_old("one.db", 40)
        before = read("one.db", "SELECT * FROM run")
        found = answer("compact", "--url", "one.db", "--keep-days", "30")
        assert (found["runs"], found["rows"]["decision"], found["rows"]["step"], found["rows"]["reservation"]) == (["run-one"], 10, 1, 19)
        assert read("one.db", "SELECT * FROM run") == before
        assert read("one.db", "SELECT state, requests FROM reservation") == [("compacted", 20)]
        assert read("one.db", "SELECT count(*) FROM call") == [(20,)]
        assert_sound("one.db")
        asyncio.run(route(folder, PAIRS, "run-one", database="one.db"))
        assert read("one.db", "SELECT spent_requests FROM run") == [(28,)]
        assert [step for (step,) in read("one.db", "SELECT step FROM step ORDER BY step")] == [1, 2, 3]
        assert_sound("one.db")

    def test_compacting_again_sums_up_what_has_come_since(self, folder):
        make_old("one.db", 40)
        answer("compact", "--url", "one.db", "--keep-days", "30")
        asyncio.run(route(folder, PAIRS, "run-one", database="one.db"))
        make_old("one.db", 40)
        answer("compact", "--url", "one.db", "--keep-days", "30")
        assert read("one.db", "SELECT state, requests FROM reservation") == [("compacted", 28)]
        assert_sound("one.db")

    def test_a_run_that_was_active_lately_stays_whole(self, folder):
        make_old("one.db", 40)
        change("one.db", f"UPDATE reservation SET created_at = created_at + {35 * DAY} WHERE id = (SELECT min(id) FROM reservation)")
        assert answer("compact", "--url", "one.db", "--keep-days", "30")["runs"] == []
        assert read("one.db", "SELECT count(*) FROM reservation") == [(20,)]

    def test_open_reservations_are_never_touched(self, folder):
        make_old("one.db", 40)
        change(
            "one.db",
            "UPDATE reservation SET state = 'open' WHERE id = (SELECT min(id) FROM reservation)",
            "UPDATE run SET reserved_requests = 1, spent_requests = spent_requests - 1",
            "UPDATE run SET reserved_tokens = (SELECT tokens FROM reservation WHERE state = 'open')",
            "UPDATE run SET spent_tokens = spent_tokens - reserved_tokens",
        )
        answer("compact", "--url", "one.db", "--keep-days", "30")
        assert read("one.db", "SELECT state, requests FROM reservation ORDER BY state") == [("compacted", 19), ("open", 1)]
        assert_sound("one.db")

    def test_replies_go_only_if_that_is_said_and_their_texts_with_them(self, folder):
        make_old("one.db", 40)
        found = answer("compact", "--url", "one.db", "--drop-replies-older-than", "30")
        assert (found["rows"]["call"], found["rows"]["pair"]) == (20, 10)
        assert found["size_after"] < found["size_before"]
        assert read("one.db", "SELECT count(*) FROM text") == [(0,)]
        assert_sound("one.db")

    def test_younger_replies_keep_their_texts(self, folder):
        answer("merge", "two.db", "--into", "one.db")
        change("one.db", f"UPDATE call SET created_at = created_at - {40 * DAY} WHERE canonical")
        answer("compact", "--url", "one.db", "--drop-replies-older-than", "30")
        assert read("one.db", "SELECT count(*), count(DISTINCT pair_key) FROM call") == [(14, 14)]
        assert read("one.db", "SELECT count(*) FROM pair") == [(14,)]
        assert_sound("one.db")

    def test_pairs_that_only_a_scorer_has_seen_go_on_request_and_labelled_ones_stay(self, folder):
        make_old("one.db", 40)
        change("one.db", "INSERT INTO score SELECT 'sngp', key, 0.5, NULL, 1.0 FROM pair", "DELETE FROM reading", "DELETE FROM call")
        change("one.db", "INSERT INTO label SELECT key, 1, NULL, 'people', 1.0 FROM pair LIMIT 3")
        assert answer("compact", "--url", "one.db")["rows"]["pair"] == 0
        rows = answer("compact", "--url", "one.db", "--drop-texts-of-scorer-only")["rows"]
        assert (rows["score"], rows["pair"]) == (7, 7)
        assert read("one.db", "SELECT count(*) FROM pair") == [(3,)]
        assert_sound("one.db")

    def test_a_dry_run_tells_the_same_and_changes_nothing(self, folder):
        make_old("one.db", 40)
        before = everything("one.db", *VERDICTS, "run", "step", "decision", "reservation")
        options = ("compact", "--url", "one.db", "--keep-days", "30", "--drop-replies-older-than", "30")
        told = answer(*options, "--dry-run")
        assert everything("one.db", *VERDICTS, "run", "step", "decision", "reservation") == before
        assert answer(*options)["rows"] == told["rows"]

    def test_the_schema_is_the_same_afterwards(self, folder):
        before = read("one.db", "SELECT name, sql FROM sqlite_master ORDER BY name")
        answer("compact", "--url", "one.db")
        assert read("one.db", "SELECT name, sql FROM sqlite_master ORDER BY name") == before

    def test_it_refuses_to_rewrite_while_a_run_is_asking(self, folder):
        change("one.db", "UPDATE reservation SET state = 'open' WHERE id = (SELECT min(id) FROM reservation)")
        error = db("compact", "--url", "one.db").exception
        assert isinstance(error, StoreUnavailable)
        assert "run run-one put budget aside" in str(error)
        assert answer("compact", "--url", "one.db", "--no-vacuum")["rows"]["text"] == 0

    def test_it_is_readable(self, folder):
        make_old("one.db", 40)
        out = db("compact", "--url", "one.db", "--keep-days", "30").stdout
        for expected in ("rows gone", "runs: run-one", " MB -> "):
            assert expected in out


class TestInfo:
    def test_it_tells_what_the_judge_is_like(self, folder):
        [judge] = answer("info", "--url", "one.db")["judges"]
        first, second = (read("one.db", f"SELECT count(*) FROM call WHERE preferred = {side}")[0][0] for side in (1, -1))
        tokens = read("one.db", "SELECT avg(prompt_tokens), avg(completion_tokens) FROM call")[0]
        assert judge["first_shown"] == first / (first + second)
        assert (judge["prompt_tokens_mean"], judge["completion_tokens_mean"]) == pytest.approx(tokens)
        latencies = sorted(latency for (latency,) in read("one.db", "SELECT latency_s FROM call"))
        assert judge["latency_s"]["p50"] == pytest.approx(latencies[9], abs=0.0011)
        assert (judge["since"], judge["until"]) == read("one.db", "SELECT min(created_at), max(created_at) FROM call")[0]

    def test_it_tells_sizes_scores_and_labels(self, folder):
        change("one.db", "INSERT INTO score SELECT 'sngp', key, 0.5, NULL, 1.0 FROM pair")
        change("one.db", "INSERT INTO label SELECT key, 1, NULL, 'people', 1.0 FROM pair LIMIT 3")
        found = answer("info", "--url", "one.db")
        assert (found["scorers"], found["labels"]) == ({"sngp": 10}, {"people": 3})
        assert 0 < found["table_bytes"]["text"] <= found["size"]
        out = db("info", "--url", "one.db").stdout
        for expected in ("sngp", "people", "first preferred", "seconds p50"):
            assert expected in out


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("UPDATE call SET canonical = NOT canonical", "calls"),
        ("UPDATE call SET sample = 3", "calls"),
        ("UPDATE pair SET key = zeroblob(32) WHERE key = (SELECT min(key) FROM pair)", "pairs"),
        ("UPDATE call SET preferred = NULL", "readings"),
        ("UPDATE call SET status = 'refused'", "readings"),
        ("UPDATE call SET status = 'unheard of'", "readings"),
        ("INSERT INTO reading VALUES (zeroblob(32), 1.0, 'ok', 1, 1, 1, NULL, NULL)", "references"),
        ("INSERT INTO score VALUES ('sngp', zeroblob(32), 0.5, NULL, 1.0)", "references"),
        ("INSERT INTO label VALUES (zeroblob(32), 1, NULL, 'people', 1.0)", "references"),
        ("INSERT INTO label SELECT key, 7, NULL, 'people', 1.0 FROM pair", "labels"),
        ("UPDATE judge SET parameters = json_set(parameters, '$.temperature', 0.9)", "judges"),
        ("UPDATE reservation SET state = 'vanished' WHERE state = 'settled'", "reservations"),
        ("UPDATE run SET spent_requests = spent_requests - 1", "budgets"),
    ],
)
def test_check_says_what_is_wrong(folder, damage, finding):
    change("one.db", damage)
    result = db("check", "--url", "one.db", "--json")
    assert result.exit_code == 1
    wrong = {item["check"]: item["detail"] for item in json.loads(result.stdout)["findings"] if not item["ok"]}
    assert finding in wrong
    assert len(wrong[finding]) < 600


def test_everything_that_a_run_writes_passes_every_check(folder):
    findings = answer("check", "--url", "one.db")["findings"]
    assert [item["check"] for item in findings][-5:] == ["calls", "readings", "labels", "budgets", "reservations"]
    assert "20 replies match the questions of their keys" in {item["detail"] for item in findings}
    assert len(list(itertools.filterfalse(lambda item: item["ok"], findings))) == 0
