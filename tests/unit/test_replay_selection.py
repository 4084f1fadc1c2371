"""How much a judge's verdict counts, by everything that runs have decided about its pair: against populations whose truth is known."""

import dataclasses
import math

import numpy as np
import pytest
from test_replay_statistics import JUDGE, trace

from judgeflow.replay.coverage import coverage
from judgeflow.replay.evidence import evidence
from judgeflow.replay.selection import Design, Draw, Log, design_of, inverse_weights
from judgeflow.replay.simulate import play
from judgeflow.replay.statistics import accuracy, estimate, prompt_counts
from judgeflow.replay.trace import NO_REPLY
from judgeflow.replay.whatif import WhatIf


def chances(draws, designs, judge, judged):
    return Log(draws=draws, designs=designs).chances({judge}, judged)


ONE, OTHER = b"one", b"other"
PAIRS = 120


def judged_by(run, step, chance, judged, dice):
    """What a run leaves behind that asks each pair which is not judged yet with its `chance`; `judged` is changed."""
    draws = {}
    for place, propensity in enumerate(chance):
        if judged[place]:
            draws[place] = Draw(run, step, False, "store", 0.0)
            continue
        asked = dice.random() < propensity
        draws[place] = Draw(run, step, asked, "judge" if asked else "scorer", propensity)
        judged[place] = asked
    return draws


def together(*runs):
    found = {}
    for draws in runs:
        for place, draw in draws.items():
            found.setdefault(place, []).append(draw)
    return found


def population():
    """Pairs that a judge judges the better the surer the scorer is, so that those judged for uncertainty are a bad sample."""
    dice = np.random.default_rng(0)
    sure = dice.exponential(1.0, PAIRS)
    return sure, dice.random(PAIRS) < 0.6 + 0.35 * np.tanh(sure)


SURE, RIGHT = population()
ROUTED = np.where(np.argsort(np.argsort(SURE)) < 30, 1.0, 0.15)
"""A run that asks about the least certain quarter, and audits of the others."""

BY_ANOTHER_SCORER = np.where(np.arange(PAIRS) % 3 == 0, 1.0, 0.3)
A_LITTLE_OF_EACH = 0.1 + 0.5 * np.exp(-SURE)
THRESHOLD = np.where(SURE < 0.3, 1.0, 0.0)

HISTORIES = {
    "one run": [ROUTED],
    "two runs": [ROUTED, BY_ANOTHER_SCORER],
    "a worse one after": [A_LITTLE_OF_EACH, ROUTED],
    "three": [A_LITTLE_OF_EACH, ROUTED, BY_ANOTHER_SCORER],
    "a threshold before": [THRESHOLD, ROUTED],
    "a threshold after": [ROUTED, THRESHOLD],
    "all of the rest": [ROUTED, np.ones(PAIRS)],
}


def history(runs, dice):
    judged = np.zeros(PAIRS, dtype=bool)
    draws = together(*[judged_by(f"run {number}", 0, chance, judged, dice) for number, chance in enumerate(runs)])
    designs = {f"run {number}": Design(shares={ONE: 1.0}) for number in range(len(runs))}
    return chances(draws, designs, ONE, judged), judged, draws


@pytest.mark.parametrize("name", HISTORIES)
def test_whatever_runs_came_before_the_weighted_mean_is_that_of_all_pairs(name):
    dice = np.random.default_rng(7)
    sums, naive = [], []
    for _ in range(200):
        found, judged, _ = history(HISTORIES[name], dice)
        raw = np.divide(1.0, found.propensities, out=np.zeros(PAIRS), where=judged & (found.propensities > 0))
        sums.append([(raw * RIGHT).sum() / PAIRS, raw.sum() / PAIRS])
        naive.append(RIGHT[judged].mean())
    mean, error = np.mean(sums, axis=0), np.std(sums, axis=0) / math.sqrt(len(sums))
    assert abs(mean - [RIGHT.mean(), 1.0]) == pytest.approx([0, 0], abs=4 * error.max() + 1e-12)
    if name != "all of the rest":
        assert abs(np.mean(naive) - RIGHT.mean()) > 0.01


def test_the_chance_that_any_run_would_have_asked_cannot_be_had_from_what_is_stored():
    """Why it is not 1 - product(1 - propensity): a pair that is judged is not drawn again, and its chance is stored as 0."""
    dice = np.random.default_rng(7)
    totals = []
    for _ in range(50):
        _, judged, draws = history(HISTORIES["two runs"], dice)
        never = np.array([math.prod(1 - draw.propensity for draw in draws[place]) for place in range(PAIRS)])
        totals.append((judged / (1 - never)).sum() / PAIRS)
    assert np.mean(totals) > 1.2


