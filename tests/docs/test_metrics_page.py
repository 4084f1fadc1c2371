"""docs/metrics.md and the dashboard name exactly the metrics, scalars and attributes that there are."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from judgeflow import Scheduler
from judgeflow.config import BudgetConfig, Config, RoutingConfig
from judgeflow.observe.grafana import dashboard
from judgeflow.observe.metrics import MetricsObserver
from judgeflow.observe.scalars import PREFIX, scalars
from judgeflow.observe.tracing import TracingObserver
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, ScriptedJudge, Watcher, arithmetic_pairs

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
ROUTING = RoutingConfig(policy="error", threshold=0.2, audit_fraction=0.3)
BUDGET = BudgetConfig(requests=500, tokens=10**7, usd=5.0)
FUNCTIONS = {"sum", "min", "max", "time", "rate", "increase", "histogram_quantile"}


async def watched(*observers):
    """A step in which everything that is watched has a value, told to the observers."""
    pairs = arithmetic_pairs(60)
    parts = {"judge": ScriptedJudge(faults=["429", "ok"]), "scorer": FakeScorer(pairs), "routing": ROUTING, "budget": BUDGET}
    scheduler = Scheduler(store=MemoryStore(), observers=observers, **parts)
    await scheduler.open()
    await scheduler.route(pairs)
    return scheduler


@pytest.fixture
async def families():
    """What a registry exports of a run in which everything has a value, by the name that stands in the page."""
    metrics = MetricsObserver()
    scheduler = await watched(metrics)
    metrics.notice("budget_spent")
    suffixes = {"counter": "_total", "info": "_info"}
    found = {family.name + suffixes.get(family.type, ""): family for family in metrics.registry.collect()}
    await scheduler.aclose()
    return found


def labels_of(family):
    return {label for sample in family.samples for label in sample.labels} - {"le"}


def queries():
    """Every PromQL expression of the dashboard."""
    return [target["expr"] for panel in json.loads(dashboard())["panels"] for target in panel.get("targets", ())]


def choices():
    """What the choice of a process is made from."""
    return [variable["query"]["query"] for variable in json.loads(dashboard())["templating"]["list"] if variable["type"] == "query"]


def names_in(promql):
    """The metrics that an expression reads, as they are called in the page."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|by \([^)]*\)', " ", promql)
    words = set(re.findall(r"[a-zA-Z_]\w*", bare)) - FUNCTIONS
    return {re.sub(r"_(bucket|sum|count)$", "", word) for word in words}


def test_every_metric_is_documented_with_its_type_labels_and_meaning(families):
    rows = re.findall(r"^\| `(judgeflow_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    assert {name: (kind, set(re.findall(r"\w+", labels)), meaning) for name, kind, labels, meaning in rows} == {
        name: (family.type, labels_of(family), family.documentation) for name, family in families.items()
    }


def test_every_metric_of_the_dashboard_is_one_that_is_exported_and_every_metric_is_on_it(families):
    used = {name for promql in queries() for name in names_in(promql)}
    used |= {name for choice in choices() for name in re.findall(r"label_values\((\w+), instance\)", choice)}
    assert used == set(families)


def test_every_label_that_the_dashboard_selects_or_sums_by_is_one_of_the_metric(families):
    for promql in queries():
        known = {"instance", "le"}.union(*(labels_of(families[name]) for name in names_in(promql)))
        selected = re.findall(r"(\w+)(?:=~|!=|=)\"", promql)
        summed = [label for group in re.findall(r"by \(([^)]*)\)", promql) for label in re.findall(r"\w+", group)]
        assert selected
        assert set(selected) | set(summed) <= known, promql


def test_every_panel_says_what_it_shows_and_in_which_unit():
    panels = [panel for panel in json.loads(dashboard())["panels"] if panel["type"] != "row"]
    assert len(panels) > 15
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["legendFormat"] for target in panel["targets"])
    places = [tuple(panel["gridPos"].values()) for panel in panels]
    assert len(set(places)) == len({panel["id"] for panel in panels}) == len(panels)


def test_the_alerts_of_the_page_read_metrics_that_are_exported(families):
    (rules,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    used = set(re.findall(r"judgeflow_\w+", rules))
    assert len(used) == 5
    assert used <= set(families)


def test_the_dashboard_is_part_of_the_package():
    printed = subprocess.run([sys.executable, "-m", "judgeflow.observe.grafana"], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed)["title"] == "judgeflow"
    assert "python -m judgeflow.observe.grafana" in PAGE


async def test_every_scalar_is_documented():
    seen = Watcher()
    scheduler = await watched(seen)
    await scheduler.aclose()
    table = PAGE.partition("## TensorBoard")[2].partition("## OpenTelemetry")[0]
    assert set(re.findall(r"`(judgeflow/[\w/]+)`", table)) == {f"{PREFIX}/{tag}" for tag in scalars(seen.steps[0])}


async def test_every_attribute_of_a_span_is_documented():
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    scheduler = await watched(TracingObserver(provider))
    await scheduler.aclose()
    rows = dict(re.findall(r"^\| `(judgeflow\.step|chat MODEL)` \| \w+ \| (.*?) \|$", PAGE, re.MULTILINE))
    for span in spans.get_finished_spans():
        row = rows["chat MODEL" if span.name.startswith("chat ") else span.name]
        named = set(re.findall(r"`([\w.]+)`", row)) | {f"judgeflow.pairs.{source}" for source in ("judge", "store", "scorer", "fallback")}
        assert set(span.attributes) <= named


def test_the_configurations_of_the_page_are_valid():
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    written = [tomllib.loads(block) for block in blocks]
    assert [list(block) for block in written] == [["metrics"], ["log"], ["tracing"]]
    for block in written:
        Config.model_validate({"judge": {"model": "m"}, "routing": {"policy": "always"}} | block)


def test_the_program_of_the_page_runs():
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-W", "error", "-c", code + "\nassert b'judgeflow_steps_total' in body"], check=True, timeout=300)
