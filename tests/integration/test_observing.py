"""A running engine as Prometheus, OpenTelemetry, TensorBoard and the readers of its log see it: on real parts."""

import asyncio
import gc
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import weakref

import pytest
from held import HeldJudge, held, held_port
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client.parser import text_string_to_metric_families

from judgeflow import Scheduler
from judgeflow.build import build_scheduler
from judgeflow.config import Config, JudgeConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import ConfigurationError, UsageError
from judgeflow.judges.client import HttpJudge
from judgeflow.observe.metrics import MetricsObserver, exposition
from judgeflow.observe.tracing import KEPT, TracingObserver
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeJudge, FakeScorer, ScriptedJudge, Watcher, arithmetic_pairs
from judgeflow.verdicts.prompt import load_template

ALWAYS = RoutingConfig(policy="always")
QUICK = RetryPolicy(attempts=4, for_s=300.0, base_s=0.01, cap_s=0.05)


def settings_of(server, directory, **sections) -> Config:
    judge = {"base_url": server.base_url, "model": "fake-judge", "id": "fake", "prompt_usd_per_mtok": 2.0, "timeout_s": 300.0}
    base = {
        "judge": judge | sections.pop("judge", {}),
        "routing": {"policy": "always"},
        "run": {"name": "watched", "directory": str(directory)},
    }
    return Config.model_validate(base | sections)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """{(name, "label=value", ...): value} of an exposition."""
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sorted(f"{name}={value}" for name, value in sample.labels.items())): sample.value for sample in found}


def shown(metrics: MetricsObserver) -> dict[tuple[str, ...], float]:
    return samples(exposition(metrics.registry)[0].decode())


def scheduler_of(judge, *observers, **parts) -> Scheduler:
    return Scheduler(store=MemoryStore(), judge=judge, observers=observers, retry=QUICK, **{"routing": ALWAYS} | parts)


def judge_at(base_url: str) -> HttpJudge:
    return HttpJudge(JudgeConfig(base_url=base_url, model="fake-judge", id="fake"), load_template("default"))


# Prometheus


async def test_prometheus_reads_from_the_running_process_what_the_judge_and_the_steps_say(tmp_path):
    pairs, seen = arithmetic_pairs(30), Watcher()
    with held_port() as port:
        async with FakeJudge.from_pairs(pairs, faults=["500", "no-tag", "ok", "no-tag"]) as server:
            settings = settings_of(server, tmp_path, metrics={"port": port}, budget={"requests": 1000})
            async with build_scheduler(settings, observers=[seen]) as scheduler:
                for _ in range(2):
                    await scheduler.route(pairs)
                with await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics", timeout=300) as answer:
                    told, content_type = samples(answer.read().decode()), answer.headers["Content-Type"]
            with pytest.raises(urllib.error.URLError, match="refused"):
                await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics", timeout=300)
        requests, answered = server.statistics.requests, server.statistics.answered
    first, second = seen.steps
    calls = {key: value for key, value in told.items() if key[0] == "judgeflow_calls_total"}
    assert content_type.startswith("text/plain")
    assert sum(calls.values()) == requests == len(seen.calls) > answered
    assert calls["judgeflow_calls_total", "judge=fake", "outcome=unparseable"] > 0
    assert calls["judgeflow_calls_total", "judge=fake", "outcome=overloaded"] == requests - answered
    assert told["judgeflow_retries_total", "judge=fake"] == requests - answered
    assert told["judgeflow_call_duration_seconds_count", "answered=yes", "judge=fake"] == answered
    assert told["judgeflow_call_duration_seconds_count", "answered=no", "judge=fake"] == requests - answered
    assert told["judgeflow_tokens_total", "judge=fake", "kind=prompt"] == first.prompt_tokens + second.prompt_tokens
    assert told["judgeflow_tokens_total", "judge=fake", "kind=completion"] == first.completion_tokens + second.completion_tokens
    assert told["judgeflow_spent_usd_total", "judge=fake"] == pytest.approx(first.spent.usd + second.spent.usd)
    assert (told["judgeflow_steps_total",], told["judgeflow_step_duration_seconds_count",], told["judgeflow_last_step",]) == (2, 2, 1)
    assert told["judgeflow_pairs_total", "source=store"] == second.sources["store"] > 0
    assert told["judgeflow_outcomes_total", "status=ok"] == first.statuses["ok"] + second.statuses["ok"]
    assert told["judgeflow_budget_remaining_requests",] == second.remaining["requests"] == 1000 - answered
    assert told["judgeflow_swap_agreement_ratio",] == second.agreement
    assert told["judgeflow_run_info", "run=watched"] == 1
    assert ("judgeflow_budget_remaining_usd",) not in told
    assert ("judgeflow_threshold",) not in told
    assert told["judgeflow_breaker_state", "judge=fake", "seat=judge", "state=closed"] == 1


