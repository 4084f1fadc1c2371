"""The engine in virtual time: who is asked, when, and what becomes of the budget when stores, judges and callers misbehave."""

import asyncio
import threading

import pytest

from judgeflow import Scheduler, StoreUnavailable
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, LimitsConfig, RoutingConfig
from judgeflow.engine import recall as recall_module
from judgeflow.engine.ending import GRACE_S
from judgeflow.engine.retry import RetryPolicy
from judgeflow.engine.seat import Seat
from judgeflow.errors import JudgeOverloaded, JudgeRefusesService, StoreError
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge, Watcher, arithmetic_pairs

ALWAYS = RoutingConfig(policy="always")
TOKENS_A_REPLY = 1100  # at least what a reply of ScriptedJudge is reserved at: 1024 tokens and its prompt


class EventWatcher(Watcher):
    """Keeps the names of notices."""

    def notice(self, event, **fields):
        self.notices.append(event)


class LoggingJudge(ScriptedJudge):
    """Keeps when it was asked, and raises what `moods` says about the n-th question, counted from 0."""

    def __init__(self, *, clock, moods=None, **settings):
        super().__init__(clock=clock, **settings)
        self.asked_at, self.clock, self.moods = [], clock, moods or {}

    async def ask(self, question):
        self.asked_at.append(self.clock.now())
        error = self.moods.get(len(self.asked_at) - 1)
        if error is not None:
            raise error
        return await super().ask(question)


def run(main):
    clock = VirtualClock()
    return clock.run(main(clock))


def scheduling(clock, judge, **settings):
    chosen = {"store": MemoryStore(), "routing": ALWAYS} | settings
    return Scheduler(judge=judge, clock=clock, **chosen)


# Budget


class _SlowToPlan(MemoryStore):
    """Takes 5 s to record the plan of step 1."""

    async def record_plan(self, run, step, decisions, pacing=None):
        await asyncio.sleep(5.0 if step == 1 else 0.0)
        await super().record_plan(run, step, decisions, pacing)


def test_replies_that_another_step_paid_for_meanwhile_give_their_budget_back():
    pairs = arithmetic_pairs(20)

    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=1.0)
        async with scheduling(clock, judge, store=_SlowToPlan(), budget=BudgetConfig(requests=40)) as scheduler:
            await asyncio.gather(scheduler.route(pairs[:10], step=0), scheduler.route(pairs[:10], step=1))
            return (await scheduler.route(pairs[10:], step=2)).statistics

    statistics = run(main)
    assert statistics.statuses == {"ok": 10}
    assert statistics.remaining["requests"] == 0


@pytest.mark.parametrize("budget", [BudgetConfig(tokens=20 * TOKENS_A_REPLY), BudgetConfig(usd=20 * 0.011)], ids=["tokens", "usd"])
def test_a_fixed_rule_spends_its_budget_although_each_question_is_reserved_at_its_worst_case(budget):
    pairs, seen = arithmetic_pairs(200), EventWatcher()

    async def main(clock):
        judge = LoggingJudge(clock=clock, latency="uniform:1:3", prompt_usd_per_mtok=10.0, completion_usd_per_mtok=10.0)
        async with scheduling(clock, judge, budget=budget, observers=[seen], max_in_flight=8) as scheduler:
            return (await scheduler.route(pairs)).statistics, len(judge.asked_at)

    statistics, asked = run(main)
    left = statistics.remaining["tokens"] if budget.usd is None else statistics.remaining["usd"]
    stock = budget.tokens or budget.usd
    assert statistics.statuses["budget"] > 0
    assert asked > 2 * 20
    assert 0 <= left < stock / 10
    assert seen.notices == ["budget_spent"]


def test_what_does_not_fit_now_waits_and_nobody_behind_it_overtakes():
    """Room for one worst case: one question at a time, in ranking order, until what is left is less than a worst case."""
    pairs = arithmetic_pairs(30)
    scorer = FakeScorer(pairs)

    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=1.0)
        routing = RoutingConfig(policy="error", threshold=0.0)
        settings = {"routing": routing, "scorer": scorer, "budget": BudgetConfig(tokens=2600)}
        async with scheduling(clock, judge, **settings, orders="first") as scheduler:
            return (await scheduler.route(pairs)), judge.statistics.max_concurrency

    step, concurrency = run(main)
    judged = [outcome.acquisition for outcome in step.outcomes if outcome.source == "judge"]
    declined = [outcome.acquisition for outcome in step.outcomes if outcome.status == "budget"]
    assert concurrency == 1
    assert len(judged) >= 2
    assert min(judged) > max(declined)


