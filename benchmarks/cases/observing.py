"""What watching costs: processor seconds of a whole `route()` with each observer, divided by those of one that nobody watches.

All threads count, also those that write or send.  The judge answers at once, in process, and the store is memory: no real call costs
as little, so no real ratio is as large.  Every run opens and closes its observer, which is most of what scalars cost here.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.runner import Goal
from judgeflow import Scheduler
from judgeflow.config import LogConfig, RoutingConfig
from judgeflow.observe.log import file_log
from judgeflow.observe.metrics import MetricsObserver
from judgeflow.observe.scalars import tensorboard_scalars
from judgeflow.observe.tracing import TracingObserver
from judgeflow.ports import Observer
from judgeflow.store import MemoryStore
from judgeflow.testing import ScriptedJudge, arithmetic_pairs

SIZE = 15
"""Rounds."""

PAIRS = 256
GOALS = {"metrics_time_vs_unwatched": Goal("<=", 1.1)}


class _Nowhere(SpanExporter):
    def export(self, spans: object) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of rounds."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        watchers: dict[str, Callable[[], Observer]] = {
            "metrics": MetricsObserver,
            "log": lambda: file_log(LogConfig(), folder / "run.log"),
            "tracing": lambda: TracingObserver(provider),
            "scalars": lambda: tensorboard_scalars(folder),
        }
        contenders = {name: lambda make=make: _route(seed, make()) for name, make in watchers.items()}
        medians = _processor_medians({"unwatched": lambda: _route(seed), **contenders}, size)
    provider.shutdown()
    figures = {f"{name}_time_vs_unwatched": medians[name] / medians["unwatched"] for name in watchers}
    return figures | {"unwatched_seconds_per_call": medians["unwatched"] / (2 * PAIRS)}


def _processor_medians(contenders: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median processor seconds over interleaved rounds, after one to warm up.  Each run begins without garbage of the one before."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            gc.collect()
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def _route(seed: int, *observers: Observer) -> None:
    async def step() -> None:
        parts = {"judge": ScriptedJudge(seed=seed), "routing": RoutingConfig(policy="always"), "observers": observers}
        async with Scheduler(store=MemoryStore(), **parts) as scheduler:
            await scheduler.route(arithmetic_pairs(PAIRS, seed=seed))

    asyncio.run(step())