async def test_what_is_under_way_and_what_waits_is_seen_while_a_step_is_on():
    pairs, metrics = arithmetic_pairs(6), MetricsObserver()
    who = ("judge=fake", "seat=fake")
    async with held(pairs) as server:
        async with scheduler_of(judge_at(server.base_url), metrics, max_in_flight=4) as scheduler:
            step = asyncio.create_task(scheduler.route(pairs))
            while shown(metrics).get(("judgeflow_requests_in_flight", *who)) != 4:
                await asyncio.sleep(0)
            busy = shown(metrics)
            server.let_go()
            await step
            idle = shown(metrics)
    assert busy["judgeflow_questions_waiting", *who] == 8
    assert busy["judgeflow_requests_in_flight_limit", *who] == 4
    assert (idle["judgeflow_requests_in_flight", *who], idle["judgeflow_questions_waiting", *who]) == (0, 0)
    assert ("judgeflow_requests_in_flight", *who) not in shown(metrics)  # the scheduler is closed


async def test_a_judge_that_is_down_is_seen_by_its_breaker_and_by_the_notices():
    metrics = MetricsObserver()
    with held_port() as port:
        async with scheduler_of(judge_at(f"http://127.0.0.1:{port}/v1"), metrics) as scheduler:
            await scheduler.route(arithmetic_pairs(3))
            told = shown(metrics)
    assert told["judgeflow_breaker_state", "judge=fake", "seat=fake", "state=open"] == 1
    assert told["judgeflow_breaker_state", "judge=fake", "seat=fake", "state=closed"] == 0
    assert told["judgeflow_notices_total", "event=judge_opened"] == 1
    assert told["judgeflow_outcomes_total", "status=unreachable"] == 3


async def test_scorer_and_judge_are_compared_by_the_weights_of_what_was_asked():
    pairs, metrics, seen = arithmetic_pairs(80), MetricsObserver(), Watcher()
    routing = RoutingConfig(policy="error", threshold=0.2, audit_fraction=0.3)
    async with scheduler_of(ScriptedJudge(), metrics, seen, scorer=FakeScorer(pairs), routing=routing) as scheduler:
        await scheduler.route(pairs)
    told, (step,) = shown(metrics), seen.steps
    assert step.audited.compared > 0
    for asked, agreement in (("routed", step.routed), ("audited", step.audited)):
        assert told["judgeflow_compared_weight_total", f"asked={asked}"] == pytest.approx(agreement.weight)
        assert told["judgeflow_agreed_weight_total", f"asked={asked}"] == pytest.approx(agreement.agreed)
    assert told["judgeflow_threshold",] == 0.2
    assert told["judgeflow_judged_ratio",] == step.sources["judge"] / 80


