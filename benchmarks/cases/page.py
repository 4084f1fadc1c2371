"""Whether the live page slows the run down that it shows: the same `route()` with people looking on, and without.

The judge is that of the case `dispatch`: it answers at once, so the run takes all the processor it gets.  Looking on are four pages that
follow the run, and a reader who goes through runs, steps, judges and searches ten times a second; the page is `judgeflow serve` in
another process, on the same database.  `throughput_with_page_vs_without` is calls a second with them over calls a second without,
`loop_lag_p99_ms*` how late the run's event loop wakes a sleeper.
"""

from __future__ import annotations

from benchmarks.contest import Contender, contest
from benchmarks.quick_judge import quick_judge
from benchmarks.runner import Goal

SIZE = 5
"""Rounds."""

GOALS = {"throughput_with_page_vs_without": Goal(">=", 0.9), "loop_lag_p99_ms_with_page": Goal("<=", 50.0)}

CALLS = 2000
"""Of each contender in a round."""


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of rounds, the seed draws the texts."""
    with quick_judge() as base_url:
        arguments = {"base_url": base_url, "calls": CALLS, "seed": seed}
        functions = {"without": "benchmarks.clients:judgeflow", "with_page": "benchmarks.onlookers:watched"}
        results = contest({name: Contender(function=function, arguments=arguments) for name, function in functions.items()}, size)
    alone, watched = results["without"], results["with_page"]
    return {
        "throughput_with_page_vs_without": alone.seconds / watched.seconds,
        "calls_per_second_without": CALLS / alone.seconds,
        "calls_per_second_with_page": CALLS / watched.seconds,
        "loop_lag_p99_ms_without": alone.measured["loop_lag_p99_ms"],
        "loop_lag_p99_ms_with_page": watched.measured["loop_lag_p99_ms"],
        "pages_shown_per_second": watched.measured["pages_shown"] / watched.seconds,
    }
