"""docs/datasets.md says what is true: its commands print what it shows, its Python runs, and every format stands in its table."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from judgeflow.adapters.formats import FORMATS
from judgeflow.testing import FakeJudge, arithmetic_pairs, serve_in_thread

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def lines(text):
    return [line.rstrip() for line in text.strip().splitlines()]


def run(command, folder):
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(["bash", "-c", f"{command} 2>&1"], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_page_shows_what_its_commands_print(tmp_path):
    (tmp_path / "mine.jsonl").write_text(blocks("jsonl")[0], encoding="utf-8")
    (shown,) = blocks("console run")
    parts = re.split(r"^\$ (.*)\n", shown, flags=re.MULTILINE)[1:]
    for command, output in zip(parts[::2], parts[1::2], strict=True):
        assert lines(run(command, tmp_path)[1]) == lines(output)


def test_the_python_of_the_page_runs(tmp_path):
    (tmp_path / "page.py").write_text("".join(blocks("python")), encoding="utf-8")
    assert run(f"{sys.executable} page.py", tmp_path) == (0, "")


def test_every_format_stands_in_the_table():
    table = PAGE.partition("| `--format` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(FORMATS)


def as_on_the_hub(folder):
    """Folders named as sets of the hub, with files where those have them, of pairs whose answers are known."""
    steer, hh = folder / "nvidia" / "HelpSteer2", folder / "Anthropic" / "hh-rlhf"
    pairs = [pair for pair in arithmetic_pairs(60) if pair.label != "tie"]
    texts = [(pair.prompt, pair.response_a, pair.response_b, {"a": -2, "b": 2}[pair.label]) for pair in pairs]
    ratings = [{"prompt": "p", "response": "x", "helpfulness": 3, "correctness": 4}]
    preferences = [
        {"split": "val" if place % 5 == 0 else "train", "prompt": prompt, "response_1": a, "response_2": b, "preference_strength": strength}
        for place, (prompt, a, b, strength) in enumerate(texts)
    ]
    empty = {"chosen": "\n\nHuman: Hi\n\nAssistant: Yo", "rejected": "\n\nHuman: Hi\n\nAssistant:"}
    dialogues = [{side: f"\n\nHuman: {p}\n\nAssistant: {x}" for side, x in (("chosen", a), ("rejected", b))} for p, a, b, _ in texts[:20]]
    files = {
        steer / "train.jsonl.gz": ratings,
        steer / "preference" / "preference.jsonl.gz": preferences,
        hh / "helpful-base" / "test.jsonl.gz": [*dialogues, empty],
    }
    for path, records in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(f"{json.dumps(record)}\n" for record in records).encode()))
    return pairs


@pytest.mark.slow
def test_the_commands_about_sets_of_the_hub_work_on_folders_that_lie_like_them(tmp_path):
    pairs = as_on_the_hub(tmp_path)
    with serve_in_thread(FakeJudge.from_pairs(pairs)) as server:
        judge = f'[judge]\nbase_url = "{server.base_url}"\nmodel = "fake-judge"\n'
        (tmp_path / "judgeflow.toml").write_text(f'{judge}[routing]\npolicy = "always"\n[log]\npath = "run.log"\n')
        commands = [line.removeprefix("$ ") for line in blocks("console")[0].splitlines()]
        assert len(commands) == 3
        for command in commands:
            code, output = run(command, tmp_path)
            assert code == 0, output
    assert "Anthropic/hh-rlhf (test): row 21: skipped: rejected is empty" in output
    assert len((tmp_path / "outcomes.jsonl").read_text().splitlines()) == 20
