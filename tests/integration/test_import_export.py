"""`judgeflow import` and `judgeflow export`: what comes in is what was recorded, and what goes out is what others read."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from judgeflow.cli.app import app
from judgeflow.errors import RecordError, UsageError
from judgeflow.keys import pair_keys, questions
from judgeflow.records import outcome_line, parse_pair, preference_record, read_pairs
from judgeflow.store import SqlStore, migrate
from judgeflow.testing import arithmetic_pairs
from judgeflow.testing.store_contract import JUDGE, PLENTY, RUN, make_call, make_decision, make_reservation, make_statistics, settle
from judgeflow.types import JudgeIdentity, Message, Outcome, Pair, Preference, Reading, ReadingStatus, Reply, Usage, Verdict
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import load_template

JUDGEBENCH = Path(__file__).resolve().parents[3] / "shared" / "data" / "judgebench_gpt4o.jsonl"
real_data = pytest.mark.skipif(not JUDGEBENCH.is_file(), reason="skipped: no data")
ABC = ("--template", "verdict-abc")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def report(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def rows(statement, path="judgeflow.db"):
    with closing(sqlite3.connect(path)) as database:
        return database.execute(statement).fetchall()


def record(number=0, **more):
    return {"prompt": f"Which is better, {number}?", "response_a": f"this {number}", "response_b": f"that {number}", **more}


def judged(number=0, ab="a", ba="a", **more):
    """A record whose judge wrote [[A]], [[B]] or [[C]] in both orders; the winners are in terms of the pair."""
    tags = {"order_ab": {"a": "[[A]]", "b": "[[B]]", "tie": "[[C]]"}, "order_ba": {"a": "[[B]]", "b": "[[A]]", "tie": "[[C]]"}}
    orders = {"order_ab": ab, "order_ba": ba}
    replies = {order: {"raw": f"I say {tags[order][winner]}", "winner": winner} for order, winner in orders.items() if winner}
    return record(number, judge={"expert": replies}, **more)


def write(path, records):
    Path(path).write_text("".join(json.dumps(each) + "\n" for each in records))
    return path


def exported(*arguments):
    """The records of an export to stdout."""
    return [json.loads(line) for line in run("export", "--out", "-", *arguments).stdout.splitlines()]


# Import


def test_recorded_replies_scores_and_labels_are_stored_once_however_often_they_are_imported(folder):
    file = write("in.jsonl", [judged(n, label="a", category="code", rm_scores={"rm": [2.0, 0.5]}) for n in range(3)])
    first, second = report("import", file, *ABC), report("import", file, *ABC)
    new, known = {"new": 6, "known": 0}, {"new": 0, "known": 6}
    assert (first["stored"]["call"], second["stored"]["call"]) == (new, known)
    assert first["stored"]["score"] == first["stored"]["label"] == {"new": 3, "known": 0}
    assert second["stored"]["score"] == second["stored"]["label"] == {"new": 0, "known": 3}
    assert first["replies"] == {"expert": {"read": 6}}
    assert rows("select distinct category, source from label") == [("code", "in.jsonl")]
    assert "WRONG" not in run("db", "check").stdout


def test_scores_and_labels_are_stored_in_canonical_order(folder):
    records = [record(n, label="a", rm_scores={"rm": [1.5, 0.25]}, score={"logit": 0.5, "uncertainty": 2.0}) for n in range(20)]
    run("import", write("in.jsonl", records), "--scorer", "mine")
    stored = {key: (scorer, logit, side) for key, scorer, logit, side in rows(
        "select hex(score.pair_key), scorer, logit, preferred from score join label using (pair_key) where scorer = 'rm'"
    )}  # fmt: skip
    signs = {keys.pair.hex().upper(): 1 if keys.canonical else -1 for keys in (pair_keys(parse_pair(json.dumps(each))) for each in records)}
    assert stored == {key: ("rm", 1.25 * sign, sign) for key, sign in signs.items()}
    assert set(signs.values()) == {1, -1}
    assert rows("select distinct abs(logit), uncertainty from score where scorer = 'mine'") == [(0.5, 2.0)]


def test_repetitions_are_samples_and_details_of_a_reply_are_kept(folder):
    detail = {"prompt_tokens": 70, "completion_tokens": 30, "usd": 0.01, "latency_s": 2.5}
    replies = {f"rep{n}": {"order_ab": {"raw": "[[A]]", **(detail if n == 1 else {})}} for n in (1, 2, 3)}
    run("import", write("in.jsonl", [record(judge={"expert": replies})]), *ABC)
    columns = "sample, prompt_tokens, completion_tokens, usd, latency_s"
    assert rows(f"select {columns} from call order by sample") == [(0, 70, 30, 0.01, 2.5), (1, 0, 0, 0.0, 0.0), (2, 0, 0, 0.0, 0.0)]


def test_a_winner_without_a_readable_text_is_kept_so_that_reading_again_says_the_same(folder):
    replies = {"order_ab": {"winner": "b"}, "order_ba": {"raw": "Response 2 wins.", "winner": "tie"}}
    found = report("import", write("in.jsonl", [record(judge={"expert": replies})]), *ABC)
    assert found["replies"] == {"expert": {"by_winner": 1, "winner_only": 1}}
    stored = rows("select text, reasoning, finish_reason, model, preferred from call order by text")
    assert stored == [("[[B]]", "", "imported", "expert", -1), ("[[C]]", "Response 2 wins.", "imported", "expert", 0)]
    again = [read_reply(Reply(text=text, finish_reason=reason), load_template("verdict-abc").verdicts) for text, _, reason, *_ in stored]
    assert [reading.preferred for reading in again] == [-1, 0]


def test_reading_everything_again_by_another_template_keeps_recorded_winners(folder):
    replies = {"order_ab": {"winner": "b"}, "order_ba": {"raw": "Response 2 wins.", "winner": "tie"}}
    run("import", write("in.jsonl", [record(judge={"expert": replies})]), *ABC)
    assert report("db", "reparse", "--url", "judgeflow.db", "--template", "verdict-scale")["changes"] == []
    assert sorted(rows("select status, preferred from call")) == [("ok", -1), ("ok", 0)]


def test_a_record_that_cannot_be_read_takes_its_line_of_the_other_file_with_it(folder):
    pairs = write("pairs.jsonl", [record(number) for number in range(3)])
    scores = folder / "scores.jsonl"
    scores.write_text('{"logit": 1.0}\n{broken\n{"logit": 3.0}\n')
    run("import", scores, "--pairs", pairs, "--on-bad-record", "skip")
    stored = dict(rows("select body, logit from score join pair on pair_key = pair.key join text on text.hash = pair.prompt"))
    assert {prompt: abs(logit) for prompt, logit in stored.items()} == {"Which is better, 0?": 1.0, "Which is better, 2?": 3.0}


def test_a_text_that_says_otherwise_than_its_recorded_winner_counts_and_is_told(folder):
    file = write("in.jsonl", [record(judge={"expert": {"order_ab": {"raw": "[[A]]", "winner": "b"}}})])
    assert "1 read otherwise than" in " ".join(run("import", file, *ABC, "--dry-run").stdout.replace("│", "").split())
    run("import", file, *ABC)
    assert rows("select text, preferred from call") == [("[[A]]", 1)]


def test_a_template_that_does_not_fit_stores_nothing_and_names_the_one_that_does(folder):
    file = write("in.jsonl", [judged(n) for n in range(4)])
    with pytest.raises(
        UsageError, match="template default cannot read 8 of 8 replies, and verdict-abc reads 8 of these: give --template verdict-abc"
    ):
        run("import", file)
    assert not Path("judgeflow.db").exists()


def test_a_dry_run_says_what_there_is_and_stores_nothing(folder):
    found = report("import", write("in.jsonl", [judged(label="b")]), *ABC, "--dry-run")
    assert (found["records"], found["labels"], found["stored"]) == (1, 1, None)
    assert not Path("judgeflow.db").exists()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(judge={"expert": {"order_ab": {"raw": 7}}}), "judge expert, order_ab: raw is no string"),
        (record(judge={"expert": {"order_ab": {"winner": "A"}}}), "judge expert, order_ab: winner is 'A'"),
        (record(judge={"expert": {"order_ab": {"raw": "[[A]]", "usd": -1}}}), "judge expert, order_ab: usd is -1"),
        (record(judge={"expert": "a"}), "judge expert: expected order_ab and order_ba"),
        (record(judge=7), "judge: expected"),
        (record(rm_scores={"rm": [1]}), "rm_scores rm: expected [score_a, score_b]"),
        (record(rm_scores={"rm": ["1", 2]}), "rm_scores rm: '1' is no finite number"),
        (record(score={"uncertainty": 1}), "logit: None is no finite number"),
        ({"id": "7", "logit": 0.5}, "a logit without the pair's texts"),
        (record(response_a=""), "response_a is empty"),
    ],
)
def test_a_bad_record_is_named_before_anything_is_stored_or_left_out(folder, bad, reason):
    file = write("in.jsonl", [judged(1), bad, judged(2)])
    with pytest.raises(RecordError) as caught:
        run("import", file, *ABC)
    assert str(caught.value).startswith(f"in.jsonl:2: {reason}")
    assert "Nothing was stored" in str(caught.value)
    assert not Path("judgeflow.db").exists()
    found = report("import", file, *ABC, "--on-bad-record", "skip")
    assert (found["records"], found["skipped"], found["stored"]["call"]["new"]) == (2, 1, 4)


def test_parquet_carries_the_same_as_structs_or_as_json_and_its_rows_are_numbered(folder):
    nested = [judged(n, label="b", rm_scores={"rm": [1.0, 0.0]}) for n in range(3)]
    text = [each | {key: json.dumps(each[key]) for key in ("judge", "rm_scores")} for each in nested]
    for name, table in (("nested", nested), ("text", text)):
        pq.write_table(pa.Table.from_pylist(table), f"{name}.parquet")
        found = report("import", f"{name}.parquet", *ABC, "--url", f"{name}.db")
        assert {kind: each["new"] for kind, each in found["stored"].items()} == {"call": 6, "score": 3, "label": 3}
    keys = "select key, preferred from call order by key"
    assert rows(keys, "nested.db") == rows(keys, "text.db")
    pq.write_table(pa.Table.from_pylist([record(), record(response_a=" ")]), "bad.parquet")
    with pytest.raises(RecordError, match=r"^bad\.parquet: row 2: response_a is empty"):
        run("import", "bad.parquet")


def test_replies_of_several_judges_cannot_count_as_those_of_one(folder):
    Path("mine.toml").write_text('[judge]\nmodel = "m"\ntemplate = "verdict-abc"\n[routing]\npolicy = "always"\n')
    both = judged()
    both["judge"]["other"] = both["judge"]["expert"]
    file = write("in.jsonl", [both])
    with pytest.raises(UsageError, match="there are expert, other: name one with --judge"):
        run("import", file, "--as", "mine.toml")
    assert report("import", file, "--as", "mine.toml", "--judge", "other")["replies"] == {"other": {"read": 2}}
    assert rows("select model from judge") == [("m",)]


def test_bad_records_are_all_counted_though_not_all_are_kept(folder):
    Path("bad.jsonl").write_text('{"prompt": \n' * 2_345)
    with pytest.raises(RecordError, match=r"bad.jsonl:10: not valid JSON.*\n\.\.\. and 2,335 more\n"):
        run("import", "bad.jsonl")


def test_pairs_of_identical_responses_are_counted_and_not_stored(folder):
    found = report("import", write("in.jsonl", [record(label="tie") | {"response_b": "this 0"}]))
    assert (found["identical"], found["stored"]["label"]) == (1, {"new": 0, "known": 0})


def test_of_outcomes_the_judges_choices_are_verdicts_and_only_the_scorers_logit_is_a_score(folder):
    pairs = arithmetic_pairs(2)
    call = make_call(questions(pairs[0], pair_keys(pairs[0]), JUDGE.fingerprint)[0], Reply(text=""))
    verdict = Verdict(choice="b", logit=-2.0, judge=JUDGE, forward=replace(call, reading=Reading(status=ReadingStatus.OK, preferred=-1)))
    belief = Preference(logit=0.7, uncertainty=1.5)
    outcomes = [
        Outcome(pair=pairs[0], logit=-2.0, source="judge", preference=belief, verdict=verdict),
        Outcome(pair=pairs[1], logit=0.7, source="scorer", preference=belief),
    ]
    Path("out.jsonl").write_bytes(b"".join(map(outcome_line, outcomes)))
    found = report("import", "out.jsonl", *ABC, "--scorer", "mine")
    assert (found["replies"], found["scores"]) == ({JUDGE.id: {"winner_only": 1}}, {"mine": 1})


def test_what_a_scorer_wrote_is_joined_with_the_pairs_it_was_made_from(folder):
    pairs = [parse_pair(json.dumps(record(n, id=f"p{n}"))) for n in range(3)]
    file = write("pairs.jsonl", [record(n, id=f"p{n}") for n in range(3)])
    scores = [preference_record(pair, Preference(logit=0.5 + n, uncertainty=1.5)) for n, pair in enumerate(pairs)]
    found = report("import", write("scores.jsonl", scores), "--pairs", file, "--scorer", "mine")
    assert (found["scores"], found["stored"]["score"]["new"]) == ({"mine": 3}, 3)
    assert rows("select abs(logit), uncertainty from score order by 1") == [(0.5, 1.5), (1.5, 1.5), (2.5, 1.5)]
    for wrong, reason in (
        (scores[::-1], "scores.jsonl:1: id is 'p2', and the record in the same place of pairs.jsonl has 'p0'"),
        (scores[:2], "pairs.jsonl has more records than scores.jsonl"),
        ([*scores, scores[0]], "scores.jsonl:4: pairs.jsonl has fewer records"),
    ):
        with pytest.raises(RecordError, match=reason):
            run("import", write("scores.jsonl", wrong), "--pairs", file)


@real_data
def test_real_replies_imported_as_those_of_a_configured_judge_are_never_asked_for(folder):
    Path("judgeflow.toml").write_text(
        '[judge]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "o1-mini"\ntemplate = "verdict-scale"\n[routing]\npolicy = "always"\n'
    )
    found = report("import", JUDGEBENCH, "--as", "judgeflow.toml")
    assert found["replies"] == {"o1-mini-2024-09-12/arena_hard": {"read": 700}}
    assert {name: each["new"] for name, each in found["stored"].items()} == {"call": 700, "score": 1750, "label": 350}
    routed = report("route", JUDGEBENCH, "--out", "outcomes.jsonl")
    assert (routed["calls"], routed["sources"]) == (0, {"store": 350})
    left_out = report("export", "--out", "p.jsonl")
    assert (left_out["written"], left_out["left_out"]) == (235, {"inconsistent": 76, "half": 34, "tie": 5})


def test_what_a_judge_said_in_an_export_is_no_label_and_the_way_to_bring_it_in_is_named(folder):
    two_runs()
    run("export", "--out", "p.jsonl")
    found = report("import", "p.jsonl", "--url", "new.db")
    assert (found["labels"], found["opinions"], found["stored"]["label"]["new"]) == (0, 6, 0)
    assert rows("select * from label", "new.db") == []
    assert "db merge" in run("import", "p.jsonl", "--url", "new.db").stdout


def test_labels_that_were_exported_come_in_as_labels(folder):
    run("import", write("in.jsonl", [record(n, label="a") for n in range(3)]))
    run("export", "--label", "label", "--out", "p.jsonl")
    found = report("import", "p.jsonl", "--url", "new.db")
    assert (found["opinions"], found["stored"]["label"]["new"]) == (0, 3)


def test_labels_that_contradict_the_first_one_are_counted_in_a_file_and_against_the_database(folder):
    within = report("import", write("in.jsonl", [record(0, label="a"), record(0, label="b"), record(1, label="a")]))
    assert (within["conflicting_labels"], within["stored"]["label"]) == (1, {"new": 2, "known": 1})
    again = write("again.jsonl", [record(0, label="a"), record(1, label="tie")])
    assert report("import", again)["conflicting_labels"] == 1
    assert "labels in conflict" in run("import", again).stdout


# Export


CASES = {("a", "a"): "both", ("a", "b"): "inconsistent", ("a", "tie"): "half", ("tie", "tie"): "tie", ("b", None): "one_order"}


@pytest.fixture
def verdicts(folder):
    """Ten pairs of every case, each labelled a."""
    every = [case for case in CASES for _ in range(10)]
    records = [judged(n, *case, label="a", category="code") for n, case in enumerate(every)]
    run("import", write("in.jsonl", records), *ABC)
    return records


def test_what_is_left_out_is_counted_by_its_reason(verdicts):
    found = report("export", "--out", "p.jsonl")
    assert found["files"] == {"p.jsonl": 10}
    assert found["left_out"] == {"inconsistent": 10, "half": 10, "tie": 10, "one_order": 10}
    printed = run("export", "--out", "p.jsonl").stdout
    assert "10 pairs in p.jsonl\n10 left out: the two orders contradict each other" in printed


def test_a_preference_says_how_clear_it_is_and_what_each_order_chose(verdicts):
    found = exported("--min-agreement", "any", "--include-ties")
    shapes = Counter((each["agreement"], each["strength"], each["label"]) for each in found)
    assert shapes == {("both", 1.0, None): 10, ("half", 0.5, None): 10, ("one_order", 0.5, None): 10, ("both", 1.0, "tie"): 10}
    chosen = {each["agreement"]: each["chosen"].partition(" ")[0] for each in found if each["label"] is None}
    assert chosen == {"both": "this", "half": "this", "one_order": "that"}
    directed = {(each["agreement"], each["chosen_first"], each["rejected_first"]) for each in found if each["label"] is None}
    assert directed == {("both", "chosen", "chosen"), ("half", "chosen", "tie"), ("one_order", None, "chosen")}
    assert {(each["judge"], each["source"], each["category"]) for each in found} == {("expert", "store", "code")}
    keys = [each["pair_key"] for each in found]
    assert keys == sorted(set(keys))


def test_slight_preferences_count_less_and_not_as_strong(folder):
    replies = [
        {"order_ab": {"raw": f"[[{ab}]]"}, "order_ba": {"raw": f"[[{ba}]]"}}
        for ab, ba in (("A>>B", "B>>A"), ("A>B", "B>>A"), ("A>B", "B>A"))
    ]
    run("import", write("in.jsonl", [record(n, judge={"expert": each}) for n, each in enumerate(replies)]), "--template", "verdict-scale")
    assert sorted(each["strength"] for each in exported()) == [0.5, 0.75, 1.0]
    assert report("export", "--out", "p.jsonl", "--strong-only")["left_out"] == {"slight": 2}


@pytest.mark.parametrize("form", ["text", "messages"])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_exported_is_read_as_the_pairs_it_came_from(verdicts, form, suffix):
    run("export", "--out", f"p.{suffix}", "--format", form)
    pairs, _ = read_pairs(f"p.{suffix}")
    assert {{"a": pair.response_a, "b": pair.response_b}[pair.label].partition(" ")[0] for pair in pairs} == {"this"}
    assert {pair.metadata["strength"] for pair in pairs} == {1.0}
    prompts = {pair.prompt if form == "text" else pair.prompt[0].content for pair in pairs}
    assert prompts == {each["prompt"] for each in verdicts[:10]}


def test_labels_can_be_exported_instead_of_verdicts(verdicts):
    found = exported("--label", "label")
    assert len(found) == 50
    assert {(each["chosen"].partition(" ")[0], each["judge"], each["source"]) for each in found} == {("this", None, "in.jsonl")}


def test_an_export_of_nothing_says_what_there_is(folder):
    run("import", write("in.jsonl", [judged(0)]), *ABC)
    told = "no pair of this selection has a label; the database has 1 pair judged by expert (--label verdict | label)"
    assert told in run("export", "--label", "label", "--out", "p.jsonl").stderr
    run("import", write("known.jsonl", [record(n, label="a") for n in range(2)]), "--url", "new.db")
    assert "has a verdict; the database has 2 labels of known.jsonl" in run("export", "--out", "p.jsonl", "--url", "new.db").stderr


def test_a_split_puts_every_prompt_on_one_side(folder):
    run("import", write("in.jsonl", [judged(n) | {"prompt": f"p{n % 50}"} for n in range(200)]), *ABC)
    files = report("export", "--out", "p.jsonl", "--split-by-prompt", "0.3")["files"]
    assert sum(files.values()) == 200
    train, test = ({pair.prompt for pair in read_pairs(name)[0]} for name in ("p.train.jsonl", "p.test.jsonl"))
    assert not train & test
    assert 5 < len(test) < 25


def test_what_a_run_decided_can_be_exported_by_its_source(folder):
    pairs = [*arithmetic_pairs(3), Pair(prompt="unseen", response_a="x", response_b="y")]
    keys = [pair_keys(pair).pair for pair in pairs]
    decided = [
        replace(make_decision(1), pair_key=key, source=source)
        for key, source in zip(keys, ("judge", "store", "scorer", "scorer"), strict=True)
    ]

    async def fill():
        store = await SqlStore.open("judgeflow.db")
        await store.open_run(RUN, {}, JUDGE)
        for pair in pairs[:3]:
            for question, side in zip(questions(pair, pair_keys(pair), JUDGE.fingerprint), (1, -1), strict=True):
                call = replace(make_call(question, Reply(text="")), reading=Reading(status=ReadingStatus.OK, preferred=side))
                await settle(store, question.call_key.hex(), question, call)
        await store.record_step(make_statistics(1), decided)
        await store.aclose()

    asyncio.run(fill())
    assert Counter(each["source"] for each in exported("--run", RUN)) == {"judge": 1, "store": 1, "scorer": 1}
    assert [each["pair_key"] for each in exported("--run", RUN, "--source", "judge")] == [keys[0].hex()]
    outcomes = exported("--run", RUN, "--what", "outcomes")
    assert {each["pair_key"]: each["response_a"] is None for each in outcomes} == {key.hex(): key == keys[3] for key in keys}
    with pytest.raises(UsageError, match=f"--run nobody: no such run; there are {RUN}"):
        run("export", "--out", "-", "--run", "nobody")


OTHER = JudgeIdentity(id="other", model="m", fingerprint=b"o" * 32, parameters={})


def two_runs():
    """Two runs on the same three pairs, each with a judge of its own; of the first pair they prefer different responses."""
    pairs = arithmetic_pairs(3)
    decided = [replace(make_decision(1), pair_key=pair_keys(pair).pair, source="judge") for pair in pairs]

    async def fill():
        store = await SqlStore.open("judgeflow.db")
        for name, judge in (("one", JUDGE), ("two", OTHER)):
            await store.open_run(name, {}, judge)
            for number, pair in enumerate(pairs):
                sides = (-1, 1) if number == 0 and judge is OTHER else (1, -1)
                for question, side in zip(questions(pair, pair_keys(pair), judge.fingerprint), sides, strict=True):
                    reading = Reading(status=ReadingStatus.OK, preferred=side)
                    call = replace(make_call(question, Reply(text="")), judge=judge.fingerprint, reading=reading)
                    reservation = replace(make_reservation(question.call_key.hex()), judge=judge.fingerprint)
                    await store.reserve(name, reservation, PLENTY)
                    await store.settle(name, reservation, question, call)
            await store.record_step(replace(make_statistics(1), run=name), decided)
        await store.aclose()

    asyncio.run(fill())


def test_of_a_run_only_verdicts_of_judges_that_it_asked_are_exported(folder):
    two_runs()
    for name, judge in (("one", JUDGE), ("two", OTHER)):
        assert [each["judge"] for each in exported("--run", name)] == [judge.id] * 3
        assert {each["judge"] for each in exported("--run", name, "--what", "calls")} == {judge.id}
    with pytest.raises(UsageError, match=f"--judge other: run one asked {JUDGE.id}; leave --run out"):
        run("export", "--out", "-", "--run", "one", "--judge", "other")


def test_pairs_of_several_judges_and_contradictions_among_them_are_told(folder):
    two_runs()
    told = "3 pairs have records of several judges, 1 of them chosen both ways; --judge ID takes one judge's"
    assert told in run("export", "--out", "p.jsonl").stderr
    assert "several judges" not in run("export", "--out", "p.jsonl", "--judge", "other").stderr
    found = report("export", "--out", "p.jsonl")
    assert (found["written"], found["several_judges"], found["both_ways"]) == (6, 3, 1)


def test_a_judge_is_named_by_its_id_or_its_fingerprint(verdicts):
    ((fingerprint,),) = rows("select hex(fingerprint) from judge")
    assert len(exported("--judge", "expert")) == len(exported("--judge", fingerprint.lower()[:8])) == 10
    with pytest.raises(UsageError, match="--judge nobody: no such judge; there are expert"):
        run("export", "--out", "-", "--judge", "nobody")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--out", "p.csv"), "ends in .jsonl or .parquet"),
        (("--out", "-", "--split-by-prompt", "0.1"), "writes two files"),
        (("--out", "p.jsonl", "--source", "judge"), "name it with --run"),
        (("--out", "p.jsonl", "--what", "outcomes"), "name it with --run"),
        (("--out", "p.jsonl", "--split-by-prompt", "1"), "a share between 0 and 1"),
        (("--out", "judgeflow.db"), "ends in .jsonl"),
    ],
)
def test_options_that_make_no_sense_are_told_before_anything_is_written(verdicts, options, reason):
    with pytest.raises(UsageError, match=reason):
        run("export", *options)
    assert sorted(path.name for path in Path().glob("p.*")) == []


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_an_export_that_fails_leaves_nothing_behind(folder, suffix):
    with pytest.raises(Exception, match="holds no verdict database yet"):
        run("export", "--out", f"p.{suffix}", "--url", "none.db")
    assert list(folder.iterdir()) == []


# Round trip


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
prompts = texts | st.lists(st.builds(Message, role=st.just("user"), content=texts), min_size=1, max_size=2).map(tuple)
answers = st.sampled_from(["x", "y", "zé\n", "w" * 50])
readings = st.sampled_from([Reading(status=ReadingStatus.OK, preferred=side, strong=side > 0) for side in (-1, 0, 1)]) | st.sampled_from(
    [Reading(status=status) for status in ReadingStatus if status is not ReadingStatus.OK]
)
replies = st.builds(
    Reply,
    text=texts,
    reasoning=texts,
    refusal=st.none() | texts,
    usage=st.builds(Usage, prompt=st.integers(0, 10**9), completion=st.integers(0, 10**9)),
    usd=st.floats(0, 1),
    latency_s=st.floats(0, 100),
    request_id=st.none() | texts,
)
asked = st.tuples(prompts, answers, answers, st.integers(0, 1), st.integers(0, 2), st.integers(0, 1), replies, readings).filter(
    lambda each: each[1] != each[2]
)
JUDGES = (JUDGE, JudgeIdentity(id="other", model="m", fingerprint=b"o" * 32, parameters={"extra_body": {"seed": 1}}))


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    path = tmp_path_factory.mktemp("empty") / "empty.db"
    asyncio.run(migrate.upgrade(str(path)))
    return path


async def store_all(path, items):
    store = await SqlStore.open(str(path))
    for judge in JUDGES:
        await store.open_run(RUN, {}, judge)
    for number, (prompt, first, second, judge, sample, order, reply, reading) in enumerate(items):
        pair = Pair(prompt=prompt, response_a=first, response_b=second)
        question = questions(pair, pair_keys(pair), JUDGES[judge].fingerprint, sample)[order]
        call = replace(make_call(question, reply), judge=JUDGES[judge].fingerprint, reading=reading, sample=sample)
        await settle(store, str(number), question, call)
    await store.aclose()


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(asked, min_size=1, max_size=12), st.sampled_from(["jsonl", "parquet"]))
def test_replies_exported_and_imported_into_an_empty_database_are_the_same(empty, tmp_path, items, suffix):
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    for path in (source, target):
        for part in tmp_path.glob(f"{path.name}*"):
            part.unlink()
        shutil.copy(empty, path)
    asyncio.run(store_all(source, items))
    run("export", "--what", "calls", "--out", tmp_path / f"calls.{suffix}", "--url", source)
    run("import", tmp_path / f"calls.{suffix}", "--url", target)
    for table in ("select * from call order by key", "select * from text order by hash", "select * from pair order by key"):
        assert rows(table, target) == rows(table, source)
    judge = "select fingerprint, id, model, parameters from judge where fingerprint in (select judge from call) order by fingerprint"
    assert rows(judge, target) == rows(judge, source)


# Real readers


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_scorer_is_trained_on_an_export(folder, suffix):
    run("import", write("in.jsonl", [judged(n, label="a") for n in range(60)]), *ABC)
    run("export", "--out", f"p.{suffix}")
    trained = report("train", f"p.{suffix}", "--out", "scorer", "--epochs", "1", "--max-tokens", "32")
    assert trained["pairs"] + trained["validation_pairs"] == 60


TRAINERS = """
import datasets
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer
from judgeflow.model.scratch import character_tokenizer

