"""`judgeflow replay`, as somebody types it, over real databases and files."""

import asyncio
import csv
import dataclasses
import json
import re
import sqlite3

import pytest
from typer.testing import CliRunner

from judgeflow import Scheduler
from judgeflow.cli.app import app
from judgeflow.config import RoutingConfig
from judgeflow.errors import JudgeflowError
from judgeflow.records import outcome_record
from judgeflow.replay.compare import compare
from judgeflow.replay.read import read_file
from judgeflow.replay.whatif import WhatIf
from judgeflow.routing.policy import own_judge
from judgeflow.store import SqlStore, history
from judgeflow.store.queries import reading
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge
from judgeflow.testing.pairs import arithmetic_pairs

PAIRS = arithmetic_pairs(240)
FEW = PAIRS[:60]
FAST = ("--resamples", "100")
TOPICS = {"policies", "what_ifs", "advice", "position_bias", "orders_worth", "deciles", "bound", "measure"}


def run(*arguments):
    return CliRunner().invoke(app, ["replay", *map(str, arguments), *FAST])


def found(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def complaint(*arguments):
    result = run(*arguments)
    assert isinstance(result.exception, JudgeflowError)
    return str(result.exception)


def texts(pair):
    return {"prompt": pair.prompt, "response_a": pair.response_a, "response_b": pair.response_b, "label": pair.label}


def records(**more):
    for pair in PAIRS:
        winner = {"winner": pair.label}
        record = {"prompt": pair.prompt, "response_a": pair.response_a, "response_b": pair.response_b, "label": pair.label}
        yield (
            record
            | {"judge": {"j": {"order_ab": winner, "order_ba": winner}}, "rm_scores": {"rm": [len(pair.response_a) / 50, 1.0]}}
            | more
        )


@pytest.fixture
def write(tmp_path):
    def write(lines, name="judged.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    return write


@pytest.fixture
def judged(write):
    return write(records())


@pytest.fixture
def database(tmp_path):
    """A function that routes the pairs, and returns the database."""

    async def routed(path, policy, pairs, routing):
        judge = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS), accuracy=0.95))
        settings = RoutingConfig(policy=policy, **routing)
        store = await SqlStore.open(str(path))
        async with Scheduler(judge=judge, scorer=FakeScorer(), store=store, routing=settings, run="live") as scheduler:
            result = await scheduler.route(pairs)
        await store.aclose()
        return path, result

    return lambda policy, pairs=PAIRS, **routing: asyncio.run(routed(tmp_path / f"{policy}.db", policy, pairs, routing))


def labels_of(write):
    return write(map(texts, PAIRS), "labels.jsonl")


def test_replaying_what_ran_finds_what_it_found(database, write):
    path, live = database("error", max_share=0.3, audit_fraction=0.3)
    told = found(path, "--labels", labels_of(write), "--share", 0.3, "--policy", "never", "--policy", "error")
    own = sum((o.preference.logit > 0) == (o.pair.label == "a") for o in live.outcomes) / len(PAIRS)
    never = next(each for each in told["what_ifs"] if each["policy"] == "never")
    assert never["accuracy"] == pytest.approx(own)
    assert never["calls"] == 0


def test_the_whole_judge_played_again_is_the_run_of_policy_always(database, write):
    path, live = database("always")
    told = found(path, "--labels", labels_of(write))
    always = next(each for each in told["what_ifs"] if each["policy"] == "always")
    right = sum((o.logit > 0) == (o.pair.label == "a") for o in live.outcomes if o.logit) + 0.5 * sum(not o.logit for o in live.outcomes)
    assert always["accuracy"] == pytest.approx(right / len(PAIRS))
    assert always["calls"] == 2 * len(PAIRS) == live.statistics.calls
    assert always["tokens"] == live.statistics.spent.tokens


def test_a_run_that_asked_only_where_it_was_uncertain_cannot_tell_of_the_rest(database):
    path, _ = database("error", max_share=0.2)
    message = complaint(path)
    assert "no weight makes up for them" in message
    assert "audit_fraction" in message


def test_a_random_run_speaks_for_all_pairs_by_weights_of_one(database, write):
    path, _ = database("random", max_share=0.5)
    told = found(path, "--labels", labels_of(write))
    assert told["pairs"] == len(PAIRS)
    assert told["measured_pairs"] == len(PAIRS) // 2
    assert 0.85 < told["judge_accuracy"]["value"] <= 1.0


