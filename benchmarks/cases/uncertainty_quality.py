"""What uncertainty is worth on real data: accuracy gained over random by judging 10, 20 or 40 % of the pairs, for every policy.

Scorers are trained on rmb_helpful without the prompts that are held out, over one frozen body beside surface features: the SNGP scorer
and its rivals.  They are tested on the prompts held out, on rmb_harmless, pandalm_human and judgebench_gpt4o.  JUDGEFLOW_BACKBONE names
the body's folder; without it a tiny one with random weights is used, and surface features are nearly all that scorers go by.
With a frozen body, MC dropout samples the dropout of embeddings only, and the members of an ensemble differ only by the order in which
they see their training pairs.

A gain is the accuracy once a judge has answered the top share minus random's expectation at as many pairs, with a 95 % interval from a
bootstrap over prompts.  The oracle judge is always right; recorded judges are as right as they were.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality import DEFAULT, ORACLE, Answers, Row, Run, accuracy_of, answers, auroc_of, deciles, merged, rows_of, scorers, tables
from benchmarks.real_data import read
from benchmarks.remembering import Hidden, RememberingNetwork, RememberingReader
from benchmarks.runner import Finding, Goal

SIZE = 3
"""Seeds; each splits, trains and measures anew."""

GOALS = {
    "heldout_accuracy": Goal(">=", 0.72),
    "heldout_error_auroc": Goal(">=", 0.68),
    "gain_at_20_low": Goal(">=", 0.0),
    "gain_at_40_low": Goal(">=", 0.0),
    "gain_over_margin_at_20_low": Goal(">=", -0.005),
}
"""The default policy is better than random for sure, and no worse than margin by more than half a point."""

BACKBONE = "JUDGEFLOW_BACKBONE"
MAX_TOKENS = 256
HELD_OUT = "rmb_helpful, held out"
ELSEWHERE = ("rmb_harmless", "pandalm_human", "judgebench_gpt4o")
HELD_OUT_SHARE = 0.2
OURS = "sngp"
SCORERS = (OURS, "mc-dropout", "last-layer-laplace", "ensemble", "none")

# On a frozen body the nonlinear term soon knows the training prompts by heart (held-out accuracy .70 at its usual scale of 10, and falling
# with every epoch); at a hundredth of it, what generalises is learned first.
MODEL: Mapping[str, Any] = {"surface": True, "logit_scale": 0.1}
TRAINING: Mapping[str, Any] = {"epochs": 20.0, "batch": 256, "lr": 2e-2}


def measure(size: int, seed: int) -> Finding:
    """Return the figures and the tables; `size` is the number of seeds, of which `seed` is the first."""
    bench = Bench()
    runs = [bench.run(number) for number in range(seed, seed + size)]
    rows = merged([rows_of(run, number) for number, run in enumerate(runs, seed)])
    return Finding(figures=_figures(runs, rows), tables=tables(runs, rows, OURS), details=_details(runs, rows))


class Bench:
    """The data, and one frozen body that has read them."""

    def __init__(self) -> None:
        import torch

        from judgeflow.model.config import ModelConfig
        from judgeflow.model.layout import Layout
        from judgeflow.model.train import SCRATCH, make_bodies

        self._pairs = read("rmb_helpful")
        self._elsewhere = {name: read(name) for name in ELSEWHERE}
        torch.manual_seed(0)
        config = ModelConfig(max_tokens=MAX_TOKENS, **MODEL)
        (self._body,), tokenizer = make_bodies(os.environ.get(BACKBONE, SCRATCH), self._pairs, config, trained=False)
        self._reader = RememberingReader(Layout(tokenizer, MAX_TOKENS), config)
        self._hidden: Hidden = {}

    def run(self, seed: int) -> dict[tuple[str, str], Answers]:
        """Train every scorer with this seed and have it answer every test set."""
        from judgeflow.model.data import split_by_prompt

        learning, held_out = split_by_prompt(self._pairs, HELD_OUT_SHARE, seed)
        sets = {HELD_OUT: held_out} | self._elsewhere
        found = {}
        for kind in SCORERS:
            scorer = self._train(kind, learning, seed)
            for name, pairs in sets.items():
                _say(f"seed {seed}: {kind} answers {name}")
                found[name, kind] = answers(scorer, pairs)
        return found

    def _train(self, kind: str, pairs: Sequence[Any], seed: int) -> Any:
        import torch

        from judgeflow.model.config import ModelConfig, TrainingConfig
        from judgeflow.model.scorer import CPU_BATCH_TOKENS, SngpScorer
        from judgeflow.model.trainer import Trainer, gather

        torch.manual_seed(seed)
        config = ModelConfig(uncertainty=kind, max_tokens=MAX_TOKENS, **MODEL)  # type: ignore[arg-type]  # a name from this file
        network = RememberingNetwork(self._body, self._reader.layout.padding, config, self._hidden)
        settings = TrainingConfig(seed=seed, **TRAINING)
        report = Trainer(network, settings, CPU_BATCH_TOKENS).run(gather(pairs, self._reader, config, settings))
        return SngpScorer(network, self._reader, report.calibration, name=kind)


def _figures(runs: Sequence[Run], rows: Sequence[Row]) -> dict[str, float]:
    told = [run[HELD_OUT, OURS] for run in runs]
    found = {row.share: row for row in rows if (row.test_set, row.scorer, row.judge, row.policy) == (HELD_OUT, OURS, ORACLE, DEFAULT)}
    return {
        "heldout_accuracy": float(np.mean([accuracy_of(each) for each in told])),
        "heldout_error_auroc": float(np.mean([auroc_of(each, DEFAULT) for each in told])),
        "gain_at_20": found[0.2].gain.value,
        "gain_at_20_low": found[0.2].gain.low,
        "gain_at_40": found[0.4].gain.value,
        "gain_at_40_low": found[0.4].gain.low,
        "gain_over_margin_at_20": found[0.2].over_margin.value,
        "gain_over_margin_at_20_low": found[0.2].over_margin.low,
    }


def _details(runs: Sequence[Run], rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "model": dict(MODEL),
        "training": dict(TRAINING),
        "backbone": os.environ.get(BACKBONE, "scratch, frozen"),
        "scorers": scorers(runs),
        "gains": [dataclasses.asdict(row) for row in rows],
        "by_decile": deciles(runs, OURS),
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
