"""OpenTelemetry spans: one for each step, and below it one for each attempt at asking a judge.  Never texts.

    judgeflow.step              from `route` to its outcomes; below the caller's span, if it has one
      chat MODEL                one attempt; with the semantic conventions for generative AI where these have a word

A step's span begins with the step, so that attempts, of which observers are told at their end, find their parent there; they get their
start from how long they took.  A question belongs to the step that had it asked, also when its reply comes later than the step's end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import ProxyTracerProvider, Span, SpanKind, Status, StatusCode, TracerProvider

from judgeflow.errors import ConfigurationError
from judgeflow.observe.log import KEY_DIGITS
from judgeflow.types import CallEvent, StepStatistics

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

KEPT = 256
"""Steps whose spans are remembered as parents of replies that come later; older ones that never ended are then closed."""

EXPORTER = "OTEL_TRACES_EXPORTER"
_EXPORTERS = "opentelemetry_traces_exporter"
_OTLP = ("otlp", "otlp_proto_http", "otlp_proto_grpc")
_OTLP_BY_PROTOCOL = {"http/protobuf": ("otlp_proto_http",), "grpc": ("otlp_proto_grpc",)}

Attributes = dict[str, str | int | float]


class TracingObserver:
    """Makes spans with a tracer of `provider`; default: the global tracer provider, whenever that is set.

    `now_ns` is Unix time in nanoseconds.  `on_close` is called at the end.  Spans that a cancelled step has left open end with the
    scheduler, or when `KEPT` younger steps have begun.
    """

    def __init__(
        self,
        provider: TracerProvider | None = None,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._tracer = trace.get_tracer("judgeflow", tracer_provider=provider)
        self._now_ns = now_ns
        self._on_close = on_close
        self._steps: dict[tuple[str, int], Span] = {}  # oldest first; changed by begin and close

    def begin(self, run: str, step: int) -> None:
        """Begin a step's span, in the caller's context."""
        self._end(self._steps.pop((run, step), None))
        if len(self._steps) >= KEPT:
            self._end(self._steps.pop(next(iter(self._steps))))
        attributes: Attributes = {"judgeflow.run": run, "judgeflow.step": step}
        self._steps[run, step] = self._tracer.start_span("judgeflow.step", attributes=attributes, start_time=self._now_ns())

    def call(self, event: CallEvent) -> None:
        """Make the span of an attempt."""
        step, now = None if event.step is None else self._steps.get((event.run, event.step)), self._now_ns()
        span = self._tracer.start_span(
            f"chat {event.model}" if event.model else "chat",
            context=trace.set_span_in_context(step, Context()) if step is not None else Context(),
            kind=SpanKind.CLIENT,
            attributes=attributes_of(event),
            start_time=now - int(event.latency_s * 1e9),
        )
        if event.error is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=now)

    def step(self, statistics: StepStatistics) -> None:
        """End a step's span."""
        span = self._steps.get((statistics.run, statistics.step))
        if span is not None and span.is_recording():
            span.set_attributes(_attributes_of_step(statistics))
        self._end(span)

    def notice(self, event: str, **fields: object) -> None:
        """Notices concern no step."""

    def close(self) -> None:
        """End what is open."""
        for span in self._steps.values():
            self._end(span)
        self._steps.clear()
        self._on_close()

    def _end(self, span: Span | None) -> None:
        if span is not None and span.is_recording():
            span.end(end_time=self._now_ns())


def attributes_of(event: CallEvent) -> Attributes:
    """Return what the span of an attempt says, by the semantic conventions for generative AI as far as they go."""
    usage = event.usage
    known: Mapping[str, str | int | float | None] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": event.model,
        "gen_ai.usage.input_tokens": usage.prompt or None,
        "gen_ai.usage.output_tokens": usage.completion or None,
        "gen_ai.usage.cache_read.input_tokens": usage.cached or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning or None,
        "error.type": event.outcome if event.error is not None else None,
        "judgeflow.run": event.run,
        "judgeflow.step": event.step,
        "judgeflow.judge": event.judge,
        "judgeflow.call": event.call_key.hex()[:KEY_DIGITS],
        "judgeflow.pair": event.pair_key.hex()[:KEY_DIGITS],
        "judgeflow.order": event.order,
        "judgeflow.outcome": event.outcome,
        "judgeflow.attempt": event.attempt,
        "judgeflow.usd": event.usd,
    }
    return {name: value for name, value in known.items() if value is not None}


def _attributes_of_step(statistics: StepStatistics) -> Attributes:
    threshold: Attributes = {} if statistics.threshold is None else {"judgeflow.threshold": statistics.threshold}
    return {
        "judgeflow.pairs": statistics.pairs,
        **{f"judgeflow.pairs.{source}": count for source, count in statistics.sources.items()},
        "judgeflow.calls": statistics.calls,
        "judgeflow.tokens": statistics.spent.tokens,
        "judgeflow.usd": statistics.spent.usd,
        **threshold,
    }


def configured_tracing() -> TracingObserver:
    """Return an observer for the tracer provider that the program has set; without one, for one made from the OTEL_* variables.

    Raises `ConfigurationError` if the exporter that these name is not installed.
    """
    if not isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        return TracingObserver()
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider as SdkProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    has_name = os.environ.get("OTEL_SERVICE_NAME") or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = SdkProvider(resource=Resource.create({} if has_name else {"service.name": "judgeflow"}))
    for exporter in _exporters(os.environ.get(EXPORTER) or "otlp"):
        provider.add_span_processor(BatchSpanProcessor(exporter()))

    def end() -> None:
        # What is not sent yet may take seconds, which are not the event loop's; Python waits for the thread.
        threading.Thread(target=provider.shutdown, name="judgeflow-traces-end").start()

    return TracingObserver(provider, on_close=end)


def _exporters(names: str) -> list[Callable[[], SpanExporter]]:
    return [_exporter(name) for name in (each.strip() for each in names.split(",")) if name != "none"]


def _exporter(name: str) -> Callable[[], SpanExporter]:
    """Find an exporter by its name, as OpenTelemetry's own tools do: packages announce theirs as entry points."""
    installed = {entry.name: entry for entry in entry_points(group=_EXPORTERS)}
    found = next((candidate for candidate in _names_of(name) if candidate in installed), None)
    if found is None:
        remedy = "pip install opentelemetry-exporter-otlp" if name == "otlp" else f"there are {', '.join(sorted(installed))}"
        raise ConfigurationError(
            f"[tracing] enabled: {EXPORTER}: no exporter {name!r} is installed; {remedy}, or set up a tracer provider of your own"
        )
    exporter: Callable[[], SpanExporter] = installed[found].load()
    return exporter


def _names_of(name: str) -> Sequence[str]:
    """The names that this one may stand for: otlp is spoken over HTTP or gRPC."""
    if name != "otlp":
        return (name,)
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return _OTLP_BY_PROTOCOL.get(protocol or "", _OTLP)
