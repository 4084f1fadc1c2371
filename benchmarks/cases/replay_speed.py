"""How fast a what-if is answered: a grid of six policies and five shares over 100,000 pairs, both orders, steps of 1,536 pairs.

Every what-if decides anew about every pair with the code of a live run (`routing.plan`, `routing.pacing`), one call after the other in
virtual time; what does not depend on what may be spent is ranked once for each policy.  One process.  Processor seconds count, since
other work on the machine does not make a replay slower; `grid_100k_seconds` is scaled from `size` pairs to 100,000.  `limited_` is the
same without the grid: one what-if with a rate limit, a deadline and a budget of tokens, which has to follow every call.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from benchmarks.runner import Goal
from judgeflow.keys import digest
from judgeflow.replay.selection import Chances
from judgeflow.replay.simulate import Replay
from judgeflow.replay.trace import Testimony, Trace
from judgeflow.replay.whatif import WhatIf
from judgeflow.types import JudgeIdentity

SIZE = 100_000
"""Pairs."""

GOALS = {"grid_100k_seconds": Goal("<=", 60.0)}

POLICIES = ("error", "uncertainty", "margin", "random", "oracle", "always")
SHARES = (0.06, 0.09, 0.18, 0.3, 0.5)
STEP = 1536
WHOLE = 100_000


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is the number of pairs, the seed draws beliefs, replies and labels."""
    trace = made_up(size, seed)
    grid = [WhatIf(policy=policy, max_share=share, step_size=STEP) for policy in POLICIES for share in SHARES]
    replay = Replay(trace)
    whole = _seconds(lambda: [replay.play(what_if) for what_if in grid])
    limited = dataclasses.replace(
        grid[2], requests_per_minute=500, budget_tokens=400 * size, step_deadline_s=120.0, pause_s=60.0, latency="lognormal:34.6:0.33"
    )
    alone = _seconds(lambda: Replay(trace).play(limited))
    return {
        "pairs_per_second": len(grid) * size / whole,
        "grid_100k_seconds": whole * WHOLE / size,
        "limited_pairs_per_second": size / alone,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def made_up(pairs: int, seed: int) -> Trace:
    """Return a trace of pairs that nobody has written: six to a prompt, a scorer that is right in seven of ten, a judge in eight."""
    dice = np.random.default_rng(seed)
    truth = dice.integers(0, 2, pairs).astype(float)
    side = np.where(truth > 0.5, 1, -1)
    logits = np.where(dice.random(pairs) < 0.7, side, -side) * dice.gamma(2.0, 0.7, pairs)
    preferred = np.where(dice.random((pairs, 2)) < 0.8, side[:, None], -side[:, None]).astype(np.int8)
    tokens = dice.integers(400, 2000, pairs)
    testimony = Testimony(
        judge=JudgeIdentity(id="made up", model="made up", fingerprint=digest("judge/1", "made up")),
        statuses=np.zeros((pairs, 2), dtype=np.int8),
        preferred=preferred,
        strong=np.ones((pairs, 2), dtype=np.bool_),
        prompt_tokens=np.stack([tokens, tokens], axis=1),
        completion_tokens=dice.integers(100, 500, (pairs, 2)),
        usd=np.zeros((pairs, 2)),
        latency_s=dice.lognormal(3.5, 0.33, (pairs, 2)),
        chances=Chances.certain(pairs),
    )
    return Trace(
        source="made up",
        scorer="made up",
        keys=tuple(digest("made up", number) for number in range(pairs)),
        prompts=np.arange(pairs, dtype=np.intp) // 6,
        logits=logits,
        uncertainties=1.0 + dice.gamma(1.0, 0.3, pairs),
        truth=truth,
        swapped=np.zeros(pairs, dtype=np.bool_),
        placed=np.ones(pairs, dtype=np.bool_),
        steps=np.full(pairs, -1, dtype=np.int64),
        testimonies={"made up": testimony},
    )
