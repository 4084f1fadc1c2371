"""What scorers are worth on test sets: their answers, what every policy gains by them, and what stands where it asks."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.real_data import judged_credit, recorded_choice
from benchmarks.runner import table
from benchmarks.statistics import overlap
from judgeflow.estimates import Estimate
from judgeflow.replay.statistics import Floats, credit, estimate, gains, mean_estimate, prompt_counts, rate_by_decile

RECORDED: Mapping[str, str] = {"judgebench_gpt4o": "o1-mini-2024-09-12/arena_hard", "pandalm_human": "gpt-3.5-turbo"}
DEFAULT, MARGIN, HINDSIGHT, ORACLE = "error", "margin", "hindsight", "oracle"
POLICIES = (DEFAULT, "uncertainty", MARGIN)
SHARES = (0.1, 0.2, 0.4)
ALIKE = 0.9
"""Two responses that share more of their words than this are nearly alike."""


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


Run = Mapping[tuple[str, str], Answers]
"""(test set, scorer) to answers, of one seed."""


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
        earned = [judged_credit(pair, recorded_choice(pair, name), own) for pair, own in zip(pairs, right.tolist(), strict=True)]
        yield name, np.array(earned)


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


def accuracy_of(told: Answers) -> float:
    return float(np.nanmean(told.right))


def auroc_of(told: Answers, policy: str) -> float:
    import torch

    from judgeflow.model.quality import auroc

    decided = told.decided
    found = auroc(torch.from_numpy(told.acquisitions[policy][decided]), torch.from_numpy(told.right[decided] < 0.5))
    return float("nan") if found is None else found


def scorers(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Accuracy and error AUROC of every scorer on every set, means over seeds."""
    return [
        {
            "test_set": test_set,
            "scorer": kind,
            "pairs": round(float(np.mean([run[test_set, kind].decided.sum() for run in runs]))),
            "accuracy": float(np.mean([accuracy_of(run[test_set, kind]) for run in runs])),
        }
        | {f"{policy}_auroc": float(np.mean([auroc_of(run[test_set, kind], policy) for run in runs])) for policy in POLICIES}
        for test_set, kind in runs[0]
    ]


def deciles(runs: Sequence[Run], scorer: str) -> list[dict[str, Any]]:
    """How often two responses are nearly alike or labelled a tie, or the recorded judge is undecided, in each tenth of the pairs."""
    lines = []
    for test_set, kind in runs[0]:
        if kind != scorer:
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


def tables(runs: Sequence[Run], rows: Sequence[Row], scorer: str) -> str:
    return "\n\n".join(
        [
            "## Scorers",
            table(
                ["test set", "scorer", "pairs", "accuracy", *(f"AUROC of {policy}" for policy in POLICIES)],
                (_cells(line) for line in scorers(runs)),
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
                    if key[1] == scorer and key[3] != MARGIN
                ),
            ),
            "## What stands in each tenth of the pairs, least acquisition first, in per cent (SNGP scorer)",
            table(
                ["test set", "policy", "what", *map(str, range(1, 11))],
                (
                    [line["test_set"], line["policy"], line["event"], *(f"{100 * rate:.1f}" for rate in line["rates"])]
                    for line in deciles(runs, scorer)
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
