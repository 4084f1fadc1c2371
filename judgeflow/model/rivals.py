"""Ways of being uncertain, side by side: the same pairs, the same split, and what each costs to score."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from judgeflow.model.config import UNCERTAINTIES, ModelConfig, TrainingConfig, UncertaintyKind
from judgeflow.model.scorer import SngpScorer
from judgeflow.model.train import SCRATCH, train
from judgeflow.model.trainer import TrainingReport
from judgeflow.model.watch import Observe, Progress, never, silent, unobserved
from judgeflow.types import Pair

COUNTED_PAIRS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One way of being uncertain: what training found, and what scoring a pair costs.

    `flops` are counted by torch, a multiplication and an addition as two.  Both costs are means over the first pairs of the data, scored
    in one call: a text that several of them share is read once.
    """

    kind: UncertaintyKind
    report: TrainingReport
    flops: float
    seconds: float


def compare_rivals(
    pairs: Sequence[Pair],
    out: Path,
    *,
    kinds: Sequence[UncertaintyKind] = UNCERTAINTIES,
    backbone: str = SCRATCH,
    model: ModelConfig | None = None,
    training: TrainingConfig | None = None,
    device: str = "auto",
    max_batch_tokens: int | None = None,
    progress: Progress = silent,
    observe: Observe = unobserved,
    stop: Callable[[], bool] = never,
    save_every_s: float = 60.0,
    restart: bool = False,
) -> list[Rival]:
    """Train one scorer of each kind into a folder of its own under `out`, with one seed and one split.

    Takes and raises what `train` takes and raises; records that are observed name their `kind`.
    """
    rivals = []
    for kind in kinds:
        scorer, report = train(
            pairs,
            out / kind,
            backbone=backbone,
            model=dataclasses.replace(model or ModelConfig(), uncertainty=kind),
            training=training,
            device=device,
            max_batch_tokens=max_batch_tokens,
            progress=_of(kind, progress),
            observe=_naming(kind, observe),
            stop=stop,
            save_every_s=save_every_s,
            restart=restart,
        )
        few = pairs[:COUNTED_PAIRS]
        rivals.append(Rival(kind=kind, report=report, flops=flops_per_pair(scorer, few), seconds=seconds_per_pair(scorer, few)))
    return rivals


def _of(kind: str, progress: Progress) -> Progress:
    return lambda activity, done, total: progress(f"{kind}: {activity}", done, total)


def _naming(kind: str, observe: Observe) -> Observe:
    return lambda record: observe({**record, "kind": kind})


def flops_per_pair(scorer: SngpScorer, pairs: Sequence[Pair]) -> float:
    """Return the floating-point operations of scoring a pair, counted while it is done."""
    # The fused attention kernels of a CPU are not counted; the plain ones do the same sums.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        scorer.score(pairs)
    total: int = counter.get_total_flops()
    return total / len(pairs)


def seconds_per_pair(scorer: SngpScorer, pairs: Sequence[Pair], rounds: int = 3) -> float:
    """Return the seconds that scoring a pair takes, the best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        scorer.score(pairs)
        best = min(best, time.perf_counter() - started)
    return best / len(pairs)
