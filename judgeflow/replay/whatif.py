"""What is to be different: the question that a replay answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from judgeflow.chance import Latency, parse_latency
from judgeflow.config import BudgetConfig, Config, LimitsConfig, PolicyName, RoutingConfig
from judgeflow.config.consistency import check_adaptive, check_ranking, check_steps
from judgeflow.errors import ConfigurationError
from judgeflow.routing.plan import is_adaptive

ReplayPolicy = PolicyName | Literal["oracle"]

USUAL_STEP = 1536
"""Pairs of a step where none were recorded: 256 prompts with four responses (Xu et al. 2025)."""

USUAL_REPLY = 1024
"""The longest reply of a judge whose settings are not recorded, in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """Settings under which a trace is played again; names, units and defaults are those of `judgeflow.toml`.

    `policy` may be "oracle": it ranks by what the judge's verdict changes for the better, by the labels, or where none are known, by
    whether judge and scorer disagree.  No router can know that: it is the bound of all of them.

    `judges` are judges of the trace, by id or fingerprint, in order of preference: each pair is the first one's that has spoken about it;
    none means the only one there is.  With `weights`, one for each of them, they share the pairs by lot as with `panel = "weights"`, and
    nobody stands in.  `steps` (with a budget) is how many steps it should last for, by default as many as are played.
    `step_size` cuts the trace into steps of so many pairs; by default recorded steps are kept, and else it is `USUAL_STEP`.
    `latency` is "recorded", seconds, or a distribution as the fake judge takes it ("lognormal:34.6:0.33"); `prompt_tokens`,
    `completion_tokens` and the prices are what a call takes where nothing was recorded.  `longest_reply` is what is put aside for a
    reply, in tokens, by default what the judge's recorded parameters say.  `pause_s` is the time between two steps.
    """

    policy: ReplayPolicy = "error"
    threshold: Literal["adaptive"] | float = "adaptive"
    floor: float | None = None
    max_share: float | None = None
    audit_fraction: float = 0.0
    cost_weighted: bool = False
    verdict_margin: float | Literal["matched"] = 2.0
    on_inconsistent: Literal["scorer", "zero"] = "scorer"
    orders: Literal["both", "adaptive", "random", "first"] = "both"
    graded: bool = False
    judges: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_in_flight: int = 64
    window_s: float = 60.0
    charge: Literal["reserved", "actual"] = "reserved"
    budget_requests: int | None = None
    budget_tokens: int | None = None
    budget_usd: float | None = None
    steps: int | None = None
    step_deadline_s: float | None = None
    step_size: int | None = None
    pause_s: float = 0.0
    latency: str | float = "recorded"
    timeout_s: float = 120.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    longest_reply: int | None = None
    prompt_usd_per_mtok: float = 0.0
    completion_usd_per_mtok: float = 0.0
    run: str = "default"
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            routing, budget = self.routing, self.budget(1)
            _ = self.limits
            check_adaptive(routing, budget)
            if self.steps is not None:
                check_steps(budget)
            if self.policy != "oracle":
                check_ranking(routing)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        _ = self.distribution
        if self.weights and (len(self.weights) != len(self.judges) or min(self.weights) <= 0):
            raise ConfigurationError(f"judges {', '.join(self.judges) or 'none'}: each needs a weight above 0 where one has a weight")

    @classmethod
    def from_settings(cls, settings: Config) -> WhatIf:
        """Return what a configuration would do: where a replay of one's own settings begins."""
        sections = (settings.routing, settings.limits, settings.judge)
        same = {name: value for section in sections for name, value in _shared(cls, section).items()}
        budget = {_OF_BUDGET[name]: value for name, value in settings.budget.model_dump().items()}
        return cls(**same, **budget, **_panel(settings), longest_reply=settings.judge.max_completion_tokens)

    @property
    def routing(self) -> RoutingConfig:
        """The same as `[routing]`.  An oracle ranks like any other policy."""
        policy = "error" if self.policy == "oracle" else self.policy
        return RoutingConfig(**_shared(RoutingConfig, self) | {"policy": policy})

    @property
    def limits(self) -> LimitsConfig:
        """The same as `[limits]`."""
        return LimitsConfig(**_shared(LimitsConfig, self))

    def budget(self, steps: int) -> BudgetConfig:
        """The same as `[budget]`; it lasts for so many steps only where nothing else would move an adaptive threshold.

        A run with a share and no `steps` takes the whole budget as it comes, and so does its replay; so does one that always asks.
        """
        stock = {name: getattr(self, ours) for name, ours in _OF_BUDGET.items() if name != "steps"}
        limited = any(amount is not None for amount in stock.values())
        paced = self.max_share is None and self.step_deadline_s is None and is_adaptive(self.routing)
        lasts = steps if limited and self.steps is None and paced else self.steps
        return BudgetConfig.model_validate(stock | {"steps": lasts})

    @property
    def distribution(self) -> Latency | None:
        """How long calls take; None: as recorded."""
        return None if self.latency == "recorded" else parse_latency(self.latency)


_OF_BUDGET = {"requests": "budget_requests", "tokens": "budget_tokens", "usd": "budget_usd", "steps": "steps"}
"""What the keys of `[budget]` are called here."""


def _shared(kind: type[WhatIf | BaseModel], source: WhatIf | BaseModel) -> dict[str, Any]:
    """What `source` says of the settings that `kind` has by the same name."""
    return {name: getattr(source, name) for name in _names(type(source)) if name in _names(kind)}


def _names(kind: type[WhatIf | BaseModel]) -> Collection[str]:
    return kind.model_fields if issubclass(kind, BaseModel) else [field.name for field in fields(kind)]


def _panel(settings: Config) -> dict[str, Any]:
    """Return the judges of a configuration that has several, in order of preference, with their weights where those share the pairs."""
    judges = [settings.judge, *settings.judges.values()]
    if len(judges) == 1:
        return {}
    weights = tuple(judge.weight for judge in judges) if settings.routing.panel == "weights" else ()
    return {"judges": tuple(judge.name for judge in judges), "weights": weights}
