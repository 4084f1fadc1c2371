"""Scoring groups of four responses: our siamese scorer against the paper's procedure, and how well the two encoders learn.

The reference workload is 256 prompts, 1,536 pairs, a step; `--size` takes fewer prompts (the default 6 is a 43rd).  That scales both sides
alike but for one thing: fewer texts leave more batches half empty, so the paper's side solves more often a prompt.  What it solves beyond
the rate of the whole workload, counted there, is taken off its time.

Ours reads each response once.  The paper's reads every pair in both orders, 12 passes a prompt, and solves a D x D system for each batch,
as its authors' released code does.  Both read the same texts with the same tokenizer and row length, in batches of similar length and at
most 4096 tokens, with bodies of one shape (22M parameters, random weights), in single precision, from text to preference.

Accuracies are of siamese and concat scorers trained from scratch on the demo's tasks (same pairs, steps and seed, each with the body's
learning rate that `judgeflow train` takes for it) and measured on routed pairs, three in ten of them of families that neither has seen.
A concat encoder has to find out by itself that order does not matter; the difference is one in what a small budget teaches from random
weights, not in what the encoders can do.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.contest import Contender, Prepared, contest
from benchmarks.runner import Goal

SIZE = 6
"""Prompts with four responses each; six pairs and, for the paper, twelve passes a prompt."""

GOALS = {"time_vs_paper_4096": Goal("<=", 0.36)}

ROUNDS = 2
WORKLOAD = 256
LEARNED_PER_PROMPT, MOST_LEARNED = 2500, 15_000
ROUTED = 1500
ROW = 96
PRIOR_PRECISION = 1e-3


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of prompts (and sets how much is learned), the seed draws texts and weights."""
    places = {"size": size, "seed": seed}
    found = contest(
        {
            "ours": Contender(function=f"{__name__}:ours", arguments=places),
            "paper_1024": Contender(function=f"{__name__}:paper", arguments=places | {"features": 1024}),
            "paper_4096": Contender(function=f"{__name__}:paper", arguments=places | {"features": 4096}),
        },
        ROUNDS,
    )
    count = min(MOST_LEARNED, LEARNED_PER_PROMPT * size)
    siamese, concat = learned_accuracy("siamese", count, seed), learned_accuracy("concat", count, seed)
    ours_seconds = found["ours"].seconds
    papers = {name: result.seconds - result.facts["excess_seconds"] for name, result in found.items() if name != "ours"}
    return {
        "time_vs_paper_1024": ours_seconds / papers["paper_1024"],
        "time_vs_paper_4096": ours_seconds / papers["paper_4096"],
        "ours_seconds": ours_seconds,
        "accuracy_minus_concat": siamese - concat,
        "siamese_accuracy": siamese,
        "concat_accuracy": concat,
    }


def ours(size: int, seed: int) -> Callable[[], object]:
    """Return a round of our scorer."""
    import torch

    from benchmarks.bodies import make_scorer, random_pairs

    torch.manual_seed(seed)
    scorer, pairs = make_scorer(), random_pairs(size, seed)
    return lambda: scorer.score(pairs)


def paper(size: int, seed: int, features: int) -> Prepared:
    """Return a round of the paper's procedure, and how long it solves beyond the whole workload's rate."""
    import torch

    from benchmarks.bodies import random_groups

    torch.manual_seed(seed)
    procedure, groups = PaperProcedure(features), random_groups(size, seed)
    expected = procedure.solves(random_groups(WORKLOAD, seed)) * size / WORKLOAD
    excess = procedure.solves(groups) - expected
    return Prepared(run=lambda: procedure.score(groups), facts={"excess_seconds": excess * procedure.solve_seconds()})


