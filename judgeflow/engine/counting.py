"""What a step did, in numbers: who answered, what was paid to whom, and how far scorer and judge agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from judgeflow.engine.items import Item
from judgeflow.routing.agreement import Vote, agreement, tally
from judgeflow.routing.plan import StepPlan
from judgeflow.types import IDENTICAL, Call, Cost, Outcome, Pressure, StepStatistics


def statistics(
    *,
    run: str,
    step: int,
    items: Sequence[Item],
    outcomes: Sequence[Outcome],
    plan: StepPlan,
    remaining: Mapping[str, float | None],
    seconds: float,
    pressure: Mapping[str, Pressure],
) -> StepStatistics:
    """Count what a step did."""
    paid = [item.calls[key] for item in items for key in sorted(item.paid)]
    agreements = [outcome.verdict.swapped_agree for outcome in outcomes if outcome.verdict is not None]
    spoken = [agree for agree in agreements if agree is not None]
    asked_of = {key: bench.judge.id for item in items if item.paid for bench in item.benches if bench.judge for key in bench.directions}
    return StepStatistics(
        run=run,
        step=step,
        pairs=len(outcomes),
        threshold=plan.threshold,
        sources=dict(Counter(outcome.source for outcome in outcomes if outcome.status != IDENTICAL)),
        statuses=dict(Counter(outcome.status for outcome in outcomes)),
        calls=len(paid),
        spent=Cost(requests=len(paid), tokens=sum(call.reply.usage.total for call in paid), usd=sum(call.reply.usd for call in paid)),
        prompt_tokens=sum(call.reply.usage.prompt for call in paid),
        completion_tokens=sum(call.reply.usage.completion for call in paid),
        agreement=sum(spoken) / len(spoken) if spoken else None,
        latency_s=_quantiles(sorted(call.reply.latency_s for call in paid)),
        remaining=remaining,
        seconds=seconds,
        routed=tally(_votes(items, outcomes, plan, audit=False)),
        audited=tally(_votes(items, outcomes, plan, audit=True)),
        judges=_by_judge((asked_of[call.key], call) for call in paid),
        pressure=pressure,
    )


def _by_judge(paid: Iterable[tuple[str, Call]]) -> dict[str, Cost]:
    """What was paid to each judge, by its id."""
    sums: dict[str, Cost] = {}
    for judge, call in paid:
        sums[judge] = sums.get(judge, Cost()) + Cost(requests=1, tokens=call.reply.usage.total, usd=call.reply.usd)
    return sums


def _votes(items: Sequence[Item], outcomes: Sequence[Outcome], plan: StepPlan, *, audit: bool) -> Iterator[Vote]:
    """What became of each pair that this step has asked about by rank, or for the audit, now or before an interruption."""
    for item, propensity in zip(items, plan.propensities, strict=True):
        asked = item.is_asked or (item.decided is not None and item.decided.asked)
        if asked and propensity > 0.0 and item.is_audit == audit:
            index, flipped = item.places[0]
            verdict = outcomes[index].verdict
            choice = (verdict.swapped() if flipped else verdict).choice if verdict else None
            yield Vote(prompt=item.keys.prompt, propensity=propensity, agree=agreement(_belief(item), choice))


def _belief(item: Item) -> float | None:
    """The scorer's logit, in canonical order; of a pair that needs no scoring any more, what it was when this step was decided."""
    if item.preference is not None:
        return item.preference.logit
    return item.decided.logit or None if item.decided is not None else None


def _quantiles(ordered: Sequence[float]) -> dict[str, float]:
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {"p50": ordered[round(0.5 * last)], "p90": ordered[round(0.9 * last)], "max": ordered[last]}
