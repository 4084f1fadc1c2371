"""What scoring costs: pairs a second, the SNGP head over the body alone, and the event loop's lag while a step is scored.

The body has the shape of a 22M-parameter sentence encoder (6 layers, width 384) with random weights; texts are words of random
lengths, about 170 tokens each; D = 1024, single precision.  Both contenders embed the same rows in the same batches; the head's side
compares six pairs for every four rows, as a step of groups of four does.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.bodies import make_scorer, random_groups
from benchmarks.runner import Goal, interleaved_medians

SIZE = 16
"""Groups of four responses; six pairs each."""

ROUNDS = 3

GOALS = {"time_vs_body": Goal("<=", 1.02), "loop_lag_p99_ms": Goal("<=", 50.0)}


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of groups, the seed draws texts and weights."""
    import torch

    torch.manual_seed(seed)
    groups, scorer = random_groups(size, seed), make_scorer()
    pairs = [pair for group in groups for pair in group.pairs()]
    texts = [(group.prompt, (response,)) for group in groups for response in group.responses]
    network, reader, most = scorer._network, scorer._reader, scorer._most_tokens  # noqa: SLF001  # the parts are timed apart
    medians = interleaved_medians({"body": lambda: network.embed(reader.read(texts), most), "score": lambda: scorer.score(pairs)}, ROUNDS)
    lags = asyncio.run(_lags_while(lambda: scorer.score(pairs)))
    rows = reader.read(texts).rows
    return {
        "time_vs_body": medians["score"] / medians["body"],
        "pairs_per_second": len(pairs) / medians["score"],
        "tokens_per_second": sum(map(len, rows)) / medians["score"],
        "loop_lag_p99_ms": 1000 * _quantile(lags, 0.99),
        "loop_lag_median_ms": 1000 * statistics.median(lags),
    }


async def _lags_while(work: Any) -> list[float]:
    """Seconds by which a 5 ms timer is late while `work` runs on a thread, as the engine runs a scorer."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:
        scoring = loop.run_in_executor(executor, work)
        lags = []
        while not scoring.done():
            due = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            lags.append(max(0.0, time.perf_counter() - due))
        await scoring
    return lags


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
