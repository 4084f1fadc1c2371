"""What machines ask: whether the server lives and can read its database, and the figures of all runs for Prometheus.

The metrics that a training process serves itself move with every reply; these come from the database, so they outlive the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from judgeflow.errors import StoreError
from judgeflow.report.figures import RunFigures
from judgeflow.store.runs import PACES
from judgeflow.web.desk import Desk, RunHead
from judgeflow.web.service import Service

KINDS = ("requests", "tokens", "usd")


def vital_routes(desk: Desk, service: Service | None) -> list[web.RouteDef]:
    """Return the routes that machines ask."""

    async def alive(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def able(_request: web.Request) -> web.StreamResponse:
        if service is not None and not service.is_open:
            return web.Response(text="the service is being closed\n", status=503)
        try:
            await desk.runs()
        except StoreError:  # what it is in detail is for those who may look
            return web.Response(text="the database cannot be read\n", status=503)
        return web.Response(text="ok\n")

    async def metrics(request: web.Request) -> web.StreamResponse:
        heads = await desk.runs()
        registry = CollectorRegistry()
        registry.register(_Moment(heads, await desk.recent_figures(heads)))
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": kind})

    return [web.get("/healthz", alive), web.get("/readyz", able), web.get("/metrics", metrics)]


class _Moment(Collector):
    """The metrics of one moment."""

    def __init__(self, heads: Iterable[RunHead], figures: Iterable[RunFigures]) -> None:
        self._metrics = [*_of_runs(heads), *_of_judges(figures)]

    def collect(self) -> Iterable[Metric]:
        return self._metrics

    def describe(self) -> Iterable[Metric]:
        return self._metrics


def _of_runs(heads: Iterable[RunHead]) -> list[Metric]:
    spent = _gauge("run_spent", "What a run has spent: paid replies, tokens, US dollars.", "run", "kind")
    reserved = _gauge("run_reserved", "What a run has put aside for questions under way, at their worst case.", "run", "kind")
    left = _gauge("run_budget_left", "What is left of a run's budget, where there is one.", "run", "kind")
    steps = _gauge("run_steps", "Steps of a run that have ended.", "run")
    last = _gauge("run_last_step", "The step of a run that ended last.", "run")
    active = _gauge("run_active_timestamp_seconds", "When a run was last seen at work.", "run")
    pace = _gauge("run_pace", "1 for what a run is: running, quiet, interrupted or finished.", "run", "pace")
    for head in heads:
        run = head.run
        for kind in KINDS:
            used, held = getattr(run.spent, kind), getattr(run.reserved, kind)
            spent.add_metric([run.name, kind], used)
            reserved.add_metric([run.name, kind], held)
            limit = _limit(run.config, kind)
            if limit is not None:
                left.add_metric([run.name, kind], limit - used - held)
        steps.add_metric([run.name], head.state.steps)
        if head.state.last_step is not None:
            last.add_metric([run.name], head.state.last_step)
        active.add_metric([run.name], head.state.active_at)
        for name in PACES:
            pace.add_metric([run.name, name], float(name == head.pace))
    return [spent, reserved, left, steps, last, active, pace]


def _of_judges(figures: Iterable[RunFigures]) -> list[Metric]:
    replies = _gauge("run_replies", "Replies of a judge in one of the latest runs, by how they were read.", "run", "judge", "status")
    agree = _gauge("run_orders_agree_ratio", "Share of pairs on which a judge's two orders agree.", "run", "judge")
    for run in figures:
        for judge in run.judges:
            for status, number in judge.statuses.items():
                replies.add_metric([run.name, judge.id, status], number)
            if judge.agree is not None:
                agree.add_metric([run.name, judge.id], judge.agree.value)
    return [replies, agree]


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"judgeflow_{name}", meaning, labels=labels)


def _limit(config: Mapping[str, object], kind: str) -> float | None:
    budget = config.get("budget")
    limit = budget.get(kind) if isinstance(budget, Mapping) else None
    return limit if isinstance(limit, int | float) else None
