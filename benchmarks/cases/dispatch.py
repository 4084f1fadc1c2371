"""Judged calls a second through the whole of `route()`, against clients that only make the HTTP call.

The judge is another process that answers at once; 64 requests are in flight, of 2 KB each, with replies of 1 KB.  Ours is keys, plan,
budget, limits, both orders, the call, parsing and every reply committed to a database file; `raw_aiohttp`, `openai.AsyncOpenAI` and
`litellm.acompletion` make the call and read the reply's text.  `throughput_vs_*` is our calls a second over theirs, `cpu_ms_per_call*`
the processor time of the client's process, and `loop_lag_p99_ms*` how late its loop wakes a sleeper while it works.

openai and litellm live in an environment of their own, since they hold back versions of what others need: name its interpreter in
JUDGEFLOW_PEERS (`python -m venv peers && peers/bin/pip install openai litellm aiohttp orjson`).
"""

from __future__ import annotations

from benchmarks.contest import Contender, Result, contest
from benchmarks.peers import absence, peers
from benchmarks.quick_judge import quick_judge
from benchmarks.runner import Finding, Goal

SIZE = 5
"""Rounds."""

GOALS = {
    "throughput_vs_raw_aiohttp": Goal(">=", 0.4),
    "throughput_vs_litellm": Goal(">=", 10.0),
    "throughput_vs_openai": Goal(">=", 8.0),
    "loop_lag_p99_ms": Goal("<=", 50.0),
}

CALLS = 2000
"""Of each client in a round."""


def measure(size: int, seed: int) -> Finding:
    """Return the figures; `size` is the number of rounds, the seed draws the texts."""
    missing = {name: reason for name in ("litellm", "openai") if (reason := absence(name))}
    with quick_judge() as base_url:
        arguments = {"base_url": base_url, "calls": CALLS, "seed": seed}
        contenders = {
            name: Contender(function=f"benchmarks.clients:{name}", arguments=arguments) for name in ("judgeflow", "raw_aiohttp")
        } | {
            name: Contender(function=f"benchmarks.clients:{name}", arguments=arguments, python=peers())
            for name in ("litellm", "openai")
            if name not in missing
        }
        results = contest(contenders, size)
    return Finding(figures=_figures(results), missing={f"throughput_vs_{name}": reason for name, reason in missing.items()})


def _figures(results: dict[str, Result]) -> dict[str, float]:
    ours = results["judgeflow"]
    figures = {f"throughput_vs_{name}": result.seconds / ours.seconds for name, result in results.items() if result is not ours}
    for name, result in results.items():
        suffix = "" if result is ours else f"_{name}"
        figures[f"calls_per_second{suffix}"] = CALLS / result.seconds
        figures[f"cpu_ms_per_call{suffix}"] = 1000 * result.cpu_seconds / CALLS
        figures[f"loop_lag_p99_ms{suffix}"] = result.measured["loop_lag_p99_ms"]
    return figures
