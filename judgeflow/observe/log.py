"""Structured logs: one event per attempt and per step, and what the operator should know.  Never texts, never secrets.

docs/logs.md lists every event and its fields, and is compared with the code by the tests.  Attempts and steps have the level info, all
else is a warning.  The file is opened for appending and stays open: what truncates it in place (logrotate's copytruncate) loses nothing
of what follows; what renames it takes the open file along.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import orjson
import structlog

from judgeflow.config import LogConfig
from judgeflow.errors import ConfigurationError
from judgeflow.observe.places import cannot_write, try_file
from judgeflow.types import CallEvent, StepStatistics

KEY_DIGITS = 16
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class LogObserver:
    """Writes what the scheduler tells to one structlog logger; attempts at `call_level`, steps at info, notices at warning."""

    def __init__(self, logger: Any, *, call_level: str = "info", stream: TextIO | None = None) -> None:
        self._logger = logger
        self._call = getattr(logger, call_level)
        self._stream = stream

    def call(self, event: CallEvent) -> None:
        """Log an attempt."""
        fields: dict[str, object] = {
            "run": event.run,
            "step": event.step,
            "judge": event.judge,
            "call": event.call_key.hex()[:KEY_DIGITS],
            "pair": event.pair_key.hex()[:KEY_DIGITS],
            "order": event.order,
            "outcome": event.outcome,
            "attempt": event.attempt,
            "latency_s": round(event.latency_s, 4),
            "prompt_tokens": event.usage.prompt,
            "completion_tokens": event.usage.completion,
            "reasoning_tokens": event.usage.reasoning,
            "usd": round(event.usd, 8),
        }
        self._call("call", **fields, **({"error": event.error} if event.error else {}))

    def step(self, statistics: StepStatistics) -> None:
        """Log a step."""
        self._logger.info(
            "step",
            run=statistics.run,
            step=statistics.step,
            pairs=statistics.pairs,
            threshold=statistics.threshold,
            sources=dict(statistics.sources),
            statuses=dict(statistics.statuses),
            calls=statistics.calls,
            tokens=statistics.spent.tokens,
            usd=round(statistics.spent.usd, 8),
            judges={name: paid.requests for name, paid in statistics.judges.items()},
            agreement=statistics.agreement,
            latency_s={name: round(value, 4) for name, value in statistics.latency_s.items()},
            remaining={name: value for name, value in statistics.remaining.items() if value is not None},
            seconds=round(statistics.seconds, 4),
        )

    def notice(self, event: str, **fields: object) -> None:
        """Log something the operator should know."""
        self._logger.warning(event, **fields)

    def close(self) -> None:
        """Close the file, if this observer opened one."""
        if self._stream is not None:
            self._stream.close()


def file_log(settings: LogConfig, path: Path) -> LogObserver:
    """Return an observer that appends to `path`.  Raises `ConfigurationError` if it cannot be opened."""
    try:
        stream = path.open("a", encoding="utf-8", buffering=1)
    except OSError as error:
        raise _no_log(path, error) from None
    renderer = _json_renderer() if settings.format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    return LogObserver(_logger(stream, settings.level, renderer), stream=stream)


def try_log(path: Path) -> None:
    """Raise `ConfigurationError` as `file_log`, and write nothing."""
    try:
        try_file(path)
    except OSError as error:
        raise _no_log(path, error) from None


def _no_log(path: Path, error: OSError) -> ConfigurationError:
    return cannot_write("[log] path", path, error, "name a file in a folder that exists and can be written")


def console_log(settings: LogConfig) -> LogObserver:
    """Return an observer that writes readable lines to stderr: steps and notices, and with level "debug" every attempt."""
    renderer = structlog.dev.ConsoleRenderer(colors=_takes_colours(sys.stderr, os.environ), sort_keys=False)
    return LogObserver(_logger(sys.stderr, settings.level, _for_people, renderer), call_level="debug")


def _takes_colours(stream: TextIO, environ: Mapping[str, str]) -> bool:
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "").lower() not in {"dumb", "unknown"}


def _for_people(_logger: Any, _method: str, event: Any) -> Any:
    """Leave out what is empty, round what is measured, and write tables as a list."""
    return {name: _readable(value) for name, value in event.items() if value is not None and value != {} and name != "run"}


def _readable(value: object) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_readable(item)}" for name, item in value.items())
    return value


def _logger(stream: TextIO, level: str, *renderers: Any) -> Any:
    return structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        context_class=dict,
    )


def _json_renderer() -> Any:
    return structlog.processors.JSONRenderer(serializer=lambda event, **_: _json(event))


def _json(event: Mapping[str, Any]) -> str:
    """Return an event as JSON.  What foreign code has put into it, half a character for instance, must not end the log."""
    try:
        return orjson.dumps(event).decode()
    except TypeError:
        return json.dumps(event, default=repr)