def test_an_estimate_from_two_runs_lies_in_its_interval_as_often_as_it_should():
    dice = np.random.default_rng(3)
    hits = []
    for seed in range(60):
        found, judged, _ = history(HISTORIES["two runs"], dice)
        side = np.where(RIGHT, 1, -1)
        recorded = trace(logits=SURE, preferred=np.stack([side, side], axis=1), truth=np.ones(PAIRS), statuses=_unless(judged))
        said = recorded.testimonies[JUDGE]
        recorded.testimonies[JUDGE] = dataclasses.replace(said, chances=found)
        counted = evidence(recorded, JUDGE, "both")
        told = estimate(accuracy(counted.judged, prompt_counts(counted.prompts, seed, 200) * counted.weights))
        hits.append(told.low <= RIGHT.mean() <= told.high)
    assert sum(hits) >= 52  # of 60: fewer happen once in a thousand times where 95 % are right


def _unless(judged):
    return np.where(judged[:, None], 0, NO_REPLY) * np.ones((1, 2))


def test_a_judge_that_a_run_has_not_asked_is_none_of_its_business():
    dice = np.random.default_rng(1)
    judged, theirs = np.zeros(PAIRS, dtype=bool), np.arange(PAIRS) % 2 == 0
    draws = together(judged_by("routed", 0, THRESHOLD, judged, dice))
    designs = {"routed": Design(shares={ONE: 1.0})}
    asked, imported = chances(draws, designs, ONE, judged), chances(draws, designs, OTHER, theirs)
    assert asked.propensities.tolist() == THRESHOLD.tolist()
    assert asked.drawn.all()
    assert imported.propensities.tolist() == [1.0] * PAIRS
    assert not imported.drawn.any()


def test_where_judges_share_the_pairs_each_has_its_part_of_the_chance_and_a_stand_in_none_that_is_known():
    settings = {"judge": {"id": "a", "weight": 3.0}, "judges": {"b": {"id": "b", "weight": 1.0}}, "routing": {"panel": "weights"}}
    ids = {ONE: "a", OTHER: "b"}
    assert design_of({ONE: 70, OTHER: 30}, ids, settings).shares == {ONE: 0.75, OTHER: 0.25}
    in_turn = design_of({ONE: 10, OTHER: 90}, ids, settings | {"routing": {"panel": "fallback"}}).shares
    assert (in_turn[ONE], math.isnan(in_turn[OTHER])) == (1.0, True)
    assert design_of({ONE: 5}, ids, settings).shares == {ONE: 0.75, OTHER: 0.25}  # nobody has come to the other yet
    assert design_of({OTHER: 5}, ids, {}).shares == {OTHER: 1.0}
    draws = {0: [Draw("r", 0, True, "judge", 0.4)], 1: [Draw("r", 0, False, "scorer", 0.4)]}
    part = chances(draws, {"r": Design(shares={ONE: 0.75, OTHER: 0.25})}, OTHER, np.array([True, False]))
    assert part.propensities.tolist() == pytest.approx([0.1, 0.1])
    unknown = chances(draws, {"r": Design(shares=in_turn)}, OTHER, np.array([True, False]))
    assert np.isnan(unknown.propensities).all()
    assert "in run r it stood in for another judge" in unknown.untold


def test_of_a_run_whose_decisions_are_gone_nobody_knows_unless_a_later_one_gave_everybody_a_chance():
    judged = np.array([True, True, False])
    lost = {"old": Design(lost=True)}
    found = chances({}, lost, ONE, judged)
    assert np.isnan(found.propensities).all()
    assert "db compact has removed the decisions of run old" in found.untold
    later = {
        place: [Draw("new", 0, place == 1, "store" if place == 0 else "judge" if place == 1 else "scorer", 0.5 * (place > 0))]
        for place in range(3)
    }
    known = chances(later, lost | {"new": Design(shares={ONE: 1.0})}, ONE, judged)
    assert known.propensities.tolist() == [1.0, 0.5, 0.5]
    assert known.untold == ""


def test_a_pair_that_was_asked_in_vain_counts_by_the_run_that_got_its_verdict():
    draws = {
        0: [Draw("a", 0, True, "fallback", 0.2), Draw("b", 0, True, "judge", 0.5)],
        1: [Draw("a", 0, False, "scorer", 0.2), Draw("b", 0, False, "scorer", 0.5)],
    }
    found = chances(draws, {}, ONE, np.array([True, False]))
    assert found.propensities.tolist() == [0.5, 0.5]


def test_weights_add_up_to_what_they_stand_for():
    weights = inverse_weights(np.array([0.5, 0.25, 0.0, 1.0]), np.array([True, True, True, False]), 12.0)
    assert weights.tolist() == [4.0, 8.0, 0.0, 0.0]


def test_a_policy_of_which_everything_is_known_needs_no_chances():
    recorded = trace(logits=SURE[:50], preferred=np.ones((50, 2)), truth=np.ones(50), propensities=np.full(50, np.nan))
    found = coverage(recorded.testimonies[JUDGE], play(recorded, WhatIf(policy="always")))
    assert (found.supported, found.judged, found.effective) == (1.0, 1.0, pytest.approx(50.0))
    assert evidence(recorded, JUDGE, "both").weights.tolist() == [1.0] * 50
