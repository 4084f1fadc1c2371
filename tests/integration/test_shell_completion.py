"""Completion as shells ask for it; bash is asked itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
# Bash sets these variables and calls the function when somebody presses Tab behind the last word.
PRESS_TAB = """
eval "$(judgeflow --show-completion)"
complete -p judgeflow >&2
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_judgeflow_completion judgeflow
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def offered(*words):
    script = PRESS_TAB.format(words=" ".join(f"'{word}'" for word in ("judgeflow", *words)))
    done = subprocess.run(["bash", "--norc", "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=True)
    assert "-o default" in done.stderr  # where nothing is offered, bash completes names of files
    return done.stdout.split()


def test_bash_is_offered_verbs_and_choices_and_files_where_there_are_none():
    assert offered("rep") == ["replay", "report"]
    assert offered("train", "pairs.jsonl", "--uncertainty", "l") == ["last-layer-laplace"]
    assert offered("route", "pa") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "there"),
    [
        (("db", ""), ["upgrade", "check", "info", "reparse", "merge", "compact"]),
        (("replay", "d.db", "--po"), ["--policy"]),
        (("replay", "d.db", "--policy", "un"), ["uncertainty"]),
        (("route", "pairs.jsonl", "--set", "limits.req"), ["limits.requests_per_minute="]),
        (("import", "judged.jsonl", "--template", "verdict-"), ["verdict-abc", "verdict-scale"]),
        (("score", "pairs.jsonl", "--format", "rewardbench"), ["rewardbench", "rewardbench2"]),
    ],
)
def test_bash_is_offered_sub_verbs_options_and_names(words, there):
    assert offered(*words) == there


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_offered_the_same_with_what_it_is_for(shell):
    asked = {"_JUDGEFLOW_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": "judgeflow rou", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(["judgeflow"], env=ENVIRONMENT | asked, capture_output=True, text=True, timeout=300, check=True)
    assert "route" in done.stdout
    assert "Route a file of pairs to stored verdicts and the judge" in done.stdout


@pytest.mark.slow
def test_completion_is_installed_where_bash_looks_for_it(tmp_path):
    subprocess.run(["bash", "--norc", "-c", "judgeflow --install-completion; true"], env=ENVIRONMENT | {"HOME": str(tmp_path)}, check=True)
    assert "complete -o default" in (tmp_path / ".bash_completions" / "judgeflow.sh").read_text()
    assert ".bash_completions" in (tmp_path / ".bashrc").read_text()


def test_asking_for_a_choice_loads_nothing_that_only_work_needs():
    script = """
import os, sys
os.environ |= {"_JUDGEFLOW_COMPLETE": "complete_bash", "COMP_WORDS": "judgeflow train --uncertainty s", "COMP_CWORD": "3"}
sys.argv = ["judgeflow"]
from judgeflow.cli import main
try:
    main()
except SystemExit:
    pass
print([name for name in ("torch", "sqlalchemy", "aiohttp", "numpy", "asyncio", "rich.progress") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split("\n")[:2] == ["sngp", "[]"]
