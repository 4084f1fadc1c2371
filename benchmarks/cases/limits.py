"""How much of a judge's rate limits a long run uses, and whether it ever passes them, counted by the judge in its own sliding windows.

The judge runs in another process, is reached over HTTP, and turns away whatever does not fit the last minute by its own clock.  Whole
`route()` calls ask it: plan, limits, dispatch, parse, commit.  `--size` is the length of a run in windows; all runs are under way at the
same time, each with a judge of its own.

Shares are the judge's window as it was filled on average, from the end of the first window to the last request.  What is kept on this
side is the window and a margin of a 120th against network jitter, so 0.9917 is the most that a share can be.

    requests    a limit on requests, with a paced start; so are the two on tokens
    burst       the same limit, with whole windows at once: as far as this machine can send one at once
    reserved    a limit on tokens; the judge charges prompt + max_completion_tokens on arrival
    actual      a limit on tokens; the judge charges what is really used, and replies vary in length (lognormal, sigma 0.6)
    hidden      the judge admits half of the configured requests at first and says so by bare 429s only; half way it admits them all
    told        the same, but 429s and replies carry the usual headers

`violations` counts what the judge turned away where the settings are right, `provoked_429` what it turned away for each hundred requests
that it admitted while its limit was the hidden one; `recovery_windows` is how long after that limit was lifted it had admitted nine
tenths of a whole window.

The judge counts a request when its process comes to read it.  On a machine that is busy with something else that may take seconds, which
is then a delay of the network's beyond the margin, and what is turned away for it counts as a violation: run it on an idle one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.runner import Finding, Goal, table
from benchmarks.strict_judge import StrictJudge, strict_judge
from judgeflow.build import build_scheduler
from judgeflow.config import Config, LimitsConfig
from judgeflow.testing import arithmetic_pairs
from judgeflow.types import Pair

SIZE = 10
"""Windows in a run."""

GOALS = {
    "share_of_requests_used": Goal(">=", 0.99),
    "share_of_tokens_used_reserved": Goal(">=", 0.99),
    "share_of_tokens_used_actual": Goal(">=", 0.95),
    "violations": Goal("<=", 0),
}

MINUTE_S = 60.0
WINDOW_S = MINUTE_S
"""Length of a window; limits are scaled to it, so a shorter one has fewer requests in it, and as many a second."""

REQUESTS = 200
TOKENS = 600_000
LONGEST_REPLY = 256
IN_FLIGHT = 512
"""More than are ever under way: nothing but the limits shall hold questions back."""

LATENCY = "uniform:0.5:2.5"
WORDS = 20.0
POLLS = 40
"""How often a window is looked at while it fills again."""

RECOVERED = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, by the minute: our [limits], the judge's where they differ, and how many questions fill more than a window.

    `lifted`: the judge's limit becomes the configured one half way.
    """

    limits: Mapping[str, Any]
    judge: Mapping[str, Any] = field(default_factory=dict)
    questions: int = REQUESTS
    lifted: bool = False