def test_a_decision_tells_a_pair_that_was_planned_but_could_not_be_paid_from_one_that_was_judged():
    store = MemoryStore()

    async def main(clock):
        settings = {"store": store, "budget": BudgetConfig(tokens=3000), "orders": "first"}
        async with scheduling(clock, LoggingJudge(clock=clock, latency=1.0), **settings) as scheduler:
            step = await scheduler.route(arithmetic_pairs(40))
            return step.statistics, (await store.reopen().decisions("default", 0)).values()

    statistics, decisions = run(main)
    assert {(decision.asked, decision.propensity) for decision in decisions} == {(True, 1.0)}
    assert {(decision.source, decision.status) for decision in decisions} == {("judge", "ok"), ("fallback", "budget")}
    assert sum(decision.source == "judge" for decision in decisions) == statistics.statuses["ok"]


def test_a_refusal_that_is_told_late_does_not_stand_for_what_was_paid_back_meanwhile():
    """Room for two worst cases: the third question is refused before the second reply is settled, and told so after it."""

    class LateToTell(MemoryStore):
        async def reserve(self, run, reservation, stock):
            granted = await super().reserve(run, reservation, stock)
            await asyncio.sleep(1.0)
            return granted

    async def main(clock):
        judge = LoggingJudge(clock=clock, latency="uniform:1:1.5")
        settings = {"store": LateToTell(), "budget": BudgetConfig(tokens=3000), "orders": "first"}
        async with scheduling(clock, judge, **settings) as scheduler:
            return (await scheduler.route(arithmetic_pairs(40))).statistics

    statistics = run(main)
    assert statistics.statuses["budget"] > 0
    assert statistics.remaining["tokens"] < 1426  # the worst case of the dearest question


def test_an_adaptive_threshold_plans_with_what_replies_really_take():
    pairs = arithmetic_pairs(400)
    scorer = FakeScorer(pairs)

    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=1.0)
        routing = RoutingConfig(policy="error")
        budget = BudgetConfig(tokens=100 * TOKENS_A_REPLY, steps=4)
        async with scheduling(clock, judge, routing=routing, scorer=scorer, budget=budget) as scheduler:
            steps = [await scheduler.route(pairs[start : start + 100]) for start in range(0, 400, 100)]
        return [step.statistics for step in steps]

    first, *_, last = run(main)
    assert first.calls < 30
    assert last.calls > 3 * first.calls
    assert last.remaining["tokens"] >= 0
    assert "budget" not in last.statuses


def test_a_paced_budget_whose_share_is_used_is_not_said_to_be_spent():
    pairs, seen = arithmetic_pairs(20), EventWatcher()

    async def main(clock):
        settings = {"budget": BudgetConfig(requests=40, steps=10), "observers": [seen]}
        async with scheduling(clock, ScriptedJudge(clock=clock), **settings) as scheduler:
            return (await scheduler.route(pairs, step=0)).statistics

    statistics = run(main)
    assert (statistics.statuses, statistics.remaining["requests"]) == ({"ok": 2, "budget": 18}, 36)
    assert seen.notices == []


def test_a_pair_that_was_declined_before_a_crash_is_not_taken_for_one_that_was_accepted():
    pairs, store = arithmetic_pairs(5), MemoryStore()

    class Crashing(MemoryStore):
        async def record_step(self, statistics, decisions):
            raise StoreUnavailable("the process died before the step's end")

    crashing = Crashing()
    crashing._contents = store._contents

    async def main(clock):
        results = []
        for opened, requests in ((crashing, 4), (store, 4), (store, 10)):
            async with scheduling(clock, ScriptedJudge(clock=clock), store=opened, budget=BudgetConfig(requests=requests)) as scheduler:
                results.append((await scheduler.route(pairs, step=0)).statistics)
        return results

    crashed, resumed, richer = run(main)
    assert crashed.statuses == resumed.statuses == {"ok": 2, "budget": 3}
    assert richer.sources == {"store": 2, "judge": 3}


def test_what_remains_counts_no_question_that_was_never_sent():
    pairs = arithmetic_pairs(100)

    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=3.0)
        settings = {"routing": RoutingConfig(policy="always", step_deadline_s=4.0), "budget": BudgetConfig(requests=1000)}
        async with scheduling(clock, judge, **settings, max_in_flight=4) as scheduler:
            return (await scheduler.route(pairs)).statistics, len(judge.asked_at)

    statistics, asked = run(main)
    assert asked == 8
    assert statistics.remaining["requests"] == 1000 - asked


def test_a_question_that_two_steps_wait_for_is_counted_by_the_one_that_asked_it():
    pairs = arithmetic_pairs(10)

    async def main(clock):
        async with scheduling(clock, ScriptedJudge(clock=clock, latency=1.0)) as scheduler:
            return await asyncio.gather(scheduler.route(pairs), scheduler.route(pairs))

    one, two = (step.statistics for step in run(main))
    assert one.calls + two.calls == one.spent.requests + two.spent.requests == 20
    assert one.sources == two.sources == {"judge": 10}


