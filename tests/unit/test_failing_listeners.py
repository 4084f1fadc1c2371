"""Who listens may fail, and stderr may be gone: every pair still has its outcome, and nothing that is paid for is lost."""

import io
import sys

import pytest

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import RoutingConfig
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge, Watcher, arithmetic_pairs

PAIRS = arithmetic_pairs(40)


class BrokenPipe(io.StringIO):
    """What stderr is when nobody reads it any more."""

    def write(self, _text):
        raise BrokenPipeError


class Fails(Watcher):
    def call(self, event):
        raise RuntimeError("no room")


def routed(*, on_outcome=None, observers=()):
    clock = VirtualClock()
    judge = ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS)), clock=clock, latency=1.0)
    routing = RoutingConfig(policy="uncertainty", threshold=1.4)

    async def run():
        async with Scheduler(
            scorer=FakeScorer(PAIRS), judge=judge, store=MemoryStore(), routing=routing, clock=clock, observers=observers
        ) as scheduler:
            return await scheduler.route(PAIRS, on_outcome=on_outcome), await scheduler.state()

    result, state = clock.run(run())
    return result, state, judge


@pytest.mark.parametrize("source", ["scorer", "judge"])
def test_a_listener_that_fails_is_handed_no_more_and_the_step_goes_on(source, capsys):
    heard = []

    def listen(index, outcome):
        heard.append(index)
        if outcome.source == source:
            raise ValueError("the disk is full")

    result, _, _ = routed(on_outcome=listen)
    assert {outcome.source for outcome in result.outcomes} == {"scorer", "judge"}
    assert 0 < len(heard) < len(PAIRS)
    assert "is handed no more of this step: ValueError('the disk is full')" in capsys.readouterr().err


def test_an_observer_that_fails_where_nobody_hears_of_it_costs_no_reply(monkeypatch):
    expected, _, _ = routed()
    monkeypatch.setattr(sys, "stderr", BrokenPipe())
    result, state, judge = routed(observers=[Fails()])
    assert [(outcome.source, outcome.logit) for outcome in result.outcomes] == [
        (outcome.source, outcome.logit) for outcome in expected.outcomes
    ]
    assert state.spent.requests == judge.statistics.answered == result.statistics.calls > 0
    assert state.reserved.requests == 0
