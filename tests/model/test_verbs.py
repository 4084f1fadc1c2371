"""`judgeflow train`, `judgeflow score`, and a scheduler whose configuration names what they made."""

import os
import shutil
import signal
import sys
import threading
from dataclasses import replace
from xml.etree import ElementTree as ET

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file
from tamper import reseal

from judgeflow import Scheduler, load_config
from judgeflow.build import build_scheduler
from judgeflow.cli.interrupt import asked_to_stop
from judgeflow.errors import ConfigurationError
from judgeflow.model.checkpoint import WEIGHTS, read_summary
from judgeflow.testing import FakeJudge
from judgeflow.testing.pairs import pair_lines


@pytest.fixture
def pairs_file(tmp_path, learned):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"".join(pair_lines(learned[:600])))
    return path


def small_training(pairs, out):
    return ("train", pairs, "--out", out, "--max-tokens", "48", "--epochs", "1", "--device", "cpu")


def test_train_prints_what_the_scorer_is_worth_and_score_reads_it(run_cli, pairs_file, tmp_path):
    out = tmp_path / "scorer"
    trained = run_cli(*small_training(pairs_file, out))
    assert trained.code == 0
    assert all(
        name in trained.out
        for name in ("accuracy on unseen prompts", "expected calibration error", "AUROC against errors", "known directions, d_eff / D")
    )
    scores = tmp_path / "scores.jsonl"
    scored = run_cli("score", pairs_file, "--scorer", out, "--out", scores, "--evaluate", "--device", "cpu")
    assert scored.code == 0
    assert all(
        name in scored.out
        for name in (
            "AUROC against errors",
            "when trained, unseen prompts",
            "known directions",
            "Brier score",
            "gain in points, 20% judged",
            "gain in points, 40% judged",
        )
    )
    records = [orjson.loads(line) for line in scores.read_bytes().splitlines()]
    assert len(records) == 600
    assert records[0].keys() == {"label", "category", "logit", "probability", "uncertainty", "variance"}
    assert all(record["uncertainty"] >= 1 for record in records)


def test_the_reports_of_train_and_score_are_json_on_demand(run_cli, pairs_file, tmp_path):
    out = tmp_path / "scorer"
    report = orjson.loads(run_cli(*small_training(pairs_file, out), "--json").out)
    summary = orjson.loads(run_cli("score", pairs_file, "-s", out, "--evaluate", "--json", "--device", "cpu").out)
    assert report["fingerprint"] == summary["scorer"]
    assert report["validation"].keys() == summary["quality"].keys()
    assert summary["pairs"] == summary["quality"]["pairs"] == 600
    assert summary["trained"]["validation"] == report["validation"]


def test_identical_responses_are_scored_and_left_out_of_what_the_scorer_is_worth(run_cli, trained, learned, tmp_path):
    def measured(name, pairs):
        (tmp_path / name).write_bytes(b"".join(pair_lines(pairs)))
        return orjson.loads(run_cli("score", tmp_path / name, "-s", trained[0], "--evaluate", "--json", "--device", "cpu").out)

    same = [replace(pair, response_b=pair.response_a) for pair in learned[:30]]
    plain, mixed = measured("plain.jsonl", learned[:60]), measured("mixed.jsonl", [*same, *learned[:60]])
    assert (plain["pairs"], mixed["pairs"]) == (60, 90)
    assert mixed["quality"]["pairs"] == plain["quality"]["pairs"] == 60
    assert mixed["quality"]["accuracy"] == plain["quality"]["accuracy"]


