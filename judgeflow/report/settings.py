"""What a run's stored configuration says about its judges, limits and budget.  It may be empty: `Scheduler` can be made without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from judgeflow.types import Stock


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """One judge of a configuration; limits are per minute, None where there is none."""

    id: str
    model: str
    requests_per_minute: float | None
    tokens_per_minute: float | None


def stock_of(config: Mapping[str, Any]) -> Stock:
    """Return what the run may spend in all."""
    budget = _section(config, "budget")
    return Stock(**{kind: budget.get(kind) for kind in ("requests", "tokens", "usd")})


def policy_of(config: Mapping[str, Any]) -> str | None:
    """Return the policy, None where none is stored."""
    policy: str | None = _section(config, "routing").get("policy")
    return policy


def judges_of(config: Mapping[str, Any]) -> tuple[JudgeSettings, ...]:
    """Return the judges in order of preference."""
    return tuple(_judge(judge, limits) for judge, limits in _sections(config) if judge.get("model"))


def _sections(config: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    yield _section(config, "judge"), _section(config, "limits")
    for judge in _section(config, "judges").values():
        yield judge, _section(judge, "limits")


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _judge(judge: Mapping[str, Any], limits: Mapping[str, Any]) -> JudgeSettings:
    per_minute = 60.0 / (limits.get("window_s") or 60.0)
    requests, tokens = (limits.get(name) for name in ("requests_per_minute", "tokens_per_minute"))
    return JudgeSettings(
        id=judge.get("id") or f"{judge.get('base_url')} {judge['model']}",
        model=judge["model"],
        requests_per_minute=None if requests is None else requests * per_minute,
        tokens_per_minute=None if tokens is None else tokens * per_minute,
    )