def test_the_json_tells_everything_and_the_same_seed_tells_the_same(judged):
    first, again = found(judged, "--seed", 3), found(judged, "--seed", 3)
    assert first == again
    assert first.keys() >= TOPICS
    assert first["scorer"] == "rm"
    assert first["judge_accuracy"]["value"] == 1.0
    assert [each["policy"] for each in first["what_ifs"]] == ["never", "random", "error", "margin", "always"]


def test_rate_limits_and_latencies_make_training_wait(judged):
    told = found(
        judged, "--policy", "always", "--latency", "30", "--max-in-flight", 1000, "--requests-per-minute", 60, "--requests-per-minute", 600
    )
    slow, fast = told["what_ifs"]
    assert fast["seconds"] == pytest.approx(30, abs=40)
    assert slow["seconds"] == pytest.approx(7 * 60.5 + 30, abs=61)


def test_without_labels_agreement_with_the_judge_is_measured(write):
    told = found(write(record | {"label": None} for record in records()))
    assert told["measure"] == "agreement with the judge"
    assert told["judge_accuracy"]["value"] == 1.0


def test_without_scores_no_policy_is_recommended(write):
    result = run(write(records(rm_scores=None)))
    assert "no policy but random can rank" in result.stdout
    assert "Keep policy random" in result.stdout


def test_rows_and_a_figure_are_written(judged, tmp_path):
    result = run(judged, "--csv", tmp_path / "rows.csv", "--plot", tmp_path / "curves.svg")
    assert result.exit_code == 0
    with (tmp_path / "rows.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    curves, played = ([row for row in rows if row["row"] == kind] for kind in ("curve", "what_if"))
    assert {row["policy"] for row in curves} == {"error", "margin", "random", "oracle"}
    assert all(float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"]) for row in curves)
    assert [row["policy"] for row in played] == ["never", "random", "error", "margin", "always"]
    assert {row["judge"] for row in rows} == {"j"}
    assert {name for name in WhatIf.__slots__ if name not in {"judges", "weights"}} <= rows[0].keys()
    assert [row["calls"] for row in played] == ["0", "96", "96", "96", "480"]
    drawn = (tmp_path / "curves.svg").read_text()
    assert "judge calls" in drawn
    assert "oracle" in drawn


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--judge", "k"], "--judge k: no such judge; there are j"),
        (["--judge", "j=2,k"], "each judge needs a weight where one has a weight"),
        (["--judge", "j=0,j=1"], "0 is no weight"),
        (["--judge", "j="], "nothing is no weight"),
        (["--budget-usd", "1"], "prompt_usd_per_mtok"),
        (["--pairs", "missing.jsonl"], "missing.jsonl: cannot be read"),
        (["--scorer", "other"], "no scores of 'other'; there are rm"),
        (["--run", "live"], "is a file of records, which has no runs"),
        (["--plot", "curves.pdf"], "a plot is written as .svg or .png"),
        (["--labels", "missing.jsonl"], "missing.jsonl: cannot be read"),
        (["--latency", "soon"], "soon"),
        (["--deadline", "10"], "give --latency"),
        (["--tokens-per-minute", "1000"], "give --tokens-per-call"),
        (["--config", "missing.toml"], "missing.toml: no such configuration file"),
        (["--csv", "nowhere/rows.csv"], "nowhere/rows.csv: cannot be written"),
    ],
)
def test_a_mistake_is_named(judged, monkeypatch, tmp_path, arguments, named):
    monkeypatch.chdir(tmp_path)
    assert named in complaint(judged, *arguments)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--share", "1.5"), ("--policy", "best"), ("--orders", "three"), ("--tokens-per-call", "many"), ("--on-bad-record", "maybe")],
)
def test_a_value_that_cannot_be_is_a_usage_error(judged, option, value):
    result = run(judged, option, value)
    assert result.exit_code == 2
    assert option in result.stderr


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.db"])
def test_a_source_that_is_missing_is_named(tmp_path, name):
    assert f"{name}: no such file" in complaint(tmp_path / name)


