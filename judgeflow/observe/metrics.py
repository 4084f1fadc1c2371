"""Prometheus metrics of a running scheduler.  docs/metrics.md says what each of them means.

Counters and histograms move as events come; gauges are made at the moment of a scrape, from the last step and from the scheduler, so
watching them costs the event loop nothing.  What is not known is absent: a run without a budget in dollars has no dollars left to show.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from judgeflow.errors import UsageError
from judgeflow.ports import Followed
from judgeflow.types import Agreement, CallEvent, JudgeState, Source, StepStatistics

CALL_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0)
"""From a judge in the same rack to one that thinks until the longest usual timeout; densest where strong judges answer."""

STEP_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
BREAKER_STATES = ("closed", "half_open", "open")
NOTICES = (
    "batch_incomplete",
    "budget_put_aside",
    "budget_spent",
    "group_incomplete",
    "in_flight_lowered",
    "in_flight_recovered",
    "judge_closed",
    "judge_half_open",
    "judge_opened",
    "judge_stopped",
    "judge_too_slow",
    "limits_tightened",
    "replies_not_stored",
    "reply_not_stored",
    "reply_unreadable",
    "scorer_failed",
    "step_not_recorded",
    "store_failed",
    "store_recovered",
    "tokens_estimated",
)
"""Events that are counted from 0: a counter that begins at 1 has not increased, as Prometheus sees it, and no alert would go off."""


class MetricsObserver:
    """Keeps Prometheus metrics of what a scheduler tells, in `registry` (default: one of its own).

    >>> metrics = MetricsObserver()
    >>> scheduler = Scheduler(..., observers=[metrics])
    >>> body, content_type = exposition(metrics.registry)

    Schedulers of one process may share an observer, and then add up.  `on_close` is called when the first of them is closed.  Labels
    are names that code and configuration give: judges, outcomes, sources, statuses, events, the run; never keys or texts.  `wall` is
    Unix time in seconds.  Raises `UsageError` for a registry that holds these metrics already.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        wall: Callable[[], float] = time.time,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._wall = wall
        self._on_close = on_close
        self._judges: dict[str, _JudgeMeters] = {}
        try:
            self._calls = _CallMeters(self.registry)
            self._steps = _StepMeters(self.registry)
            self._moment = _Moment()
            self.registry.register(self._moment)
        except ValueError as error:
            raise UsageError(f"{error}; give both schedulers the same MetricsObserver, or each observer a registry of its own") from None

    def follow(self, scheduler: Followed) -> None:
        """Look at this scheduler at each scrape, for as long as it lives."""
        self._moment.follow(scheduler)

    def begin(self, run: str, step: int) -> None:
        """Remember the run's name."""
        del step
        if run not in self._moment.runs:
            self._moment.runs += (run,)

    def call(self, event: CallEvent) -> None:
        """Count an attempt, and what it cost."""
        judge = event.judge or ""
        meters = self._judges.get(judge)
        if meters is None:
            meters = self._judges[judge] = self._calls.of(judge)
        meters.count(event)

    def step(self, statistics: StepStatistics) -> None:
        """Count a step and its pairs, and keep it for the gauges."""
        self._steps.count(statistics)
        self._moment.last = _LastStep(statistics, self._wall())

    def notice(self, event: str, **fields: object) -> None:
        """Count what the operator should know."""
        del fields
        self._steps.notices.labels(event).inc()

    def close(self) -> None:
        """Stop serving; what was counted stays in the registry."""
        self._on_close()


