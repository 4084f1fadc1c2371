"""A judge that admits less than is configured and says so: the real scheduler, in virtual time."""

import pytest

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import LimitsConfig, RoutingConfig
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore
from judgeflow.testing import JudgeLimits, ScriptedJudge, Watcher, arithmetic_pairs


class LimitsWatcher(Watcher):
    """Tells what was said about tightened limits."""

    @property
    def said(self):
        return [fields for event, fields in self.notices if event == "limits_tightened"]


def routed(own: LimitsConfig, judges: JudgeLimits, latency: str | float = "lognormal:20:0.5", pairs: int = 200):
    """Route `pairs` in both orders; return (statistics, how many requests were turned away, what was said, the replies' rates)."""
    clock, seen, store = VirtualClock(), LimitsWatcher(), MemoryStore()

    async def main():
        judge = ScriptedJudge(clock=clock, latency=latency, limits=judges)
        settings = {"routing": RoutingConfig(policy="always"), "gate": WindowGate(own, clock), "observers": [seen]}
        async with Scheduler(store=store, judge=judge, clock=clock, **settings) as scheduler:
            step = await scheduler.route(arithmetic_pairs(pairs))
        return step.statistics, judge.statistics.provoked_429

    statistics, turned_away = clock.run(main())
    return statistics, turned_away, seen.said, [call.reply.rates for call in store._contents.calls.values()]


@pytest.mark.parametrize("start", ["burst", "paced"])
@pytest.mark.parametrize("configured", [None, 100])
def test_a_lower_limit_that_the_judge_tells_is_kept_after_the_first_replies_and_told_once(start, configured):
    """60 a minute: 400 calls need six windows, and margins, after the first."""
    own = LimitsConfig(requests_per_minute=configured, start=start)
    statistics, turned_away, said, _ = routed(own, JudgeLimits(requests_per_minute=60))
    assert statistics.statuses == {"ok": 200}
    assert turned_away <= 10
    assert said == [{"requests_per_minute": 60}]
    assert statistics.seconds < 6 * 60.5 + 80


@pytest.mark.parametrize("start", ["burst", "paced"])
@pytest.mark.parametrize("latency", [0.0, "lognormal:20:0.5"])
def test_what_a_judge_tells_costs_no_throughput_where_the_settings_are_right(start, latency):
    own = LimitsConfig(requests_per_minute=60, start=start)
    told, silent = (routed(own, JudgeLimits(requests_per_minute=60, headers=headers), latency)[0].seconds for headers in (True, False))
    assert told == silent


def test_headers_are_news_about_the_account_and_are_not_stored_with_a_reply():
    _, _, said, rates = routed(LimitsConfig(), JudgeLimits(requests_per_minute=60), pairs=5)
    assert said
    assert rates == [None] * 10