def test_a_second_order_that_was_never_asked_cannot_be_played(write):
    one_order = write(record | {"judge": {"j": {"order_ab": {"winner": "a"}}}} for record in records())
    assert "was asked in one order only, so orders both cannot be played" in complaint(one_order, "--orders", "both")
    assert found(one_order)["orders"] == "first"


@pytest.mark.parametrize("option", ["--csv", "--plot"])
def test_what_is_replayed_is_never_overwritten(judged, database, option, tmp_path):
    path, _ = database("always")
    target = path.rename(tmp_path / "verdicts.svg")
    before = target.read_bytes()
    assert "would overwrite a database" in complaint(judged, option, target)
    assert target.read_bytes() == before


def test_rows_go_to_stdout_where_a_dash_stands_and_the_screen_to_stderr(judged, tmp_path):
    run(judged, "--csv", tmp_path / "rows.csv")
    result = run(judged, "--csv", "-")
    assert result.stdout.splitlines() == (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert "Use policy" in result.stderr or "Keep policy" in result.stderr
    assert "--csv - and --json all write to stdout" in complaint(judged, "--csv", "-", "--json")


def test_a_csv_is_not_written_over_its_own_input(judged):
    before = judged.read_bytes()
    assert "would overwrite what is replayed" in complaint(judged, "--csv", judged)
    assert judged.read_bytes() == before


def test_a_budget_that_does_not_reach_is_told_with_the_advice(judged):
    result = run(judged, "--budget-requests", 10, "--latency", "1")
    assert "admit verdicts on 2.1% of the pairs only" in " ".join(result.stdout.split())


def test_a_budget_is_taken_as_it_comes_unless_it_is_given_steps(judged):
    budget = ("--budget-requests", 60, "--latency", "1", "--step-size", 60)
    told = found(judged, *budget, "--policy", "error", "--share", 0.2)["what_ifs"][0]
    assert (told["calls"], told["steps"]) == (60, 4)
    assert "[budget] steps = 4 in --config" in " ".join(run(judged, *budget).stdout.split())
    assert "steps = 4" not in run(judged, "--latency", "1", "--step-size", 60).stdout


def test_a_run_without_a_scorer_has_no_beliefs_that_a_policy_could_rank_by(tmp_path):
    judge = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS)))
    path = tmp_path / "unscored.db"
    asyncio.run(judge_with(path, judge, "one", FEW, scored=False, policy="always"))
    result = run(path)
    assert "scorer none" in result.stdout
    assert "of the scorer" not in result.stdout
    assert "policy error ranks by a scorer's beliefs, and none are recorded" in complaint(path, "--policy", "error")


def test_a_judge_is_found_by_its_model_where_that_is_the_only_one(database):
    path, _ = database("always", FEW)
    assert found(path, "--judge", "scripted-judge")["judge"] == "scripted scripted-judge"
    assert 'there are "scripted scripted-judge"' in complaint(path, "--judge", "scripted")


def test_pairs_without_a_score_are_left_out_where_others_have_one(write):
    some = (record | ({"rm_scores": None} if number % 2 else {}) for number, record in enumerate(records()))
    assert found(write(some))["measured_pairs"] == len(PAIRS) // 2


def test_one_record_for_each_reply_is_as_good_as_one_for_both(write):
    single = (record | {"judge": {"j": {order: reply}}} for record in records() for order, reply in record["judge"]["j"].items())
    assert found(write(single))["orders"] == "both"


def test_bad_records_that_are_left_out_are_told(write):
    path = write([{"x": 1}, *records()])
    result = run(path, "--on-bad-record", "skip")
    assert result.exit_code == 0
    assert f"{path}:1: skipped:" in result.stderr


async def judge_with(path, judge, run, pairs=PAIRS, *, scored=True, **routing):
    store = await SqlStore.open(str(path))
    scorer = FakeScorer() if scored else None
    async with Scheduler(judge=judge, scorer=scorer, store=store, routing=RoutingConfig(**routing), run=run) as scheduler:
        await scheduler.route(pairs)
    await store.aclose()


def another_judge(model="other"):
    return ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS)), model=model)


def test_each_judge_counts_by_the_runs_that_have_asked_it(database):
    path, _ = database("error", max_share=0.3, audit_fraction=0.3)
    asyncio.run(judge_with(path, another_judge(), "other", policy="always"))
    mine, other = found(path, "--run", "other", "--judge", "scripted scripted-judge", "--judge", "scripted other")["judges"]
    assert (mine["weighted"], mine["measured_pairs"]) == (True, 72)
    assert (other["weighted"], other["measured_pairs"]) == (False, len(PAIRS))


