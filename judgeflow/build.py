"""The composition root: from a configuration to the objects that do the work."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from judgeflow.clock import LoopClock
from judgeflow.config import Config, load_config, run_fingerprint_fields
from judgeflow.engine.retry import RetryPolicy
from judgeflow.engine.scheduler import Scheduler
from judgeflow.errors import ConfigurationError
from judgeflow.judges.client import HttpJudge
from judgeflow.judges.gate import ThrottleGate
from judgeflow.keys import digest
from judgeflow.observe.log import file_log
from judgeflow.ports import Observer, Scorer
from judgeflow.store import SqlStore
from judgeflow.store.engines import normalise_url
from judgeflow.tokens import ESTIMATE_RULE
from judgeflow.verdicts.prompt import load_template

RUN_NAME_DIGITS = 12


def build_scheduler(
    config: str | Path | Config, *, run_input: bytes = b"", observers: Sequence[Observer] = (), retry_failed: bool = False
) -> Scheduler:
    """Return a scheduler for a configuration file or a loaded `Config`.

    `run_input` identifies the data of a run without a name; `retry_failed` asks again what failed for good.  Raises
    `ConfigurationError`; nothing is opened, sent or written but the log file.  Loading the scorer takes seconds: build before the event
    loop has work to do.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    judge = build_judge(settings)
    scorer = build_scorer(settings)
    clock = LoopClock()
    watching = list(observers)
    if settings.log.path is not None:
        watching.append(file_log(settings.log, settings.path(settings.log.path)))
    _tell_if_estimated(settings, judge, watching)
    return Scheduler(
        store=functools.partial(SqlStore.open, store_url(settings)),
        judge=judge,
        scorer=scorer,
        gate=ThrottleGate(settings.limits, clock, longest_reply=settings.judge.max_completion_tokens),
        routing=settings.routing,
        budget=settings.budget,
        run=run_name(settings, run_input, scorer),
        orders=settings.judge.orders,
        graded=settings.judge.graded,
        retry=RetryPolicy(attempts=settings.judge.retry_attempts, for_s=settings.judge.retry_for_s),
        retry_failed=retry_failed,
        max_in_flight=settings.limits.max_in_flight,
        timeout_s=settings.judge.timeout_s,
        clock=clock,
        observers=watching,
        settings=settings.model_dump(mode="json"),
    )


def _tell_if_estimated(settings: Config, judge: HttpJudge, observers: Sequence[Observer]) -> None:
    """Where tokens or dollars are limited, say once if they are counted by an estimate."""
    limited = settings.limits.tokens_per_minute or settings.budget.tokens or settings.budget.usd
    if limited and not judge.counts_exactly:
        remedy = "OpenAI's models are counted exactly if TIKTOKEN_CACHE_DIR names a folder with tiktoken's vocabularies"
        for observer in observers:
            observer.notice("tokens_estimated", model=settings.judge.model, how=ESTIMATE_RULE, remedy=remedy)


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


def build_judge(settings: Config) -> HttpJudge:
    """Return the judge of a configuration, with the key from the variable that it names.  Raises `ConfigurationError`."""
    template = load_template(settings.judge.template, settings.path("."))
    return HttpJudge(settings.judge, template, api_key=api_key(settings), max_in_flight=settings.limits.max_in_flight)


def api_key(settings: Config) -> str | None:
    """Return the judge's API key, or None where none is configured.  Raises `ConfigurationError` if the variable is not set."""
    name = settings.judge.api_key_env
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigurationError(f"[judge] api_key_env: the environment variable {name} is not set; export it, or take the key out")
    return value


def store_url(settings: Config) -> str:
    """Return the store's address, with a relative path taken from [run] directory.  Raises `ConfigurationError`."""
    return normalise_url(settings.store.url, settings.run.directory)


def run_name(settings: Config, run_input: bytes = b"", scorer: Scorer | None = None) -> str:
    """Return [run] name, or a hash of the input, the scorer and the settings that decide what is asked."""
    identity = [run_fingerprint_fields(settings), run_input.hex(), *([scorer.fingerprint] if scorer else [])]
    return settings.run.name or digest("run/1", identity).hex()[:RUN_NAME_DIGITS]
