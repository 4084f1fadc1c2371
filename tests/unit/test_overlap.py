"""Asking while the rest is still being scored: who may be, that it changes no decision, and that it saves time."""

import asyncio
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual import TimedScorer

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, RoutingConfig
from judgeflow.errors import JudgeRefusesService
from judgeflow.keys import pair_keys
from judgeflow.routing.pacing import Pacer, decide
from judgeflow.routing.plan import Accept, Ask, Candidate, Means, certain, plan
from judgeflow.routing.policy import acquisition
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, ScriptedJudge, arithmetic_pairs
from judgeflow.types import Cost, Decision, Stock

costs = st.builds(Cost, requests=st.integers(1, 2), tokens=st.integers(1, 3000), usd=st.floats(0, 0.1))
stocks = st.builds(
    Stock,
    requests=st.one_of(st.none(), st.integers(0, 40)),
    tokens=st.one_of(st.none(), st.integers(0, 30_000)),
    usd=st.one_of(st.none(), st.floats(0, 1.0)),
)
routings = st.builds(
    RoutingConfig,
    policy=st.sampled_from(["error", "uncertainty"]),
    threshold=st.sampled_from(["adaptive", 0.2]),
    floor=st.sampled_from([None, 0.15]),
    max_share=st.sampled_from([None, 0.2, 0.5]),
    cost_weighted=st.booleans(),
)


def _candidate(number, score, cost, decided):
    earlier = {
        "new": None,
        "asked": Decision(pair_key=bytes([number]), asked=True, propensity=1.0),
        "accepted": Decision(pair_key=bytes([number]), asked=False),
    }
    return Candidate(pair_key=bytes([number]), acquisition=score, cost=cost, worst=cost, decided=earlier[decided])


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 0.5), costs, st.sampled_from(["new", "new", "new", "asked", "accepted"])), min_size=1, max_size=30),
    st.lists(st.integers(1, 8), min_size=1, max_size=6),
    routings,
    stocks,
    stocks,
)
def test_who_is_asked_early_would_be_asked_by_the_plan_and_nothing_else_changes(pairs, pieces, routing, allowance, in_time):
    """Whatever is asked early, piece by piece, actions, threshold, propensities and ranking are those of a plan that waited for all."""
    whole = [_candidate(number, *pair) for number, pair in enumerate(pairs)]
    means = Means(allowance=allowance, in_time=in_time)
    expected = plan(whole, routing, means)
    early, scored = set(), 0
    for piece in pieces:
        scored += piece
        unscored = range(scored, len(whole))
        seen = [
            replace(candidate, acquisition=None, obstacle="deadline") if index in unscored else candidate
            for index, candidate in enumerate(whole)
        ]
        early |= set(certain(seen, unscored, routing, means))
    assert all(expected.actions[index] == Ask() for index in early)
    assert plan([replace(one, under_way=index in early) for index, one in enumerate(whole)], routing, means) == expected
    if routing.threshold != "adaptive" and routing.max_share is None and allowance == Stock():
        assert {index for index in range(min(scored, len(whole))) if expected.actions[index] == Ask()} == early


def test_one_place_less_and_the_pair_is_not_certain():
    """Ranks 1 and 2 of three scored pairs, two unscored ones, one request each."""
    scored = [Candidate(pair_key=bytes([n]), acquisition=q, cost=Cost(requests=1)) for n, q in enumerate([0.4, 0.1, 0.3])]
    unscored = [Candidate(pair_key=bytes([n]), acquisition=None, cost=Cost(requests=1), obstacle="deadline") for n in (8, 9)]
    routing = RoutingConfig(policy="error", max_share=1.0)
    sure = [certain([*scored, *unscored], {3, 4}, routing, Means(allowance=Stock(requests=requests))) for requests in (2, 3, 4, 5)]
    assert sure == [(), (0,), (0, 2), (0, 2, 1)]


def test_with_audits_nobody_is_certain_before_the_draw():
    scored = [Candidate(pair_key=b"1", acquisition=0.4, cost=Cost(requests=1))]
    routing = RoutingConfig(policy="error", threshold=0.1)
    assert certain(scored, (), routing, Means(allowance=Stock())) == (0,)
    assert certain(scored, (), routing.model_copy(update={"audit_fraction": 0.1}), Means(allowance=Stock())) == ()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(0, 0.5), min_size=1, max_size=20), min_size=1, max_size=12), st.sampled_from([0.1, 0.25, 0.6]))