def test_a_judge_that_is_not_covered_is_left_out_of_the_comparison_with_the_reason(database):
    path, _ = database("error", FEW, threshold=0.3)
    asyncio.run(judge_with(path, another_judge(), "other", FEW, policy="always"))
    judges = ("--judge", "scripted other", "--judge", "scripted scripted-judge")
    result = run(path, "--run", "other", *judges)
    shown = " ".join(result.stdout.split())
    assert "judges compared" in shown
    assert "Not compared:" in shown
    assert "no weight makes up for them" in shown
    assert "no weight makes up for them" in complaint(path, "--run", "other", "--judge", "scripted scripted-judge")


def test_a_later_run_with_audits_makes_up_for_one_without(database, write):
    path, _ = database("error", threshold=0.3)
    same = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS), accuracy=0.95))
    asyncio.run(judge_with(path, same, "audited", max_share=0.3, audit_fraction=0.3))
    told = found(path, "--run", "live", "--labels", labels_of(write))
    whole = found(database("always")[0], "--labels", labels_of(write))
    assert told["weighted"]
    assert told["judge_accuracy"]["low"] <= whole["judge_accuracy"]["value"] <= told["judge_accuracy"]["high"]
    late = found(path, "--run", "audited")
    assert 0 < late["unscored_pairs"] < len(PAIRS)  # they were known before, and the run has not scored them
    assert "what its scorer thinks of them" in " ".join(run(path, "--run", "audited").stdout.split())


def two_judges():
    """Judge k is wrong about every fifth pair, and has not seen every fourth."""
    for number, record in enumerate(records()):
        wrong = {"a": "b", "b": "a"}[record["label"]] if number % 5 == 0 else record["label"]
        theirs = {} if number % 4 == 0 else {"k": {order: {"winner": wrong} for order in ("order_ab", "order_ba")}}
        yield record | {"judge": record["judge"] | theirs}


def test_of_several_judges_every_advice_names_its_judge_and_nothing_is_said_twice(write):
    result = run(write(two_judges()), "--judge", "j", "--judge", "k", "--share", 0.2, "--share", 0.4)
    lines = " ".join(result.stdout.split())
    for judge in ("j", "k"):
        for share in (20, 40):
            assert re.search(rf"{judge}: (Use policy = .*?: it judges {share}%|Keep policy random)", lines)
    sentences = re.findall(r"[jk]: On these \d+ pairs the judge is not certainly more often right than the scorer", lines)
    assert len(sentences) == len(set(sentences))


def test_a_figure_of_several_judges_names_each_once(write, tmp_path):
    assert run(write(two_judges()), "--judge", "j", "--judge", "k", "--plot", tmp_path / "curves.svg").exit_code == 0
    words = re.findall(r">([^<>]+)</text>", (tmp_path / "curves.svg").read_text())
    assert [words.count(each) for each in ("j", "k", f"Accuracy on {len(PAIRS)} pairs")] == [1, 1, 1]


def test_judges_are_compared_pair_by_pair(write):
    path = write(two_judges())
    told = found(path, "--judge", "j", "--judge", "k", "--judge", "k,j", "--judge", "j=1,k=3")
    assert [each["judge"] for each in told["judges"]] == ["j", "k", "k, else j", "j (1) and k (3)"]
    alone, panel, shared = told["leads"]
    assert [alone["pairs"], panel["pairs"]] == [180, 240]
    assert alone["accuracy"]["value"] == pytest.approx(-0.2)
    assert panel["accuracy"]["value"] == pytest.approx(-36 / 240)
    assert -0.2 < shared["accuracy"]["value"] < -0.05
    assert {each["judge"] for judge in told["judges"] for each in judge["what_ifs"]} == {"j", "k", "k, else j", "j (1) and k (3)"}


def test_pairs_are_shared_by_lot_as_the_engine_shares_them(write):
    path = write(two_judges())
    trace = read_file(path)
    judges = [trace.testimonies[name].judge for name in ("j", "k")]
    own = [own_judge(3, key, judges, (1.0, 3.0)) for key in trace.keys]
    unasked = trace.testimonies["k"].replied.any(axis=1)
    always = found(path, "--judge", "j=1,k=3", "--seed", 3, "--policy", "always")["what_ifs"][0]
    assert always["judged"] == sum(place == 0 or bool(unasked[row]) for row, place in enumerate(own))


