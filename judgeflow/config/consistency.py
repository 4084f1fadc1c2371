"""Settings that are fine each by itself, and cannot be used together: what is wrong, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from judgeflow.config.settings import SCORERLESS, BudgetConfig, JudgeConnection, LimitsConfig, RoutingConfig
from judgeflow.types import Stock

_JUDGE_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def check_adaptive(routing: RoutingConfig, budget: BudgetConfig) -> None:
    """Raise `ValueError` for an adaptive threshold that nothing would ever move."""
    if routing.policy in {"always", "never"} or routing.threshold != "adaptive":
        return
    if routing.step_deadline_s is None and routing.max_share is None and budget.steps is None:
        raise ValueError(
            "[routing] threshold: 'adaptive' has nothing to adapt to; set [routing] max_share or step_deadline_s, or [budget] steps, "
            "or give the threshold as a number"
        )


def check_steps(budget: BudgetConfig) -> None:
    """Raise `ValueError` for steps that nothing is to last for."""
    if budget.steps is not None and budget.stock == Stock():
        raise ValueError("[budget] steps: says how long a budget should last, and there is none; set requests, tokens or usd, or no steps")


def check_deadline(routing: RoutingConfig) -> None:
    """Raise `ValueError` for a word about what follows a deadline that there is not."""
    if routing.after_deadline == "keep" and routing.step_deadline_s is None:
        raise ValueError("[routing] after_deadline: 'keep' needs a deadline; set [routing] step_deadline_s, or take the key out")


def check_ranking(routing: RoutingConfig) -> None:
    """Raise `ValueError` for settings about a ranking that the policy does not make, or not in numbers that a cost could divide."""
    if routing.audit_fraction and routing.policy in SCORERLESS:
        raise ValueError(
            f"[routing] audit_fraction: policy {routing.policy!r} has no threshold to draw pairs below; take the key out, or set policy "
            "to error, uncertainty or margin"
        )
    if routing.cost_weighted and routing.policy not in {"error", "uncertainty"}:
        raise ValueError(
            f"[routing] cost_weighted: policy {routing.policy!r} has no positive acquisition to divide by a cost; take the key out, or set "
            "policy to error or uncertainty"
        )


def check_scorer(routing: RoutingConfig, orders: str, *, has_scorer: bool) -> None:
    """Raise `ValueError` for settings that go by a scorer's word where there is no scorer."""
    if has_scorer:
        return
    if routing.verdict_margin == "matched":
        raise ValueError(
            "[routing] verdict_margin: 'matched' is what the scorer says where it decides, and there is no scorer; name one as [scorer] "
            "path, or give the margin as a number"
        )
    if orders == "adaptive":
        raise ValueError(
            "[judge] orders: 'adaptive' spares the second order where it cannot outweigh the scorer's word, and there is no scorer; name "
            "one as [scorer] path, or set orders to both, random or first"
        )


def check_prices(judges: Sequence[JudgeConnection], budget: BudgetConfig) -> None:
    """Raise `ValueError` for a budget in dollars that nothing would ever be charged to."""
    if budget.usd is not None and not any(judge.prompt_usd_per_mtok or judge.completion_usd_per_mtok for judge in judges):
        raise ValueError(
            "[budget] usd: limits nothing while every reply costs 0; set [judge] prompt_usd_per_mtok and completion_usd_per_mtok to the "
            "judge's prices, or limit requests or tokens instead"
        )


def check_panel(routing: RoutingConfig, judges: Mapping[str, JudgeConnection]) -> None:
    """Raise `ValueError` for judges, by section, that cannot be told apart or do not share the work as somebody thinks they do."""
    for section, judge in judges.items():
        name = section.partition(".")[2]
        if section != "judge" and (not _JUDGE_NAME.fullmatch(name) or name == "judge"):
            raise ValueError(f"[judges] {name}: a judge is named with small letters, digits and single _, and not judge, which is [judge]")
        if judge.weight != 1.0 and routing.panel != "weights":
            raise ValueError(f'[{section}] weight: counts only where the judges share the pairs; set [routing] panel = "weights"')
    if routing.panel == "weights" and len(judges) == 1:
        raise ValueError("[routing] panel: 'weights' divides the pairs between several judges; add another one as [judges.NAME]")


def check_room(limits: LimitsConfig, judge: JudgeConnection, section: str = "judge") -> None:
    """Raise `ValueError` for a token limit that not a single question fits into."""
    if limits.tokens_per_minute is not None and limits.tokens_per_minute <= judge.max_completion_tokens:
        where = "limits" if section == "judge" else f"{section}.limits"
        raise ValueError(
            f"[{where}] tokens_per_minute: {limits.tokens_per_minute} admits no question at all, since one reply alone may take "
            f"[{section}] max_completion_tokens = {judge.max_completion_tokens}; raise the limit, or lower max_completion_tokens"
        )
