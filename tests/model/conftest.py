"""A real, small scorer, trained once for all tests of this folder."""

import sys
from dataclasses import dataclass

import pytest
import torch
from sizes import QUICK, SMALL

from judgeflow.cli import main
from judgeflow.cli.demo.tasks import routed_pairs, training_pairs
from judgeflow.model.train import train

# One thread: small matrices gain nothing from more, and threads that wait for each other crawl on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def learned():
    return training_pairs(3000, seed=0)


@pytest.fixture(scope="session")
def unseen(learned):
    return routed_pairs(200, 1, without={pair.prompt for pair in learned})


@pytest.fixture(scope="session")
def trained(tmp_path_factory, learned):
    """(folder, scorer, report) of one training run."""
    folder = tmp_path_factory.mktemp("scorer") / "scorer"
    scorer, report = train(learned, folder, model=SMALL, training=QUICK, device="cpu")
    return folder, scorer, report


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Run one command line in this process."""

    def command(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["judgeflow", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err)

    return command