# Deadlines and rate limits


@pytest.mark.parametrize(
    ("limits", "in_flight", "least", "most"),
    [
        (LimitsConfig(requests_per_minute=30), 64, 50, 60),
        (LimitsConfig(requests_per_minute=30, start="paced"), 64, 44, 50),
        (LimitsConfig(tokens_per_minute=15_000, charge="actual"), 64, 34, 44),
        (LimitsConfig(tokens_per_minute=15_000), 64, 18, 20),
        (LimitsConfig(), 8, 40, 48),
    ],
    ids=["requests", "paced", "tokens", "reserved tokens", "in flight"],
)
def test_an_adaptive_threshold_asks_what_comes_back_before_the_deadline_and_not_more(limits, in_flight, least, most):
    """A judge that takes 20 s, and 120 s: the first step does not know that yet.  How whole requests fill a token window is estimated."""
    pairs = arithmetic_pairs(400)

    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=20.0)
        settings = {
            "routing": RoutingConfig(policy="random", step_deadline_s=120.0),
            "gate": WindowGate(limits, clock),
            "max_in_flight": in_flight,
            "timeout_s": 50.0,
        }
        async with scheduling(clock, judge, **settings) as scheduler:
            first = await scheduler.route(pairs[:200])
            await clock.sleep(120.0)
            second = await scheduler.route(pairs[200:])
        return first.statistics, second.statistics

    late = 0 if limits.tokens_per_minute is None else 1
    for statistics in run(main):
        assert statistics.statuses.get("deadline", 0) <= late
    assert statistics.calls in range(least, most + 1)


def test_concurrent_steps_do_not_plan_with_the_same_minutes_of_the_rate_limit():
    pairs = arithmetic_pairs(300)

    async def main(clock):
        gate = WindowGate(LimitsConfig(requests_per_minute=30), clock)
        routing = RoutingConfig(policy="random", step_deadline_s=120.0)
        async with scheduling(clock, ScriptedJudge(clock=clock, latency=20.0), gate=gate, routing=routing) as scheduler:
            return await asyncio.gather(*(scheduler.route(pairs[start : start + 100]) for start in (0, 100, 200)))

    steps = run(main)
    assert sum(step.statistics.calls for step in steps) in range(28, 31)
    assert sum(step.statistics.statuses.get("deadline", 0) for step in steps) == 0


def test_a_judge_that_is_slower_than_the_deadline_is_not_asked_once_that_is_known():
    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=40.0)
        routing = RoutingConfig(policy="random", step_deadline_s=30.0)
        async with scheduling(clock, judge, routing=routing, max_in_flight=4) as scheduler:
            first = await scheduler.route(arithmetic_pairs(20))
            await clock.sleep(60.0)
            second = await scheduler.route(arithmetic_pairs(20, seed=1))
        return first.statistics, second.statistics

    first, second = run(main)
    assert first.statuses["deadline"] > 0
    assert (second.calls, second.sources) == (0, {"scorer": 20})


def test_a_judge_that_was_too_slow_for_the_deadline_is_asked_a_few_questions_again_after_ten_minutes():
    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=5.0, faults=["slow"] * 20, slow_s=35.0)
        routing = RoutingConfig(policy="random", step_deadline_s=30.0)
        calls, judged = [], []
        async with scheduling(clock, judge, routing=routing, max_in_flight=20) as scheduler:
            for number, pause in enumerate((60.0, 600.0, 0.0, 0.0)):
                before = judge.statistics.requests
                step = await scheduler.route(arithmetic_pairs(40, seed=number))
                await clock.sleep(pause)
                calls.append(judge.statistics.requests - before)
                judged.append(step.statistics.sources.get("judge", 0))
        return calls, judged

    calls, judged = run(main)
    assert calls == [20, 0, 10, 80]
    assert judged == [0, 0, 5, 40]


@pytest.mark.parametrize(("latency", "told"), [(29.0, []), (31.0, [{"latency_s": 31.0, "step_deadline_s": 30.0}])])
def test_a_judge_that_is_too_slow_for_the_deadline_is_told_of_once(latency, told):
    seen = Watcher()

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=latency)
        routing = RoutingConfig(policy="random", step_deadline_s=30.0)
        async with scheduling(clock, judge, routing=routing, observers=[seen], max_in_flight=4) as scheduler:
            for number in range(4):
                await scheduler.route(arithmetic_pairs(4, seed=number))
                await clock.sleep(60.0)

    run(main)
    assert [fields for event, fields in seen.notices if event == "judge_too_slow"] == told


