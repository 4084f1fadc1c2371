"""What knowing one's uncertainty costs: SNGP, MC dropout (10 passes) and an ensemble (5 bodies) against a plain linear head.

All score the same pairs with siamese bodies of one shape (22M parameters, random weights), D = 1024, in single precision, from text to
preference.  `time_vs_plain` and its like are times over the plain model's; `flops_*` are floating-point operations a pair, counted by
torch in one group of four.
"""

from __future__ import annotations

import statistics

from benchmarks.contest import Contender, Prepared, contest
from benchmarks.runner import Goal

SIZE = 4
"""Groups of four responses; six pairs each."""

GOALS = {"time_vs_plain": Goal("<=", 1.02)}

CONTESTS, ROUNDS, SLOW_ROUNDS = 5, 6, 2
"""The cheap two differ by less than two processes of one contender do (several per cent, by where their memory lies), so they meet in
several pairs of fresh processes, and the median ratio counts; the others differ by a multiple."""

PAIRS_OF_A_GROUP = 6


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of groups, the seed draws texts and weights."""
    function = f"{__name__}:prepare"
    contenders = {
        kind: Contender(function=function, arguments={"uncertainty": kind, "size": size, "seed": seed})
        for kind in ("none", "sngp", "mc-dropout", "ensemble")
    }
    meetings = [contest({kind: contenders[kind] for kind in ("none", "sngp")}, ROUNDS) for _ in range(min(CONTESTS, size))]
    near = meetings[0]
    far = contest({kind: contenders[kind] for kind in ("none", "mc-dropout", "ensemble")}, SLOW_ROUNDS)
    return {
        "time_vs_plain": statistics.median(met["sngp"].seconds / met["none"].seconds for met in meetings),
        "mc_dropout_time_vs_plain": far["mc-dropout"].seconds / far["none"].seconds,
        "ensemble_time_vs_plain": far["ensemble"].seconds / far["none"].seconds,
        "plain_seconds": statistics.median(met["none"].seconds for met in meetings),
        "flops_plain": near["none"].facts["flops"],
        "flops_sngp": near["sngp"].facts["flops"],
        "flops_mc_dropout": far["mc-dropout"].facts["flops"],
        "flops_ensemble": far["ensemble"].facts["flops"],
    }


def prepare(uncertainty: str, size: int, seed: int) -> Prepared:
    """Return a scorer with this kind of uncertainty, ready to score."""
    import torch

    from benchmarks.bodies import make_scorer, random_pairs
    from judgeflow.model.rivals import flops_per_pair

    torch.manual_seed(seed)
    scorer, pairs = make_scorer(uncertainty=uncertainty), random_pairs(size, seed)
    return Prepared(run=lambda: scorer.score(pairs), facts={"flops": flops_per_pair(scorer, pairs[:PAIRS_OF_A_GROUP])})
