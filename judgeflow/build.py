"""The composition root: from a configuration to the objects that do the work."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from judgeflow.clock import LoopClock
from judgeflow.config import Config, JudgeConnection, LimitsConfig, load_config, run_fingerprint_fields
from judgeflow.engine.retry import RetryPolicy
from judgeflow.engine.scheduler import Scheduler
from judgeflow.engine.seat import Seat
from judgeflow.errors import ConfigurationError
from judgeflow.judges.client import HttpJudge
from judgeflow.judges.gate import ThrottleGate
from judgeflow.keys import digest
from judgeflow.observe.log import file_log, try_log
from judgeflow.observe.scalars import tensorboard_scalars, try_scalars
from judgeflow.ports import Clock, Observer, Scorer
from judgeflow.store import SqlStore
from judgeflow.store.engines import database_at, normalise_url
from judgeflow.tokens import ESTIMATE_REMEDY, ESTIMATE_RULE, TokenCounter
from judgeflow.verdicts.prompt import load_template

RUN_NAME_DIGITS = 12


def build_scheduler(
    config: str | Path | Config, *, run_input: bytes = b"", observers: Sequence[Observer] = (), retry_failed: bool = False
) -> Scheduler:
    """Return a scheduler for a configuration file or a loaded `Config`.

    `run_input` identifies the data of a run without a name; `retry_failed` asks again what failed for good.  Raises
    `ConfigurationError`; nothing is opened, sent or written but for those who watch: the log file, TensorBoard's, the port of [metrics].
    They are closed with the scheduler.  Loading the scorer takes seconds: build before the event loop has work to do.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    clock = LoopClock()
    seats = build_seats(settings, clock)
    scorer = build_scorer(settings)
    with contextlib.ExitStack() as undo:
        watching = list(observers)
        for observer in (each.open() for each in watchers(settings)):
            undo.callback(observer.close)
            watching.append(observer)
        _tell_if_estimated(settings, watching)
        scheduler = Scheduler(
            store=functools.partial(SqlStore.open, store_url(settings)),
            judges=seats,
            scorer=scorer,
            routing=settings.routing,
            budget=settings.budget,
            run=run_name(settings, run_input, scorer),
            orders=settings.judge.orders,
            graded=settings.judge.graded,
            retry_failed=retry_failed,
            clock=clock,
            observers=watching,
            settings=settings.model_dump(mode="json"),
        )
        undo.pop_all()  # the scheduler closes them
    return scheduler


def check_settings(settings: Config) -> None:
    """Look at everything that can be looked at without network: keys, templates, the folders of scorer, database and log.

    Raises `ConfigurationError`, or `StoreUnavailable` for a database that can be neither opened nor created.  Leaves nothing behind.
    """
    build_seats(settings, LoopClock())
    database_at(store_url(settings)).require_writable()
    if settings.scorer is not None and not settings.path(settings.scorer.path).is_dir():
        raise ConfigurationError(f"[scorer] path: {settings.path(settings.scorer.path)} is no folder; `judgeflow train` makes one")
    for watcher in watchers(settings):
        if watcher.name != "metrics":  # whose port may be taken by a run that goes on
            watcher.attempt()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """Somebody who watches a run by its settings: `told` says how, `open` makes the observer, `attempt` leaves nothing behind.

    Both raise `ConfigurationError` where it cannot be had.
    """

    name: str
    told: str
    open: Callable[[], Observer]
    attempt: Callable[[], None]


def watchers(settings: Config) -> Iterator[Watcher]:
    """Yield those who watch by the settings, in the order in which they are opened."""
    log, metrics = settings.log, settings.metrics
    if log.path is not None:
        path = settings.path(log.path)
        yield Watcher(
            name="log", told=f"{path} can be written", open=functools.partial(file_log, log, path), attempt=functools.partial(try_log, path)
        )
    if settings.tracing.enabled:
        yield Watcher(name="tracing", told="spans can be made and exported", open=_tracing, attempt=lambda: _tracing().close())
    if metrics.port is not None:
        serve = functools.partial(_metrics, metrics.host, metrics.port)
        yield Watcher(name="metrics", told=f"{metrics.host}:{metrics.port} is free", open=serve, attempt=lambda: serve().close())
    if log.tensorboard is not None:  # last: each opening makes another file
        folder = settings.path(log.tensorboard)
        scalars, attempt = functools.partial(tensorboard_scalars, folder), functools.partial(try_scalars, folder)
        yield Watcher(name="tensorboard", told=f"{folder} can be written", open=scalars, attempt=attempt)


