"""Settings: judgeflow.toml, then `JUDGEFLOW_SECTION__KEY` from the environment, then command-line overrides.

Everything is checked before anything starts.  A mistake names the key, where it was set (file and line, variable, flag) and
what would be accepted.
"""

from __future__ import annotations

from judgeflow.config.loading import DEFAULT_FILE, ENVIRONMENT_PREFIX, Settled, load_config, settle
from judgeflow.config.settings import (
    SCORERLESS,
    BudgetConfig,
    FurtherJudgeConfig,
    JudgeConfig,
    JudgeConnection,
    LimitsConfig,
    LogConfig,
    MetricsConfig,
    PolicyName,
    RoutingConfig,
    RunConfig,
    ScorerConfig,
    StoreConfig,
    TracingConfig,
)
from judgeflow.config.whole import Config, keys_of, run_fingerprint_fields, section_type, sections

__all__ = [
    "DEFAULT_FILE",
    "ENVIRONMENT_PREFIX",
    "SCORERLESS",
    "BudgetConfig",
    "Config",
    "FurtherJudgeConfig",
    "JudgeConfig",
    "JudgeConnection",
    "LimitsConfig",
    "LogConfig",
    "MetricsConfig",
    "PolicyName",
    "RoutingConfig",
    "RunConfig",
    "ScorerConfig",
    "Settled",
    "StoreConfig",
    "TracingConfig",
    "keys_of",
    "load_config",
    "run_fingerprint_fields",
    "section_type",
    "sections",
    "settle",
]
