"""A judge that goes down and comes back, in virtual time: who waits, who is answered, and how often it is asked meanwhile."""

import itertools

import pytest

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import (
    JudgeBusy,
    JudgeOverloaded,
    JudgeRefusesService,
    JudgeUnreachable,
    QuestionRejected,
    RateLimited,
    ReplyLost,
)
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore
from judgeflow.testing import ScriptedJudge, Watcher, arithmetic_pairs

ALWAYS = RoutingConfig(policy="always")
BREAKER = ("judge_opened", "judge_half_open", "judge_closed", "judge_stopped")


class TimedWatcher(Watcher):
    """Keeps notices with the time at which they came."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def notice(self, event, **fields):
        self.notices.append((self.clock.now(), event, fields))

    @property
    def events(self):
        return [event for _, event, _ in self.notices if event in BREAKER]


class Outages(ScriptedJudge):
    """Fails with `error` within the `down` times, and keeps when it was asked."""

    def __init__(self, *, clock, down, error=JudgeUnreachable, **settings):
        super().__init__(clock=clock, **{"latency": 2.0} | settings)
        self.asked_at, self.clock, self.down, self.error = [], clock, down, error

    async def ask(self, question):
        self.asked_at.append(self.clock.now())
        if any(start <= self.clock.now() < end for start, end in self.down):
            raise self.error("down")
        return await super().ask(question)

    def asked(self, start, end):
        return sum(start <= moment < end for moment in self.asked_at)


def play(pairs, *, down, error=JudgeUnreachable, steps=1, pause=0.0, deadline=None, **settings):
    """Route `pairs` in `steps` steps and return their statistics, the judge, the watcher and the scheduler's refusal after each."""
    judge_settings = {key: settings.pop(key) for key in ("latency", "faults") if key in settings}

    async def main(clock):
        seen, judge = TimedWatcher(clock), Outages(clock=clock, down=down, error=error, **judge_settings)
        routing = RoutingConfig(policy="always", step_deadline_s=deadline)
        chosen = {"store": MemoryStore(), "routing": routing, "max_in_flight": 20} | settings
        results, refusals, size = [], [], len(pairs) // steps
        async with Scheduler(judge=judge, clock=clock, observers=[seen], **chosen) as scheduler:
            for start in range(0, len(pairs), size):
                results.append((await scheduler.route(pairs[start : start + size])).statistics)
                refusals.append(scheduler.refusal)
                await clock.sleep(pause)
        return results, judge, seen, refusals

    clock = VirtualClock()
    return clock.run(main(clock))


@pytest.mark.parametrize("error", [JudgeUnreachable, JudgeOverloaded, ReplyLost])
def test_a_step_waits_out_a_short_outage_with_single_probes_and_then_everything_is_judged(error):
    (step,), judge, seen, refusals = play(arithmetic_pairs(100), down=[(5.0, 11.0)], error=error)
    assert step.statuses == {"ok": 100}
    assert judge.asked(5.0, 11.0) <= 20 + 10 + 6
    assert seen.events == ["judge_opened", "judge_half_open", "judge_closed"]
    assert refusals == [None]


def test_nothing_is_sent_twice_at_a_time_to_a_judge_that_is_down():
    _, judge, seen, _ = play(arithmetic_pairs(100), down=[(5.0, 25.0)])
    opened = next(at for at, event, _ in seen.notices if event == "judge_opened")
    probes = [moment for moment in judge.asked_at if opened < moment < 25.0]
    gaps = [later - earlier for earlier, later in itertools.pairwise(probes)]
    assert 3 <= len(probes) <= 6
    assert all(gap > 0.25 for gap in gaps)
    assert gaps[-1] > gaps[0]


def test_an_outage_that_lasts_ends_the_step_with_labelled_outcomes_and_one_word_about_it():
    (step,), judge, seen, (refusal,) = play(arithmetic_pairs(200), down=[(5.0, 1e9)])
    assert set(step.statuses) == {"ok", "unreachable"}
    assert step.seconds < 60.0
    assert judge.asked(5.0, 1e9) <= 20 + 10 + 6
    assert seen.events == ["judge_opened", "judge_half_open", "judge_stopped"]
    assert isinstance(refusal, JudgeUnreachable)


def test_later_steps_of_a_judge_that_was_given_up_are_answered_at_once_but_for_a_probe_now_and_then():
    steps, judge, seen, _ = play(arithmetic_pairs(400), down=[(5.0, 1e9)], steps=40, pause=1.0)
    late = [step for step in steps if step.statuses == {"unreachable": 10}]
    assert len(late) >= 30
    assert max(step.seconds for step in late[1:]) == 0.0
    assert judge.asked(60.0, 1e9) <= 4
    assert seen.events == ["judge_opened", "judge_half_open", "judge_stopped"]