def _metrics(host: str, port: int) -> Observer:
    from judgeflow.observe.metrics_server import served_metrics

    return served_metrics(host, port)


def _tracing() -> Observer:
    try:
        from judgeflow.observe.tracing import configured_tracing

        return configured_tracing()
    except ImportError as error:
        raise ConfigurationError(f"[tracing] enabled: needs the extra: pip install 'judgeflow[tracing]' ({error})") from None


def _tell_if_estimated(settings: Config, observers: Sequence[Observer]) -> None:
    """Where tokens or dollars are limited, say once for each model if they are counted by an estimate."""
    limits = [(settings.judge.model, settings.limits), *((judge.model, judge.limits) for judge in settings.judges.values())]
    budgeted = settings.budget.tokens or settings.budget.usd
    limited = dict.fromkeys(model for model, limit in limits if limit.tokens_per_minute or budgeted)
    for model in (name for name in limited if not TokenCounter(name).exact):
        for observer in observers:
            observer.notice("tokens_estimated", model=model, how=ESTIMATE_RULE, remedy=ESTIMATE_REMEDY)


def build_scorer(settings: Config) -> Scorer | None:
    """Return the scorer of a configuration, or None where none is named.  Raises `ConfigurationError`."""
    if settings.scorer is None:
        return None
    from judgeflow.model.scorer import SngpScorer  # torch: seconds that only those who score pay

    wanted = settings.scorer
    return SngpScorer.load(
        settings.path(wanted.path),
        device=wanted.device,
        dtype=wanted.dtype,
        max_batch_tokens=wanted.max_batch_tokens,
        compiled=wanted.compile,
    )


def build_seats(settings: Config, clock: Clock) -> list[Seat]:
    """Return the judges of a configuration in order of preference, each with its own limits.  Raises `ConfigurationError`."""
    first = _seat(settings, settings.judge, settings.limits, "judge", clock)
    return [first, *(_seat(settings, judge, judge.limits, f"judges.{name}", clock) for name, judge in settings.judges.items())]


def _seat(settings: Config, judge: JudgeConnection, limits: LimitsConfig, section: str, clock: Clock) -> Seat:
    key, template = key_of(judge, section), load_template(judge.template, settings.path("."))
    return Seat(
        judge=HttpJudge(judge, template, api_key=key, max_in_flight=limits.max_in_flight, section=section),
        gate=ThrottleGate(limits, clock, longest_reply=judge.max_completion_tokens),
        retry=RetryPolicy(attempts=judge.retry_attempts, for_s=judge.retry_for_s),
        max_in_flight=limits.max_in_flight,
        timeout_s=judge.timeout_s,
        weight=judge.weight,
        name=section.removeprefix("judges."),
    )


def api_key(settings: Config) -> str | None:
    """Return the key of [judge], or None where none is configured.  Raises `ConfigurationError` if its variable is not set."""
    return key_of(settings.judge, "judge")


def key_of(judge: JudgeConnection, section: str) -> str | None:
    """Return the API key of the judge in a section, or None where none is configured.  Raises `ConfigurationError` as `api_key`."""
    name = judge.api_key_env
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigurationError(f"[{section}] api_key_env: the environment variable {name} is not set; export it, or take the key out")
    return value


def store_url(settings: Config) -> str:
    """Return the store's address, with a relative path taken from [run] directory.  Raises `ConfigurationError`."""
    return normalise_url(settings.store.url, settings.run.directory)


def run_name(settings: Config, run_input: bytes = b"", scorer: Scorer | None = None) -> str:
    """Return [run] name, or a hash of the input, the scorer and the settings that decide what is asked."""
    identity = [run_fingerprint_fields(settings), run_input.hex(), *([scorer.fingerprint] if scorer else [])]
    return settings.run.name or digest("run/1", identity).hex()[:RUN_NAME_DIGITS]