def exposition(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Return what a scrape of `registry` is answered with, and its content type; `accept` is the request's Accept header.

    For applications with an HTTP server of their own.
    """
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _CallMeters:
    """What is counted of attempts, by judge."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"judgeflow_{name}", meaning, ["judge", *labels], registry=registry)

        self.calls = counter("calls_total", "Attempts at asking a judge, by how they ended.", "outcome")
        self.retries = counter("retries_total", "Attempts at questions that had been tried before.")
        self.tokens = counter("tokens_total", "Tokens of replies as the judge bills them.", "kind")
        self.cached = counter("cached_tokens_total", "Prompt tokens that the judge had cached; part of the prompt tokens.")
        self.reasoning = counter("reasoning_tokens_total", "Tokens that the judge thought; part of the completion tokens.")
        self.usd = counter("spent_usd_total", "US dollars that replies cost by the configured prices.")
        self.seconds = Histogram(
            "judgeflow_call_duration_seconds",
            "Seconds that an attempt took, by whether a reply came.",
            ["judge", "answered"],
            registry=registry,
            buckets=CALL_BUCKETS_S,
        )

    def of(self, judge: str) -> _JudgeMeters:
        """Return the meters of one judge."""
        return _JudgeMeters(self, judge)


class _JudgeMeters:
    """The meters of one judge, looked up once."""

    def __init__(self, meters: _CallMeters, judge: str) -> None:
        self._judge = judge
        self._calls = meters.calls
        self._outcomes: dict[str, Counter] = {}
        self._retries = meters.retries.labels(judge)
        self._prompt = meters.tokens.labels(judge, "prompt")
        self._completion = meters.tokens.labels(judge, "completion")
        self._cached = meters.cached.labels(judge)
        self._reasoning = meters.reasoning.labels(judge)
        self._usd = meters.usd.labels(judge)
        self._answered, self._failed = meters.seconds.labels(judge, "yes"), meters.seconds.labels(judge, "no")

    def count(self, event: CallEvent) -> None:
        """Count one attempt."""
        outcome = self._outcomes.get(event.outcome)
        if outcome is None:
            outcome = self._outcomes[event.outcome] = self._calls.labels(self._judge, event.outcome)
        outcome.inc()
        if event.attempt > 1:
            self._retries.inc()
        if event.error is not None:
            self._failed.observe(event.latency_s)
            return
        self._answered.observe(event.latency_s)
        usage = event.usage
        self._prompt.inc(usage.prompt)
        self._completion.inc(usage.completion)
        if usage.cached:
            self._cached.inc(usage.cached)
        if usage.reasoning:
            self._reasoning.inc(usage.reasoning)
        self._usd.inc(event.usd)


class _StepMeters:
    """What is counted of steps and notices."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"judgeflow_{name}", meaning, labels, registry=registry)

        self.steps = counter("steps_total", "Steps that are complete.")
        self.pairs = counter("pairs_total", "Pairs of complete steps, by who decided; of identical responses nobody does.", "source")
        self.outcomes = counter("outcomes_total", "All pairs of complete steps, by the status of their outcome.", "status")
        self.weight = counter(
            "compared_weight_total",
            "Pairs on which scorer and judge are compared, each by 1 / propensity, by why it was asked.",
            "asked",
        )
        self.agreed = counter("agreed_weight_total", "The part of compared_weight in which scorer and judge prefer the same.", "asked")
        self.notices = counter("notices_total", "What the operator should know, by event: see docs/logs.md.", "event")
        self.seconds = Histogram(
            "judgeflow_step_duration_seconds", "Seconds from a step's beginning to its end.", registry=registry, buckets=STEP_BUCKETS_S
        )
        for source in get_args(Source):
            self.pairs.labels(source)
        for event in NOTICES:
            self.notices.labels(event)

    def count(self, statistics: StepStatistics) -> None:
        """Count one step."""
        self.steps.inc()
        self.seconds.observe(statistics.seconds)
        for source, count in statistics.sources.items():
            self.pairs.labels(source).inc(count)
        for status, count in statistics.statuses.items():
            self.outcomes.labels(status).inc(count)
        self._compare("routed", statistics.routed)
        self._compare("audited", statistics.audited)

    def _compare(self, asked: str, agreement: Agreement) -> None:
        if agreement.compared:
            self.weight.labels(asked).inc(agreement.weight)
            self.agreed.labels(asked).inc(agreement.agreed)


@dataclass(frozen=True, slots=True)
class _LastStep:
    statistics: StepStatistics
    ended_at: float


class _Moment(Collector):
    """What is so at the moment of a scrape, on whatever thread that is.  Scrapes only read; each attribute is replaced as a whole."""

    def __init__(self) -> None:
        self.last: _LastStep | None = None
        self.runs: tuple[str, ...] = ()
        self._schedulers: tuple[weakref.ref[Followed], ...] = ()

    def follow(self, scheduler: Followed) -> None:
        """Look at this one too."""
        self._schedulers = (*(each for each in self._schedulers if each() is not None), weakref.ref(scheduler))

    def _states(self) -> Iterator[JudgeState]:
        for each in self._schedulers:
            if (scheduler := each()) is not None:
                yield from scheduler.judge_states

    def describe(self) -> Iterator[Metric]:
        """Return nothing: a registry must not ask for what is not known yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges whose values are known."""
        if self.runs:
            runs = InfoMetricFamily("judgeflow_run", "The runs that are counted here.", labels=["run"])
            for run in self.runs:
                runs.add_metric([run], {})
            yield runs
        if self.last is not None:
            yield from _gauges_of_step(self.last)
        states = _together(self._states())
        if states:
            yield from _gauges_of_judges(states)


def _together(states: Iterable[JudgeState]) -> Sequence[JudgeState]:
    """Add up what schedulers have of the same judge; its breaker is in the worst of their states."""
    found: dict[tuple[str, str], JudgeState] = {}
    for each in states:
        known = found.get((each.judge, each.seat))
        found[each.judge, each.seat] = each if known is None else _sum(known, each)
    return list(found.values())


def _sum(one: JudgeState, other: JudgeState) -> JudgeState:
    return replace(
        one,
        in_flight=one.in_flight + other.in_flight,
        max_in_flight=one.max_in_flight + other.max_in_flight,
        waiting=one.waiting + other.waiting,
        breaker=max(one.breaker, other.breaker, key=BREAKER_STATES.index),
    )


def _gauges_of_step(last: _LastStep) -> Iterator[Metric]:
    step, left = last.statistics, last.statistics.remaining
    judged = step.sources.get("judge", 0) / step.pairs if step.pairs else None
    known = (
        ("last_step", "Number of the step that was complete last.", step.step),
        ("last_step_timestamp_seconds", "Unix time at which a step was complete last.", last.ended_at),
        ("threshold", "Acquisition above which the last step asked.", step.threshold),
        ("judged_ratio", "Share of the last step's pairs that the judge was asked about and decided.", judged),
        ("swap_agreement_ratio", "Share of the last step's verdicts with both orders in which these agree.", step.agreement),
        ("budget_remaining_requests", "Paid replies that the run has left, after the last step.", left.get("requests")),
        ("budget_remaining_tokens", "Tokens that the run has left, after the last step.", left.get("tokens")),
        ("budget_remaining_usd", "US dollars that the run has left, after the last step.", left.get("usd")),
    )
    for name, meaning, value in known:
        if value is not None:
            yield GaugeMetricFamily(f"judgeflow_{name}", meaning, value=value)


def _gauges_of_judges(states: Sequence[JudgeState]) -> Iterator[Metric]:
    def gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"judgeflow_{name}", meaning, labels=["judge", "seat", *labels])

    in_flight = gauge("requests_in_flight", "Requests under way now.")
    limit = gauge("requests_in_flight_limit", "Most requests that may be under way now; fewer while the judge has too much to do.")
    waiting = gauge("questions_waiting", "Questions that wait to be sent, or for their reply to be stored.")
    breaker = gauge("breaker_state", "1 for the state that the judge's circuit breaker is in, 0 for the others.", "state")
    for each in states:
        who = [each.judge, each.seat]
        in_flight.add_metric(who, each.in_flight)
        limit.add_metric(who, each.max_in_flight)
        waiting.add_metric(who, each.waiting)
        for state in BREAKER_STATES:
            breaker.add_metric([*who, state], state == each.breaker)
    yield from (in_flight, limit, waiting, breaker)
