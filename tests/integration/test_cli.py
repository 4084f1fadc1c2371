"""The command line as a whole."""

import subprocess
import sys

import pytest

from judgeflow import __version__
from judgeflow.cli import main

VERBS = ("route", "db", "fake-judge")


def judgeflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "judgeflow", *arguments], capture_output=True, text=True, timeout=300, check=False)


def test_help_names_every_verb_and_each_verb_explains_itself():
    shown = judgeflow("--help")
    assert shown.returncode == 0
    assert all(verb in shown.stdout for verb in VERBS)
    for verb in VERBS:
        assert judgeflow(verb, "--help").returncode == 0


def test_help_loads_nothing_that_only_work_needs():
    heavy = "torch transformers sqlalchemy alembic aiosqlite aiohttp pydantic tiktoken orjson structlog asyncio"
    script = f"""
import sys
from judgeflow.cli.app import app
try:
    app(["--help"])
except SystemExit:
    pass
print("loaded:", *[name for name in {heavy.split()!r} if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert shown.stdout.splitlines()[-1].strip() == "loaded:"


def test_the_version_is_the_packages():
    assert judgeflow("--version").stdout.strip() == f"judgeflow {__version__}"


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("route",), ("route", "x.jsonl", "--out", "y", "--step-size", "0"), ("db", "explode")]
)
def test_a_wrong_call_exits_2_without_a_traceback(arguments):
    ended = judgeflow(*arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


def test_errors_become_one_message_and_the_exit_code_of_their_kind(monkeypatch, capsys, tmp_path):
    for arguments, code in (
        (["db", "check", "--url", str(tmp_path)], 1),
        (["route", "absent.jsonl", "--out", "o", "--config", "absent.toml"], 2),
    ):
        monkeypatch.setattr(sys, "argv", ["judgeflow", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        assert capsys.readouterr().err.startswith("judgeflow: ")
