"""The page about the database names every verb of `judgeflow db`, every option of its own and every field of its figures."""

import dataclasses
from pathlib import Path

import pytest
import typer

from judgeflow.cli.db import app
from judgeflow.store.check import checks
from judgeflow.store.engines import database_at
from judgeflow.store.queries import JudgeSummary, RunSummary, Summary

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "database.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands
SHOWN_BY_HELP = {"--vacuum"}


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_and_option_is_documented(verb):
    assert f"| `judgeflow db {verb}` |" in PAGE
    options = {name for option in COMMANDS[verb].params for name in (*option.opts, *option.secondary_opts) if name.startswith("--")}
    assert {name for name in options - SHOWN_BY_HELP if name not in PAGE} == set()


@pytest.mark.parametrize("figures", [Summary, JudgeSummary, RunSummary])
def test_every_figure_of_info_is_documented(figures):
    assert {field.name for field in dataclasses.fields(figures) if f"`{field.name}`" not in PAGE} == set()


def test_the_output_of_check_shows_every_check():
    assert {name for name in checks(database_at("verdicts.db")) if f"ok    {name}: " not in PAGE} == set()
