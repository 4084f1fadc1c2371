"""What a training step takes with judgeflow's rewards, against one whose reward function returns a constant.

TRL's `GRPOTrainer` really trains a policy of two layers on the CPU: 8 prompts with 8 responses of 64 tokens, 224 pairs a step, generation,
gradients and the optimizer's step included.  Rewards come from (`benchmarks/rewards.py`)

- constant: an `async def` that returns 1.0 for each response;
- store: `judge_reward` where every verdict is stored;
- service: the same, asked of `judgeflow serve --route` in another process;
- scorer: a small SNGP scorer has the only word;
- judge: a judge that answers at once is asked in both orders of every pair, and every reply committed to a database file.

`*_time_vs_constant` is the wall time of a step over that with the constant, `*_reward_ms` what of a step was spent in the reward function.
So small a policy steps in a second: one that is trained in earnest takes ten times as long and more, with the same time spent on
rewards.  Therefore a batch as real training has it is measured too, without a trainer: 64 prompts with 8 responses, 1,792 pairs of texts of
700 characters, `*_us_per_pair` and, of the trainer's own process, `*_cpu_us_per_pair`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.contest import Contender, contest
from benchmarks.quick_judge import quick_judge
from benchmarks.rewards import SOURCES
from benchmarks.runner import Goal

SIZE = 5
"""Rounds."""

GOALS: dict[str, Goal] = {}

PROMPTS, LARGE, RESPONSES = 8, 64, 8


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of rounds, the seed draws the texts, the policy's weights and the scorer's."""
    with tempfile.TemporaryDirectory(prefix="judgeflow-trainer-step-") as name, quick_judge() as base_url:
        _train_scorer(Path(name) / "scorer", seed)

        def contender(function: str, source: str, prompts: int) -> Contender:
            folder = Path(name) / str(prompts) / source
            folder.mkdir(parents=True)
            batch = {"prompts": prompts, "responses": RESPONSES, "seed": seed}
            asked = {"source": source, "base_url": base_url, "folder": str(folder), "scorer": str(Path(name) / "scorer")}
            return Contender(function=f"benchmarks.{function}", arguments=asked | batch)

        constant = Contender(function="benchmarks.grpo:constant", arguments={"prompts": PROMPTS, "responses": RESPONSES, "seed": seed})
        trained = contest({"constant": constant} | {source: contender("grpo:judgeflow", source, PROMPTS) for source in SOURCES}, size)
        alone = contest({source: contender("rewards:alone", source, LARGE) for source in SOURCES}, size)
    plain, pairs = trained["constant"].measured["step_seconds"], LARGE * RESPONSES * (RESPONSES - 1) / 2
    figures = {f"{source}_time_vs_constant": trained[source].measured["step_seconds"] / plain for source in SOURCES}
    figures["constant_step_ms"] = 1000 * plain
    figures |= {f"{source}_reward_ms": 1000 * trained[source].measured["reward_seconds"] for source in SOURCES}
    for source in SOURCES:
        figures[f"{source}_us_per_pair"] = 1e6 * alone[source].seconds / pairs
        figures[f"{source}_cpu_us_per_pair"] = 1e6 * alone[source].cpu_seconds / pairs
    return figures


def _train_scorer(out: Path, seed: int) -> None:
    from judgeflow.model.config import TrainingConfig
    from judgeflow.model.train import train
    from judgeflow.testing import arithmetic_pairs

    train(arithmetic_pairs(200, seed=seed), out, training=TrainingConfig(epochs=1, seed=seed))
