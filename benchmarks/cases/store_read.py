"""A step whose every verdict is stored: `route()` against reading the same rows with plain sqlite3, and against other libraries' caches.

256 prompts with four responses each, 1,536 pairs, asked about in both orders by a real scheduler: 3,072 replies of 1 KB in a database
file.  Ours is then the whole of `route()`, which asks nothing: hashing, the read, verdicts, the plan, and the decisions and statistics
of the step committed.  `raw_sqlite` hashes the same keys with hashlib and reads all columns of the same rows, in one statement (SQLite
takes 32,766 variables).  The judge always prefers what it is shown first, so the verdicts contradict themselves.  `litellm_cache` and
`inspect_cache` are one cached completion after the other: `litellm.completion` with its disk cache, and inspect_ai's
`generate(cache=True)`.

litellm and inspect_ai live in an environment of their own, named by JUDGEFLOW_PEERS.  litellm 1.110 has no disk cache any more
(`python -m venv peers && peers/bin/pip install litellm==1.80.0 diskcache inspect_ai`).  All are warm.
"""

from __future__ import annotations

import tempfile

from benchmarks.contest import Contender, Result, contest
from benchmarks.peers import absence, peers
from benchmarks.quick_judge import quick_judge
from benchmarks.replays import fill
from benchmarks.runner import Finding, Goal

SIZE = 5
"""Rounds."""

GOALS = {
    "time_vs_raw_sqlite": Goal("<=", 2.5),
    "time_vs_litellm_cache": Goal("<=", 0.1),
    "time_vs_inspect_cache": Goal("<=", 0.1),
}

PROMPTS = 256

LIBRARIES = {"litellm_cache": ("litellm", "diskcache"), "inspect_cache": ("inspect_ai",)}


def measure(size: int, seed: int) -> Finding:
    """Return the figures; `size` is the number of rounds, the seed draws the texts."""
    missing = {name: reason for name, libraries in LIBRARIES.items() if (reason := absence(*libraries))}
    with tempfile.TemporaryDirectory(prefix="judgeflow-store-read-") as folder:
        with quick_judge() as base_url:
            fill(base_url, folder, PROMPTS, seed)
        step = {"folder": folder, "prompts": PROMPTS, "seed": seed}
        contenders = {name: Contender(function=f"benchmarks.replays:{name}", arguments=step) for name in ("judgeflow", "raw_sqlite")} | {
            name: Contender(function=f"benchmarks.replays:{name}", arguments=step, python=peers())
            for name in LIBRARIES
            if name not in missing
        }
        results = contest(contenders, size)
    return Finding(figures=_figures(results), missing={f"time_vs_{name}": reason for name, reason in missing.items()})


def _figures(results: dict[str, Result]) -> dict[str, float]:
    ours = results["judgeflow"]
    figures = {f"time_vs_{name}": ours.seconds / result.seconds for name, result in results.items() if result is not ours}
    figures |= {f"cpu_vs_{name}": ours.cpu_seconds / result.cpu_seconds for name, result in results.items() if result is not ours}
    return figures | {f"ms_{name}": 1000 * result.seconds for name, result in results.items()}
