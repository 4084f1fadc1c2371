"""What a replay says, against cases worked out by hand, brute force, and data whose truth is known."""

import dataclasses

import numpy as np
import pytest

from judgeflow.errors import UsageError
from judgeflow.replay import trace as replay_trace
from judgeflow.replay.advice import advise
from judgeflow.replay.evidence import evidence
from judgeflow.replay.measure import measure, position_bias, second_order
from judgeflow.replay.selection import Chances
from judgeflow.replay.simulate import play
from judgeflow.replay.statistics import agreement, estimate, prompt_counts, threshold_at, walk
from judgeflow.replay.trace import Trace
from judgeflow.replay.whatif import WhatIf
from judgeflow.types import JudgeIdentity

JUDGE = "judge"


def trace(*, logits, preferred, truth=None, propensities=None, statuses=None):
    """Pairs of a prompt each, 100 tokens and a second a call."""
    n, preferred = len(logits), np.array(preferred, dtype=np.int8)
    counts = np.full((n, 2), 50, dtype=np.int64)
    testimony = replay_trace.Testimony(
        judge=JudgeIdentity(id=JUDGE, model="m", fingerprint=b"j"),
        statuses=np.zeros((n, 2), dtype=np.int8) if statuses is None else np.array(statuses, dtype=np.int8),
        preferred=preferred,
        strong=np.zeros((n, 2), dtype=bool),
        prompt_tokens=counts,
        completion_tokens=counts,
        usd=np.zeros((n, 2)),
        latency_s=np.ones((n, 2)),
        chances=Chances.certain(n) if propensities is None else Chances(propensities=np.array(propensities), drawn=np.ones(n, dtype=bool)),
    )
    return Trace(
        source="pairs.jsonl",
        scorer="s",
        keys=tuple(i.to_bytes(4, "little") for i in range(n)),
        prompts=np.arange(n),
        logits=np.array(logits, dtype=np.float64),
        uncertainties=np.full(n, np.nan),
        truth=np.full(n, np.nan) if truth is None else np.array(truth, dtype=np.float64),
        swapped=np.zeros(n, dtype=bool),
        placed=np.ones(n, dtype=bool),
        steps=np.full(n, -1),
        testimonies={JUDGE: testimony},
    )


def simulated(n, seed, *, informed):
    """A perfect judge; a calibrated scorer, or one whose confidence means nothing."""
    dice = np.random.default_rng(seed)
    logits = dice.normal(0, 1.5, n)
    chance = 1 / (1 + np.exp(-logits))
    if not informed:
        chance = np.where(logits > 0, 0.7, 0.3)
    truth = (dice.random(n) < chance).astype(float)
    side = np.where(truth > 0.5, 1, -1)
    return trace(logits=logits, preferred=np.column_stack([side, side]), truth=truth)


def test_a_path_is_what_asking_one_after_the_other_gives():
    dice = np.random.default_rng(1)
    right, judged, q, cost = dice.integers(0, 2, 30) * 1.0, dice.integers(0, 2, 30) * 1.0, dice.random(30), dice.integers(1, 3, 30) * 1.0
    path = walk(right, judged, q, {"calls": cost}, np.ones((1, 30)))
    for asked in range(31):
        top = np.argsort(-q)[:asked]
        now = right.copy()
        now[top] = judged[top]
        assert path.accuracy([asked / 30])[0, 0] == pytest.approx(now.mean())
        assert path.cost("calls", [asked / 30])[0, 0] == pytest.approx(cost[top].sum() / 30)


def test_savings_are_the_calls_that_random_needs_and_the_policy_does_not():
    right, judged = np.array([0.0, 1, 0, 1, 1, 1, 1, 1, 1, 1]), np.ones(10)
    path = walk(right, judged, -np.arange(10.0), {"calls": np.full(10, 2.0)}, np.ones((1, 10)))
    # Random reaches .8 + .5 * .2 = .9 with five pairs; the policy with its first.
    assert path.saved("calls", 0.5).tolist() == pytest.approx([0.8])


def test_there_is_nothing_to_save_where_the_judge_is_no_better():
    path = walk(np.ones(4), np.ones(4), np.arange(4.0), {"calls": np.ones(4)}, np.ones((1, 4)))
    assert np.isnan(path.saved("calls", 0.4)).all()


