"""What uncertainty is worth on real data: accuracy gained over random by judging 10, 20 or 40 % of the pairs, for every policy.

Scorers are trained on rmb_helpful without the prompts that are held out, over one frozen body beside surface features: the SNGP scorer
and its rivals.  They are tested on the prompts held out, on rmb_harmless, pandalm_human and judgebench_gpt4o.  JUDGEFLOW_BACKBONE names
the body's folder; without it a tiny one with random weights is used, and surface features are nearly all that scorers go by.
A gain is the accuracy once a judge has answered the top share minus random's expectation at as many pairs, with a 95 % interval from a
bootstrap over prompts.  The oracle judge is always right; recorded judges are as right as they were.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.real_data import judged_credit, read, recorded_choice
from benchmarks.remembering import Hidden, RememberingNetwork, RememberingReader
from benchmarks.runner import Finding, Goal, table
from benchmarks.statistics import Estimate, Floats, credit, estimate, gains, mean_estimate, overlap, prompt_counts, rate_by_decile

SIZE = 3
"""Seeds; each splits, trains and measures anew."""

GOALS = {
    "heldout_accuracy": Goal(">=", 0.72),
    "heldout_error_auroc": Goal(">=", 0.68),
    "gain_at_20_low": Goal(">=", 0.0),
    "gain_at_40_low": Goal(">=", 0.0),
    "gain_over_margin_at_20": Goal(">=", 0.0),
}

BACKBONE = "JUDGEFLOW_BACKBONE"
MAX_TOKENS = 256
HELD_OUT = "rmb_helpful, held out"
ELSEWHERE = ("rmb_harmless", "pandalm_human", "judgebench_gpt4o")
RECORDED: Mapping[str, str] = {"judgebench_gpt4o": "o1-mini-2024-09-12/arena_hard", "pandalm_human": "gpt-3.5-turbo"}
HELD_OUT_SHARE = 0.2
SHARES = (0.1, 0.2, 0.4)
OURS, DEFAULT, MARGIN, HINDSIGHT, ORACLE = "sngp", "error", "margin", "hindsight", "oracle"
SCORERS = (OURS, "mc-dropout", "last-layer-laplace", "ensemble", "none")
POLICIES = (DEFAULT, "uncertainty", MARGIN)
ALIKE = 0.9

# On a frozen body the nonlinear term learns training prompts by heart within an epoch; at a hundredth of its usual scale it moves
# slowly enough for the linear term to take what generalises.
MODEL: Mapping[str, Any] = {"surface": True, "logit_scale": 0.1}
TRAINING: Mapping[str, Any] = {"epochs": 20.0, "batch": 256, "lr": 2e-2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one scorer says of one test set: its credits (n; NaN for pairs labelled a tie), and by policy its acquisitions (n)."""

    pairs: Sequence[Any]
    right: Floats
    acquisitions: Mapping[str, Floats]

    @property
    def decided(self) -> Floats:
        """Which pairs are not labelled a tie: accuracy is that of these."""
        return ~np.isnan(self.right)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: a gain over random, and by the policy margin where the policy is another."""

    test_set: str
    scorer: str
    judge: str
    policy: str
    share: float
    gain: Estimate
    over_margin: Estimate


def measure(size: int, seed: int) -> Finding:
    """Return the figures and the tables; `size` is the number of seeds, of which `seed` is the first."""
    bench = Bench()
    runs = [bench.run(number) for number in range(seed, seed + size)]
    rows = merged([rows_of(run, number) for number, run in enumerate(runs, seed)])
    return Finding(figures=_figures(runs, rows), tables=_tables(runs, rows), details=_details(runs, rows))


Run = Mapping[tuple[str, str], Answers]
"""(test set, scorer) to answers, of one seed."""


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
        from judgeflow.model.train import Trainer

        torch.manual_seed(seed)
        config = ModelConfig(uncertainty=kind, max_tokens=MAX_TOKENS, **MODEL)  # type: ignore[arg-type]  # a name from this file
        network = RememberingNetwork(self._body, self._reader.layout.padding, config, self._hidden)
        report = Trainer(network, self._reader, TrainingConfig(seed=seed, **TRAINING), CPU_BATCH_TOKENS).run(pairs)
        return SngpScorer(network, self._reader, report.calibration, name=kind)


def answers(scorer: Any, pairs: Sequence[Any]) -> Answers:
    """Return what a scorer says of labelled pairs, by the acquisitions that routing uses."""
    from judgeflow.routing.policy import acquisition

    preferences = scorer.score(pairs)
    right = credit([preference.logit for preference in preferences], [pair.label == "a" for pair in pairs])
    right[[pair.label == "tie" for pair in pairs]] = np.nan
    ranked = {policy: [acquisition(policy, preference, b"", 0) for preference in preferences] for policy in POLICIES}  # type: ignore[arg-type]
    return Answers(pairs=pairs, right=right, acquisitions={policy: np.array(values, dtype=np.float64) for policy, values in ranked.items()})


def rows_of(run: Run, seed: int) -> list[Row]:
    """Return the table of one seed."""
    return [row for (test_set, kind), told in run.items() for row in _rows(test_set, kind, told, seed)]


def _rows(test_set: str, kind: str, told: Answers, seed: int) -> Iterator[Row]:
    decided = told.decided
    pairs = [pair for pair, usable in zip(told.pairs, decided, strict=True) if usable]
    right, counts = told.right[decided], prompt_counts([pair.prompt for pair in pairs], seed)
    for judge, judged in _judges(test_set, pairs, right):
        ranked = {policy: values[decided] for policy, values in told.acquisitions.items()} | {HINDSIGHT: judged - right}
        found = {policy: gains(right, judged, values, SHARES, counts) for policy, values in ranked.items()}
        for policy, by_share in found.items():
            for share, gained, margin in zip(SHARES, by_share, found[MARGIN], strict=True):
                yield Row(
                    test_set=test_set,
                    scorer=kind,
                    judge=judge,
                    policy=policy,
                    share=share,
                    gain=estimate(gained),
                    over_margin=estimate(gained - margin),
                )


def _judges(test_set: str, pairs: Sequence[Any], right: Floats) -> Iterator[tuple[str, Floats]]:
    """Yield each judge of a test set with its credits: the oracle, and who is recorded."""
    yield ORACLE, np.ones(len(pairs))
    name = RECORDED.get(test_set)
    if name is not None:
        credits = [judged_credit(pair, recorded_choice(pair, name), own) for pair, own in zip(pairs, right.tolist(), strict=True)]
        yield name, np.array(credits)


def merged(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """Return the table whose estimates are means over seeds."""
    return [
        dataclasses.replace(
            lines[0],
            gain=mean_estimate([line.gain for line in lines]),
            over_margin=mean_estimate([line.over_margin for line in lines]),
        )
        for lines in zip(*tables, strict=True)
    ]


def _figures(runs: Sequence[Run], rows: Sequence[Row]) -> dict[str, float]:
    told = [run[HELD_OUT, OURS] for run in runs]
    found = {row.share: row for row in rows if (row.test_set, row.scorer, row.judge, row.policy) == (HELD_OUT, OURS, ORACLE, DEFAULT)}
    return {
        "heldout_accuracy": float(np.mean([_accuracy(each) for each in told])),
        "heldout_error_auroc": float(np.mean([_auroc(each, DEFAULT) for each in told])),
        "gain_at_20": found[0.2].gain.value,
        "gain_at_20_low": found[0.2].gain.low,
        "gain_at_40": found[0.4].gain.value,
        "gain_at_40_low": found[0.4].gain.low,
        "gain_over_margin_at_20": found[0.2].over_margin.value,
        "gain_over_margin_at_20_low": found[0.2].over_margin.low,
    }


def _accuracy(told: Answers) -> float:
    return float(np.nanmean(told.right))


def _auroc(told: Answers, policy: str) -> float:
    import torch

    from judgeflow.model.calibration import auroc

    decided = told.decided
    found = auroc(torch.from_numpy(told.acquisitions[policy][decided]), torch.from_numpy(told.right[decided] < 0.5))
    return float("nan") if found is None else found


def _details(runs: Sequence[Run], rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "model": dict(MODEL),
        "training": dict(TRAINING),
        "backbone": os.environ.get(BACKBONE, "scratch, frozen"),
        "scorers": _scorers(runs),
        "gains": [dataclasses.asdict(row) for row in rows],
        "by_decile": _deciles(runs),
    }


def _scorers(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Accuracy and error AUROC of every scorer on every set, means over seeds."""
    return [
        {
            "test_set": test_set,
            "scorer": kind,
            "pairs": round(float(np.mean([run[test_set, kind].decided.sum() for run in runs]))),
            "accuracy": float(np.mean([_accuracy(run[test_set, kind]) for run in runs])),
        }
        | {f"{policy}_auroc": float(np.mean([_auroc(run[test_set, kind], policy) for run in runs])) for policy in POLICIES}
        for test_set, kind in runs[0]
    ]


