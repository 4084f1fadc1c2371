"""Contenders side by side: a fresh process each, and rounds that alternate between them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Any

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A contender that is ready: what a round runs, what is done before each, unmeasured, and figures that need no clock.

    A round may return figures of its own, by name.
    """

    run: Callable[[], object]
    before: Callable[[], object] | None = None
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A function named "module:function", and its keyword arguments (what JSON can hold).

    It prepares itself and returns what a round runs: a function without arguments, or `Prepared`.  `python` is the interpreter it runs
    in, where it needs another environment.
    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    python: str = sys.executable


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a contender did: median seconds of a round, of the clock and of its processors, and of the figures that its rounds returned;
    and the figures that it gave when it was ready."""

    seconds: float
    cpu_seconds: float
    measured: Mapping[str, float]
    facts: Mapping[str, float]


def contest(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Result]:
    """Return what every contender did in `rounds`, after one round to warm up; every second round runs in the opposite order.

    One works at a time, with a thread for every core, while the others sleep in a read; they are prepared one after the other too.
    Threads that wait sleep as well: spinning is faster on an idle machine, and up to ten times slower as soon as anybody else works on it.
    Raises `RuntimeError` naming a contender that ends early.
    """
    with ExitStack() as stack:
        workers = {name: stack.enter_context(_start(name, contender)) for name, contender in contenders.items()}
        answers: dict[str, list[Mapping[str, float]]] = {name: [] for name in workers}
        for number in range(rounds + 1):
            for name in reversed(workers) if number % 2 else workers:
                answers[name].append(workers[name].round())
        return {name: _result(answers[name][1:], worker.facts) for name, worker in workers.items()}


def _result(answers: Sequence[Mapping[str, float]], facts: Mapping[str, float]) -> Result:
    medians = {name: statistics.median(answer[name] for answer in answers) for name in answers[0]}
    return Result(seconds=medians.pop("seconds"), cpu_seconds=medians.pop("cpu_seconds"), measured=medians, facts=facts)


@contextmanager
def _start(name: str, contender: Contender) -> Iterator[_Worker]:
    """Start a process that ends with the block."""
    command = [contender.python, "-m", "benchmarks.worker", contender.function, json.dumps(dict(contender.arguments))]
    environment = os.environ | {"OMP_NUM_THREADS": str(os.cpu_count() or 1), "OMP_WAIT_POLICY": "passive"}
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as process:
        try:
            yield _Worker(name, process)
        finally:
            process.kill()


class _Worker:
    """The process of one contender, once it is ready."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name = name
        self._process = process
        self.facts: Mapping[str, float] = self._answer()

    def round(self) -> Mapping[str, float]:
        """Have it run once and return what that took, by its own clocks, and what the round returned."""
        assert self._process.stdin is not None  # for the type checker
        self._process.stdin.write("go\n")
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None  # for the type checker
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"contender {self._name} ended with exit status {self._process.wait()}; its error stands above")
        answer: dict[str, float] = json.loads(line)
        return answer