def test_a_judge_that_is_too_slow_for_the_deadline_again_is_told_of_again():
    seen = Watcher()

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency=5.0, faults=["slow"] * 48 + ["ok"] * 80 + ["slow"] * 48, slow_s=35.0)
        routing = RoutingConfig(policy="always", step_deadline_s=30.0)
        async with scheduling(clock, judge, routing=routing, observers=[seen]) as scheduler:
            for number in range(11):
                await scheduler.route(arithmetic_pairs(8, seed=number))
                await clock.sleep(300.0)

    run(main)
    assert [event for event, _ in seen.notices if event == "judge_too_slow"] == ["judge_too_slow"] * 2


def test_a_step_that_sends_more_than_is_remembered_does_not_take_its_slow_replies_for_the_usual_ones(monkeypatch):
    """100 at once of a judge that needs 10 to 30 s, nine in ten of them at most 28: the next step has 28.5 s and asks again."""
    monkeypatch.setattr("judgeflow.routing.threshold.REMEMBERED", 40)
    pairs = arithmetic_pairs(160)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency="uniform:10:30")
        routing = RoutingConfig(policy="random", step_deadline_s=28.5)
        settings = {"gate": WindowGate(LimitsConfig(requests_per_minute=100), clock), "max_in_flight": 200}
        async with scheduling(clock, judge, routing=routing, **settings) as scheduler:
            await scheduler.route(pairs[:80])
            await clock.sleep(60.0)
            return (await scheduler.route(pairs[80:])).statistics, judge.statistics.requests

    statistics, asked = run(main)
    assert asked == 200
    assert statistics.sources["judge"] > 30


def test_a_scheduler_that_is_alone_with_its_run_asks_in_the_same_order_every_time():
    pairs = arithmetic_pairs(60)

    async def main(clock):
        judge = LoggingJudge(clock=clock, latency="uniform:1:5")
        async with scheduling(clock, judge, max_in_flight=6) as scheduler:
            await asyncio.gather(*(scheduler.route(pairs[start : start + 20]) for start in (0, 20, 40)))
            async for _ in scheduler.stream(arithmetic_pairs(60, seed=1), chunk=7):
                pass
        return list(judge.statistics.question_requests)

    assert run(main) == run(main)


# Stores that fail


class _Locked(MemoryStore):
    """Takes no replies until `opens_at`."""

    def __init__(self, clock, opens_at):
        super().__init__()
        self.clock, self.opens_at = clock, opens_at

    async def settle(self, run, reservation, question, call):
        if self.clock.now() < self.opens_at:
            raise StoreUnavailable("locked")
        await super().settle(run, reservation, question, call)


@pytest.mark.parametrize("close_at_once", [False, True])
def test_replies_that_come_while_the_store_is_locked_are_kept_until_it_takes_them(close_at_once):
    pairs = arithmetic_pairs(10)

    async def main(clock):
        store, judge = _Locked(clock, opens_at=2.0), LoggingJudge(clock=clock, latency=1.0)
        async with scheduling(clock, judge, store=store) as scheduler:
            locked = await scheduler.route(pairs, step=0)
            if not close_at_once:
                await clock.sleep(10.0)
                assert (await scheduler.route(pairs, step=1)).statistics.sources == {"store": 10}
                assert (await scheduler.route(arithmetic_pairs(2, seed=9))).statistics.statuses == {"ok": 2}
                assert scheduler.refusal is None
        state = await store.reopen().run_state("default")
        return locked.statistics.statuses, len(store._contents.calls), state, len(judge.asked_at)

    statuses, stored, state, asked = run(main)
    assert statuses == {"store_error": 10}
    assert stored == asked == state.spent.requests
    assert state.reserved.requests == 0


def test_what_one_account_of_a_judge_could_not_store_is_not_asked_of_another():
    pairs = arithmetic_pairs(8)

    async def main(clock):
        store = _Locked(clock, opens_at=1.1)
        stops = LoggingJudge(clock=clock, latency=1.0, moods={7: JudgeRefusesService("quota used up")})
        judges = [Seat(judge=stops, name="one"), Seat(judge=LoggingJudge(clock=clock, latency=1.0), name="other")]
        async with Scheduler(judges=judges, store=store, routing=ALWAYS, orders="first", clock=clock) as scheduler:
            locked = await scheduler.route(pairs)
            await clock.sleep(0.2)  # the lock is gone, and what waits in memory has not been offered again
            again = await scheduler.route(pairs)
        return locked.statistics.statuses, again.statistics.statuses, sum(seat.judge.statistics.answered for seat in judges)

    assert run(main) == ({"store_error": 8}, {"ok": 8}, 8)


