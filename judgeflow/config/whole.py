"""All settings of a run: which sections there are, and which of their settings make the run what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from judgeflow.complaints import model_of
from judgeflow.config.consistency import (
    check_adaptive,
    check_deadline,
    check_panel,
    check_prices,
    check_ranking,
    check_room,
    check_scorer,
    check_steps,
)
from judgeflow.config.settings import (
    SCORERLESS,
    BudgetConfig,
    FurtherJudgeConfig,
    JudgeConfig,
    JudgeConnection,
    LimitsConfig,
    LogConfig,
    MetricsConfig,
    RoutingConfig,
    RunConfig,
    ScorerConfig,
    Section,
    StoreConfig,
    TracingConfig,
)


class Config(Section):
    """All settings of a run."""

    run: RunConfig = RunConfig()
    scorer: ScorerConfig | None = None
    judge: JudgeConfig
    judges: dict[str, FurtherJudgeConfig] = Field(default_factory=dict)
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig = BudgetConfig()
    routing: RoutingConfig = RoutingConfig()
    store: StoreConfig = StoreConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    tracing: TracingConfig = TracingConfig()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        routing = self.routing
        if routing.policy not in SCORERLESS and self.scorer is None:
            raise ValueError(
                f"[routing] policy: {routing.policy!r} ranks pairs by a scorer; name one as [scorer] path (`judgeflow train` makes it), or "
                f"set policy to {', '.join(SCORERLESS)}"
            )
        check_adaptive(routing, self.budget)
        check_steps(self.budget)
        check_ranking(routing)
        check_deadline(routing)
        check_scorer(routing, self.judge.orders, has_scorer=self.scorer is not None)
        check_room(self.limits, self.judge)
        for name, judge in self.judges.items():
            check_room(judge.limits, judge, f"judges.{name}")
        return self

    @model_validator(mode="after")
    def _priced(self) -> Self:
        check_prices([self.judge, *self.judges.values()], self.budget)
        return self

    @model_validator(mode="after")
    def _shared(self) -> Self:
        check_panel(self.routing, {"judge": self.judge} | {f"judges.{name}": judge for name, judge in self.judges.items()})
        return self

    def path(self, relative: str) -> Path:
        """Return a path of this configuration, taken from [run] directory."""
        return Path(self.run.directory).expanduser() / Path(relative).expanduser()


def sections() -> list[str]:
    """Return the names of all sections."""
    return list(Config.model_fields)


def keys_of(section: str) -> list[str]:
    """Return the keys of one section; empty for an unknown one."""
    model = section_type(section)
    return list(model.model_fields) if model else []


def section_type(section: str) -> type[BaseModel] | None:
    """Return the model of one section, whose fields are its keys, of [judges] that of each judge; None for an unknown one."""
    return model_of(Config, [section]) or model_of(Config, [section, "NAME"])


def run_fingerprint_fields(config: Config) -> dict[str, Any]:
    """Return the settings that make a run what it is: they, and the input, name a run that has no name of its own.

    Limits, timeouts, logs and files may change without making it another run.
    """
    routing = config.routing.model_dump(mode="json")
    routing = {key: value for key, value in routing.items() if key not in _UNSAID or value != _UNSAID[key]}
    fields = {"judge": _asked(config.judge, config.routing), "budget": config.budget.model_dump(mode="json"), "routing": routing}
    others = [[name, _asked(judge, config.routing)] for name, judge in config.judges.items()]
    return fields | {"judges": others} if others else fields


def _asked(judge: JudgeConnection, routing: RoutingConfig) -> dict[str, Any]:
    """What of a judge's settings decides what it is asked, or which pairs are."""
    transport = {"timeout_s", "connect_timeout_s", "retry_attempts", "retry_for_s", "api_key_env", "base_url", "limits"}
    prices = {"prompt_usd_per_mtok", "completion_usd_per_mtok"}
    weight = set() if routing.panel == "weights" else {"weight"}
    return judge.model_dump(mode="json", exclude=transport | prices | weight) | {"id": judge.name}


_UNSAID: dict[str, Any] = {"audit_fraction": 0.0, "cost_weighted": False, "panel": "fallback", "after_deadline": "drop"}
"""Settings that came later: where they change nothing, a run goes by the name it had before they were there."""