class PaperProcedure:
    """z = W h + b, phi = sqrt(2/D) cos(Omega z + o), g = beta phi, v = tau phi^T L^-1 phi, u = sqrt(1 + a v), s = g / u, in both orders.

    L is solved for anew in each batch (Xu et al. 2025 and their released code; section numbers there: 3 and appendix).
    """

    def __init__(self, features: int) -> None:
        import torch

        from benchmarks.bodies import LETTERS, MAX_TOKENS, sentence_encoder
        from judgeflow.model.config import ModelConfig
        from judgeflow.model.encoder import Encoder
        from judgeflow.model.layout import Layout
        from judgeflow.model.reading import Reader
        from judgeflow.model.scratch import character_tokenizer

        layout = Layout(character_tokenizer([LETTERS], MAX_TOKENS), MAX_TOKENS)
        self._reader = Reader(layout, ModelConfig(encoder="concat", max_tokens=MAX_TOKENS))
        self._encoder = Encoder(sentence_encoder(), layout.padding, "mean").eval()
        width = self._encoder.width
        weight = torch.randn(width, width)
        self._weight, self._bias = weight / torch.linalg.matrix_norm(weight, 2), torch.zeros(width)
        self._omega, self._offset = torch.randn(features, width), 2 * math.pi * torch.rand(features)
        self._beta = torch.randn(features)
        seen = self._phi(torch.randn(2 * features, width))
        self._precision = PRIOR_PRECISION * torch.eye(features) + seen.T @ seen

    def score(self, groups: list[Any]) -> list[tuple[float, float]]:
        """Return (s, u) of all pairs of all groups."""
        import torch

        from judgeflow.model.layout import batches
        from judgeflow.model.scorer import CPU_BATCH_TOKENS

        rows = self._rows(groups)
        s, u = torch.empty(len(rows)), torch.empty(len(rows))
        with torch.inference_mode():
            for chosen in batches(rows, CPU_BATCH_TOKENS):
                s[chosen], u[chosen] = self._judge(self._encoder([rows[index] for index in chosen]))
        both = zip(((s[0::2] - s[1::2]) / 2).tolist(), ((u[0::2] + u[1::2]) / 2).tolist(), strict=True)
        return list(both)

    def _rows(self, groups: list[Any]) -> Any:
        texts = [(pair.prompt, shown) for group in groups for pair in group.pairs() for shown in _orders(pair)]
        return self._reader.read(texts).rows

    def solves(self, groups: list[Any]) -> int:
        """Return how many systems are solved for these groups: one for each batch."""
        from judgeflow.model.layout import batches
        from judgeflow.model.scorer import CPU_BATCH_TOKENS

        return sum(1 for _ in batches(self._rows(groups), CPU_BATCH_TOKENS))

    def solve_seconds(self) -> float:
        """Return how long one batch's system takes, the median of three."""
        import torch

        hidden, seconds = torch.randn(8, self._encoder.width), []
        for _ in range(3):
            started = time.perf_counter()
            self._judge(hidden)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)

    def _judge(self, hidden: Any) -> tuple[Any, Any]:
        import torch

        phi = self._phi(hidden)
        variance = PRIOR_PRECISION * (phi @ torch.linalg.solve(self._precision, phi.T)).diagonal()
        uncertainty = torch.sqrt(1 + 10.0 * variance)
        return (phi @ self._beta) / uncertainty, uncertainty

    def _phi(self, hidden: Any) -> Any:
        import torch

        z = hidden @ self._weight.T + self._bias
        return math.sqrt(2 / len(self._omega)) * torch.cos(z @ self._omega.T + self._offset)


def _orders(pair: Any) -> tuple[tuple[str, str], tuple[str, str]]:
    return (pair.response_a, pair.response_b), (pair.response_b, pair.response_a)


def learned_accuracy(encoder: str, count: int, seed: int) -> float:
    """Train a scorer with this encoder on `count` pairs of the demo's tasks and return its accuracy on routed ones."""
    from judgeflow.cli.demo.tasks import routed_pairs, training_pairs
    from judgeflow.cli.recipes import choose_recipe
    from judgeflow.model.config import ModelConfig, TrainingConfig
    from judgeflow.model.train import train
    from judgeflow.replay.statistics import credit

    learned = training_pairs(count, seed)
    routed = routed_pairs(ROUTED, seed + 1, without={pair.prompt for pair in learned})
    recipe = choose_recipe(scratch=True, trained=True, lora=False, surface=False, concat=encoder == "concat")
    settings = TrainingConfig(epochs=1.0, backbone_lr=recipe.backbone_lr, validation_share=0.05, precision_pairs=6000, seed=seed)
    with TemporaryDirectory() as folder:
        model = ModelConfig(encoder=encoder, max_tokens=ROW)  # type: ignore[arg-type]  # a name from this file
        scorer, _ = train(learned, Path(folder) / "scorer", model=model, training=settings, device="cpu")
    preferences = scorer.score(routed)
    return float(credit([preference.logit for preference in preferences], [pair.label == "a" for pair in routed]).mean())
