"""Published benchmarks on the command line: a file in, the benchmark's own score out."""

import dataclasses
import json
import subprocess
import sys

import pytest
from published import DOMAINS, preference, rewardbench, rm_bench, write_array, write_lines

from judgeflow.adapters.datasets import read_dataset
from judgeflow.testing import FakeJudge, serve_in_thread

RECORDS = [rm_bench(n, domain) for domain in DOMAINS for n in range(2)]


def in_own_process(folder, *arguments):
    """Run one command line where nobody has spoken with the hub before."""
    environment = {"PATH": "/usr/bin:/bin", "TERM": "dumb", "COLUMNS": "160", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "judgeflow", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)


def configure(folder, server):
    judge = f'[judge]\nbase_url = "{server.base_url}"\nmodel = "fake-judge"\nid = "fake"\n'
    (folder / "judgeflow.toml").write_text(f'{judge}[routing]\npolicy = "always"\n[log]\npath = "run.log"\n')


def fooled_by_style(pairs):
    """The same pairs as a judge sees them who prefers the better dressed response, whatever it says."""
    flipped = {"a": "b", "b": "a"}
    return [dataclasses.replace(pair, label=flipped[pair.label]) if pair.metadata["difficulty"] == "hard" else pair for pair in pairs]


def test_rm_bench_is_routed_and_scored_and_tells_a_judge_that_is_fooled_by_style(judgeflow, tmp_path):
    path = write_array(tmp_path / "total_dataset.json", RECORDS)
    with serve_in_thread(FakeJudge.from_pairs(fooled_by_style(read_dataset(path)), accuracy=1.0)) as server:
        configure(tmp_path, server)
        table = judgeflow(tmp_path, "route", path, "--out", "outcomes.jsonl", "--step-size", "40", environment={"COLUMNS": "160"})
        again = judgeflow(tmp_path, "route", path, "--out", "outcomes.jsonl", "--step-size", "40", "--json")
    assert (table.code, again.code) == (0, 0)
    assert "rm-bench, total" in table.out
    record = json.loads(again.out)
    total = record["benchmark"]["parts"]["total"]
    assert {name: estimate["value"] for name, estimate in total.items()} == {"easy": 1.0, "normal": 1.0, "hard": 0.0, "average": 2 / 3}
    assert record["sources"] == {"store": 90}
    assert len((tmp_path / "outcomes.jsonl").read_text().splitlines()) == 90


def test_a_set_with_a_repeated_prompt_is_routed_to_its_end_and_says_why_it_has_no_score(judgeflow, tmp_path):
    path = write_array(tmp_path / "set.json", [rm_bench(0), rm_bench(0)])
    with serve_in_thread(FakeJudge.from_pairs(read_dataset(path), accuracy=1.0)) as server:
        configure(tmp_path, server)
        done = judgeflow(tmp_path, "route", path, "--out", "outcomes.jsonl", "--json")
    assert done.code == 0
    assert json.loads(done.out)["benchmark"] is None
    assert "no benchmark score: rm-bench: prompt chat/0 stands there more than once" in done.err


@pytest.mark.exhaustive
def test_a_scorer_is_trained_on_plain_preferences_and_measured_on_rewardbench(tmp_path):
    write_lines(tmp_path / "train.jsonl", [preference(n) for n in range(40)])
    records = [rewardbench(n, subset) for n, subset in enumerate(("alpacaeval-easy", "donotanswer", "math-prm"))]
    write_lines(tmp_path / "bench.jsonl", [*records, {"oops": 1}])
    trained = in_own_process(tmp_path, "train", "train.jsonl", "--out", "scorer", "--epochs", "1", "--device", "cpu", "--max-tokens", "32")
    assert trained.returncode == 0, trained.stderr
    measure = ("score", "bench.jsonl", "--scorer", "scorer", "--evaluate", "--device", "cpu", "--json")
    refused = in_own_process(tmp_path, *measure)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "bench.jsonl:4: prompt, chosen, rejected, subset, id is missing" in refused.stderr
    scored = in_own_process(tmp_path, *measure, "--on-bad-record", "skip")
    assert "bench.jsonl:4: skipped: prompt" in scored.stderr
    assert set(json.loads(scored.stdout)["benchmark"]["parts"]) == {"Chat", "Safety", "Reasoning", "total"}


def test_what_cannot_be_read_ends_in_one_message(judgeflow, tmp_path):
    (tmp_path / "judgeflow.toml").write_text('[judge]\nbase_url = "http://localhost:1"\nmodel = "m"\n[routing]\npolicy = "always"\n')
    asked = in_own_process(tmp_path, "route", "allenai/reward-bench", "--out", "outcomes.jsonl")
    assert (asked.returncode, "Traceback" in asked.stderr) == (2, False)
    assert "the hub could not be reached" in asked.stderr
    for source, options, told in [
        ("missing.jsonl", (), "cannot be read: No such file"),
        ("missing.jsonl", ("--format", "rmbench"), "'rmbench' is not one of 'auto', 'pairs'"),
    ]:
        done = judgeflow(tmp_path, "route", source, "--out", "outcomes.jsonl", *options)
        assert (done.code, "Traceback" in done.err) == (2, False)
        assert told in done.err
