"""docs/serve.md says what is true: its blocks run one after the other, its tables are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from held import held_port

from judgeflow.cli.serve import serve
from judgeflow.web.pages import VIEWS
from judgeflow.web.vitals import _Moment

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


def rows(columns):
    return re.findall(r"^\| `([^`]+)` " + r"\| (.*?) " * (columns - 1) + r"\|$", PAGE, re.MULTILINE)


@pytest.fixture
def port():
    with held_port() as port:
        yield str(port)


def test_the_blocks_of_the_page_run_one_after_the_other(tmp_path, port):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(code):
        options = {"cwd": tmp_path, "env": environment, "timeout": 60, "capture_output": True, "text": True}
        return subprocess.run([sys.executable, "-W", "error", "-c", code.replace("8765", port)], check=True, **options).stdout

    run(block("python"))
    command, _, shown = block("console").removeprefix("$ ").partition("\n")
    started = subprocess.Popen([*command.split(), "--port", port], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    with started as server:
        try:
            assert server.stderr.readline() == shown.replace("8765", port)
            pace, *answers = run(block("python api")).splitlines()
            assert pace == "finished 4 steps"
            assert len(answers) == 3
        finally:
            server.terminate()


def test_every_page_is_in_the_table():
    assert {path for path, _ in rows(2)} >= set(VIEWS)


def test_every_option_is_in_the_table_as_the_help_says_it():
    app = typer.Typer(add_completion=False)
    app.command()(serve)
    options = {each.opts[0]: each.help for each in typer.main.get_command(app).params if each.opts[0] != "--help"}
    assert {name: meaning for name, meaning in rows(2) if name.startswith("--")} == options


def test_every_metric_is_in_the_table_as_prometheus_is_told():
    told = {family.name: family.documentation for family in _Moment([], []).collect()}
    assert {name: meaning for name, _, meaning in rows(3)} == told
