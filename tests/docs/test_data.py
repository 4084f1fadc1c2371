"""docs/data.md says what is true: its commands run in order and print what it shows, and every option stands in a table."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from judgeflow.cli.export import export
from judgeflow.cli.import_ import import_
from judgeflow.exchange.preferences import preference_columns

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def lines(text):
    return [line.rstrip() for line in text.strip().splitlines()]


def test_every_command_on_the_page_prints_what_the_page_shows(tmp_path):
    (tmp_path / "judged.jsonl").write_text(blocks("jsonl")[0], encoding="utf-8")
    parts = re.split(r"^\$ (.*)\n", "".join(blocks("console")), flags=re.MULTILINE)[1:]
    script = "set -e\n" + "".join(f"printf '\\036'\n{command}\n" for command in parts[::2])
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    printed = [lines(output) for output in done.stdout.split("\036")[1:]]
    assert printed == [lines(output) for output in parts[1::2]]
    assert len(printed) == 5


@pytest.mark.parametrize("verb", [import_, export])
def test_every_option_stands_in_its_table(verb):
    app = typer.Typer(add_completion=False)
    app.command()(verb)
    command = typer.main.get_command(app)
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts) if option.startswith("--")}
    table = PAGE.partition(f"| option of `{command.name.strip('-')}` |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(--[a-z-]+)", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE)))) == options - {"--help"}


def test_every_field_of_a_pair_is_documented():
    table = PAGE.partition("| field of a pair |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert named == set(preference_columns("text"))
