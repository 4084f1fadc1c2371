"""docs/testing.md says what is true: its code runs, its commands exist, its tables are complete."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from judgeflow.cli.fake_judge import fake_judge
from judgeflow.testing import FAULTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


PYTHON = blocks("python")


@pytest.mark.parametrize("code", [code for code in PYTHON if "def test_" not in code and "class Test" not in code])
def test_every_script_on_the_page_runs(code):
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=300)


def test_every_test_on_the_page_passes_under_pytest(tmp_path):
    tests = [code for code in PYTHON if "def test_" in code or "class Test" in code]
    assert len(tests) == 2
    for number, code in enumerate(tests):
        (tmp_path / f"test_page_{number}.py").write_text(code, encoding="utf-8")
    settings = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    (tmp_path / "pytest.ini").write_text(settings, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b11 passed", done.stdout), done.stdout


def test_the_fault_table_is_the_faults_there_are():
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*?) \|$", PAGE.partition("## Faults")[2], re.MULTILINE))
    assert rows == dict(FAULTS)


def test_every_option_on_the_page_is_an_option_of_the_command():
    app = typer.Typer()
    app.command("fake-judge")(fake_judge)
    known = {name for parameter in typer.main.get_command(app).params for name in parameter.opts}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE))
    assert used
    assert used <= known


def test_every_line_of_example_data_is_what_it_claims():
    (configuration,) = blocks("toml")
    assert tomllib.loads(configuration)["judge"]["model"] == "fake-judge"
    (record,) = blocks("json")
    assert {"order_ab", "order_ba"} == set(json.loads(record)["judge"]["gpt-4-0613"])


def test_the_help_of_the_command_names_every_fault():
    app = typer.Typer()
    app.command("fake-judge")(fake_judge)
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300", "NO_COLOR": "1"}).output
    assert all(fault in shown for fault in FAULTS)
    assert "Example: judgeflow fake-judge" in shown