async def test_two_schedulers_have_registries_of_their_own_or_share_an_observer_and_add_up():
    pairs, one, other = arithmetic_pairs(4), MetricsObserver(), MetricsObserver()
    async with scheduler_of(ScriptedJudge(), one, run="a") as first, scheduler_of(ScriptedJudge(), one, other, run="b") as second:
        await first.route(pairs)
        await second.route(pairs)
        told = shown(one)
    assert (told["judgeflow_steps_total",], shown(other)["judgeflow_steps_total",]) == (2, 1)
    assert {key[1] for key in told if key[0] == "judgeflow_run_info"} == {"run=a", "run=b"}
    limits = [value for key, value in told.items() if key[0] == "judgeflow_requests_in_flight_limit"]
    assert limits == [128]
    with pytest.raises(UsageError, match="the same MetricsObserver"):
        MetricsObserver(one.registry)


def test_an_observer_keeps_no_scheduler_alive():
    metrics = MetricsObserver()
    scheduler = scheduler_of(ScriptedJudge(), metrics)
    alive = weakref.ref(scheduler)
    del scheduler
    gc.collect()
    assert alive() is None
    assert shown(metrics)["judgeflow_steps_total",] == 0


def test_an_application_answers_scrapes_of_its_own_in_the_format_that_it_is_asked_for():
    metrics = MetricsObserver()
    plain, plain_type = exposition(metrics.registry)
    modern, modern_type = exposition(metrics.registry, accept="application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain")
    assert modern_type.startswith("application/openmetrics-text")
    assert b"judgeflow_steps_total 0.0" in plain
    assert modern.endswith(b"# EOF\n")


async def test_a_port_that_is_taken_is_a_mistake_in_the_configuration_and_leaves_nothing_open(tmp_path):
    async with FakeJudge() as server:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            settings = settings_of(server, tmp_path, metrics={"port": port}, log={"path": "run.log"})
            with pytest.raises(ConfigurationError, match=rf"\[metrics\] port: 127.0.0.1:{port} cannot be had: .*a port of its own"):
                build_scheduler(settings)  # ResourceWarnings are errors here: the log is closed
        unknown = settings_of(server, tmp_path, metrics={"port": port, "host": "203.0.113.7"})
        with pytest.raises(ConfigurationError, match=r"\[metrics\] port: 203.0.113.7:.*is \[metrics\] host its own"):
            build_scheduler(unknown)


# TensorBoard


async def test_every_step_is_a_point_of_each_scalar_in_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    pairs, seen = arithmetic_pairs(40), Watcher()
    async with FakeJudge.from_pairs(pairs, accuracy=0.9, position_bias=0.3) as server:
        for part in (range(2), range(2, 3)):  # the run is continued by another process
            settings = settings_of(server, tmp_path, log={"tensorboard": "board"}, budget={"requests": 500, "usd": 1.0})
            async with build_scheduler(settings, observers=[seen]) as scheduler:
                for step in part:
                    await scheduler.route(pairs[step * 10 : step * 10 + 20], step=step)
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    lines = {tag: [(point.step, point.value) for point in board.Scalars(tag)] for tag in board.Tags()["scalars"]}

    def line(value):
        return [(step.step, pytest.approx(value(step))) for step in seen.steps]

    assert [step.step for step in seen.steps] == [0, 1, 2]
    assert lines["judgeflow/calls"] == [(0, 40), (1, 20), (2, 20)] == line(lambda step: step.calls)
    assert lines["judgeflow/share/judge"] == [(0, 1.0), (1, 0.5), (2, 0.5)]
    assert lines["judgeflow/share/store"] == [(0, 0.0), (1, 0.5), (2, 0.5)]
    assert lines["judgeflow/tokens/prompt"] == line(lambda step: step.prompt_tokens)
    assert lines["judgeflow/tokens/completion"] == line(lambda step: step.completion_tokens)
    assert lines["judgeflow/usd"] == line(lambda step: step.spent.usd)
    assert lines["judgeflow/swap_agreement"] == line(lambda step: step.agreement)
    assert lines["judgeflow/seconds"] == line(lambda step: step.seconds)
    assert lines["judgeflow/latency_s/p90"] == line(lambda step: step.latency_s["p90"])
    assert lines["judgeflow/budget_left/requests"] == [(0, 460), (1, 440), (2, 420)]
    assert lines["judgeflow/budget_left/usd"] == line(lambda step: step.remaining["usd"])
    assert "judgeflow/budget_left/tokens" not in lines
    assert "judgeflow/threshold" not in lines