def test_steps_go_on_with_the_scorers_word_while_nothing_can_be_read_or_recorded_and_the_outage_is_told_once():
    pairs = arithmetic_pairs(10)

    class Away(MemoryStore):
        down = False

        async def read(self, call_keys):
            if self.down:
                raise StoreUnavailable("locked for 30 s")
            return await super().read(call_keys)

        async def record_step(self, statistics, decisions):
            if self.down:
                raise StoreUnavailable("locked for 30 s")
            await super().record_step(statistics, decisions)

    async def main(clock):
        store, judge, seen = Away(), ScriptedJudge(clock=clock), EventWatcher()
        async with scheduling(clock, judge, store=store, scorer=FakeScorer(pairs), observers=[seen]) as scheduler:
            store.down = True
            away = [await scheduler.route(pairs) for _ in range(3)]
            refusal, asked = scheduler.refusal, judge.statistics.requests
            store.down = False
            back = await scheduler.route(pairs)
            return away, str(refusal), asked, back.statistics.statuses, scheduler.refusal, seen.notices

    away, refusal, asked, back, after, notices = run(main)
    assert (refusal, asked, back, after) == ("locked for 30 s", 0, {"ok": 10}, None)
    assert notices == ["store_failed", "store_recovered"]
    for step in away:
        assert {(outcome.source, outcome.status) for outcome in step.outcomes} == {("fallback", "store_error")}
        assert all(outcome.logit == outcome.preference.logit != 0.0 for outcome in step.outcomes)


def test_a_store_that_fails_once_costs_one_step_and_not_the_run():
    class Hiccup(MemoryStore):
        failed = False

        async def reserve(self, run, reservation, stock):
            if not self.failed:
                self.failed = True
                raise StoreUnavailable("locked for 30 s")
            return await super().reserve(run, reservation, stock)

    async def main(clock):
        async with scheduling(clock, ScriptedJudge(clock=clock), store=Hiccup(), max_in_flight=2) as scheduler:
            first = await scheduler.route(arithmetic_pairs(5))
            assert isinstance(scheduler.refusal, StoreUnavailable)
            second = await scheduler.route(arithmetic_pairs(5))
            return first.statistics.statuses, second.statistics.statuses, scheduler.refusal

    assert run(main) == ({"store_error": 5}, {"ok": 5}, None)


def test_one_reply_that_cannot_be_stored_is_charged_and_the_others_go_on():
    class Picky(MemoryStore):
        refused = 0

        async def settle(self, run, reservation, question, call):
            if not self.refused:
                self.refused += 1
                raise StoreError("cannot hold a value of this write")
            await super().settle(run, reservation, question, call)

    async def main(clock):
        store, seen = Picky(), EventWatcher()
        async with scheduling(clock, ScriptedJudge(clock=clock), store=store, orders="first", observers=[seen]) as scheduler:
            step = await scheduler.route(arithmetic_pairs(5))
            return step.statistics.statuses, (await store.run_state("default")), scheduler.refusal, seen.notices

    statuses, state, refusal, notices = run(main)
    assert statuses == {"ok": 4, "store_error": 1}
    assert (state.spent.requests, state.reserved.requests) == (5, 0)
    assert refusal is None
    assert notices == ["reply_not_stored"]


def test_a_reservation_that_the_store_will_not_close_holds_nobody_up():
    class Stubborn(MemoryStore):
        async def settle(self, run, reservation, question, call):
            raise StoreError("cannot hold a value of this write")

        async def charge(self, run, reservation):
            raise StoreError("nor that it is charged")

    async def main(clock):
        settings = {"store": Stubborn(), "budget": BudgetConfig(tokens=int(1.5 * TOKENS_A_REPLY)), "orders": "first"}
        async with scheduling(clock, ScriptedJudge(clock=clock), **settings) as scheduler:
            step = await asyncio.wait_for(scheduler.route(arithmetic_pairs(5)), 1000.0)
            return step.statistics.statuses

    assert run(main) == {"store_error": 1, "budget": 4}


def test_a_commit_that_takes_long_does_not_move_requests_into_a_full_window():
    class Slow(MemoryStore):
        reservations = 0

        async def reserve(self, run, reservation, stock):
            self.reservations += 1
            await asyncio.sleep(10.0 if self.reservations <= 20 else 0.0)
            return await super().reserve(run, reservation, stock)

    async def main(clock):
        judge = LoggingJudge(clock=clock)
        gate = WindowGate(LimitsConfig(requests_per_minute=20), clock)
        async with scheduling(clock, judge, store=Slow(), gate=gate) as scheduler:
            await scheduler.route(arithmetic_pairs(20))
        return judge.asked_at

    asked = run(main)
    assert len(asked) == 40
    assert max(sum(start <= moment < start + 60 for moment in asked) for start in asked) == 20


# Judges that fail