def test_an_interval_that_few_resamples_define_is_none():
    found = estimate(np.array([0.5, *[np.nan] * 50, *[0.4] * 50]))
    assert found.value == 0.5
    assert np.isnan([found.low, found.high]).all()


def test_a_pair_of_weight_two_counts_as_two_pairs():
    right, judged, q = np.array([0.0, 1, 1]), np.array([1.0, 0, 1]), np.array([3.0, 2, 1])
    weighted = walk(right, judged, q, {}, np.array([[2.0, 1, 1]])).accuracy([0.25, 0.5, 1])
    twice = walk(right[[0, 0, 1, 2]], judged[[0, 0, 1, 2]], q[[0, 0, 1, 2]], {}, np.ones((1, 4))).accuracy([0.25, 0.5, 1])
    assert weighted.tolist() == [pytest.approx(twice[0].tolist())]


def test_resamples_do_not_depend_on_how_they_are_cut_into_blocks(monkeypatch):
    whole = prompt_counts(range(20), seed=2, resamples=30)
    monkeypatch.setattr("judgeflow.replay.statistics.CELLS", 100)
    assert (prompt_counts(range(20), seed=2, resamples=30) == whole).all()


def test_a_threshold_leaves_at_most_its_share_above_it():
    assert threshold_at(np.array([0.1, 0.4, 0.3, 0.2]), np.ones(4), 0.5) == 0.2
    assert threshold_at(np.array([0.5, 0.5, 0.5, 0.2]), np.ones(4), 0.5) == 0.5


def test_agreement_is_half_where_one_side_has_no_opinion():
    assert agreement([1.5, -1, 0, 0], [1, 1, 1, 0]).tolist() == [1.0, 0.0, 0.5, 1.0]


def test_a_contradiction_leaves_the_word_to_the_scorer_and_a_tie_earns_half():
    found = evidence(trace(logits=[1, 1, 1], preferred=[[1, -1], [0, 0], [-1, -1]], truth=[1, 1, 1]), JUDGE, "both")
    assert (found.right.tolist(), found.judged.tolist()) == ([1, 1, 1], [1, 0.5, 0])
    assert found.costs["calls"].tolist() == [2, 2, 2]
    assert found.costs["tokens"].tolist() == [200, 200, 200]


def test_adaptive_orders_end_as_both_do_and_ask_less():
    recorded = trace(logits=[1, 1, 1], preferred=[[1, -1], [1, 1], [-1, -1]], truth=[1, 1, 1])
    both, adaptive = (evidence(recorded, JUDGE, orders) for orders in ("both", "adaptive"))
    assert adaptive.judged.tolist() == both.judged.tolist()
    assert adaptive.costs["calls"].tolist() == [1.5, 1, 2]


def test_one_order_drawn_at_random_earns_the_mean_of_both():
    found = evidence(trace(logits=[1], preferred=[[1, -1]], truth=[1]), JUDGE, "random")
    assert (found.judged.tolist(), found.costs["calls"].tolist()) == ([0.5], [1])


def test_without_labels_what_counts_is_agreement_with_the_judge():
    found = evidence(trace(logits=[1, 1], preferred=[[1, 1], [-1, -1]]), JUDGE, "both")
    assert (found.reference, found.right.tolist(), found.judged.tolist()) == ("judge", [1, 0], [1, 1])


def test_pairs_that_could_not_have_been_judged_are_refused_with_the_next_step():
    routed = trace(logits=[1, 1], preferred=[[1, 1], [0, 0]], statuses=[[0, 0], [-1, -1]], propensities=[1, 0])
    with pytest.raises(UsageError, match=r"1 of 2 pairs, and 1 .*audit_fraction"):
        evidence(routed, JUDGE, "both")


def test_judged_pairs_stand_for_those_that_were_as_likely_to_be():
    audited = trace(logits=[1, 1, 1], preferred=[[1, 1], [1, 1], [0, 0]], statuses=[[0, 0], [0, 0], [-1, -1]], propensities=[1, 0.5, 0.5])
    found = evidence(audited, JUDGE, "both")
    assert (found.weights * 3 / 2).tolist() == pytest.approx([1, 2])
    assert len(found) == 2


