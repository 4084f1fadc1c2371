"""docs/report.md says what is true: its block makes the run, its command prints what it shows, every option and field stands in it."""

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from judgeflow.cli.report import report
from judgeflow.report import answers, figures
from judgeflow.report.compare import Difference
from judgeflow.report.pace import LAST

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
FIGURES = [kind for kind in vars(figures).values() if dataclasses.is_dataclass(kind) and kind.__module__ == figures.__name__]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def shape(text):
    """The words of a screen; when a question is sent, and so what depends on seconds, is not the same on every machine."""
    return re.sub(r"\s+", " ", re.sub(r"[▁▂▃▄▅▆▇█]+", "=", re.sub(r"[\d,.:+-]*\d", "#", text))).strip()


def beginning(text):
    """The lines up to the tables, in which words follow from verdicts: these are exact, but for how long something takes."""
    return re.sub(r"\(about .*?\)", "", text.split("Decided by")[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    subprocess.run([sys.executable, "-c", blocks("python")[0]], cwd=path, check=True, timeout=300)
    return path


def test_the_page_shows_what_its_command_prints(folder):
    command, _, shown = blocks("console")[0].removeprefix("$ ").partition("\n")
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert " ".join(beginning(done.stdout).split()) == " ".join(beginning(shown).split())
    known = re.split(r"slowest pairs", shape(done.stdout))[0]
    assert known == re.split(r"slowest pairs", shape(shown))[0]


def test_the_figures_can_be_had_from_python_as_the_page_says(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(blocks("python")[1], names)
    complete, changed = asyncio.run(names["watch"]())
    assert not complete
    assert f"The judge changed {changed} of" in PAGE


def test_every_option_stands_in_the_table():
    app = typer.Typer(add_completion=False)
    app.command()(report)
    options = {each.opts[0]: each.help for each in typer.main.get_command(app).params if each.opts[0].startswith("--")}
    assert dict(re.findall(r"^\| `(--[\w-]+)` \| (.*) \|$", PAGE, re.MULTILINE)) == options


@pytest.mark.parametrize("kind", [*FIGURES, Difference])
def test_every_field_of_the_json_object_is_named(kind):
    assert {field.name for field in dataclasses.fields(kind) if f"`{field.name}`" not in PAGE} == set()


def test_the_thresholds_of_the_answers_are_those_of_the_code():
    table = re.search(r"^\| answer .*?\n\n", PAGE, re.MULTILINE | re.DOTALL)[0]
    for unsure, bad in (
        (answers.FAILED_UNSURE, answers.FAILED_BAD),
        (answers.LATE_UNSURE, answers.LATE_BAD),
        (answers.UNREAD_UNSURE, answers.UNREAD_BAD),
    ):
        assert f"| more than {unsure * 100:.0f} % | more than {bad * 100:.0f} % |" in table
    assert f"| below {answers.AGREE_UNSURE * 100:.0f} % | below {answers.AGREE_BAD * 100:.0f} % |" in table
    assert f"| more than {answers.BIAS_UNSURE * 100:.0f} points | more than {answers.BIAS_BAD * 100:.0f} points |" in table
    assert (answers.SHORT_UNSURE, answers.SHORT_BAD) == (1.0, 0.5)
    assert f"in the last {LAST} steps | more than {answers.LOWERED_UNSURE * 100:.0f} % | |" in table
    assert table.count(f"in the last {LAST} steps") == 3
