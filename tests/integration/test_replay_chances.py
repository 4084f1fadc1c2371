"""What verdict databases of real runs tell about judges whose accuracy on all pairs is known."""

import asyncio
import functools

import numpy as np
import pytest

from judgeflow import Scheduler, Seat
from judgeflow.config import RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import NotCovered
from judgeflow.keys import pair_keys
from judgeflow.replay.evidence import evidence
from judgeflow.replay.panel import spoken_for
from judgeflow.replay.read import read_database
from judgeflow.replay.selection import inverse_weights
from judgeflow.replay.whatif import WhatIf
from judgeflow.store import SqlStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge, arithmetic_pairs

PAIRS = list({pair_keys(pair).pair: pair for pair in arithmetic_pairs(100)}.values())
TRUTH = {pair_keys(pair).pair: (1 if pair.label == "a" else -1) * (1 if pair_keys(pair).canonical else -1) for pair in PAIRS}
STEP = 25


def judge(model, accuracy=0.8):
    return ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS), accuracy=accuracy), model=model)


async def routed(path, run, *judges, settings=None, **routing):
    scheduler = Scheduler(
        store=functools.partial(SqlStore.open, str(path)),
        judges=judges,
        scorer=FakeScorer(PAIRS),
        routing=RoutingConfig(**routing),
        run=run,
        settings=settings,
    )
    async with scheduler:
        for number, start in enumerate(range(0, len(PAIRS), STEP)):
            await scheduler.route(PAIRS[start : start + STEP], step=number)


def right(trace, name):
    said = trace.testimonies[name].preferred.sum(axis=1)
    return np.array([np.sign(side) * TRUTH[key] > 0 for side, key in zip(said, trace.keys, strict=True)], dtype=float)


def read(path, run):
    return asyncio.run(read_database(str(path), run=run))


def weighted(trace, name):
    """Return the judge's accuracy by inverse propensities, and how many of its pairs they stand for."""
    testimony = trace.testimonies[name]
    known, chances = testimony.replied.all(axis=1), testimony.chances.propensities
    raw = np.divide(1.0, chances, out=np.zeros(len(trace)), where=known & (chances > 0))
    return float(np.average(right(trace, name), weights=inverse_weights(chances, known, 1.0))), raw.sum() / len(trace)


@pytest.mark.slow
def test_weights_of_each_judge_are_unbiased_over_several_runs(tmp_path):
    whole = tmp_path / "whole.db"
    asyncio.run(routed(whole, "all of one", judge("one"), policy="always"))
    asyncio.run(routed(whole, "all of two", judge("two", 0.6), policy="always"))
    everything = read(whole, "all of one")
    truth = {name: right(everything, name).mean() for name in everything.testimonies}
    found = {name: [] for name in truth}
    for seed in range(14):
        path = tmp_path / f"{seed}.db"
        asyncio.run(routed(path, "first", judge("one"), policy="error", max_share=0.4, audit_fraction=0.4, seed=seed))
        asyncio.run(routed(path, "second", judge("one"), policy="margin", max_share=0.4, audit_fraction=0.5, seed=seed + 100))
        asyncio.run(routed(path, "of two", judge("two", 0.6), policy="random", max_share=0.5, seed=seed))
        trace = read(path, "first")
        for name in truth:
            found[name].append(weighted(trace, name))
    for name, values in found.items():
        (accuracy, stand_for), errors = np.mean(values, axis=0), np.std(values, axis=0) / np.sqrt(len(values))
        assert accuracy == pytest.approx(truth[name], abs=3.5 * errors[0] + 0.01)
        assert stand_for == pytest.approx(1.0, abs=3.5 * errors[1] + 1e-9)


def test_judges_that_share_the_pairs_have_their_share_of_the_chance(tmp_path):
    path = tmp_path / "shared.db"
    one, two = judge("one"), judge("two")
    panel = {
        "judge": {"id": one.identity.id, "weight": 3.0},
        "judges": {"second": {"id": two.identity.id, "weight": 1.0}},
        "routing": {"panel": "weights"},
    }
    seats = Seat(judge=one, weight=3.0), Seat(judge=two, weight=1.0)
    asyncio.run(routed(path, "shared", *seats, settings=panel, policy="random", max_share=0.8, panel="weights"))
    trace = read(path, "shared")
    shares = {name: set(testimony.chances.propensities.tolist()) for name, testimony in trace.testimonies.items()}
    assert shares == {one.identity.id: {0.8 * 0.75}, two.identity.id: {0.8 * 0.25}}
    same, other = (WhatIf(policy="always", judges=tuple(shares), weights=(3.0, 1.0), seed=seed) for seed in (0, 1))
    assert set(spoken_for(trace, same).chances.propensities.tolist()) == {0.8}  # each pair was asked of the judge that it belongs to
    assert spoken_for(trace, same).replied.all(axis=1).sum() == 80
    assert set(spoken_for(trace, other).chances.propensities.tolist()) == {0.8 * 0.75, 0.8 * 0.25}


def test_of_a_stand_in_nobody_knows_why_it_was_asked(tmp_path):
    path = tmp_path / "fallback.db"
    one = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS)), model="one", faults="500:0.1", seed=3)
    two = judge("two")
    seats = Seat(judge=one, retry=RetryPolicy(attempts=1)), Seat(judge=two)
    asyncio.run(routed(path, "both", *seats, policy="random", max_share=0.8))
    trace = read(path, "both")
    first, second = (trace.testimonies[each.identity.id] for each in (one, two))
    assert set(first.chances.propensities.tolist()) == {0.8}
    assert np.isnan(second.chances.propensities).all()
    with pytest.raises(NotCovered, match="in run both it stood in for another judge"):
        evidence(trace, two.identity.id, "both")
    both = spoken_for(trace, WhatIf(policy="always", judges=(one.identity.id, two.identity.id)))
    assert both.replied.all(axis=1).sum() == 80
    assert set(both.chances.propensities.tolist()) == {0.8}  # of the two together that is known
