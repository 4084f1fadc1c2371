"""A strict judge in a process of its own: it counts in its own sliding windows, by its own clock.

`python -m benchmarks.strict_judge SETTINGS` (a JSON object) prints its base_url; then every line of standard input is a command: "stats"
prints what it has counted as one line of JSON, {"requests_per_minute": 60} changes that limit.  It ends with standard input.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from judgeflow.testing import FakeJudge, JudgeLimits, Opinions
from judgeflow.testing.opinions import Asked

_ROOT = Path(__file__).parent.parent


class Wordy:
    """A speaker whose replies vary in length: lognormal, with half of them below `median` words."""

    def __init__(self, median: float, spread: float, seed: int) -> None:
        self._opinions = Opinions(seed=seed)
        self._median, self._spread, self._seed = median, spread, seed

    def reply(self, asked: Asked) -> str:
        """See `Speaker.reply`."""
        dice = random.Random(f"{self._seed} {asked.question}")
        words = int(self._median * dice.lognormvariate(0.0, self._spread))
        return "well " * words + self._opinions.reply(asked)


class StrictJudge:
    """The process, as the benchmark sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None  # for the type checker
        assert process.stdout is not None
        self._commands: IO[str] = process.stdin
        self._answers: IO[str] = process.stdout
        self.base_url = self._answers.readline().strip()
        if not self.base_url:
            raise RuntimeError("the strict judge ended before it listened; its error stands above")

    def stats(self) -> dict[str, Any]:
        """Return everything that it has counted."""
        self._say("stats")
        found: dict[str, Any] = json.loads(self._answers.readline())
        return found

    def change(self, **limits: int) -> None:
        """Have it admit by other limits from now on."""
        self._say(json.dumps(limits))

    def _say(self, command: str) -> None:
        self._commands.write(command + "\n")
        self._commands.flush()


@contextmanager
def strict_judge(settings: Mapping[str, Any]) -> Iterator[StrictJudge]:
    """Run a judge in another process for as long as the block lasts."""
    command = [sys.executable, "-m", "benchmarks.strict_judge", json.dumps(dict(settings))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        try:
            yield StrictJudge(process)
        finally:
            process.kill()


async def serve(settings: Mapping[str, Any]) -> None:
    """Judge, and do what standard input says until it ends."""
    limits = JudgeLimits(**settings["limits"])
    seed = settings.get("seed", 0)
    speaker = Wordy(settings.get("median_words", 0.0), settings.get("spread", 0.0), seed)
    async with FakeJudge(speaker, limits=limits, latency=settings.get("latency", 0.0), seed=seed) as judge:
        print(judge.base_url, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip() == "stats":
                print(json.dumps(judge.stats() | {"questions": {}}), flush=True)
            else:
                limits = replace(limits, **json.loads(line))
                judge.change_limits(limits)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