def test_a_refusal_stands_although_a_reply_that_was_under_way_comes_in_after_it():
    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=20.0, moods={5: JudgeRefusesService("quota used up")})
        async with scheduling(clock, judge, max_in_flight=8) as scheduler:
            step = await scheduler.route(arithmetic_pairs(50))
            refused = scheduler.refusal
            await scheduler.route(arithmetic_pairs(50))
            return step.statistics.statuses, refused, scheduler.refusal

    statuses, refused, later = run(main)
    assert statuses["judge_stopped"] == 46
    assert "quota" in str(refused)
    assert later is None


def test_the_time_for_retries_begins_with_the_first_attempt_not_in_the_queue():
    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=1.0, moods={7: JudgeOverloaded("once")})
        gate = WindowGate(LimitsConfig(requests_per_minute=1), clock)
        async with scheduling(clock, judge, gate=gate, retry=RetryPolicy(for_s=300.0)) as scheduler:
            return (await scheduler.route(arithmetic_pairs(5))).statistics.statuses

    assert run(main) == {"ok": 5}


def test_a_judge_that_returns_nothing_is_at_fault_and_not_the_store():
    class Silent(ScriptedJudge):
        async def ask(self, question):
            return None

    async def main(clock):
        async with scheduling(clock, Silent(clock=clock), budget=BudgetConfig(requests=10)) as scheduler:
            step = await scheduler.route(arithmetic_pairs(2))
            return step.statistics, scheduler.refusal

    statistics, refusal = run(main)
    assert (statistics.statuses, refusal) == ({"judge_error": 2}, None)
    assert statistics.remaining["requests"] == 6


def test_a_judge_that_cannot_price_one_question_is_asked_about_the_others():
    class Priceless(ScriptedJudge):
        def cost(self, question):
            if "odd" in question.prompt:
                raise RuntimeError("the tokenizer failed")
            return super().cost(question)

    async def main(clock):
        pairs = arithmetic_pairs(2)
        odd = type(pairs[0])(prompt="odd", response_a="a", response_b="b")
        async with scheduling(clock, Priceless(clock=clock)) as scheduler:
            return [outcome.status for outcome in (await scheduler.route([odd, *pairs])).outcomes]

    assert run(main) == ["judge_error", "ok", "ok"]


def test_a_gate_that_is_cancelled_ends_in_labelled_outcomes_not_in_a_step_that_hangs():
    class Cancelled(WindowGate):
        async def admit(self, tokens):
            raise asyncio.CancelledError

    async def main(clock):
        async with scheduling(clock, ScriptedJudge(clock=clock), gate=Cancelled(LimitsConfig(), clock)) as scheduler:
            step = await asyncio.wait_for(scheduler.route(arithmetic_pairs(3)), 60.0)
            return step.statistics.statuses, str(scheduler.refusal)

    statuses, refusal = run(main)
    assert statuses == {"judge_error": 3}
    assert "cancelled" in refusal


# Callers that go away


def test_a_step_that_is_cancelled_sends_nothing_more():
    async def main(clock):
        store, judge = MemoryStore(), LoggingJudge(clock=clock, latency=1.0)
        async with scheduling(clock, judge, store=store, max_in_flight=2) as scheduler:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(scheduler.route(arithmetic_pairs(100)), 3.5)
            await clock.sleep(200.0)
            state = await store.run_state("default")
            again = await scheduler.route(arithmetic_pairs(5))
            return len(judge.asked_at), state, again.statistics

    asked, state, again = run(main)
    assert state.spent.requests == 8
    assert state.reserved.requests == 0
    assert asked == 8 + again.calls
    assert again.statuses == {"ok": 5}


def test_a_question_that_another_step_still_waits_for_outlives_the_step_that_asked_it():
    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=1.0)
        async with scheduling(clock, judge, max_in_flight=1) as scheduler:
            leaving = asyncio.ensure_future(scheduler.route(arithmetic_pairs(10)))
            staying = asyncio.ensure_future(scheduler.route(arithmetic_pairs(3)))
            await clock.sleep(1.5)
            leaving.cancel()
            step = await staying
            return step.statistics.statuses, len(judge.asked_at)

    statuses, asked = run(main)
    assert statuses == {"ok": 3}
    assert asked in range(6, 9)


def test_a_stream_that_is_left_early_sends_nothing_more():
    async def main(clock):
        judge = LoggingJudge(clock=clock, latency=1.0)
        async with scheduling(clock, judge, max_in_flight=2) as scheduler:
            stream = scheduler.stream(arithmetic_pairs(200), chunk=50)
            async for _ in stream:
                break
            await stream.aclose()
            await clock.sleep(200.0)
            return len(judge.asked_at)

    assert run(main) <= 6


