"""What routing is worth on real verdicts: five reward models, and the mean of their z-scores, before o1-mini in both orders.

`judgebench_gpt4o` has 350 pairs of objective correctness.  Pairs are ranked by the margin of the reward model, smallest first.  Gains are
over random's expectation at as many judged pairs; calls saved are those that random needs more to reach the accuracy that it has with
40 % judged, taken where the policy's curve first gets there, which flatters a noisy curve, in every resample alike.  Intervals are 95 %,
by a bootstrap over prompts.  Goals are about the figures themselves; the lower ends of the intervals stand beside them, and are lower.
The oracle judge is always right; 2 accuracy - 1 is what a calibrated scorer could save at most with it in expectation, so an estimate from
350 pairs may well be above it.  The better reward models are those whose accuracy is not below the median of the five.

What the second order is worth is told at equal calls: both orders of so many pairs, one random order of twice as many, or the second order
only where it can still change who is preferred.  The last table has the position bias of nine judges on `mtbench_position_judges`, who
were asked three times.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.real_data import data_folder
from benchmarks.runner import Finding, Goal, Skipped, table
from judgeflow.estimates import Estimate
from judgeflow.replay.evidence import evidence
from judgeflow.replay.measure import SHARES, Measured, OrderValue, PositionBias, position_bias, second_order
from judgeflow.replay.measure import measure as measured
from judgeflow.replay.read import MEAN_Z, read_file
from judgeflow.replay.statistics import RESAMPLES
from judgeflow.replay.trace import Trace

SIZE = RESAMPLES
"""Resamples of the bootstrap."""

LEAST_RESAMPLES = 20

GOALS = {
    "calls_saved_by_the_better_at_least": Goal(">=", 0.25),
    "oracle_calls_saved_over_bound_at_least": Goal(">=", 0.70),
}

PAIRS, TEMPLATE = "judgebench_gpt4o", "verdict-scale"
POSITIONS, POSITION_TEMPLATE = "mtbench_position_judges", "verdict-abc"
POLICY, TARGET = "margin", 0.4


def measure(size: int, seed: int) -> Finding:
    """Return the figures and tables; `size` is the number of resamples."""
    resamples = max(size, LEAST_RESAMPLES)
    names = _reward_models()
    traces = {name: _read(PAIRS, TEMPLATE, name) for name in (*names, MEAN_Z)}
    real = {name: _measured(trace, seed, resamples, perfect=False) for name, trace in traces.items()}
    perfect = {name: _measured(trace, seed, resamples, perfect=True) for name, trace in traces.items()}
    orders = {name: second_order(trace, _judge(trace), POLICY, SHARES, seed=seed, resamples=resamples) for name, trace in traces.items()}
    judges = _read(POSITIONS, POSITION_TEMPLATE, None)
    biases = [position_bias(judges, name, seed=seed, resamples=resamples) for name in judges.testimonies]
    return Finding(
        figures=_figures(names, real, perfect) | _of_each(real) | {"both_minus_one_at_equal_calls": _both_minus_one(orders)},
        tables=_tables(real, perfect, orders, biases),
        details={"scorers": {name: _details(found) for name, found in real.items()}},
    )


def _read(name: str, template: str, scorer: str | None) -> Trace:
    path = data_folder() / f"{name}.jsonl"
    if not path.is_file():
        raise Skipped(f"no data: {path} is missing")
    return read_file(path, scorer=scorer, template=template, on_bad_record="skip")


def _reward_models() -> list[str]:
    import orjson

    path = data_folder() / f"{PAIRS}.jsonl"
    if not path.is_file():
        raise Skipped(f"no data: {path} is missing")
    with path.open("rb") as stream:
        return sorted(orjson.loads(stream.readline())["rm_scores"])


def _judge(trace: Trace) -> str:
    (name,) = trace.testimonies
    return name


def _measured(trace: Trace, seed: int, resamples: int, *, perfect: bool) -> Measured:
    found = evidence(trace, _judge(trace), "both")
    if perfect:
        found = dataclasses.replace(found, judged=np.ones(len(found)))
    return measured(found, SHARES, seed=seed, resamples=resamples)


def _saved(found: Measured) -> Estimate:
    return found.curves[POLICY].saved["calls"]


def _gain(found: Measured, share: float) -> Estimate:
    return found.curves[POLICY].at(share).gain


def _figures(names: Sequence[str], real: Mapping[str, Measured], perfect: Mapping[str, Measured]) -> dict[str, float]:
    accuracies = {name: real[name].scorer_accuracy.value for name in names}
    better = [name for name in names if accuracies[name] >= np.median(list(accuracies.values()))]
    return {
        "calls_saved_by_the_better_at_least": min(_saved(real[name]).value for name in better),
        "calls_saved_by_the_better_low_at_least": min(_saved(real[name]).low for name in better),
        "calls_saved_by_the_better_mean": float(np.mean([_saved(real[name]).value for name in better])),
        "calls_saved_by_mean_z": _saved(real[MEAN_Z]).value,
        "calls_saved_by_mean_z_low": _saved(real[MEAN_Z]).low,
        "oracle_calls_saved_over_bound_at_least": min(_saved(found).value / found.bound for found in perfect.values()),
        "oracle_calls_saved_low_over_bound_at_least": min(_saved(found).low / found.bound for found in perfect.values()),
        "gain_at_20_of_mean_z": _gain(real[MEAN_Z], 0.2).value,
        "gain_at_20_of_mean_z_low": _gain(real[MEAN_Z], 0.2).low,
        "gain_at_40_of_mean_z": _gain(real[MEAN_Z], TARGET).value,
        "gain_at_40_of_mean_z_low": _gain(real[MEAN_Z], TARGET).low,
    }


def _of_each(real: Mapping[str, Measured]) -> dict[str, float]:
    """The gain and the calls saved of every reward model, with the lower ends of their intervals."""
    figures: dict[str, float] = {}
    for name, found in real.items():
        gain, saved = _gain(found, TARGET), _saved(found)
        figures |= {f"gain_at_40 {name}": gain.value, f"gain_at_40_low {name}": gain.low}
        figures |= {f"calls_saved {name}": saved.value, f"calls_saved_low {name}": saved.low}
    return figures


def _both_minus_one(orders: Mapping[str, Sequence[OrderValue]]) -> float:
    """Accuracy of both orders minus that of one random order at the calls of 20 % judged in both, mean of all scorers."""
    values = [value for each in orders.values() for value in each if value.orders == "random" and value.share == 0.2]
    return -float(np.mean([value.over_both.value for value in values]))


def _details(found: Measured) -> dict[str, Any]:
    return {
        "accuracy": dataclasses.asdict(found.scorer_accuracy),
        "bound": found.bound,
        "saved": dataclasses.asdict(_saved(found)),
        "curve": [
            {"share": point.share, "accuracy": dataclasses.asdict(point.accuracy), "gain": dataclasses.asdict(point.gain)}
            for point in found.curves[POLICY].points
        ],
    }


def _tables(
    real: Mapping[str, Measured],
    perfect: Mapping[str, Measured],
    orders: Mapping[str, Sequence[OrderValue]],
    biases: Sequence[PositionBias],
) -> str:
    gains = [
        [name, f"{found.scorer_accuracy.value:.3f}", *(_points(_gain(found, share)) for share in SHARES), _percent(_saved(found))]
        for name, found in real.items()
    ]
    bounds = [[name, _percent(_saved(found)), f"{100 * found.bound:.0f} %"] for name, found in perfect.items()]
    worth = [
        [name, f"{value.share:.0%}", value.orders, f"{value.accuracy.value:.3f}", _points(value.over_both), f"{value.agreement:.2f}"]
        for name, values in orders.items()
        for value in values
    ]
    bias = [
        [
            each.judge,
            str(each.pairs),
            str(each.twice),
            _percent(each.agreement),
            f"{each.first:.1%}",
            f"{each.second:.1%}",
            f"{each.tied:.1%}",
        ]
        for each in biases
    ]
    judged = [f"{share:.0%} judged" for share in SHARES]
    return "\n\n".join(
        [
            "## Accuracy gained over random with o1-mini, in points, and calls saved",
            table(["scorer", "accuracy", *judged, "calls saved at random's 40 %"], gains),
            "## Calls saved with a judge that is always right",
            table(["scorer", "calls saved", "bound"], bounds),
            "## What the second order is worth, at the calls that both orders take",
            table(["scorer", "pairs in both orders", "orders", "accuracy", "over both, points", "agreement with both"], worth),
            "## Position bias on mtbench_position_judges (every repetition)",
            table(["judge", "pairs", "repetitions", "orders agree", "first shown twice", "second shown twice", "one order ties"], bias),
        ]
    )


def _points(found: Estimate) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"
