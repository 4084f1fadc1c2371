"""`judgeflow demo`: equal calls for every policy that chooses, nothing asked twice, and files to go on with."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from judgeflow.cli.demo.tasks import FAMILIES, routed_pairs, training_pairs

ROOT = Path(__file__).resolve().parents[2]
CHOOSERS = ("random", "margin", "error", "uncertainty")


# What a user's shell may hold: a proxy that leads nowhere, and settings of a run of theirs.
ENVIRONMENT = os.environ | {"http_proxy": "http://127.0.0.1:9", "JUDGEFLOW_ROUTING__POLICY": "always"}


def demo(*arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "judgeflow", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A demo of two short steps: (folder, printed)."""
    folder = tmp_path_factory.mktemp("demo") / "somebody's"
    done = demo("-d", folder, "--steps", 2, "--step-size", 20, "--training-pairs", 400)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def rows(text: str) -> dict[str, list[str]]:
    """The table's rows by policy."""
    found = {}
    for line in text.splitlines():
        cells = line.split()
        if cells and cells[0] in {*CHOOSERS, "never", "always"}:
            found[cells[0]] = cells[1:]
    return found


def test_every_policy_that_chooses_makes_the_same_number_of_calls(short):
    table = rows(short[1])
    calls = {policy: next(cell for cell in cells[2:] if re.fullmatch(r"[\d,]+", cell)) for policy, cells in table.items()}
    assert {calls[policy] for policy in CHOOSERS} == {"16"}
    assert (calls["never"], calls["always"]) == ("0", "80")


def test_the_second_run_of_a_policy_asks_nothing(short):
    assert 'Policy "error" once more: 0 calls' in short[1]


@pytest.mark.exhaustive
def test_what_it_says_to_try_next_works(short):
    folder, printed = short
    commands = [line.split() for line in printed.partition("Try next:")[2].strip().splitlines()]
    assert [command[1] for command in commands] == ["replay", "db", "score", "train"]
    for command in commands[:3]:
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    assert {f"{policy}.db" for policy in (*CHOOSERS, "always")} <= {path.name for path in folder.iterdir()}
    events = [json.loads(line)["event"] for line in (folder / "error.log").read_text(encoding="utf-8").splitlines()]
    assert events.count("call") >= 16


def test_a_folder_that_exists_is_left_alone(tmp_path):
    done = demo("-d", tmp_path)
    assert done.returncode == 2
    assert "remove it, or name another folder" in done.stderr
    assert not list(tmp_path.iterdir())


def test_no_routed_prompt_was_trained_on_and_labels_name_the_better_response():
    learned = training_pairs(2000, 0)
    asked = routed_pairs(500, 1, without={pair.prompt for pair in learned})
    assert not {pair.prompt for pair in asked} & {pair.prompt for pair in learned}
    assert {pair.metadata["category"] for pair in learned} == set(FAMILIES["familiar"])
    unfamiliar = [pair for pair in asked if pair.metadata["kind"] == "unfamiliar"]
    assert len(unfamiliar) == 150
    assert {pair.metadata["category"] for pair in unfamiliar} == set(FAMILIES["unfamiliar"])
    for pair in asked:
        good, bad = (pair.response_a, pair.response_b) if pair.label == "a" else (pair.response_b, pair.response_a)
        if pair.metadata["category"] == "capitals":
            assert good == pair.prompt.split()[0].upper() != bad
        if pair.metadata["category"] == "sum":
            a, b = map(int, re.findall(r"\d+", pair.prompt))
            assert good == f"={a + b}" != bad
        if pair.metadata["category"] == "ordered":
            assert list(good) == sorted(good)
            assert list(bad) != sorted(bad)


@pytest.mark.exhaustive
def test_the_readme_shows_what_the_demo_prints_and_choosing_beats_chance(tmp_path):
    shown = rows((ROOT / "README.md").read_text(encoding="utf-8"))
    done = demo("-d", tmp_path / "demo", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    for policy, arm in report["arms"].items():
        assert arm["accuracy"]["mean"] == pytest.approx(float(shown[policy][0]), abs=0.04)
    assert {report["arms"][policy]["calls"] for policy in CHOOSERS} == {1000}
    assert report["again"]["calls"] == 0
    for policy in ("error", "uncertainty"):
        lift = report["arms"][policy]["minus_random"]
        assert lift["mean"] - lift["half_width"] > 0