def test_a_scheduler_that_was_stopped_before_it_was_opened_asks_nothing():
    async def main(clock):
        judge = LoggingJudge(clock=clock)
        scheduler = scheduling(clock, judge)
        scheduler.stop()
        async with scheduler:
            step = await scheduler.route(arithmetic_pairs(3))
        async with scheduler:
            again = await scheduler.route(arithmetic_pairs(3))
        return step.statistics.statuses, again.statistics.statuses

    assert run(main) == ({"interrupted": 3}, {"ok": 3})


# What is known, and when


@pytest.mark.parametrize("slow", ["read", "run_state", "record_plan", "record_step"])
def test_a_deadline_holds_however_long_the_store_takes(slow):
    class Slow(MemoryStore):
        pass

    async def method(self, *arguments):
        await asyncio.sleep(30.0)
        return await getattr(MemoryStore, slow)(self, *arguments)

    setattr(Slow, slow, method)

    async def main(clock):
        store = Slow()
        routing = RoutingConfig(policy="always", step_deadline_s=5.0)
        async with scheduling(clock, ScriptedJudge(clock=clock), store=store, routing=routing) as scheduler:
            step = await scheduler.route(arithmetic_pairs(3))
            took = clock.now()
        return step.statistics.statuses, took, store._contents.steps["default"]

    statuses, took, recorded = run(main)
    assert took <= 5.0 + 2 * GRACE_S
    assert statuses == ({"ok": 3} if slow == "record_step" else {"deadline": 3})
    assert len(recorded) == 1


def test_stored_verdicts_are_returned_although_scoring_the_others_takes_longer_than_the_deadline():
    pairs, store = arithmetic_pairs(4), MemoryStore()
    free = threading.Event()

    class Stuck(FakeScorer):
        def score(self, pairs):
            free.wait(timeout=300)
            return super().score(pairs)

    async def main():
        async with Scheduler(store=store, judge=ScriptedJudge(), routing=ALWAYS) as scheduler:
            await scheduler.route(pairs[:2])
        routing = RoutingConfig(policy="error", threshold=0.1, step_deadline_s=1.0)
        async with Scheduler(store=store, judge=ScriptedJudge(), scorer=Stuck(pairs), routing=routing, run="2") as scheduler:
            step = await scheduler.route(pairs)
            free.set()
        return step

    step = asyncio.run(main())
    assert [(outcome.source, outcome.status) for outcome in step.outcomes] == [("store", "ok")] * 2 + [("fallback", "deadline")] * 2
    assert step.statistics.seconds < 60.0


def test_a_pair_met_in_the_store_with_one_order_missing_is_asked_again_on_request():
    pairs, store = arithmetic_pairs(3), MemoryStore()

    class OneSided(ScriptedJudge):
        def __init__(self, *, failing, **settings):
            super().__init__(**settings)
            self.failing = failing

        async def ask(self, question):
            reply = await super().ask(question)
            return type(reply)(text="no verdict") if self.failing and not question.canonical else reply

    async def main(clock):
        results = []
        for name, failing, retry in (("a", True, False), ("b", True, False), ("b", False, True)):
            judge = OneSided(clock=clock, failing=failing)
            async with scheduling(clock, judge, store=store, run=name, retry_failed=retry) as scheduler:
                results.append((await scheduler.route(pairs, step=0)).statistics)
        return results

    first, met, again = run(main)
    assert first.statuses == met.statuses == {"one_order": 3}
    assert (again.statuses, again.calls) == ({"ok": 3}, 3)


def test_samples_of_failed_questions_are_hashed_on_a_worker_thread(monkeypatch):
    threads = []

    def recording(*arguments):
        threads.append(threading.get_ident())
        return hashed(*arguments)

    hashed = recall_module.next_sample
    monkeypatch.setattr(recall_module, "next_sample", recording)
    store = MemoryStore()

    async def main():
        for _ in range(2):
            async with Scheduler(store=store, judge=ScriptedJudge(faults="no-tag:1.0"), routing=ALWAYS) as scheduler:
                await scheduler.route(arithmetic_pairs(2))

    asyncio.run(main())
    assert threads
    assert threading.get_ident() not in threads


