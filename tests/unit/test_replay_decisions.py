"""A replay decides as the real scheduler does, and takes as long."""

import dataclasses

import numpy as np
import pytest
from replays import LONGEST, chunks, everything_judged, judge, live, some_pairs

from judgeflow import Scheduler, Seat
from judgeflow.clock import VirtualClock
from judgeflow.engine import batcher
from judgeflow.keys import pair_keys
from judgeflow.replay.played import SOURCES, STATUSES
from judgeflow.replay.simulate import Replay, play
from judgeflow.replay.whatif import WhatIf
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer

PAIRS = some_pairs(240)
STEP = 60
TOLERANCE = 1e-5
"""Of a step's seconds, where the scheduler asks when everything is scored."""

EARLY_TOLERANCE = 0.1
"""Of a run's seconds, where it begins to ask before: who is asked stays the same, in another order."""

SETTINGS = {
    "error": {"max_share": 0.2},
    "uncertainty": {"policy": "uncertainty", "max_share": 0.33},
    "margin": {"policy": "margin", "max_share": 0.05},
    "random": {"policy": "random", "max_share": 0.4, "seed": 7},
    "always": {"policy": "always"},
    "always, until requests are used up": {"policy": "always", "budget_requests": 101},
    "always, until tokens are used up": {"policy": "always", "budget_tokens": 12_000},
    "always, until dollars are used up": {"policy": "always", "budget_usd": 0.04, "max_in_flight": 8},
    "always, tokens for its steps": {"policy": "always", "budget_tokens": 12_000, "steps": 4},
    "never": {"policy": "never"},
    "a fixed threshold": {"threshold": 0.3},
    "a floor": {"max_share": 0.5, "floor": 0.35},
    "one order": {"max_share": 0.2, "orders": "first"},
    "a random order": {"max_share": 0.2, "orders": "random", "seed": 3},
    "adaptive orders": {"max_share": 0.4, "orders": "adaptive"},
    "adaptive orders, zero": {"max_share": 0.4, "orders": "adaptive", "on_inconsistent": "zero"},
    "audits": {"max_share": 0.3, "audit_fraction": 0.3},
    "audits below a threshold": {"threshold": 0.35, "audit_fraction": 0.2},
    "a matched margin": {"max_share": 0.3, "verdict_margin": "matched"},
    "few in flight": {"max_share": 0.4, "max_in_flight": 3},
    "a request limit": {"max_share": 0.5, "requests_per_minute": 7},
    "a paid limit": {"max_share": 0.5, "requests_per_minute": 20, "pause_s": 30.0},
    "a token limit": {"max_share": 0.3, "tokens_per_minute": 2000},
    "a token limit, actual": {"max_share": 0.3, "tokens_per_minute": 2000, "charge": "actual"},
    "a budget of requests": {"budget_requests": 100, "steps": 4},
    "an uneven budget": {"budget_requests": 61, "steps": 4, "threshold": 0.25},
    "a budget of tokens": {"budget_tokens": 20_000, "steps": 4},
    "a budget of dollars": {"budget_usd": 0.04, "steps": 4},
    "a hard budget of tokens": {"budget_tokens": 12_000, "threshold": 0.1},
    "a share and a budget of requests": {"budget_requests": 61, "max_share": 0.3},
    "a share and more tokens than it takes": {"budget_tokens": 30_000, "max_share": 0.2},
    "a share and a budget of tokens": {"budget_tokens": 9_000, "max_share": 0.3},
    "a share and more dollars than it takes": {"budget_usd": 0.08, "max_share": 0.2},
    "a share and a budget of dollars": {"budget_usd": 0.03, "max_share": 0.3},
    "a share and a budget for its steps": {"budget_usd": 0.03, "max_share": 0.3, "steps": 4},
    "a deadline": {"max_share": 0.8, "step_deadline_s": 100.0, "requests_per_minute": 15, "pause_s": 60.0},
    "a short deadline": {"max_share": 0.5, "step_deadline_s": 40.0},
    "a deadline, adaptive orders": {"max_share": 0.5, "step_deadline_s": 90.0, "orders": "adaptive", "max_in_flight": 10},
    "cost weighted": {"max_share": 0.3, "cost_weighted": True},
}


