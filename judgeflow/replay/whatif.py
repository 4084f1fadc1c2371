"""What is to be different: the question that a replay answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from judgeflow.chance import Latency, parse_latency
from judgeflow.config import (
    BudgetConfig,
    Config,
    LimitsConfig,
    PolicyName,
    RoutingConfig,
    check_adaptive,
    check_ranking,
    check_steps,
)
from judgeflow.errors import ConfigurationError

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

    `judges` are names of the trace's testimonies in order of preference: each pair is the first one's that has spoken about it; none
    means the only one there is.  `steps` (with a budget) is how many steps it should last for, by default as many as are played.
    `step_size` cuts the trace into steps of so many pairs; by default recorded steps are kept, and else it is `USUAL_STEP`.
    `latency` is "recorded", seconds, or a distribution as the fake judge takes it ("lognormal:34.6:0.33"); `prompt_tokens` and
    `completion_tokens` are what a call takes where nothing was recorded.  `longest_reply` is what is put aside for a reply, in tokens,
    by default what the judge's recorded parameters say.  `pause_s` is the time between two steps.
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

    @classmethod
    def from_settings(cls, settings: Config) -> WhatIf:
        """Return what a configuration would do: where a replay of one's own settings begins."""
        routing, limits, budget, judge = settings.routing, settings.limits, settings.budget, settings.judge
        return cls(
            policy=routing.policy,
            threshold=routing.threshold,
            floor=routing.floor,
            max_share=routing.max_share,
            audit_fraction=routing.audit_fraction,
            cost_weighted=routing.cost_weighted,
            verdict_margin=routing.verdict_margin,
            on_inconsistent=routing.on_inconsistent,
            orders=judge.orders,
            graded=judge.graded,
            requests_per_minute=limits.requests_per_minute,
            tokens_per_minute=limits.tokens_per_minute,
            max_in_flight=limits.max_in_flight,
            window_s=limits.window_s,
            charge=limits.charge,
            budget_requests=budget.requests,
            budget_tokens=budget.tokens,
            budget_usd=budget.usd,
            steps=budget.steps,
            step_deadline_s=routing.step_deadline_s,
            timeout_s=judge.timeout_s,
            longest_reply=judge.max_completion_tokens,
            seed=routing.seed,
        )

    @property
    def routing(self) -> RoutingConfig:
        """The same as `[routing]`.  An oracle ranks like any other policy."""
        return RoutingConfig(
            policy="error" if self.policy == "oracle" else self.policy,
            threshold=self.threshold,
            floor=self.floor,
            max_share=self.max_share,
            step_deadline_s=self.step_deadline_s,
            verdict_margin=self.verdict_margin,
            on_inconsistent=self.on_inconsistent,
            audit_fraction=self.audit_fraction,
            cost_weighted=self.cost_weighted,
            seed=self.seed,
        )

    @property
    def limits(self) -> LimitsConfig:
        """The same as `[limits]`."""
        return LimitsConfig(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            max_in_flight=self.max_in_flight,
            window_s=self.window_s,
            charge=self.charge,
        )

    def budget(self, steps: int) -> BudgetConfig:
        """The same as `[budget]`, for a run of so many steps unless it says otherwise."""
        stock = {"requests": self.budget_requests, "tokens": self.budget_tokens, "usd": self.budget_usd}
        limited = any(amount is not None for amount in stock.values())
        lasts = steps if limited and self.steps is None and self.threshold == "adaptive" else self.steps
        return BudgetConfig.model_validate(stock | {"steps": lasts})

    @property
    def distribution(self) -> Latency | None:
        """How long calls take; None: as recorded."""
        return None if self.latency == "recorded" else parse_latency(self.latency)