def _deciles(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """How often the two responses are nearly alike, are labelled a tie, or leave the recorded judge undecided, in each tenth of the pairs."""
    lines = []
    for test_set, kind in runs[0]:
        if kind != OURS:
            continue
        for policy in POLICIES:
            for event in _events(test_set, runs[0][test_set, kind].pairs):
                rates = [
                    rate_by_decile(_events(test_set, told.pairs)[event], told.acquisitions[policy])
                    for told in (run[test_set, kind] for run in runs)
                ]
                lines.append({"test_set": test_set, "policy": policy, "event": event, "rates": np.mean(rates, axis=0).tolist()})
    return lines


def _events(test_set: str, pairs: Sequence[Any]) -> dict[str, list[bool]]:
    found = {"nearly alike": [overlap(pair.response_a, pair.response_b) > ALIKE for pair in pairs]}
    if any(pair.label == "tie" for pair in pairs):
        found["labelled a tie"] = [pair.label == "tie" for pair in pairs]
    if test_set in RECORDED:
        found["judge undecided"] = [recorded_choice(pair, RECORDED[test_set]) in {"tie", "inconsistent", None} for pair in pairs]
    return found


def _tables(runs: Sequence[Run], rows: Sequence[Row]) -> str:
    return "\n\n".join(
        [
            "## Scorers",
            table(
                ["test set", "scorer", "pairs", "accuracy", *(f"AUROC of {policy}" for policy in POLICIES)],
                (_cells(line) for line in _scorers(runs)),
            ),
            "## Accuracy gained over random, in points, with 95 % intervals (mean of seeds)",
            table(
                ["test set", "scorer", "judge", "policy", *(f"{share:.0%} judged" for share in SHARES)],
                ([*key, *(_points(row.gain) for row in lines)] for key, lines in _by_policy(rows)),
            ),
            "## The SNGP scorer's gain over the policy margin, in points",
            table(
                ["test set", "judge", "policy", *(f"{share:.0%} judged" for share in SHARES)],
                (
                    [key[0], *key[2:], *(_points(row.over_margin) for row in lines)]
                    for key, lines in _by_policy(rows)
                    if key[1] == OURS and key[3] != MARGIN
                ),
            ),
            "## What stands in each tenth of the pairs, least acquisition first, in per cent (SNGP scorer)",
            table(
                ["test set", "policy", "what", *map(str, range(1, 11))],
                (
                    [line["test_set"], line["policy"], line["event"], *(f"{100 * rate:.1f}" for rate in line["rates"])]
                    for line in _deciles(runs)
                ),
            ),
        ]
    )


def _by_policy(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str, str, str], list[Row]]]:
    for key, lines in itertools.groupby(rows, key=lambda row: (row.test_set, row.scorer, row.judge, row.policy)):
        yield key, list(lines)


def _cells(line: Mapping[str, Any]) -> list[str]:
    return [f"{value:.3f}" if isinstance(value, float) else str(value) for value in line.values()]


def _points(found: Estimate) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