class _Counting(FakeScorer):
    """Keeps which pairs it was asked to score."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.scored = []

    def score(self, pairs):
        self.scored += [pair.id for pair in pairs]
        return super().score(pairs)


def test_pairs_whose_verdict_is_stored_are_not_scored():
    pairs, store = arithmetic_pairs(10), MemoryStore()
    identical = type(pairs[0])(prompt="p", response_a="same", response_b="same")

    async def main(clock):
        async with scheduling(clock, ScriptedJudge(clock=clock), store=store) as scheduler:
            await scheduler.route(pairs[:6])
        scorer = _Counting(pairs)
        routing = RoutingConfig(policy="error", threshold=0.0)
        async with scheduling(clock, ScriptedJudge(clock=clock), store=store, scorer=scorer, routing=routing, run="2") as scheduler:
            return scorer.scored, await scheduler.route([*pairs, identical])

    scored, step = run(main)
    assert scored == [pair.id for pair in pairs[6:]]
    assert [outcome.preference is None for outcome in step.outcomes] == [True] * 6 + [False] * 4 + [True]
    assert all(outcome.source == "store" for outcome in step.outcomes[:6])


class _CountingPlans(MemoryStore):
    """Keeps how many decisions each plan had."""

    plans = ()

    async def record_plan(self, run, step, decisions, pacing=None):
        self.plans += (len(decisions),)
        await super().record_plan(run, step, decisions, pacing)


@pytest.mark.parametrize(
    ("routing", "known", "plans"),
    [
        (ALWAYS, 6, ()),  # nothing is to be decided: the end of the step says it all
        (ALWAYS, 5, (6,)),
        (RoutingConfig(policy="always", max_share=0.5), 6, (6,)),  # what the share has learnt is kept with the plan
    ],
)
def test_a_step_of_stored_verdicts_is_recorded_once_unless_there_is_something_to_learn(routing, known, plans):
    pairs, store = arithmetic_pairs(6), _CountingPlans()

    async def main(clock):
        async with scheduling(clock, ScriptedJudge(clock=clock), store=store) as scheduler:
            await scheduler.route(pairs[:known])
        store.plans = ()
        async with scheduling(clock, ScriptedJudge(clock=clock), store=store, routing=routing, run="2") as scheduler:
            await scheduler.route(pairs, step=3)
        return await store.decisions("2", 3)

    decided = run(main)
    assert store.plans == plans
    assert sorted(decision.source for decision in decided.values()) == ["judge"] * (6 - known) + ["store"] * known
    assert {decision.asked for decision in decided.values() if decision.source == "store"} == {False}


@pytest.mark.parametrize(("setting", "scored"), [("scorer", 4), ("zero", 0)])
def test_a_stored_verdict_that_contradicts_itself_is_scored_where_the_scorer_decides(setting, scored):
    pairs, store = arithmetic_pairs(4), MemoryStore()

    async def main(clock):
        judge = ScriptedJudge(Opinions(position_bias=1.0), clock=clock)
        async with scheduling(clock, judge, store=store) as scheduler:
            await scheduler.route(pairs)
        scorer = _Counting(pairs)
        routing = RoutingConfig(policy="error", threshold=0.0, on_inconsistent=setting)
        async with scheduling(clock, judge, store=store, scorer=scorer, routing=routing, run="2") as scheduler:
            return scorer.scored, (await scheduler.route(pairs)).logits

    asked, logits = run(main)
    assert len(asked) == scored
    assert all((logit != 0.0) == (setting == "scorer") for logit in logits)


def test_little_is_put_aside_for_questions_that_a_rate_limit_holds_back():
    """What a process has put aside when it dies stays charged: it should be little more than what it had sent."""
    store = MemoryStore()

    async def main(clock):
        gate = WindowGate(LimitsConfig(requests_per_minute=10), clock)
        async with scheduling(clock, LoggingJudge(clock=clock, latency=1.0), store=store, gate=gate) as scheduler:
            routing = asyncio.ensure_future(scheduler.route(arithmetic_pairs(100)))
            await clock.sleep(30.0)  # ten are answered, the others wait for the next window
            reserved = (await store.run_state("default")).reserved.requests
            await routing
            return reserved

    assert 0 < run(main) <= 10


def test_little_is_put_aside_for_questions_that_a_token_limit_holds_back():
    store = MemoryStore()

    async def main(clock):
        gate = WindowGate(LimitsConfig(tokens_per_minute=10 * TOKENS_A_REPLY), clock)
        async with scheduling(clock, LoggingJudge(clock=clock, latency=1.0), store=store, gate=gate) as scheduler:
            routing = asyncio.ensure_future(scheduler.route(arithmetic_pairs(30)))
            await clock.sleep(30.0)
            reserved = (await store.run_state("default")).reserved.requests
            await routing
            return reserved

    assert 0 < run(main) <= 10


def test_a_run_that_goes_on_after_a_crash_says_what_of_its_budget_is_held():
    store, seen = MemoryStore(), EventWatcher()

    async def main(clock):
        crashed = scheduling(clock, LoggingJudge(clock=clock, latency=10.0), store=store, budget=BudgetConfig(requests=100))
        await crashed.open()
        routing = asyncio.ensure_future(crashed.route(arithmetic_pairs(3)))
        await clock.sleep(5.0)
        again = scheduling(clock, LoggingJudge(clock=clock), store=store.reopen(), budget=BudgetConfig(requests=100), observers=[seen])
        async with again:
            pass
        await routing
        await crashed.aclose()

    run(main)
    assert seen.notices == ["budget_put_aside"]