@pytest.fixture(scope="module")
def replay():
    return Replay(everything_judged(PAIRS))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_replay_decides_as_the_scheduler(replay, name, monkeypatch):
    what_if = WhatIf(step_size=STEP, **SETTINGS[name])
    monkeypatch.setattr(batcher, "FIRST_PIECE", STEP)  # so that a step is scored at once
    real, played = live(what_if, PAIRS), replay.play(what_if)
    sign = np.array([1 if pair_keys(pair).canonical else -1 for pair in PAIRS])
    assert [step.statistics.threshold for step in real.steps] == [step.threshold for step in played.steps]
    assert [outcome.status for outcome in real.outcomes] == [STATUSES[code] for code in played.statuses]
    assert [outcome.source for outcome in real.outcomes] == [SOURCES[code] for code in played.sources]
    assert [outcome.logit for outcome in real.outcomes] == (sign * played.logits + 0.0).tolist()
    assert [outcome.audit for outcome in real.outcomes] == played.audits.tolist()
    assert real.calls == played.total_calls
    for step, seconds in zip(played.steps, real.seconds, strict=True):
        assert step.seconds == pytest.approx(seconds, rel=TOLERANCE, abs=0.01)
    assert played.judged.any() or name == "never"


@pytest.mark.parametrize("name", ["always", "a paid limit", "a token limit, actual"])
def test_asking_before_all_are_scored_changes_the_order_and_not_the_decisions(replay, name):
    what_if = WhatIf(step_size=STEP, **SETTINGS[name])
    real, played = live(what_if, PAIRS), replay.play(what_if)
    assert sorted(map(abs, (outcome.logit for outcome in real.outcomes))) == sorted(np.abs(played.logits).tolist())
    assert [outcome.status for outcome in real.outcomes] == [STATUSES[code] for code in played.statuses]
    assert played.seconds == pytest.approx(sum(real.seconds), rel=EARLY_TOLERANCE)


def test_tokens_and_dollars_are_those_that_were_paid(replay):
    what_if = WhatIf(step_size=STEP, max_share=0.25)
    real, played = live(what_if, PAIRS), replay.play(what_if)
    assert [step.statistics.spent.tokens for step in real.steps] == [step.tokens for step in played.steps]
    assert [step.statistics.spent.usd for step in real.steps] == pytest.approx([step.usd for step in played.steps])


@pytest.mark.parametrize("usd", [0.02, 0.08])
def test_dollars_that_nobody_recorded_are_counted_by_the_prices_of_the_settings(usd, monkeypatch):
    unpriced = everything_judged(PAIRS)
    free = {name: dataclasses.replace(said, usd=np.zeros_like(said.usd)) for name, said in unpriced.testimonies.items()}
    prices = {"prompt_usd_per_mtok": 2.0, "completion_usd_per_mtok": 8.0}
    what_if = WhatIf(step_size=STEP, max_share=0.25, budget_usd=usd, longest_reply=LONGEST, **prices)
    monkeypatch.setattr(batcher, "FIRST_PIECE", STEP)
    real, played = live(what_if, PAIRS), play(dataclasses.replace(unpriced, testimonies=free), what_if)
    assert [outcome.status for outcome in real.outcomes] == [STATUSES[code] for code in played.statuses]
    assert [step.statistics.spent.usd for step in real.steps] == pytest.approx([step.usd for step in played.steps])


@pytest.mark.parametrize("seed", [0, 5])
def test_judges_share_the_pairs_as_the_scheduler_has_them(seed):
    traces = {name: everything_judged(PAIRS, seed=number, model=name) for number, name in enumerate(("one", "two"))}
    both = dataclasses.replace(traces["one"], testimonies={name: trace.testimonies[name] for name, trace in traces.items()})
    what_if = WhatIf(max_share=0.5, step_size=STEP, seed=seed, judges=("one", "two"), weights=(1.0, 2.0))
    clock = VirtualClock()

    async def main():
        seats = [Seat(judge=judge(clock, number, model=name), weight=number + 1.0) for number, name in enumerate(traces)]
        routing = what_if.routing.model_copy(update={"panel": "weights"})
        async with Scheduler(judges=seats, store=MemoryStore(), scorer=FakeScorer(PAIRS), routing=routing, clock=clock) as scheduler:
            return [await scheduler.route(part, step=number) for number, part in enumerate(chunks(PAIRS, STEP))]

    outcomes = [outcome for step in clock.run(main()) for outcome in step.outcomes]
    played = play(both, what_if)
    sign = np.array([1 if pair_keys(pair).canonical else -1 for pair in PAIRS])
    assert [outcome.status for outcome in outcomes] == [STATUSES[code] for code in played.statuses]
    assert [outcome.logit for outcome in outcomes] == (sign * played.logits + 0.0).tolist()
    assert {outcome.verdict.judge.model for outcome in outcomes if outcome.verdict} == {"one", "two"}