async def test_a_folder_for_scalars_that_cannot_be_written_and_a_missing_package_name_the_key(tmp_path, monkeypatch):
    (tmp_path / "board").write_text("a file")
    async with FakeJudge() as server:
        settings = settings_of(server, tmp_path, log={"tensorboard": "board"})
        with pytest.raises(ConfigurationError, match=r"\[log\] tensorboard: .*board cannot be written"):
            build_scheduler(settings)
        monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
        with pytest.raises(ConfigurationError, match=r"\[log\] tensorboard: .*pip install 'judgeflow\[tensorboard\]'"):
            build_scheduler(settings)


# OpenTelemetry


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


async def test_attempts_lie_below_their_step_and_steps_below_the_callers_span(spans, provider):
    pairs, seen = arithmetic_pairs(12), Watcher()
    async with FakeJudge.from_pairs(pairs, faults="500:0.2", seed=1) as server:
        async with scheduler_of(judge_at(server.base_url), TracingObserver(provider), seen, run="r") as scheduler:
            with provider.get_tracer("trainer").start_as_current_span("training step") as training:
                await asyncio.gather(scheduler.route(pairs[:6], step=7), scheduler.route(pairs[6:], step=8))
            await scheduler.route(pairs[:2], step=9)
    finished = spans.get_finished_spans()
    steps = {span.attributes["judgeflow.step"]: span for span in finished if span.name == "judgeflow.step"}
    calls = [span for span in finished if span.name == "chat fake-judge"]
    assert sorted(steps) == [7, 8, 9]
    assert steps[7].parent == steps[8].parent == training.get_span_context()
    assert steps[9].parent is None
    assert len(calls) == len(seen.calls) > 24
    for span in calls:
        step = steps[span.attributes["judgeflow.step"]]
        assert span.parent == step.context
        assert step.start_time <= span.start_time <= span.end_time <= step.end_time
    assert (steps[9].attributes["judgeflow.pairs.store"], steps[9].attributes["judgeflow.calls"]) == (2, 0)


async def test_a_span_says_by_the_semantic_conventions_which_model_took_how_many_tokens_and_what_failed(spans, provider):
    pairs, seen = arithmetic_pairs(8), Watcher()
    async with FakeJudge.from_pairs(pairs, faults=["500"]) as server:
        async with scheduler_of(judge_at(server.base_url), TracingObserver(provider), seen) as scheduler:
            await scheduler.route(pairs)
    calls = [span for span in spans.get_finished_spans() if span.kind is SpanKind.CLIENT]
    (failed,) = [span for span in calls if span.attributes["judgeflow.outcome"] != "ok"]
    answered = [span for span in calls if span is not failed]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes[error_attributes.ERROR_TYPE] == "overloaded"
    assert gen_ai.GEN_AI_USAGE_INPUT_TOKENS not in failed.attributes
    assert len(answered) == 16
    for span in answered:
        assert span.status.status_code is StatusCode.UNSET
        assert span.attributes[gen_ai.GEN_AI_OPERATION_NAME] == gen_ai.GenAiOperationNameValues.CHAT.value
        assert span.attributes[gen_ai.GEN_AI_REQUEST_MODEL] == "fake-judge"
    tokens = [span.attributes[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] for span in answered]
    assert sum(tokens) == seen.steps[0].prompt_tokens
    lasted = {span.attributes["judgeflow.call"]: (span.end_time - span.start_time) / 1e9 for span in answered}
    assert lasted == {event.call_key.hex()[:16]: pytest.approx(event.latency_s, abs=1e-6) for event in seen.calls if event.error is None}


