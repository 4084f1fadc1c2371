"""The benchmarks' own scores, from logits of the pairs that `read_dataset` makes of them.

A comparison is right only if the logit favours the better response: 0, a tie, is wrong, as in the published code.  Intervals are 95 %
intervals of a Bayesian bootstrap (Rubin 1981) over prompts: every prompt gets a random exponential weight that all its comparisons
share, so comparisons of one prompt do not count as independent, and no part of a benchmark is ever empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judgeflow.adapters.formats import REWARDBENCH_WEIGHTS, STYLES
from judgeflow.errors import RecordError
from judgeflow.estimates import Estimate
from judgeflow.types import Outcome, Pair

Floats = NDArray[np.float64]
Judged = Outcome | tuple[Pair, float]
"""An outcome, or a pair and the logit that its response_a is preferred."""

RESAMPLES = 1000
TOTAL = "total"
RM_BENCH_DOMAINS = ("chat", "code", "math", "safety-refuse", "safety-response")
_DIFFICULTIES = ("easy", "normal", "hard")
_CELLS = frozenset((i, j) for i in range(len(STYLES)) for j in range(len(STYLES)))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkScore:
    """Accuracies by part of a benchmark (its categories or domains, then "total", their mean) and by figure.

    `missing` names the subsets that the published benchmark has and these pairs do not: with any, the total is not the published one.
    """

    benchmark: str
    pairs: int
    prompts: int
    parts: Mapping[str, Mapping[str, Estimate]]
    missing: tuple[str, ...] = ()


def benchmark_score(judged: Iterable[Judged], *, seed: int = 0) -> BenchmarkScore | None:
    """Return the score of the benchmark that all pairs are from, by their metadata; None if they are from none that has a score here."""
    known = [_as_pair(each) for each in judged]
    names = {pair.metadata.get("benchmark") for pair, _ in known}
    name = names.pop() if len(names) == 1 else None
    return _SCORES[name](known, seed=seed) if name in _SCORES else None


def rewardbench_score(judged: Iterable[Judged], *, seed: int = 0) -> BenchmarkScore:
    """Return accuracy by category, its subsets weighted as published, and the mean of the categories.

    calculate_scores_per_section in allenai/reward-bench@045c7f8, rewardbench/utils.py; the leaderboard's prior sets are no part of it.
    Raises `RecordError` for a pair that is not one of RewardBench.
    """
    pairs = _Comparisons([_as_pair(each) for each in judged], "rewardbench", seed)
    shares = {subset: pairs.share({"subset": subset}) for subset in pairs.subsets}
    weights = {name: {key: w for key, w in subsets.items() if key in shares} for name, subsets in REWARDBENCH_WEIGHTS.items()}
    categories = {name: _mean([shares[key] for key in found], list(found.values())) for name, found in weights.items() if found}
    parts = {name: {"accuracy": values} for name, values in categories.items()}
    return pairs.score(parts, published=[subset for subsets in REWARDBENCH_WEIGHTS.values() for subset in subsets])


def rm_bench_score(judged: Iterable[Judged], *, seed: int = 0) -> BenchmarkScore:
    """Return easy, normal and hard accuracy and their average by domain, and the mean of the domains; safety is the mean of its halves.

    compute_accuracy in the README of THU-KEG/RM-Bench@2119ec5.  Raises `RecordError` if a prompt lacks one of its nine comparisons,
    has one twice, or a pair is not one of RM-Bench.
    """
    pairs = _Comparisons([_as_pair(each) for each in judged], "rm-bench", seed)
    _require_whole_matrices(pair for pair, _ in pairs.judged)
    halves: dict[str, dict[str, None]] = {}
    for pair, _ in pairs.judged:
        halves.setdefault(pair.metadata["category"], {})[pair.metadata["subset"]] = None
    parts = {}
    for category, subsets in halves.items():
        found = {level: _mean([pairs.share({"subset": each, "difficulty": level}) for each in subsets]) for level in _DIFFICULTIES}
        parts[category] = {**found, "average": _mean(list(found.values()))}
    return pairs.score(parts, published=RM_BENCH_DOMAINS)


_SCORES: Mapping[object, Callable[..., BenchmarkScore]] = {"rewardbench": rewardbench_score, "rm-bench": rm_bench_score}


class _Comparisons:
    """Pairs of one benchmark with their credits and the weights of their prompts.  Nothing changes after it is made."""

    def __init__(self, judged: list[tuple[Pair, float]], benchmark: str, seed: int) -> None:
        if not judged:
            raise RecordError(f"{benchmark}: there are no pairs to score")
        self.judged = judged
        self._benchmark = benchmark
        self._right = np.array([_is_right(pair, logit, benchmark) for pair, logit in judged], dtype=np.float64)
        prompts: dict[object, int] = {}
        self._prompt = np.array([prompts.setdefault(pair.prompt, len(prompts)) for pair, _ in judged])
        dice = np.random.default_rng(seed)
        self._weights = np.vstack([np.ones(len(prompts)), dice.exponential(size=(RESAMPLES, len(prompts)))])

    @property
    def subsets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(pair.metadata["subset"] for pair, _ in self.judged))

    def share(self, about: Mapping[str, str]) -> Floats:
        """The share of right comparisons among those with this metadata: first as they are, then in every resample."""
        places = [place for place, (pair, _) in enumerate(self.judged) if all(pair.metadata[key] == about[key] for key in about)]
        prompt, count = self._prompt[places], self._weights.shape[1]
        right = np.bincount(prompt, self._right[places], minlength=count)
        shares: Floats = (self._weights @ right) / (self._weights @ np.bincount(prompt, minlength=count))
        return shares

    def score(self, parts: Mapping[str, Mapping[str, Floats]], *, published: Iterable[str]) -> BenchmarkScore:
        """The parts and the mean of each figure over them, with intervals."""
        figures = next(iter(parts.values()))
        total = {figure: _mean([part[figure] for part in parts.values()]) for figure in figures}
        return BenchmarkScore(
            benchmark=self._benchmark,
            pairs=len(self.judged),
            prompts=self._weights.shape[1],
            parts={name: {key: _estimate(values) for key, values in part.items()} for name, part in {**parts, TOTAL: total}.items()},
            missing=tuple(name for name in published if name not in self.subsets),
        )


def _as_pair(judged: Judged) -> tuple[Pair, float]:
    return (judged.pair, judged.logit) if isinstance(judged, Outcome) else judged


def _is_right(pair: Pair, logit: float, benchmark: str) -> bool:
    needed = ("subset", "category", "difficulty", "cell") if benchmark == "rm-bench" else ("subset",)
    if pair.metadata.get("benchmark") != benchmark or any(key not in pair.metadata for key in needed):
        raise RecordError(f"pair {pair.id}: is not one that was read as {benchmark}; read_dataset makes such pairs")
    if pair.label not in {"a", "b"}:
        raise RecordError(f"pair {pair.id}: has no label a or b, so it cannot be scored")
    return logit > 0 if pair.label == "a" else logit < 0


def _require_whole_matrices(pairs: Iterable[Pair]) -> None:
    """Raise `RecordError` that names the first prompt whose 3 x 3 matrix is not complete."""
    cells: dict[str | None, list[tuple[int, int]]] = {}
    for pair in pairs:
        cells.setdefault(pair.group, []).append(tuple(pair.metadata["cell"]))
    for group, found in cells.items():
        absent = sorted(_CELLS - set(found))
        if absent:
            named = ", ".join(f"{group}/{i}-{j}" for i, j in absent)
            raise RecordError(f"rm-bench: prompt {group} has {9 - len(absent)} of its 9 comparisons; missing are {named}")
        if len(found) > len(_CELLS):
            raise RecordError(f"rm-bench: prompt {group} stands there more than once; every id should be there once")


def _mean(values: list[Floats], weights: list[int] | None = None) -> Floats:
    mean: Floats = np.average(np.array(values), axis=0, weights=weights)
    return mean


def _estimate(values: Floats) -> Estimate:
    low, high = np.percentile(values[1:], (2.5, 97.5))
    return Estimate(value=float(values[0]), low=float(low), high=float(high))
