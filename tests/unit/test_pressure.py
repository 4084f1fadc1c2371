"""What a judge turned away, and how much less it was asked at a time: noted with every step, and said in words."""

import pytest

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import LimitsConfig, RoutingConfig
from judgeflow.judges.gate import WindowGate
from judgeflow.report.pressure import together, told
from judgeflow.routing.concurrency import Concurrency
from judgeflow.routing.strain import Strain
from judgeflow.store import MemoryStore
from judgeflow.testing import ScriptedJudge, Watcher, arithmetic_pairs
from judgeflow.types import Pressure

PAIRS = arithmetic_pairs(300)
NAME = ScriptedJudge().identity.id


def turn_away(rule, strain, now, number):
    rule.turned_away(now, number=number, sent=number)
    strain.turned_away(rate_limited=True)


def test_pauses_between_steps_do_not_count_as_lowered():
    rule = Concurrency(64)
    strain = Strain(rule)
    turn_away(rule, strain, 10.0, 1)
    assert strain.take(30.0, 0.0) == Pressure(max_in_flight=64, in_flight=32, rate_limited=1, lowered_s=20.0)
    next_step_begins = rule.low_s(100.0)
    assert strain.take(105.0, next_step_begins) == Pressure(max_in_flight=64, in_flight=32, lowered_s=5.0)


def test_steps_under_way_at_the_same_time_count_nothing_twice():
    rule = Concurrency(64)
    strain = Strain(rule)
    turn_away(rule, strain, 10.0, 1)
    first, second = strain.take(20.0, 0.0), strain.take(25.0, 0.0)
    assert (first.rate_limited, first.lowered_s, second.rate_limited, second.lowered_s) == (1, 10.0, 0, 5.0)


def route(judge_of, *, steps=2, size=100, **settings):
    """Route some steps in virtual time; return their statistics and what the watcher saw."""
    clock, seen = VirtualClock(), Watcher()

    async def main():
        more = {"gate": WindowGate(LimitsConfig(), clock), "routing": RoutingConfig(policy="always"), "max_in_flight": 16} | settings
        async with Scheduler(store=MemoryStore(), judge=judge_of(clock), clock=clock, observers=[seen], **more) as scheduler:
            return [(await scheduler.route(PAIRS[step * size : (step + 1) * size])).statistics for step in range(steps)]

    return clock.run(main()), seen


def test_every_refusal_is_counted_in_the_step_that_met_it_and_so_are_the_seconds_at_a_lower_concurrency():
    script = ["429-bare"] * 8 + ["503"] * 2
    (first, second), seen = route(lambda clock: ScriptedJudge(clock=clock, latency=1.0, faults=script))
    pressure = first.pressure[NAME]
    assert (pressure.rate_limited, pressure.busy) == (8, 2)
    assert (pressure.in_flight, pressure.max_in_flight) == (8, 16)
    (seconds,) = (fields["seconds"] for event, fields in seen.notices if event == "in_flight_recovered")
    both = together([first.pressure, second.pressure])[NAME]
    assert both.lowered_s == pytest.approx(seconds, abs=0.1)
    assert pressure.lowered_s <= first.seconds


def test_a_judge_that_bears_everything_is_not_mentioned():
    assert [step.pressure for step in route(lambda clock: ScriptedJudge(clock=clock, latency=1.0))[0]] == [{}, {}]


def test_a_500_is_no_sign_of_load():
    steps, _ = route(lambda clock: ScriptedJudge(clock=clock, latency=1.0, faults=["500"] * 3))
    assert [step.pressure for step in steps] == [{}, {}]


FELT = Pressure(max_in_flight=64, in_flight=16, rate_limited=12, lowered_s=130.0)


@pytest.mark.parametrize(
    ("pressure", "said"),
    [
        (FELT, "turned away 12 requests with 429; concurrency was lowered, to 16 of 64 at the least, for 2 min 10 s of 5 min"),
        (Pressure(max_in_flight=4, in_flight=4, rate_limited=1, busy=2), "turned away 3 requests (1 with 429, 2 with 503 or 529)"),
        (Pressure(max_in_flight=4, in_flight=2, lowered_s=9.0), "concurrency was lowered, to 2 of 4 at the least, for 9.0 s of 5 min"),
        (Pressure(max_in_flight=4, in_flight=1, lowered_s=300.0), "concurrency was lowered, to 1 of 4 at the least, for all of 5 min"),
        (
            Pressure(max_in_flight=4, in_flight=4, admits={"requests_per_minute": 60}),
            "by its headers it admits 60 requests a minute",
        ),
    ],
)
def test_it_is_said_in_one_plain_line(pressure, said):
    assert told(pressure, 300.0) == said


def test_of_several_times_the_lowest_counts_and_what_adds_up_adds_up():
    later = Pressure(max_in_flight=64, in_flight=8, busy=1, lowered_s=1.0, admits={"tokens_per_minute": 900})
    assert together([{"one": FELT}, {"one": later, "two": later}]) == {
        "one": Pressure(max_in_flight=64, in_flight=8, rate_limited=12, busy=1, lowered_s=131.0, admits={"tokens_per_minute": 900}),
        "two": later,
    }