def test_the_places_that_a_step_is_sure_of_are_never_fewer_when_all_are_scored(scores, share):
    routing = RoutingConfig(policy="error", max_share=share)
    pacer = Pacer(routing, BudgetConfig())
    sure_in_all = 0
    for step, scored in enumerate(scores):
        candidates = [Candidate(pair_key=bytes([step, n]), acquisition=q, cost=Cost(requests=2)) for n, q in enumerate(scored)]
        sure = pacer.sure([replace(candidate, acquisition=None, obstacle="deadline") for candidate in candidates])
        decided = decide(candidates, routing, Means(allowance=Stock()), pacer=pacer, step=step)
        assert sure <= decided.asked
        sure_in_all += sure
    assert sure_in_all >= sum(int(share * len(scored) + 1e-9) for scored in scores) - len(scores)
    assert Pacer(routing, BudgetConfig(requests=100, steps=5)).sure(candidates) == 0


def test_where_less_can_be_spent_by_the_time_of_the_plan_the_others_bear_it():
    """The third in rank is asked about already; then only two can be."""
    whole = [Candidate(pair_key=bytes([n]), acquisition=q, cost=Cost(requests=1), under_way=n == 2) for n, q in enumerate([0.4, 0.3, 0.2])]
    decided = plan(whole, RoutingConfig(policy="error", max_share=1.0), Means(allowance=Stock(requests=2)))
    assert decided.actions == (Ask(), Accept(), Ask())
    assert decided.threshold == 0.3


# Through the scheduler


def run(main):
    clock = VirtualClock()
    return clock.run(main(clock))


class Sent(ScriptedJudge):
    """Keeps when each pair was first asked about."""

    def __init__(self, *, clock, **settings):
        super().__init__(clock=clock, **settings)
        self.asked_at, self.clock = {}, clock

    async def ask(self, question):
        self.asked_at.setdefault(question.pair_key, self.clock.now())
        return await super().ask(question)


ROUTINGS = {
    "fixed": RoutingConfig(policy="error", threshold=0.2),
    "always": RoutingConfig(policy="always"),
    "random": RoutingConfig(policy="random", max_share=0.5),
    "adaptive": RoutingConfig(policy="error", max_share=0.5),
}


@pytest.mark.parametrize("name", ROUTINGS)
def test_questions_are_sent_while_later_pieces_are_scored(name):
    """150 pairs take 50 s to score.  An adaptive threshold knows its first pair when fewer are unscored than it may ask about."""
    pairs = arithmetic_pairs(150)

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=1 / 3)
        judge = Sent(clock=clock, latency=5.0)
        async with Scheduler(store=MemoryStore(), judge=judge, scorer=scorer, routing=ROUTINGS[name], clock=clock) as scheduler:
            step = await scheduler.route(pairs)
        return step, sorted(judge.asked_at.values()), scorer.spans

    step, asked_at, spans = run(main)
    end = spans[-1][1]
    assert end == pytest.approx(50.0)
    assert step.statistics.sources["judge"] == len(asked_at)
    if name == "random":
        assert asked_at[0] >= end
    elif name == "adaptive":
        assert spans[2][1] <= asked_at[0] < end
    else:
        assert spans[0][1] <= asked_at[0] < spans[1][1]
        assert sum(moment < end for moment in asked_at) > len(asked_at) / 4
    assert all(outcome.preference is not None for outcome in step.outcomes)


