"""How many requests may be under way: the rule by itself, and the dispatcher that obeys it, in virtual time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import LimitsConfig, RoutingConfig
from judgeflow.errors import JudgeBusy, JudgeOverloaded, JudgeRefusesService, RateLimited
from judgeflow.judges.gate import WindowGate
from judgeflow.routing.concurrency import Concurrency
from judgeflow.store import MemoryStore
from judgeflow.testing import ScriptedJudge, Watcher, arithmetic_pairs

# The rule


def serve(rule: Concurrency, replies: int, *, after: int, now: float = 0.0) -> float | None:
    """Every place is taken and every request answered, `replies` times; return what the last one told."""
    told = None
    for number in range(after + 1, after + replies + 1):
        told = rule.answered(now, number=number, under_way=rule.limit)
    return told


def test_it_begins_at_what_is_configured():
    assert Concurrency(64).limit == 64


def test_a_burst_that_is_turned_away_as_a_whole_halves_the_limit_once():
    rule = Concurrency(64)
    told = [rule.turned_away(0.0, number=number, sent=64) for number in range(1, 65)]
    assert rule.limit == 32
    assert told == [True] + [False] * 63


def test_what_was_sent_after_the_fall_lowers_it_again_once_an_eighth_of_it_is_refused():
    rule = Concurrency(64)
    rule.turned_away(0.0, number=1, sent=64)
    told = [rule.turned_away(0.0, number=number, sent=96) for number in range(65, 97)]
    assert rule.limit == 16
    assert told.index(True) == 8  # of the 64 requests of two rounds
    assert told.count(True) == 1


def test_a_refusal_here_and_there_below_the_level_that_failed_lowers_nothing():
    rule = Concurrency(64)
    rule.turned_away(0.0, number=1, sent=1)
    for number in range(2, 2000):
        if number % 20:
            rule.answered(0.0, number=number, under_way=rule.limit)
        elif rule.limit < 64:
            assert not rule.turned_away(0.0, number=number, sent=number)
    assert rule.limit == 64


def test_the_first_refusal_at_the_level_that_failed_lowers_it_again():
    rule = Concurrency(4)
    rule.turned_away(0.0, number=1, sent=1)
    sent = 1
    while rule.limit < 4:
        sent += 1
        rule.answered(0.0, number=sent, under_way=rule.limit)
    rule.turned_away(0.0, number=sent + 1, sent=sent + 1)
    assert rule.limit == 2


def test_replies_to_what_was_sent_before_the_fall_raise_nothing():
    rule = Concurrency(64)
    rule.turned_away(0.0, number=1, sent=64)
    for number in range(2, 65):
        rule.answered(1.0, number=number, under_way=64)
    assert rule.limit == 32


def test_half_of_what_failed_is_won_back_in_about_eight_rounds():
    rule = Concurrency(64)
    rule.turned_away(0.0, number=1, sent=64)
    replies = 0
    while rule.limit < 64:
        replies += 1
        rule.answered(1.0, number=64 + replies, under_way=rule.limit)
    assert replies == pytest.approx(8 * (32 + 64) / 2, rel=0.1)


def test_beyond_the_level_that_failed_every_reply_adds_a_place():
    rule, sent = Concurrency(64), 0
    while rule.limit > 1:
        sent += 1
        rule.turned_away(0.0, number=sent, sent=sent)
    serve(rule, 6, after=sent)
    assert rule.limit == 2  # where it failed last
    serve(rule, 10, after=sent + 6)
    assert rule.limit == 12


def test_a_limit_that_is_not_used_does_not_rise():
    rule = Concurrency(64)
    rule.turned_away(0.0, number=1, sent=1)
    for number in range(2, 1000):
        rule.answered(0.0, number=number, under_way=15)
    assert rule.limit == 32


def test_it_tells_how_long_it_was_low_once_it_is_full_again_and_then_is_told_as_new():
    rule = Concurrency(4)
    assert rule.turned_away(10.0, number=1, sent=4)
    assert serve(rule, 100, after=4, now=70.0) is None  # only the reply that fills it tells
    assert rule.limit == 4
    assert rule.turned_away(80.0, number=105, sent=105)
    told = [rule.answered(95.0, number=number, under_way=rule.limit) for number in range(106, 160)]
    assert [seconds for seconds in told if seconds is not None] == [15.0]


def test_a_limit_that_swings_is_told_at_its_lowest_only():
    rule, told, sent = Concurrency(64), [], 0
    for _ in range(50):
        while rule.limit <= 20:
            sent += 1
            rule.answered(0.0, number=sent, under_way=rule.limit)
        sent += 1
        if rule.turned_away(0.0, number=sent, sent=sent):
            told.append(rule.limit)
    assert told == [32, 16, 10]


events = st.lists(st.tuples(st.booleans(), st.integers(0, 80), st.integers(1, 100)), max_size=300)


@given(st.integers(1, 100), events)
def test_the_limit_is_never_below_one_nor_above_what_is_configured(most, happened):
    rule = Concurrency(most)
    for sent, (served, ago, under_way) in enumerate(happened, start=1):
        number, before = max(1, sent - ago), rule.limit
        if served:
            rule.answered(float(sent), number=number, under_way=under_way)
            assert rule.limit >= before
        else:
            rule.turned_away(float(sent), number=number, sent=sent)
            assert rule.limit <= before
        assert 1 <= rule.limit <= most


# The dispatcher


class FlightWatcher(Watcher):
    """Keeps the notices about requests in flight alone."""

    def notice(self, event, **fields):
        if event.startswith("in_flight"):
            super().notice(event, **fields)


class MoodyJudge(ScriptedJudge):
    """Serves at most `places(now)` requests at a time and turns the others away with `error`, and besides `moods` of all requests.

    Counts both, and when it served.
    """

    def __init__(self, *, clock, places, error=JudgeBusy, moods=0.0, **settings):
        super().__init__(clock=clock, **settings)
        self.clock, self.places, self.error, self.moods = clock, places, error, moods
        self.random = random.Random(1)
        self.serving, self.turned_away_at, self.served_at, self.most, self.busy_s = 0, [], [], 0, 0.0

    async def ask(self, question):
        now = self.clock.now()
        if self.serving >= self.places(now) or self.random.random() < self.moods:
            self.turned_away_at.append(now)
            raise self.error
        self.serving += 1
        self.most = max(self.most, self.serving)
        try:
            reply = await super().ask(question)
        finally:
            self.serving -= 1
        self.served_at.append(self.clock.now())
        self.busy_s += self.clock.now() - now
        return reply


def routed(places, *, pairs=400, latency="lognormal:30:0.5", error=JudgeBusy, moods=0.0, routing=None, **settings):
    """Route `pairs` in both orders, 64 at a time at most; return (result, judge, notices)."""
    clock, seen = VirtualClock(), FlightWatcher()
    judge = MoodyJudge(clock=clock, places=places, error=error, moods=moods, latency=latency)

    async def main():
        chosen = {"routing": routing or RoutingConfig(policy="always"), "gate": WindowGate(LimitsConfig(), clock)} | settings
        async with Scheduler(store=MemoryStore(), judge=judge, clock=clock, observers=[seen], **chosen) as scheduler:
            return await scheduler.route(arithmetic_pairs(pairs))

    return clock.run(main()), judge, seen.notices


def test_a_judge_with_a_hidden_capacity_is_used_near_it_without_a_storm_of_errors():
    step, judge, notices = routed(lambda now: 20)
    assert step.statistics.statuses == {"ok": 400}
    started, ended = judge.served_at[0], judge.served_at[-60]  # without the ends, where fewer are wanted
    assert 0.7 * 20 < judge.busy_s / judge.served_at[-1] <= 20
    later = [at for at in judge.turned_away_at if started < at < ended]
    assert len(later) < 0.04 * 800
    assert len(judge.turned_away_at) < 64 + 32 + len(later)
    assert [fields["in_flight"] for _, fields in notices][:2] == [32, 16]
    assert len(notices) <= 4


@pytest.mark.parametrize("places", [64, 20])
def test_a_judge_that_refuses_some_requests_at_any_load_is_used_in_half_of_its_places_at_least(places):
    step, judge, _ = routed(lambda now: places, moods=0.05)
    assert step.statistics.statuses == {"ok": 400}
    assert len(judge.turned_away_at) > 20
    assert judge.busy_s / judge.served_at[-1] > 0.5 * places


def test_a_judge_that_recovers_is_used_in_full_again_and_both_are_told_once():
    """A minute of overload for everybody, from the first request on."""
    step, judge, notices = routed(lambda now: 0 if now < 60 else 64, pairs=1000, latency=10.0, error=RateLimited)
    assert step.statistics.statuses == {"ok": 1000}
    assert judge.most == 64
    assert notices[-1][0] == "in_flight_recovered"
    assert [event for event, _ in notices].count("in_flight_recovered") == 1
    assert notices[-1][1]["seconds"] < 60 + 200


@pytest.mark.parametrize(("error", "lowered"), [(JudgeBusy, True), (JudgeOverloaded, False)])
def test_only_a_judge_that_has_too_much_to_do_lowers_the_limit(error, lowered):
    _, _, notices = routed(lambda now: 0 if now < 1 else 64, pairs=40, latency=1.0, error=error)
    assert bool(notices) == lowered


def test_an_account_without_credit_stops_the_asking_after_one_burst():
    step, judge, notices = routed(lambda now: 0, pairs=300, error=JudgeRefusesService)
    assert step.statistics.statuses == {"judge_stopped": 300}
    assert len(judge.turned_away_at) <= 64
    assert notices == []


def test_a_plan_counts_on_the_places_there_are_now():
    """Steps of two minutes, 30 s a reply: 64 places would bear every pair, the four that the judge really has bear 16 questions."""
    routing = RoutingConfig(policy="random", step_deadline_s=120.0)
    clock, pairs = VirtualClock(), arithmetic_pairs(120)
    judge = MoodyJudge(clock=clock, places=lambda now: 4, latency=30.0)

    async def main():
        gate = WindowGate(LimitsConfig(), clock)
        async with Scheduler(store=MemoryStore(), judge=judge, clock=clock, routing=routing, gate=gate) as scheduler:
            await scheduler.route(pairs[:60])
            await clock.sleep(600.0)
            return (await scheduler.route(pairs[60:])).statistics

    statistics = clock.run(main())
    assert 4 <= statistics.calls <= 16
    assert statistics.statuses.get("deadline", 0) <= 8


@given(places=st.integers(1, 12), latency=st.sampled_from([0.5, 5.0, "uniform:1:20"]))
def test_never_more_than_configured_are_under_way_and_nothing_is_lost(places, latency):
    step, judge, _ = routed(lambda now: places if int(now / 50) % 2 else 2 * places, pairs=12, latency=latency, max_in_flight=10)
    assert step.statistics.statuses == {"ok": 12}
    assert judge.most <= 10
