"""Contenders of a benchmark: a process each, rounds in turn."""

import os
from pathlib import Path

import pytest

from benchmarks.contest import Contender, contest


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))


def test_rounds_alternate_back_and_forth_between_processes_that_use_every_core(tmp_path):
    path = tmp_path / "rounds"
    found = contest({name: Contender(function="contenders:noted", arguments={"name": name, "path": str(path)}) for name in ("a", "bb")}, 2)
    names, processes, threads = zip(*(line.split() for line in path.read_text().splitlines()), strict=True)
    assert names == ("a", "bb", "bb", "a", "a", "bb")
    assert len(set(processes)) == 2
    assert str(os.getpid()) not in processes
    assert set(threads) == {str(os.cpu_count())}
    assert {name: result.facts for name, result in found.items()} == {"a": {"letters": 1}, "bb": {"letters": 2}}
    assert all(result.seconds > 0 for result in found.values())


def test_a_contender_without_facts_is_a_function():
    assert contest({"only": Contender(function="contenders:plain")}, 1)["only"].facts == {}


def test_a_contender_that_ends_early_is_named():
    with pytest.raises(RuntimeError, match="contender bad ended with exit status 3"):
        contest({"good": Contender(function="contenders:plain"), "bad": Contender(function="contenders:failing")}, 1)
