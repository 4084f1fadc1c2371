"""docs/replay.md says what is true: its blocks make the files, its commands print what it shows, every option stands in the table."""

import os
import re
import subprocess
import sys
from pathlib import Path

import typer

from judgeflow.cli.replay import replay

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def lines(text):
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_page_shows_what_its_commands_print(tmp_path):
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", "".join(blocks("python"))], cwd=tmp_path, env=environment, check=True, timeout=300)
    for block in blocks("console"):
        command, _, shown = block.removeprefix("$ ").partition("\n")
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, timeout=300, check=True)
        assert lines(done.stdout.decode()) == lines(shown)


def test_every_option_stands_in_the_table():
    app = typer.Typer(add_completion=False)
    app.command()(replay)
    options = {each.opts[0]: each.help for each in typer.main.get_command(app).params if each.opts[0].startswith("--")}
    assert dict(re.findall(r"^\| `(--[\w-]+)` \| (.*) \|$", PAGE, re.MULTILINE)) == options


def test_the_readme_shows_the_end_of_what_the_page_shows():
    shown = re.search(r"^```text replay\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)[1]
    assert lines(blocks("console")[0])[-len(lines(shown)) :] == lines(shown)
