"""How long `judgeflow report` takes over a long run, and what memory it needs.

The run is made up: see `benchmarks.made_run`; the file is in the page cache, as after a run.  `seconds_1m_decisions` is a whole fresh
process, `judgeflow report --json`, from its start to its end, scaled from `size` decisions to a million, and `rss_mb` the most memory
that it has held.  `first_paint_seconds` is what a page that is opened waits for: `open_survey` and `refresh(deep=False)`, in a process
that has imported them.  `refresh_seconds` is a look at a run in which nothing has happened since.  All are medians of rounds.
`cpu_seconds` is processor time of the fresh process: where others work on the machine it says more than the clock does.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.contest import Contender, contest
from benchmarks.made_run import write_run
from benchmarks.runner import Goal

SIZE = 1_000_000
"""Decisions."""

GOALS = {
    "seconds_1m_decisions": Goal("<=", 10.0),
    "rss_mb": Goal("<=", 500.0),
    "first_paint_seconds": Goal("<=", 0.3),
}

ROUNDS = 3
WHOLE = 1_000_000


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of decisions, the seed draws beliefs and replies."""
    with tempfile.TemporaryDirectory(prefix="judgeflow-report-") as folder:
        path = Path(folder) / "run.db"
        write_run(path, size, seed)
        rounds = [_process(path) for _ in range(ROUNDS + 1)][1:]
        looks = contest({"looks": Contender(function=f"{__name__}:looking", arguments={"path": str(path)})}, ROUNDS)["looks"].measured
    seconds, cpu, rss = (statistics.median(each[name] for each in rounds) for name in ("seconds", "cpu_seconds", "rss_mb"))
    return {
        "seconds_1m_decisions": seconds * WHOLE / size,
        "rss_mb": rss,
        "first_paint_seconds": looks["first_paint_seconds"],
        "refresh_seconds": looks["refresh_seconds"],
        "cpu_seconds": cpu,
    }


def _process(path: Path) -> dict[str, float]:
    """Run the command once in a process of its own."""
    command = (sys.executable, "-m", "judgeflow", "report", "--url", str(path), "--json")
    started = time.perf_counter()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, nowhere, 1)])
    _, status, used = os.wait4(pid, 0)
    os.close(nowhere)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed: {os.waitstatus_to_exitcode(status)}")
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "rss_mb": used.ru_maxrss / 1024}


def looking(path: str) -> object:
    """A contender: looks at a run as a page does that is opened, and then again."""
    return lambda: asyncio.run(_look(path))


async def _look(path: str) -> Mapping[str, float]:
    from judgeflow.report.survey import open_survey

    started = time.perf_counter()
    async with open_survey(path) as survey:
        await survey.refresh(deep=False)
        painted = time.perf_counter()
        await survey.refresh()
        again = time.perf_counter()
        await survey.refresh()
        return {"first_paint_seconds": painted - started, "refresh_seconds": time.perf_counter() - again}