def test_a_judge_is_found_by_its_fingerprint_and_an_ambiguous_name_lists_whom_it_may_mean(database):
    path, _ = database("always", FEW)
    longer = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS)), max_completion_tokens=77)
    asyncio.run(judge_with(path, longer, "longer", FEW, policy="always"))
    key = longer.identity.fingerprint.hex()
    name = f"scripted scripted-judge@{key[:8]}"
    assert found(path, "--run", "longer", "--judge", key[:12].upper())["judge"] == name
    assert found(path, "--run", "longer", "--judge", name)["judge"] == name
    message = complaint(path, "--run", "longer", "--judge", "scripted scripted-judge")
    assert 'may be "scripted scripted-judge@' in message
    assert name in message


def test_prices_of_the_configuration_count_where_no_dollars_were_recorded(judged, tmp_path):
    prices = 'base_url = "http://127.0.0.1:9/v1"\nmodel = "m"\nprompt_usd_per_mtok = 2.0\ncompletion_usd_per_mtok = 10.0\n'
    config = tmp_path / "priced.toml"
    config.write_text(f'[judge]\n{prices}[routing]\npolicy = "random"\nmax_share = 0.2\n')
    told = found(judged, "--config", config, "--tokens-per-call", "1000,100", "--policy", "always")
    assert told["what_ifs"][0]["usd"] == pytest.approx(480 * 0.003)
    cheap = found(judged, "--config", config, "--tokens-per-call", "1000,100", "--policy", "random", "--budget-usd", "0.1")
    assert 0 < cheap["what_ifs"][0]["usd"] <= 0.1


def test_the_judges_of_a_configuration_are_one_panel(write, tmp_path):
    judge = 'base_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
    config = tmp_path / "two.toml"
    routing = '[routing]\npolicy = "random"\nmax_share = 0.2\n'
    config.write_text(f'[judge]\nid = "k"\n{judge}[judges.second]\nid = "j"\n{judge}{routing}')
    assert found(write(two_judges()), "--config", config)["judge"] == "k, else j"
    config.write_text(config.read_text() + 'panel = "weights"\n')
    assert found(write(two_judges()), "--config", config)["judge"] == "k (1) and j (1)"
    config.write_text(f'[judge]\nid = "k"\n{judge}[judges.second]\nid = "never asked"\n{judge}{routing}')
    assert found(write(two_judges()), "--config", config)["judge"] == "k"


def test_which_response_came_first_is_told_by_a_file_and_by_no_database(database, write):
    path, _ = database("always", FEW)
    message = "nobody recorded which response was given first"
    unknown = run(path, "--orders", "first")
    assert message in " ".join(unknown.stdout.split())
    known = run(path, "--orders", "first", "--pairs", write(map(texts, PAIRS), "pairs.jsonl"))
    assert known.exit_code == 0
    assert message not in " ".join(known.stdout.split())
    assert message not in " ".join(run(path, "--orders", "both").stdout.split())


def test_first_is_the_only_order_where_one_alone_was_asked(tmp_path):
    path = tmp_path / "first.db"

    async def ask_in_one_order():
        store = await SqlStore.open(str(path))
        judge = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS)))
        settings = RoutingConfig(policy="always")
        async with Scheduler(judge=judge, scorer=FakeScorer(), store=store, routing=settings, orders="first", run="live") as scheduler:
            await scheduler.route(FEW)
        await store.aclose()

    asyncio.run(ask_in_one_order())
    always = found(path, "--policy", "always")["what_ifs"][0]
    assert (always["orders"], always["judged"]) == ("first", len(FEW))


def test_position_bias_counts_every_repetition(write):
    def repeated(record, number):
        first, then = ("a", "b") if number % 2 else ("a", "a")
        again = {"order_ab": {"winner": "a"}, "order_ba": {"winner": "b"}}
        return record | {"judge": {"j": {"r0": {"order_ab": {"winner": first}, "order_ba": {"winner": then}}, "r1": again}}}

    path = write(repeated(record, number) for number, record in enumerate(records()))
    (bias,) = found(path)["position_bias"]
    assert (bias["pairs"], bias["twice"], bias["calls"]) == (240, 480, 960)
    assert bias["agreement"]["value"] == pytest.approx(0.25)
    assert bias["first"] == pytest.approx(0.75)
    assert "240 pairs, asked 480 times" in " ".join(run(path).stdout.split())