@pytest.mark.slow
def test_score_draws_what_it_measures_as_svg_and_as_png(run_cli, trained, pairs_file, tmp_path):
    svg, again, png = tmp_path / "plots.svg", tmp_path / "again.svg", tmp_path / "plots.PNG"
    for path in (svg, again, png):
        summary = orjson.loads(
            run_cli("score", pairs_file, "-s", trained[0], "--evaluate", "--plot", path, "--json", "--device", "cpu").out
        )
        assert summary["plot"] == str(path)
    texts = {text.text for text in ET.fromstring(svg.read_bytes()).iter("{http://www.w3.org/2000/svg}text")}
    assert {"The scorer on 600 labelled pairs", "random", "error", "uncertainty", "margin", "pairs judged, %"} <= texts
    assert {f"{each['pairs']:,}" for each in summary["quality"]["reliability"]} <= texts
    assert svg.read_bytes() == again.read_bytes()
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_without_matplotlib_a_plot_says_what_to_install_before_anything_is_scored(run_cli, trained, pairs_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = run_cli("score", pairs_file, "-s", trained[0], "--evaluate", "--out", tmp_path / "out.jsonl", "--plot", tmp_path / "plots.svg")
    assert ended.code == 2
    assert 'pip install "judgeflow[plots]"' in ended.err
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "{pairs}", "--scorer", "{scorer}"), "name --out SCORES.jsonl, or ask for --evaluate"),
        (("score", "{pairs}", "--scorer", "{folder}", "--evaluate"), "not a scorer, it has no judgeflow.json"),
        (("score", "{pairs}", "--scorer", "{scorer}", "--out", "{folder}"), "is a folder; name a file in it"),
        (("score", "{pairs}", "--scorer", "{scorer}", "--out", "{pairs}"), ", the pairs; name another file"),
        (("score", "{pairs}", "--scorer", "{scorer}", "--out", "{link}"), ", the pairs; name another file"),
        (("score", "{unlabelled}", "--scorer", "{scorer}", "--evaluate"), "no pair of two different responses has the label a or b"),
        (("score", "{pairs}", "--scorer", "{scorer}", "--evaluate", "--device", "warp"), "device 'warp' cannot be used here"),
        (
            ("score", "{pairs}", "-s", "{scorer}", "--out", "{folder}/o", "--plot", "{folder}/p.svg"),
            "--plot draws what --evaluate measures",
        ),
        (("score", "{pairs}", "-s", "{scorer}", "--evaluate", "--plot", "{folder}/p.pdf"), "p.pdf: a plot is written as .svg or .png"),
        (("score", "{pairs}", "-s", "{scorer}", "--evaluate", "--plot", "{folder}/no/p.svg"), "/no/p.svg: the folder"),
        (("train", "{bad}", "--out", "{folder}/new"), "bad.jsonl:2: response_b is missing"),
        (("train", "{pairs}", "--out", "{folder}"), "exists and is no scorer"),
        (("train", "{unlabelled}", "--out", "{folder}/new"), "none of the 2 pairs has a label"),
        (("train", "{ties}", "--out", "{folder}/new"), "all 2 labels are ties"),
        (("train", "{pairs}", "--out", "{folder}/new", "--backbone", "{folder}"), "the folder has no config.json"),
        (("train", "{pairs}", "--out", "{folder}/new", "--encoder", "odd"), "'odd' is not one of 'siamese', 'concat'"),
        (("train", "{pairs}", "--out", "{folder}/new", "--schedule", "steep"), "'steep' is not one of 'cosine', 'linear', 'constant'"),
        (("train", "{pairs}", "--out", "{folder}/new", "--frozen", "--micro-batch", "4"), "--micro-batch: micro_batch is for a body"),
        (("train", "{pairs}", "--out", "{folder}/new", "--lora", "4"), "--lora: a backbone from scratch has nothing to adapt"),
        (
            ("train", "{pairs}", "--out", "{folder}/new", "--backbone", "{folder}", "--frozen", "--lora", "4"),
            "--lora: lora_rank is for a body that is trained",
        ),
        (("train", "{pairs}", "--out", "{folder}/new", "--frozen", "--backbone-lr", "1"), "--backbone-lr: a frozen backbone has none"),
        (
            ("train", "{pairs}", "--out", "{folder}/new", "--tune", "--uncertainty", "none"),
            "--tune: uncertainty none has no spectral bound",
        ),
        (("train", "{pairs}", "--out", "{folder}/new", "--metrics", "{folder}"), "cannot be written: Is a directory"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(run_cli, trained, pairs_file, tmp_path, arguments, message):
    record = '{"prompt": "p%d", "response_a": "a", "response_b": "b"%s}\n'
    (tmp_path / "unlabelled.jsonl").write_text(record % (1, "") + record % (2, ""))
    (tmp_path / "ties.jsonl").write_text(record % (1, ', "label": "tie"') + record % (2, ', "label": "tie"'))
    (tmp_path / "bad.jsonl").write_text(record % (1, "") + '{"prompt": "p", "response_a": "a"}\n')
    places = {name: tmp_path / f"{name}.jsonl" for name in ("unlabelled", "ties", "bad")}
    places |= {"pairs": pairs_file, "scorer": trained[0], "folder": tmp_path, "link": tmp_path / "link.jsonl"}
    places["link"].symlink_to(pairs_file)
    ended = run_cli(*(argument.format(**places) for argument in arguments))
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err


def write_config(folder, scorer, address, **sections):
    text = f'[scorer]\npath = "{scorer}"\ndevice = "cpu"\n\n[judge]\nmodel = "fake-judge"\nid = "j"\nbase_url = "{address}"\n'
    for name, body in ({"routing": "max_share = 0.2"} | sections).items():
        text += f"\n[{name}]\n{body}\n"
    (folder / "judgeflow.toml").write_text(text, encoding="utf-8")
    return folder / "judgeflow.toml"


@pytest.mark.parametrize("policy", ["error", "uncertainty", "margin"])
async def test_a_policy_asks_about_the_pairs_that_it_ranks_highest(tmp_path, monkeypatch, trained, unseen, policy):
    monkeypatch.chdir(tmp_path)
    folder, scorer, _ = trained
    async with FakeJudge.from_pairs(unseen) as judge:
        path = write_config(tmp_path, folder, judge.base_url, routing=f'max_share = 0.2\npolicy = "{policy}"')
        async with Scheduler.from_config(path) as scheduler:
            step = await scheduler.route(unseen)
    asked = {index for index, outcome in enumerate(step.outcomes) if outcome.source == "judge"}
    beliefs = scorer.score(unseen)
    rank = {
        "error": lambda p: min(p.probability, 1 - p.probability),
        "uncertainty": lambda p: p.uncertainty,
        "margin": lambda p: -abs(p.logit * p.uncertainty),
    }[policy]
    highest = sorted(range(len(unseen)), key=lambda index: -rank(beliefs[index]))[: len(asked)]
    assert len(asked) == 0.2 * len(unseen)
    assert min(rank(beliefs[index]) for index in asked) >= min(rank(beliefs[index]) for index in highest) - 1e-5
    unasked = [outcome for index, outcome in enumerate(step.outcomes) if index not in asked]
    assert all(outcome.source == "scorer" and outcome.preference is not None for outcome in unasked)


async def test_a_scorer_that_breaks_in_a_step_gives_labelled_outcomes(tmp_path, monkeypatch, trained, unseen):
    monkeypatch.chdir(tmp_path)
    async with FakeJudge.from_pairs(unseen) as judge:
        scheduler = build_scheduler(load_config(write_config(tmp_path, trained[0], judge.base_url)))
        with torch.no_grad():
            scheduler._scorer._network.heads[0].beta.fill_(float("nan"))
        async with scheduler:
            step = await scheduler.route(unseen)
    assert {(outcome.source, outcome.status, outcome.logit) for outcome in step.outcomes} == {("fallback", "scorer_failed", 0.0)}
    assert judge.statistics.requests == 0


def test_a_routed_file_whose_scorer_failed_ends_with_exit_code_1(tmp_path, monkeypatch, trained, run_cli, pairs_file):
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(trained[0], tmp_path / "scorer")
    weights = load_file(folder / WEIGHTS)
    weights["heads.0.beta"].fill_(float(torch.finfo(torch.float32).max))  # finite, but no score in single precision is
    save_file(weights, folder / WEIGHTS)
    reseal(folder)
    path = write_config(tmp_path, folder, "http://127.0.0.1:9/v1")  # nobody is asked
    ended = run_cli("route", pairs_file, "--config", path, "--out", "outcomes.jsonl")
    assert ended.code == 1
    assert "600 pairs went without the judge (scorer_failed 600); the last error: " in ended.err
    assert "no finite number" in ended.err
    assert len((tmp_path / "outcomes.jsonl").read_bytes().splitlines()) == 600


async def test_another_scorer_is_another_run(tmp_path, monkeypatch, trained, run_cli, pairs_file):
    monkeypatch.chdir(tmp_path)
    run_cli(*small_training(pairs_file, tmp_path / "other"))
    async with FakeJudge() as judge:
        one = build_scheduler(load_config(write_config(tmp_path, trained[0], judge.base_url)))
        other = build_scheduler(load_config(write_config(tmp_path, tmp_path / "other", judge.base_url)))
    assert one.run != other.run


async def test_a_scorer_that_is_not_there_stops_before_anything_is_opened(tmp_path):
    async with FakeJudge() as judge:
        path = write_config(tmp_path, "nowhere", judge.base_url, run=f"directory = '{tmp_path}'")
    with pytest.raises(ConfigurationError, match="nowhere: not a scorer"):
        Scheduler.from_config(path)
    assert not (tmp_path / "judgeflow.db").exists()


@pytest.mark.slow
def test_every_option_of_training_reaches_the_checkpoint(run_cli, pairs_file, tmp_path):
    out, metrics = tmp_path / "scorer", tmp_path / "metrics.jsonl"
    options = ("--encoder", "concat", "--uncertainty", "last-layer-laplace", "--surface", "--pooling", "first", "--evidence", "relative")
    options += ("--weights", "fisher", "--schedule", "linear", "--micro-batch", "8", "--gradient-checkpointing", "--dtype", "float32")
    options += ("--patience", "9", "--evaluate-every", "4", "--epochs", "0.5", "--metrics", metrics, "--tensorboard", tmp_path / "board")
    ended = run_cli(*small_training(pairs_file, out), *options)
    assert ended.code == 0, ended.err
    summary = read_summary(out)
    model, training = summary["model"], summary["training"]
    assert (model["encoder"], model["uncertainty"], model["surface"], model["pooling"]) == ("concat", "last-layer-laplace", True, "first")
    assert (model["evidence"], model["weights"]) == ("relative", "fisher")
    assert (training["schedule"], training["micro_batch"], training["gradient_checkpointing"]) == ("linear", 8, True)
    assert (training["dtype"], training["patience"], training["evaluate_every"]) == ("float32", 9, 4)
    events = [orjson.loads(line)["event"] for line in metrics.read_bytes().splitlines()]
    assert {name: events.count(name) for name in set(events)} == {"step": training["steps"], "evaluation": 1, "final": 1}
    assert list((tmp_path / "board").iterdir())


@pytest.mark.slow
def test_tuning_prints_what_it_tried(run_cli, pairs_file, tmp_path):
    ended = run_cli(*small_training(pairs_file, tmp_path / "scorer"), "--epochs", "0.2", "--tune")
    assert ended.code == 0, ended.err
    assert "plain model" in ended.out
    assert "spectral bound 0.5" in ended.out


def test_training_stops_at_a_signal_and_the_same_command_goes_on(run_cli, pairs_file, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def interrupt():
        with pipe.open("rb") as records:
            records.readline()
            signal.raise_signal(signal.SIGTERM)
            records.read()

    sender = threading.Thread(target=interrupt)
    sender.start()
    command = small_training(pairs_file, tmp_path / "scorer")
    ended = run_cli(*command, "--metrics", pipe)
    sender.join()
    assert ended.code == 130
    assert "stopping after this step" in ended.err
    assert "is as it was before; the same command goes on" in ended.err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (tmp_path / "scorer").exists()
    assert "going on after step" in run_cli(*command).err
    assert (tmp_path / "scorer").is_dir()


def test_a_second_signal_stops_at_once():
    with asked_to_stop() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.exhaustive
def test_every_way_of_being_uncertain_can_be_compared_in_one_command(run_cli, pairs_file, tmp_path):
    out = tmp_path / "rivals"
    ended = run_cli(*small_training(pairs_file, out), "--uncertainty", "all")
    assert ended.code == 0
    lines = [line.split() for line in ended.out.splitlines()]
    rows = {cells[0]: cells for cells in lines if len(cells) == 9 and "." in cells[1]}
    assert rows.keys() == {"sngp", "mc-dropout", "last-layer-laplace", "ensemble", "none"}
    assert float(rows["none"][7]) == 1.0
    assert float(rows["mc-dropout"][7]) == pytest.approx(10.0, rel=0.05)
    assert float(rows["ensemble"][7]) == pytest.approx(5.0, rel=0.05)
    again = orjson.loads(run_cli("score", pairs_file, "-s", out / "ensemble", "--evaluate", "--json", "--device", "cpu").out)
    assert again["quality"]["pairs"] == 600
    assert run_cli(*small_training(pairs_file, out), "--uncertainty", "all").code == 0  # once more, into the same folder


def test_a_frozen_backbone_with_surface_features_has_settings_of_its_own(run_cli, trained, pairs_file, tmp_path):
    scorer = trained[1]
    scorer._network.encoder.body.save_pretrained(tmp_path / "body")
    scorer._reader.layout._tokenizer.save_pretrained(tmp_path / "body")
    out = tmp_path / "scorer"
    command = ("train", pairs_file, "--out", out, "--backbone", tmp_path / "body", "--surface", "--device", "cpu")
    assert run_cli(*command, "--epochs", "2").code == 0
    summary = read_summary(out)
    assert (summary["model"]["logit_scale"], summary["training"]["batch"], summary["training"]["epochs"]) == (0.1, 256, 2.0)