def test_the_first_step_after_its_return_is_judged_whole():
    steps, judge, seen, refusals = play(arithmetic_pairs(60), down=[(2.0, 300.0)], steps=6, pause=100.0)
    assert [step.statuses for step in steps][-2:] == [{"ok": 10}] * 2
    assert refusals[-1] is None
    assert seen.events == ["judge_opened", "judge_half_open", "judge_stopped", "judge_closed"]
    fields = next(fields for _, event, fields in seen.notices if event == "judge_closed")
    assert fields["seconds"] > 100.0
    assert fields["probes"] == sum(2.0 <= moment < 300.0 for moment in judge.asked_at) - 20 + 1


def test_a_step_whose_deadline_comes_before_the_next_probe_ends_early():
    (step,), _, _, _ = play(arithmetic_pairs(100), down=[(5.0, 1e9)], deadline=12.0)
    assert set(step.statuses) == {"ok", "unreachable"}
    assert step.seconds < 10.0


def test_a_step_whose_deadline_allows_it_waits_for_the_probe():
    (step,), _, _, _ = play(arithmetic_pairs(60), down=[(5.0, 11.0)], deadline=60.0)
    assert step.statuses == {"ok": 60}


@pytest.mark.parametrize("error", [RateLimited, QuestionRejected])
def test_a_judge_that_says_no_is_there(error):
    (step,), _, seen, refusals = play(
        arithmetic_pairs(50), down=[(5.0, 9.0)], error=error, retry=RetryPolicy(attempts=3, for_s=300.0, base_s=0.5)
    )
    assert seen.events == []
    assert refusals == [None]
    assert set(step.statuses) <= {"ok", "rejected", "one_order"}


def test_a_judge_that_is_too_busy_for_a_single_question_is_down_and_one_that_is_too_busy_for_twenty_is_not():
    (step,), judge, seen, _ = play(arithmetic_pairs(300), down=[(5.0, 1e9)], error=JudgeBusy)
    assert seen.events == ["judge_opened", "judge_half_open", "judge_stopped"]
    assert set(step.statuses) == {"ok", "overloaded"}
    assert judge.asked(5.0, 1e9) < 300

    class Crowded(Outages):
        async def ask(self, question):
            if self.statistics.in_flight >= 5:
                self.asked_at.append(self.clock.now())
                raise JudgeBusy("five at most")
            return await super().ask(question)

    async def main(clock):
        seen = TimedWatcher(clock)
        async with Scheduler(
            store=MemoryStore(), judge=Crowded(clock=clock, down=[]), clock=clock, routing=ALWAYS, observers=[seen], max_in_flight=40
        ) as scheduler:
            return (await scheduler.route(arithmetic_pairs(100))).statistics.statuses, seen.events

    clock = VirtualClock()
    statuses, events = clock.run(main(clock))
    assert events == []
    assert statuses["ok"] > 80


def test_a_refusal_of_service_is_probed_once_a_step_and_not_within_the_cool_down():
    steps, judge, seen, refusals = play(arithmetic_pairs(300), down=[(0.0, 50.0)], error=JudgeRefusesService, steps=30, pause=0.1)
    assert [set(step.statuses) for step in steps] == [{"judge_stopped"}] * 30
    assert len(judge.asked_at) <= 20 + 4
    assert seen.events == ["judge_opened", "judge_stopped", "judge_half_open"]
    assert all(isinstance(refusal, JudgeRefusesService) for refusal in refusals)


def test_while_a_judge_is_down_no_more_budget_is_put_aside_than_for_the_probe_and_all_of_it_comes_back():
    async def main(clock):
        store, judge = MemoryStore(), Outages(clock=clock, down=[(5.0, 1e9)])
        routing = RoutingConfig(policy="always", step_deadline_s=500.0)
        async with Scheduler(
            store=store,
            judge=judge,
            gate=WindowGate(LimitsConfig(requests_per_minute=600), clock),
            clock=clock,
            routing=routing,
            budget=BudgetConfig(requests=400),
            max_in_flight=8,
        ) as scheduler:
            step = await scheduler.route(arithmetic_pairs(150))
            planned = scheduler._session._planning._budget.planned
        return step.statistics, planned, await store.run_state("default"), judge

    clock = VirtualClock()
    statistics, planned, state, judge = clock.run(main(clock))
    assert state.spent.requests == statistics.calls == judge.statistics.answered
    assert (state.reserved.requests, planned.requests) == (0, 0)
    assert statistics.remaining["requests"] == 400 - statistics.calls


def test_faults_at_random_as_often_as_three_in_ten_do_not_look_like_an_outage():
    (step,), _, seen, _ = play(arithmetic_pairs(150), down=[], faults="500:0.1,reset:0.1,504:0.1", latency="uniform:1:9")
    assert seen.events == []
    assert step.statuses["ok"] >= 147