HALF = REQUESTS // 2
RUNS = {
    "requests": Run(limits={"requests_per_minute": REQUESTS, "start": "paced"}),
    "burst": Run(limits={"requests_per_minute": REQUESTS}),
    "reserved": Run(limits={"tokens_per_minute": TOKENS, "charge": "reserved", "start": "paced"}, questions=980),
    "actual": Run(limits={"tokens_per_minute": TOKENS // 2, "charge": "actual", "start": "paced"}, questions=680),
    "hidden": Run(limits={"requests_per_minute": REQUESTS}, judge={"requests_per_minute": HALF, "headers": False}, lifted=True),
    "told": Run(limits={"requests_per_minute": REQUESTS}, judge={"requests_per_minute": HALF}, lifted=True),
}


def measure(size: int, seed: int) -> Finding:
    """Return the figures; `size` is the number of windows (at least 4), the seed draws pairs, latencies and lengths."""
    size = max(4, size)
    with ProcessPoolExecutor(len(RUNS), mp_context=multiprocessing.get_context("spawn")) as pool:
        found = dict(zip(RUNS, pool.map(perform, RUNS, *([value] * len(RUNS) for value in (size, seed, WINDOW_S))), strict=True))
    right = [facts for name, facts in found.items() if not RUNS[name].lifted]
    figures = {
        "share_of_requests_used": found["requests"]["share_requests"],
        "share_of_tokens_used_reserved": found["reserved"]["share_tokens"],
        "share_of_tokens_used_actual": found["actual"]["share_tokens"],
        "share_of_requests_used_in_bursts": found["burst"]["share_requests"],
        "violations": sum(facts["turned_away"] for facts in right),
        "provoked_429": found["hidden"]["turned_away_per_hundred"],
        "provoked_429_told": found["told"]["turned_away_per_hundred"],
        "recovery_windows": found["hidden"]["recovery_windows"],
        "recovery_windows_told": found["told"]["recovery_windows"],
    }
    rows = [[name, *(f"{facts[key]:.4g}" for key in _SHOWN)] for name, facts in found.items()]
    return Finding(figures=figures, tables=table(["run", *_SHOWN], rows), details=found)


_SHOWN = ("admitted", "turned_away", "share_requests", "share_tokens", "peak_requests", "peak_tokens")


def perform(name: str, size: int, seed: int, window_s: float) -> dict[str, float]:
    """Do one run of `size` windows and return what its judge has counted."""
    run = RUNS[name]
    ours = _scaled(run.limits, window_s)
    theirs = {key: value for key, value in (ours | _scaled(run.judge, window_s)).items() if key != "start"}
    settings = {"limits": theirs, "latency": LATENCY, "median_words": WORDS, "spread": 0.6, "seed": seed}
    pairs = arithmetic_pairs((size + 1) * round(run.questions * window_s / MINUTE_S) // 2, seed)
    with TemporaryDirectory() as folder, strict_judge(settings) as judge:
        config = Config.model_validate(
            {
                "judge": {"base_url": judge.base_url, "model": "fake-judge", "max_completion_tokens": LONGEST_REPLY},
                "limits": ours | {"max_in_flight": IN_FLIGHT},
                "routing": {"policy": "always"},
                "store": {"url": str(Path(folder) / "verdicts.db")},
            }
        )
        return asyncio.run(_drive(config, judge, pairs, size if run.lifted else 0, size * window_s))


def _scaled(limits: Mapping[str, Any], window_s: float) -> dict[str, Any]:
    """Limits of a minute as those of a window that is `window_s` long."""
    scaled = {key: round(value * window_s / MINUTE_S) if key.endswith("_per_minute") else value for key, value in limits.items()}
    return scaled | {"window_s": window_s}


async def _drive(config: Config, judge: StrictJudge, pairs: Sequence[Pair], lifted: int, seconds: float) -> dict[str, float]:
    """Route for so many seconds; with `lifted` windows in them, lift the judge's limit half way."""
    async with build_scheduler(config) as scheduler:
        began = time.monotonic()
        asking = asyncio.ensure_future(scheduler.route(pairs))
        lifting = await _lift(judge, lifted, config.limits) if lifted else {}
        await asyncio.wait([asking], timeout=seconds - (time.monotonic() - began))
        scheduler.stop()
        await asking
    return _counted(judge.stats()) | lifting


async def _lift(judge: StrictJudge, size: int, limits: LimitsConfig) -> dict[str, float]:
    """Admit everything that is configured after half of the run; return what that half provoked, and how long a window took to fill."""
    requests, window_s = limits.requests_per_minute or 0, limits.window_s
    await asyncio.sleep(size // 2 * window_s)
    before = _counted(judge.stats())
    judge.change(requests_per_minute=requests)
    began = time.monotonic()
    while (waited_s := time.monotonic() - began) < (size - size // 2 - 1) * window_s:
        if _counted(judge.stats())["admitted"] - before["admitted"] >= RECOVERED * requests:
            break
        await asyncio.sleep(window_s / POLLS)
    return {
        "turned_away_per_hundred": 100 * before["turned_away"] / max(1.0, before["admitted"]),
        "recovery_windows": waited_s / window_s,
    }


def _counted(stats: Mapping[str, Any]) -> dict[str, float]:
    (key,) = stats["keys"].values() or [{}]
    shown = {name: float(key.get(name, 0.0)) for name in _SHOWN}
    return shown | {"admitted": float(stats["requests"] - stats["provoked_429"]), "turned_away": float(stats["provoked_429"])}
