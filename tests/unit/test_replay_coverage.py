"""A routed database is no random sample: what it can tell, what it cannot, and how much each of its pairs counts."""

import dataclasses

import numpy as np
import pytest
from replays import everything_judged, some_pairs

from judgeflow.errors import NotCovered, ReplayError
from judgeflow.replay.coverage import coverage, effective_size, outcome_weights, require
from judgeflow.replay.played import STATUSES
from judgeflow.replay.selection import Chances, inverse_weights
from judgeflow.replay.simulate import credit, play
from judgeflow.replay.trace import NO_REPLY
from judgeflow.replay.whatif import WhatIf


@pytest.fixture(scope="module")
def whole():
    return everything_judged(some_pairs(400))


def routed(trace, what_if, dice=None):
    """Return the trace that a run with these settings would leave behind, by its propensities or as one draw of them."""
    played = play(trace, what_if)
    kept = played.asked if dice is None else dice.random(len(trace)) < played.propensities
    testimony = trace.testimonies["judge"]
    statuses = np.where(kept[:, None], testimony.statuses, NO_REPLY)
    return with_testimony(trace, statuses=statuses, chances=drawn_with(played.propensities))


def drawn_with(propensities):
    return Chances(propensities=propensities, drawn=np.ones(len(propensities), dtype=bool))


def with_testimony(trace, **changes):
    return dataclasses.replace(trace, testimonies={"judge": dataclasses.replace(trace.testimonies["judge"], **changes)})


def test_pairs_that_were_judged_whatever_a_scorer_thought_count_all_alike(whole):
    found = require(whole, play(whole, WhatIf(max_share=0.25, step_size=100)))
    assert (found.asked, found.supported, found.judged, found.effective) == (100, 1.0, 1.0, pytest.approx(100))
    assert [decile.judged for decile in found.deciles] == [40] * 10


def test_a_threshold_without_audits_can_be_replayed_where_it_asked_and_nowhere_else(whole):
    trace = routed(whole, WhatIf(threshold=0.3))
    stricter = play(trace, WhatIf(threshold=0.4))
    assert require(trace, stricter).supported == 1.0
    assert stricter.logits.tolist() == play(whole, WhatIf(threshold=0.4)).logits.tolist()
    laxer = play(trace, WhatIf(threshold=0.1))
    with pytest.raises(NotCovered, match="audit_fraction") as refusal:
        require(trace, laxer)
    assert "policy always" in str(refusal.value)
    assert coverage(trace.testimonies["judge"], laxer).supported < 0.95
    assert {STATUSES[code] for code in laxer.statuses[laxer.unrecorded]} == {"unrecorded"}
    assert require(trace, laxer, least=0.0).judged > 0


def test_what_was_drawn_with_known_probability_estimates_the_whole(whole):
    dice = np.random.default_rng(0)
    trace = with_testimony(whole, chances=drawn_with(play(whole, WhatIf(threshold=0.3, audit_fraction=0.4)).propensities))
    propensities, testimony = trace.testimonies["judge"].chances.propensities, trace.testimonies["judge"]
    played = play(whole, WhatIf(policy="always"))
    right = credit(played.logits, whole.truth)
    estimates, naive = [], []
    for _ in range(2000):
        seen = dataclasses.replace(played, unrecorded=dice.random(len(trace)) >= propensities)
        counts = outcome_weights(testimony, seen)
        estimates.append(np.average(right, weights=counts))
        naive.append(right[~seen.unrecorded].mean())
        assert counts.sum() == pytest.approx(len(trace))
        assert (counts[seen.unrecorded] == 0).all()
    assert np.mean(estimates) == pytest.approx(right.mean(), abs=0.004)
    assert abs(np.mean(naive) - right.mean()) > 0.01
    assert require(trace, seen).effective < (~seen.unrecorded).sum()


def test_uneven_weights_are_worth_fewer_pairs(whole):
    assert effective_size(np.ones(10)) == 10
    assert effective_size(np.array([1.0, 0.0, 0.0])) == 1
    trace = routed(whole, WhatIf(threshold=0.3, audit_fraction=0.4), np.random.default_rng(1))
    known = trace.testimonies["judge"].replied.all(axis=1)
    weights = inverse_weights(trace.testimonies["judge"].chances.propensities, known, len(trace))
    assert effective_size(weights) < known.sum() - 10
    assert weights.mean() == pytest.approx(1.0)


def test_a_limit_on_what_nobody_recorded_is_refused_with_what_to_give(whole):
    nothing = np.zeros_like(whole.testimonies["judge"].prompt_tokens)
    trace = with_testimony(whole, prompt_tokens=nothing, completion_tokens=nothing, latency_s=nothing * 0.0, usd=nothing * 0.0)
    with pytest.raises(ReplayError, match="--tokens-per-call"):
        play(trace, WhatIf(max_share=0.2, tokens_per_minute=10_000))
    with pytest.raises(ReplayError, match="--latency"):
        play(trace, WhatIf(max_share=0.2, step_deadline_s=60.0))
    with pytest.raises(ReplayError, match="dollars"):
        play(trace, WhatIf(budget_usd=1.0, steps=1))
    played = play(trace, WhatIf(max_share=0.2))
    assert (played.tokens, played.seconds) == (None, None)
    guessed = play(trace, WhatIf(max_share=0.2, prompt_tokens=1000, completion_tokens=300, latency="uniform:20:60"))
    assert guessed.tokens == 1300 * guessed.total_calls
    assert 20 <= guessed.seconds <= 60 * 3
    assert guessed.logits.tolist() == played.logits.tolist()


def test_an_oracle_is_right_at_least_as_often_as_any_policy_and_judges_can_be_chosen(whole):
    shares = {policy: play(whole, WhatIf(policy=policy, max_share=0.2)) for policy in ("oracle", "error", "uncertainty", "random")}
    right = {policy: credit(played.logits, whole.truth).mean() for policy, played in shares.items()}
    assert right["oracle"] == max(right.values()) > right["random"]
    with pytest.raises(ReplayError, match="no such judge; there are judge"):
        play(whole, WhatIf(max_share=0.2, judges=("nobody",)))