@pytest.mark.parametrize("budget", [BudgetConfig(), BudgetConfig(requests=70), BudgetConfig(requests=210, steps=3)], ids=str)
@pytest.mark.parametrize("name", ROUTINGS)
def test_decisions_are_those_of_a_plan_that_waits_for_every_preference(name, budget):
    pairs, routing = arithmetic_pairs(150), ROUTINGS[name]
    store = MemoryStore()

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.1, ticks=4)
        common = {"store": store, "judge": Sent(clock=clock, latency=5.0), "scorer": scorer, "clock": clock}
        async with Scheduler(**common, routing=routing, budget=budget) as scheduler:
            step = await scheduler.route(pairs)
            planned = scheduler._session._planning._budget.planned
        return step, planned, await store.reopen().run_state("default")

    step, planned, state = run(main)
    keys = [pair_keys(pair).pair for pair in pairs]
    beliefs = [FakeScorer(pairs).score([pair])[0] for pair in pairs]
    ranks = [acquisition(routing.policy, belief, key, routing.seed) for belief, key in zip(beliefs, keys, strict=True)]
    waited = [Candidate(pair_key=key, acquisition=q, cost=Cost(requests=2)) for key, q in zip(keys, ranks, strict=True)]
    share = None if budget.requests is None else budget.requests // (budget.steps or 1)
    expected = plan(waited, routing, Means(allowance=Stock(requests=share)))
    decisions = [store._contents.decisions["default", 0][key] for key in keys]
    assert sum(decision.asked for decision in decisions) == expected.asked, (planned, state)
    assert [decision.asked for decision in decisions] == [isinstance(action, Ask) for action in expected.actions]
    assert [decision.propensity for decision in decisions] == list(expected.propensities)
    assert {decision.threshold for decision in decisions} == {expected.threshold} == {step.statistics.threshold}
    assert [(decision.acquisition, abs(decision.logit)) for decision in decisions] == [
        (q, abs(belief.logit)) for q, belief in zip(ranks, beliefs, strict=True)
    ]
    assert [outcome.source == "judge" for outcome in step.outcomes] == [decision.asked for decision in decisions]
    assert (planned.requests, state.reserved.requests) == (0, 0)
    assert state.spent.requests == 2 * expected.asked


def test_with_audits_nothing_is_asked_before_everything_is_scored():
    pairs = arithmetic_pairs(120)

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.1, ticks=4)
        judge = Sent(clock=clock, latency=5.0)
        routing = RoutingConfig(policy="error", threshold=0.2, audit_fraction=0.2)
        async with Scheduler(store=MemoryStore(), judge=judge, scorer=scorer, routing=routing, clock=clock) as scheduler:
            await scheduler.route(pairs)
        return min(judge.asked_at.values()), scorer.spans[-1][1]

    first, end = run(main)
    assert first >= end


def test_a_fixed_rule_whose_tokens_may_not_reach_asks_by_rank_when_nearly_all_are_scored():
    """60,000 tokens are 27 worst cases of two questions: only when fewer pairs than that are to come can the first be certain."""
    pairs = arithmetic_pairs(120)

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.1, ticks=4)
        judge = Sent(clock=clock, latency=5.0)
        routing, budget = RoutingConfig(policy="error", threshold=0.05), BudgetConfig(tokens=60_000)
        async with Scheduler(store=MemoryStore(), judge=judge, scorer=scorer, routing=routing, budget=budget, clock=clock) as scheduler:
            step = await scheduler.route(pairs)
        return step, min(judge.asked_at.values()), scorer.spans[-1][0]

    step, first, last_piece = run(main)
    judged = [outcome.acquisition for outcome in step.outcomes if outcome.source == "judge"]
    declined = [outcome.acquisition for outcome in step.outcomes if outcome.status == "budget"]
    assert judged
    assert min(judged) >= max(declined)
    assert first >= last_piece


def test_what_was_asked_early_is_recorded_before_it_is_sent_and_survives_a_cancelled_step():
    pairs = arithmetic_pairs(120)

    class Watching(Sent):
        async def ask(self, question):
            assert store._contents.decisions["default", 0][question.pair_key].asked
            return await super().ask(question)

    store = MemoryStore()

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.1, ticks=4)
        judge = Watching(clock=clock, latency=5.0)
        routing = RoutingConfig(policy="always")
        async with Scheduler(store=store, judge=judge, scorer=scorer, routing=routing, clock=clock, max_in_flight=8) as scheduler:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(scheduler.route(pairs, step=0), 12.0)
            await clock.sleep(50.0)
            asked, planned = judge.statistics.requests, scheduler._session._planning._budget.planned
            step = await scheduler.route(pairs, step=0)
        return asked, planned, step, judge.statistics, await store.reopen().run_state("default")

    asked, planned, step, seen, state = run(main)
    assert 0 < asked <= 40
    assert planned == Cost()
    assert step.statistics.sources["judge"] + step.statistics.sources["store"] == 120
    assert max(seen.question_answers.values()) == 1
    assert (state.spent.requests, state.reserved.requests) == (240, 0)


