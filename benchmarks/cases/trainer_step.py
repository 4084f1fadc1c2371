"""What judgeflow adds to the step of a trainer: TRL's GRPO with rewards from it, against the same with a constant reward function.

The trainer is TRL's own `GRPOTrainer` on the CPU, with a GPT-2 of two layers (width 128, words as tokens) that generates 64 tokens to each
of 8 prompts 8 times, computes gradients and takes the optimizer's step: 224 pairs a step.  Any policy worth training takes longer, so the
ratios are an upper bound; what travels is the time in the reward function.  Judgeflow answers from the store (everything is known), through
`judgeflow serve --route` from another process's store, from a scorer alone (the one that `judgeflow train` makes from nothing: two layers,
width 64, characters as tokens), or from a judge that answers at once, asked in both orders, with every reply committed.

`*_time_vs_constant` is the seconds of a step over those with a function that returns 1.0, `*_reward_ms` the part of a step in the reward
function; both leave out the first step of a training, which opens the database.  The second table is the reward function alone, called as
TRL calls it, with as many pairs as real training has (64 prompts with 8 responses of 700 characters: 1,792 pairs): `*_ms_per_pair`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contest import Contender, Result, contest
from benchmarks.quick_judge import quick_judge
from benchmarks.rewards import DECIDES
from benchmarks.runner import Finding, Goal, table

SIZE = 5
"""Rounds; in each the trainer takes five steps, of which the last four count."""

GOALS: dict[str, Goal] = {}

PROMPTS, RESPONSES = 8, 8
ALONE_PROMPTS = 64
"""Of the reward function alone."""

NAMES = {
    "constant": "a constant",
    "store": "the store",
    "service": "the store, through a service",
    "scorer": "the scorer",
    "judge": "the judge",
}


def measure(size: int, seed: int) -> Finding:
    """Return the figures; `size` is the number of rounds, the seed draws texts and weights."""
    with tempfile.TemporaryDirectory(prefix="judgeflow-trainer-step-") as name, quick_judge() as base_url:
        folder = Path(name)
        _train_scorer(folder / "scorer", seed)
        steps = contest(
            {
                "constant": Contender(function="benchmarks.grpo:constant", arguments=_shape(PROMPTS, seed)),
                **_contenders("grpo:judgeflow", base_url, folder, _shape(PROMPTS, seed)),
            },
            size,
        )
        calls = contest(_contenders("rewards:alone", base_url, folder, _shape(ALONE_PROMPTS, seed)), size)
    return Finding(figures=_figures(steps, calls), tables=_tables(steps, calls))


def _train_scorer(out: Path, seed: int) -> None:
    """What it learns does not matter, nor then how long it does."""
    from judgeflow.model.config import TrainingConfig
    from judgeflow.model.train import train
    from judgeflow.testing import arithmetic_pairs

    train(arithmetic_pairs(200, seed=seed), out, training=TrainingConfig(epochs=1, seed=seed))


def _shape(prompts: int, seed: int) -> dict[str, int]:
    return {"prompts": prompts, "responses": RESPONSES, "seed": seed}


def _contenders(function: str, base_url: str, folder: Path, shape: Mapping[str, int]) -> dict[str, Contender]:
    """One for each source, with a folder of its own in which the scorer is found."""
    return {
        source: Contender(
            function=f"benchmarks.{function}",
            arguments={"source": source, "base_url": base_url, "folder": _made(folder, f"{function.partition(':')[0]}-{source}"), **shape},
        )
        for source in DECIDES
    }


def _made(folder: Path, name: str) -> str:
    made = folder / name
    made.mkdir()
    (made / "scorer").symlink_to(folder / "scorer")
    return str(made)


def _pairs(prompts: int) -> int:
    return prompts * RESPONSES * (RESPONSES - 1) // 2


def _figures(steps: Mapping[str, Result], calls: Mapping[str, Result]) -> dict[str, float]:
    constant = steps["constant"].measured["step_seconds"]
    ratios = {f"{source}_time_vs_constant": steps[source].measured["step_seconds"] / constant for source in DECIDES}
    rewarding = {f"{source}_reward_ms": 1000 * steps[source].measured["reward_seconds"] for source in DECIDES}
    each = {f"{source}_ms_per_pair": 1000 * calls[source].seconds / _pairs(ALONE_PROMPTS) for source in DECIDES}
    return ratios | {"constant_step_ms": 1000 * constant} | rewarding | each


def _tables(steps: Mapping[str, Result], calls: Mapping[str, Result]) -> str:
    constant = steps["constant"].measured["step_seconds"]
    head = ["rewards by", "step, ms", "of constant", "in the reward function, ms", "that is, ms a pair"]
    trained = table(head, [_trained(NAMES[source], result.measured, constant) for source, result in steps.items()])
    head = ["rewards by", "one call, ms", "ms a pair", "processor of the trainer's process, ms a pair"]
    alone = table(head, [_alone(NAMES[source], result) for source, result in calls.items()])
    return (
        f"A trainer, {_pairs(PROMPTS)} pairs a step:\n\n{trained}\n\nThe reward function alone, {_pairs(ALONE_PROMPTS):,} pairs:\n\n{alone}"
    )


def _trained(name: str, measured: Mapping[str, Any], constant: float) -> list[str]:
    step, reward = measured["step_seconds"], measured["reward_seconds"]
    return [name, f"{1000 * step:.0f}", f"{step / constant:.2f}", f"{1000 * reward:.1f}", f"{1000 * reward / _pairs(PROMPTS):.3f}"]


def _alone(name: str, result: Result) -> list[str]:
    pairs = _pairs(ALONE_PROMPTS)
    return [name, f"{1000 * result.seconds:.0f}", f"{1000 * result.seconds / pairs:.3f}", f"{1000 * result.cpu_seconds / pairs:.3f}"]
