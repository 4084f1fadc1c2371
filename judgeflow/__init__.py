"""judgeflow: ask a strong LLM judge only where the preference model is uncertain.

>>> from judgeflow import Pair, Scheduler
>>> async with Scheduler.from_config("judgeflow.toml") as scheduler:
...     step = await scheduler.route(pairs)

Names are loaded when they are first used, so importing the package is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judgeflow.config import Config, load_config
    from judgeflow.engine.scheduler import Scheduler
    from judgeflow.engine.seat import Seat
    from judgeflow.errors import (
        ConfigurationError,
        JudgeError,
        JudgeflowError,
        RecordError,
        SchemaMismatch,
        ScorerError,
        StoreError,
        StoreUnavailable,
        UsageError,
    )
    from judgeflow.records import read_pairs
    from judgeflow.types import Group, LateOutcome, Message, Outcome, Pair, Preference, StepResult, StepStatistics, Verdict

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigurationError",
    "Group",
    "JudgeError",
    "JudgeflowError",
    "LateOutcome",
    "Message",
    "Outcome",
    "Pair",
    "Preference",
    "RecordError",
    "Scheduler",
    "SchemaMismatch",
    "ScorerError",
    "Seat",
    "StepResult",
    "StepStatistics",
    "StoreError",
    "StoreUnavailable",
    "UsageError",
    "Verdict",
    "__version__",
    "load_config",
    "read_pairs",
]

_HOMES = {
    "config": ("Config", "load_config"),
    "engine.scheduler": ("Scheduler",),
    "engine.seat": ("Seat",),
    "errors": (
        "ConfigurationError",
        "JudgeError",
        "JudgeflowError",
        "RecordError",
        "SchemaMismatch",
        "ScorerError",
        "StoreError",
        "StoreUnavailable",
        "UsageError",
    ),
    "records": ("read_pairs",),
    "types": ("Group", "LateOutcome", "Message", "Outcome", "Pair", "Preference", "StepResult", "StepStatistics", "Verdict"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