tokenizer = character_tokenizer(["abcdefghijklmnopqrstuvwxyz0123456789 :,.?"], 64)
tokenizer.eos_token = tokenizer.sep_token
tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
size = dict(
    vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
    num_attention_heads=2, pad_token_id=tokenizer.pad_token_id
)
how = dict(
    output_dir="out", max_steps=1, per_device_train_batch_size=4, report_to=[],
    use_cpu=True, bf16=False, save_strategy="no", disable_tqdm=True
)
for kind, name in (("json", "text.jsonl"), ("parquet", "messages.parquet")):
    data = datasets.load_dataset(kind, data_files=name, split="train", cache_dir="cache")
    reward = RewardTrainer(
        model=LlamaForSequenceClassification(LlamaConfig(**size, num_labels=1)),
        args=RewardConfig(**how), train_dataset=data, processing_class=tokenizer,
    )
    policy, reference = (LlamaForCausalLM(LlamaConfig(**size)) for _ in range(2))
    direct = DPOTrainer(
        model=policy, ref_model=reference, args=DPOConfig(**how), train_dataset=data, processing_class=tokenizer
    )
    for trainer in (reward, direct):
        assert trainer.train().training_loss > 0
        print(name, type(trainer).__name__, trainer.state.global_step, len(trainer.train_dataset))
"""


@pytest.mark.slow
def test_reward_and_dpo_trainers_take_a_step_on_an_export(folder):
    run("import", write("in.jsonl", [judged(n) for n in range(12)]), *ABC)
    run("export", "--out", "text.jsonl")
    run("export", "--out", "messages.parquet", "--format", "messages")
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", TRAINERS], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    names = [f"{name} {trainer} 1 12" for name in ("text.jsonl", "messages.parquet") for trainer in ("RewardTrainer", "DPOTrainer")]
    assert [line for line in done.stdout.splitlines() if "Trainer" in line] == names
