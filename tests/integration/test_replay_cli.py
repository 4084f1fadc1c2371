"""`judgeflow replay`, as somebody types it, over real databases and files."""

import asyncio
import csv
import json

import pytest
from typer.testing import CliRunner

from judgeflow import Scheduler
from judgeflow.cli.app import app
from judgeflow.config import RoutingConfig
from judgeflow.errors import JudgeflowError
from judgeflow.store import SqlStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge
from judgeflow.testing.pairs import arithmetic_pairs

PAIRS = arithmetic_pairs(240)
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

    async def routed(path, policy, routing):
        judge = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS), accuracy=0.95))
        settings = RoutingConfig(policy=policy, **routing)
        store = await SqlStore.open(str(path))
        async with Scheduler(judge=judge, scorer=FakeScorer(), store=store, routing=settings, run="live") as scheduler:
            result = await scheduler.route(PAIRS)
        await store.aclose()
        return path, result

    return lambda policy, **routing: asyncio.run(routed(tmp_path / f"{policy}.db", policy, routing))


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
    assert {row["policy"] for row in rows} == {"error", "margin", "random", "oracle"}
    assert all(float(row["accuracy_low"]) <= float(row["accuracy"]) <= float(row["accuracy_high"]) for row in rows)
    drawn = (tmp_path / "curves.svg").read_text()
    assert "judge calls" in drawn
    assert "oracle" in drawn


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--judge", "k"], "no verdicts of judge 'k'; there are j"),
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


def test_a_csv_is_not_written_over_its_own_input(judged):
    before = judged.read_bytes()
    assert "would overwrite what is replayed" in complaint(judged, "--csv", judged)
    assert judged.read_bytes() == before


def test_a_budget_that_does_not_reach_is_told_with_the_advice(judged):
    result = run(judged, "--budget-requests", 10, "--latency", "1")
    assert "admit verdicts on 2.1% of the pairs only" in " ".join(result.stdout.split())


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


def test_verdicts_of_a_judge_that_the_run_has_not_asked_are_no_sample(database, tmp_path):
    path, _ = database("error", threshold=0.3)
    other = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS)), model="other")

    async def ask_the_other():
        store = await SqlStore.open(str(path))
        settings = RoutingConfig(policy="always")
        async with Scheduler(judge=other, scorer=FakeScorer(), store=store, routing=settings, run="other") as scheduler:
            await scheduler.route(PAIRS)
        await store.aclose()

    asyncio.run(ask_the_other())
    first, second = sorted(run(path, "--run", "other").exception.args[0].partition("there are ")[2].split(", "))
    answers = [run(path, "--run", "other", "--judge", name) for name in (first, second)]
    refused = [answer.exception for answer in answers if answer.exit_code]
    assert len(refused) == 1
    assert "name the judge that the run has asked" in str(refused[0])


def test_no_password_of_a_database_is_shown():
    message = complaint("postgresql+asyncpg://me:S3CRET@127.0.0.1:9/verdicts")
    assert "S3CRET" not in message
    assert "127.0.0.1" in message