async def test_a_reply_that_comes_after_its_step_has_ended_still_lies_below_it(spans, provider):
    pairs = arithmetic_pairs(2)
    routing = RoutingConfig(policy="always", step_deadline_s=1.0, after_deadline="keep")
    async with held(pairs) as server:
        async with scheduler_of(judge_at(server.base_url), TracingObserver(provider), routing=routing) as scheduler:
            result = await scheduler.route(pairs)
            server.let_go()
    assert result.statistics.statuses == {"deadline": 2}
    step, *calls = spans.get_finished_spans()
    assert step.name == "judgeflow.step"
    assert len(calls) == 4
    assert all(call.parent == step.context for call in calls)
    assert min(call.end_time for call in calls) > step.end_time


async def test_a_step_that_was_cancelled_ends_with_the_scheduler_and_no_more_than_so_many_are_remembered(spans, provider):
    observer = TracingObserver(provider)
    async with HeldJudge() as server:
        async with scheduler_of(judge_at(server.base_url), observer) as scheduler:
            step = asyncio.create_task(scheduler.route(arithmetic_pairs(1)))
            while not scheduler.in_flight:
                await asyncio.sleep(0)
            step.cancel()
            await asyncio.wait([step])
            assert spans.get_finished_spans() == ()
            server.let_go()
    assert {span.name for span in spans.get_finished_spans()} == {"judgeflow.step", "chat fake-judge"}
    spans.clear()
    for number in range(KEPT + 3):
        observer.begin("r", number)
    assert [span.attributes["judgeflow.step"] for span in spans.get_finished_spans()] == [0, 1, 2]


PROGRAM = """
import asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from judgeflow import Scheduler
from judgeflow.testing import FakeJudge, arithmetic_pairs

async def route(pairs):
    async with FakeJudge.from_pairs(pairs) as server:
        with open("judgeflow.toml", "w") as settings:
            settings.write(f'[judge]\\nbase_url = "{server.base_url}"\\nmodel = "fake-judge"\\n[routing]\\npolicy = "always"\\n')
            settings.write("[tracing]\\nenabled = true")
        async with Scheduler.from_config() as scheduler:
            await scheduler.route(pairs)

pairs, own = arithmetic_pairs(3), InMemorySpanExporter()
asyncio.run(route(pairs[:1]))
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(own))
asyncio.run(route(pairs[1:]))
print([span.name for span in own.get_finished_spans()])
"""


@pytest.mark.slow
def test_spans_go_where_the_environment_says_or_to_the_provider_that_the_program_has_set(tmp_path):
    environment = {"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "console", "OTEL_RESOURCE_ATTRIBUTES": "team=rl"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert sorted(re.findall(r'"name": "(.*)"', done.stdout)) == ["chat fake-judge", "chat fake-judge", "judgeflow.step"]
    assert done.stdout.count('"service.name": "judgeflow"') == done.stdout.count('"team": "rl"') == 3
    (own,) = re.findall(r"^\['.*\]$", done.stdout, re.MULTILINE)
    assert own.count("chat fake-judge") == 4


async def test_tracing_that_cannot_be_had_names_the_key_and_the_remedy(tmp_path, monkeypatch):
    async with FakeJudge() as server:
        settings = settings_of(server, tmp_path, tracing={"enabled": True})
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console, pigeon")
        with pytest.raises(ConfigurationError, match=r"\[tracing\] enabled: OTEL_TRACES_EXPORTER: no exporter 'pigeon' .*console"):
            build_scheduler(settings)
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", "")
        with pytest.raises(ConfigurationError, match=r"no exporter 'otlp' .*pip install opentelemetry-exporter-otlp"):
            build_scheduler(settings)
        monkeypatch.delitem(sys.modules, "judgeflow.observe.tracing")
        monkeypatch.setitem(sys.modules, "opentelemetry", None)
        with pytest.raises(ConfigurationError, match=r"\[tracing\] enabled: needs the extra: pip install 'judgeflow\[tracing\]'"):
            build_scheduler(settings)