@pytest.mark.parametrize(("what", "named"), [("outcomes", "what a run has decided"), ("pairs", "holds preferences")])
def test_what_was_exported_without_replies_is_told_from_what_can_be_replayed(database, tmp_path, what, named):
    path, _ = database("always", FEW)
    out = tmp_path / f"{what}.jsonl"
    chosen = ["--run", "live"] if what == "outcomes" else []
    done = CliRunner().invoke(app, ["export", "--url", str(path), "--what", what, "--out", str(out), *chosen])
    assert done.exit_code == 0, done.exception
    message = complaint(out)
    assert named in message
    assert "judgeflow replay DB --run NAME" in message


def test_exported_replies_can_be_replayed(database, tmp_path):
    path, _ = database("always", FEW)
    out = tmp_path / "calls.jsonl"
    assert CliRunner().invoke(app, ["export", "--url", str(path), "--what", "calls", "--out", str(out)]).exit_code == 0
    assert found(out)["measured_pairs"] == len(FEW)


def test_what_route_has_written_lacks_what_the_scorer_thought_of_judged_pairs(database, write):
    _, result = database("error", max_share=0.3)
    path = write(map(outcome_record, result.outcomes), "outcomes.jsonl")
    assert "is what judgeflow route writes" in complaint(path)


def compacted(path):
    with sqlite3.connect(path) as connection:
        for table in ("run", "reservation", "step"):
            connection.execute(f"UPDATE {table} SET created_at = created_at - 30 * 86400")
    assert CliRunner().invoke(app, ["db", "compact", "--url", str(path), "--keep-days", "1"]).exit_code == 0


def with_scores(path):
    async def score():
        async with reading(str(path)) as connection:
            return [key async for key, _ in history.pairs(connection)]

    keys = asyncio.run(score())
    with sqlite3.connect(path) as connection:
        rows = [("rm", key, (key[0] - 128) / 50, None, 0.0) for key in keys]
        connection.executemany("INSERT INTO score VALUES (?, ?, ?, ?, ?)", rows)
    return path


def test_after_a_compaction_nobody_knows_by_what_choice_unless_everything_is_judged(database):
    path, _ = database("always", FEW)
    compacted(path)
    with_scores(path)
    assert found(path, "--scorer", "rm")["measured_pairs"] == len(FEW)
    assert "has removed what run live has decided" in complaint(path, "--run", "live")
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM call WHERE pair_key < X'60'")
    message = complaint(path, "--scorer", "rm")
    assert "judgeflow db compact has removed the decisions of run live" in message
    assert "policy always" in message


def test_no_password_of_a_database_is_shown():
    message = complaint("postgresql+asyncpg://me:S3CRET@127.0.0.1:9/verdicts")
    assert "S3CRET" not in message
    assert "127.0.0.1" in message


def test_progress_has_a_total_and_names_the_judge_where_there_are_several(tmp_path):
    told = {}

    def tell(what, done, total):
        told.setdefault(what, []).append((done, total))

    path = tmp_path / "judged.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records()))
    trace = read_file(path)
    base = WhatIf(max_share=0.2)
    grid = [dataclasses.replace(base, policy=policy) for policy in ("never", "error", "always")]
    compare(trace, [], base, grid, [0.2], resamples=100, tell=tell)
    ends = {"resampling policies": 100, "resampling orders": 100, "playing what-ifs": 3}
    assert {what: moments[-1] for what, moments in told.items()} == {what: (end, end) for what, end in ends.items()}
    for moments in told.values():
        assert moments == sorted(moments)
        assert moments[0][0] == 0
        assert len({total for _, total in moments}) == 1
    told.clear()
    path.write_text("".join(json.dumps(record | {"judge": record["judge"] | {"k": record["judge"]["j"]}}) + "\n" for record in records()))
    compare(read_file(path), ["j", "k"], base, grid, [0.2], resamples=100, tell=tell)
    assert sorted(told) == sorted(f"{what}, {judge}" for what in ends for judge in "jk")