def test_a_calibrated_scorer_is_worth_routing_by_and_the_advice_says_at_what_threshold():
    measured = measure(evidence(simulated(1000, 0, informed=True), JUDGE, "both"), resamples=200)
    found = advise(measured, 0.2)
    assert found.policy == "error"
    above = (measured.evidence.acquisitions["error"] > found.point.threshold).mean()
    assert above == pytest.approx(0.2, abs=0.001)
    assert found.point.calls == pytest.approx(400)
    assert "better than random at 20%" in found.sentences[0]


def test_a_scorer_that_is_as_sure_as_unsure_ends_in_no_recommendation():
    found = advise(measure(evidence(simulated(400, 3, informed=False), JUDGE, "both"), resamples=200), 0.2)
    assert found.policy is None
    assert "no policy is certainly better than random at 20%" in found.sentences[0]
    assert 'policy = "random"' in found.sentences[1]


def test_random_gains_nothing_over_itself_and_its_curve_is_a_line():
    curve = measure(evidence(simulated(100, 0, informed=True), JUDGE, "both"), resamples=50).curves["random"]
    assert all(abs(point.gain.value) < 1e-12 for point in curve.points)
    values = [point.accuracy.value for point in curve.points]
    assert values == pytest.approx(np.linspace(values[0], values[-1], len(values)))


def test_the_same_seed_measures_the_same():
    found = evidence(simulated(100, 0, informed=True), JUDGE, "both")
    assert measure(found, seed=1, resamples=50).curves == measure(found, seed=1, resamples=50).curves


def test_position_bias_tells_what_is_shown_first_from_what_is_shown_second():
    found = position_bias(trace(logits=[1] * 4, preferred=[[1, -1], [1, 1], [-1, 1], [0, 1]]), JUDGE, resamples=50)
    assert (found.agreement.value, found.first, found.second, found.tied) == (0.25, 0.25, 0.25, 0.25)


def test_with_a_judge_of_no_position_bias_one_order_on_twice_the_pairs_is_never_worse():
    values = {(value.orders, value.share): value for value in second_order(simulated(400, 0, informed=True), JUDGE, resamples=50)}
    assert values["random", 0.2].over_both.above
    assert values["random", 0.2].calls == values["both", 0.2].calls == pytest.approx(160)
    assert values["random", 0.2].agreement == 1


def test_a_judge_that_was_shown_one_order_has_no_second_order_to_be_worth_anything():
    one_order = trace(logits=[1], preferred=[[1, 0]], statuses=[[0, -1]])
    assert second_order(one_order, JUDGE) == ()


@pytest.mark.exhaustive
def test_intervals_hold_the_true_gain_as_often_as_they_promise():
    whole = evidence(simulated(200_000, 99, informed=True), JUDGE, "both")
    true = walk(whole.right, whole.judged, whole.acquisitions["error"], {}, np.ones((1, len(whole)))).gained([0.2])[0, 0]
    held = 0
    for seed in range(300):
        found = evidence(simulated(400, seed, informed=True), JUDGE, "both")
        path = walk(found.right, found.judged, found.acquisitions["error"], {}, prompt_counts(found.prompts, seed, 400))
        interval = estimate(path.gained([0.2])[:, 0])
        held += interval.low <= true <= interval.high
    assert 0.91 <= held / 300 <= 0.98


def test_a_replay_of_pairs_without_replies_says_so():
    silent = dataclasses.replace(trace(logits=[1], preferred=[[0, 0]], statuses=[[-1, -1]]))
    with pytest.raises(UsageError, match="has not answered"):
        evidence(silent, JUDGE, "both")


@pytest.mark.parametrize("on_inconsistent", ["scorer", "zero"])
def test_adaptive_orders_cost_on_the_curves_what_they_cost_when_played(on_inconsistent):
    """A first order that agrees with the scorer is enough only where a contradiction would leave it the word."""
    whole = simulated(200, 1, informed=True)
    found = evidence(whole, JUDGE, "adaptive", on_inconsistent=on_inconsistent)
    arms = [
        play(whole, WhatIf(policy="always", orders="adaptive", on_inconsistent=on_inconsistent, seed=seed)).total_calls for seed in range(9)
    ]
    assert found.costs["calls"].sum() == pytest.approx(np.mean(arms), abs=8)
    assert (found.costs["calls"].sum() == 400) == (on_inconsistent == "zero")