def test_where_places_are_few_the_best_known_pair_goes_next_and_a_late_better_one_first():
    """One question at a time.  Of those sent while 100 s pass with scoring, each is the best of what had been scored by then."""
    pairs = arithmetic_pairs(100)

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=1.0, ticks=100)
        judge = Sent(clock=clock, latency=3.0)
        routing = RoutingConfig(policy="error", threshold=0.05)
        settings = {"judge": judge, "scorer": scorer, "routing": routing, "clock": clock, "max_in_flight": 1, "orders": "first"}
        async with Scheduler(store=MemoryStore(), **settings) as scheduler:
            step = await scheduler.route(pairs)
        ranks = {pair_keys(outcome.pair).pair: outcome.acquisition for outcome in step.outcomes}
        return (
            [ranks[key] for key in judge.asked_at],
            sorted(judge.asked_at.values()),
            scorer.spans[-1][1],
            [ranks[pair_keys(pair).pair] for pair in pairs],
        )

    order, asked_at, end, ranks = run(main)
    known = [sum(moment >= since for since in (16.0, 48.0)) for moment in asked_at]
    sizes = {1: 16, 2: 48}
    early = sum(moment < end for moment in asked_at)
    assert 20 < early < 40
    for place in range(early):
        if known[place] == known[place - 1]:  # not at the moment in which a piece has just come
            left = sorted(set(ranks[: sizes[known[place]]]) - set(order[:place]))
            assert order[place] == left[-1]
    assert order[early + 1 :] == sorted(order[early + 1 :], reverse=True)


def test_a_judge_that_refuses_service_while_a_step_is_scored_is_not_asked_by_it_again():
    pairs = arithmetic_pairs(200)

    class Spent(Sent):
        async def ask(self, question):
            await super().ask(question)
            raise JudgeRefusesService("quota used up")

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.5)
        judge = Spent(clock=clock, latency=1.0)
        settings = {"judge": judge, "scorer": scorer, "routing": RoutingConfig(policy="always"), "clock": clock, "max_in_flight": 4}
        async with Scheduler(store=MemoryStore(), **settings) as scheduler:
            step = await scheduler.route(pairs)
            planned = scheduler._session._planning._budget.planned
        return step.statistics.statuses, judge.statistics.requests, planned

    assert run(main) == ({"judge_stopped": 200}, 4, Cost())


def test_a_deadline_during_scoring_keeps_the_verdicts_that_were_asked_early():
    pairs = arithmetic_pairs(120)

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.9)
        routing = RoutingConfig(policy="error", threshold=0.1, step_deadline_s=60.0)
        judge = Sent(clock=clock, latency=5.0)
        async with Scheduler(store=MemoryStore(), judge=judge, scorer=scorer, routing=routing, clock=clock) as scheduler:
            return await scheduler.route(pairs)

    step = run(main)
    scored = [outcome for outcome in step.outcomes if outcome.preference is not None]
    assert len(scored) == 16 + 32
    assert step.statistics.sources["judge"] == sum(outcome.acquisition > 0.1 for outcome in scored)
    assert step.statistics.statuses["deadline"] == 120 - len(scored)
    assert all(math.isfinite(logit) for logit in step.logits)


def test_in_a_stream_the_next_chunk_is_scored_while_one_is_judged():
    """Six chunks of 60 pairs: 6 s to score each, 10 s to judge each.  One after the other takes 96 s."""
    pairs = arithmetic_pairs(360)

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.1)
        judge = Sent(clock=clock, latency=10.0)
        routing = RoutingConfig(policy="error", max_share=0.1)
        async with Scheduler(store=MemoryStore(), judge=judge, scorer=scorer, routing=routing, clock=clock) as scheduler:
            outcomes = [outcome async for outcome in scheduler.stream(pairs, chunk=60)]
        return outcomes, clock.now(), scorer.spans, sorted(judge.asked_at.values())

    outcomes, makespan, spans, asked_at = run(main)
    assert len(outcomes) == 360
    judged = [(moment, moment + 10.0) for moment in asked_at]
    overlap = sum(max(0.0, min(end, until) - max(began, since)) for began, end in spans for since, until in judged[:1])
    assert overlap > 4.0
    assert makespan < 0.75 * (360 * 0.1 + 6 * 10.0)


def test_of_two_steps_the_scorer_finishes_one_before_it_begins_the_other():
    pairs = arithmetic_pairs(480)

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.1, ticks=4)
        ended = {}

        async def route(name, part):
            await scheduler.route(part)
            ended[name] = clock.now()

        async with Scheduler(store=MemoryStore(), scorer=scorer, routing=RoutingConfig(policy="never"), clock=clock) as scheduler:
            await asyncio.gather(route("first", pairs[:240]), route("second", pairs[240:]))
        return ended

    ended = run(main)
    assert sorted(ended.values()) == pytest.approx([24.0, 48.0])
