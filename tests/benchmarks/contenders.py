"""Contenders for the tests of contests."""

import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.contest import Prepared


def noted(name: str, path: str) -> Prepared:
    """Write its name and process to a file, once for each round, and print what nobody should take for an answer."""

    def run() -> None:
        print("not an answer")  # noqa: T201  # what a library might do
        with Path(path).open("a") as stream:
            stream.write(f"{name} {os.getpid()} {os.environ['OMP_NUM_THREADS']}\n")

    return Prepared(run=run, facts={"letters": len(name)})


def plain() -> Callable[[], object]:
    """Return a round without facts."""
    return lambda: sum(range(1000))


def failing() -> Callable[[], object]:
    """End while preparing."""
    raise SystemExit(3)
