"""The scheduler on real parts: HTTP on loopback, SQLite in a file."""

import asyncio
import functools
import math
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from held import held
from sqlalchemy import text

from judgeflow import Group, Pair, Scheduler, StoreUnavailable, UsageError
from judgeflow.clock import LoopClock
from judgeflow.config import BudgetConfig, JudgeConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import ConfigurationError, JudgeRefusesService, JudgeUnreachable
from judgeflow.judges.client import HttpJudge
from judgeflow.judges.gate import ThrottleGate, WindowGate
from judgeflow.store import MemoryStore, SqlStore
from judgeflow.testing import FakeJudge, FakeScorer, JudgeLimits, Watcher, arithmetic_pairs, serve_in_thread
from judgeflow.verdicts.prompt import load_template

ALWAYS = RoutingConfig(policy="always")
QUICK = RetryPolicy(attempts=4, for_s=300.0, base_s=0.01, cap_s=0.05)


def judge_of(server: FakeJudge, **settings) -> HttpJudge:
    chosen = JudgeConfig(base_url=server.base_url, **{"model": "fake-judge", "id": "fake", "timeout_s": 300.0} | settings)
    return HttpJudge(chosen, load_template("default"))


@pytest.fixture
def database(tmp_path):
    return functools.partial(SqlStore.open, f"sqlite+aiosqlite:///{tmp_path}/verdicts.db")


@asynccontextmanager
async def scheduling(server: FakeJudge, database, *, judge_settings=None, **settings):
    chosen = {"routing": ALWAYS, "retry": QUICK, "judge": judge_of(server, **judge_settings or {})} | settings
    async with Scheduler(store=database, **chosen) as scheduler:
        yield scheduler


async def test_every_pair_comes_back_in_order_with_the_verdict_of_both_orders(database):
    pairs = arithmetic_pairs(20)
    async with FakeJudge.from_pairs(pairs, accuracy=1.0) as server, scheduling(server, database) as scheduler:
        step = await scheduler.route(pairs)
        assert [outcome.pair.id for outcome in step.outcomes] == [pair.id for pair in pairs]
        assert {outcome.source for outcome in step.outcomes} == {"judge"}
        assert all(outcome.choice == outcome.pair.label for outcome in step.outcomes)
        assert all(len(outcome.verdict.calls) == 2 and outcome.verdict.swapped_agree for outcome in step.outcomes)
        assert set(map(abs, step.logits)) == {2.0}
        assert server.statistics.answered == step.statistics.calls == 40


async def test_every_outcome_is_told_once_as_soon_as_it_is_final(database):
    pairs, told = arithmetic_pairs(12), []
    routing = RoutingConfig(policy="error", max_share=0.5)
    async with FakeJudge.from_pairs(pairs) as server, scheduling(server, database, scorer=FakeScorer(pairs), routing=routing) as scheduler:
        step = await scheduler.route(pairs, on_outcome=lambda index, outcome: told.append((index, outcome, server.statistics.answered)))
        assert (await scheduler.state()).spent.requests == server.statistics.answered == 12
    assert sorted(index for index, _, _ in told) == list(range(12))
    assert all(step.outcomes[index] == outcome for index, outcome, _ in told)
    assert [outcome.source for _, outcome, _ in told] == ["scorer"] * 6 + ["judge"] * 6
    assert told[0][2] < 12  # those left to the scorer need not wait for the judge


async def test_what_is_stored_is_never_asked_again_not_even_the_other_way_round(database):
    pairs = arithmetic_pairs(10)
    async with FakeJudge.from_pairs(pairs) as server:
        async with scheduling(server, database) as scheduler:
            first = await scheduler.route(pairs)
        async with scheduling(server, database, run="another") as scheduler:
            again = await scheduler.route([pair.swapped() for pair in pairs])
        assert server.statistics.requests == 20
    assert again.logits == tuple(-logit for logit in first.logits)
    assert {outcome.source for outcome in again.outcomes} == {"store"}
    assert again.statistics.calls == 0


async def test_equal_and_swapped_pairs_of_a_step_are_asked_once_and_answered_everywhere(database):
    pair = arithmetic_pairs(1)[0]
    async with FakeJudge.from_pairs([pair], accuracy=1.0) as server, scheduling(server, database) as scheduler:
        step = await scheduler.route([pair, pair.swapped(), pair])
        assert server.statistics.requests == 2
    assert step.logits[0] == -step.logits[1] == step.logits[2]
    assert [outcome.choice for outcome in step.outcomes] == [outcome.pair.label for outcome in step.outcomes]


async def test_concurrent_steps_share_questions_that_are_under_way(database):
    pairs = arithmetic_pairs(15)
    async with FakeJudge.from_pairs(pairs, latency="uniform:0.0:0.05") as server, scheduling(server, database) as scheduler:
        results = await asyncio.gather(*(scheduler.route(pairs) for _ in range(6)))
        assert server.statistics.requests == 30
    assert len({result.logits for result in results}) == 1
    assert sorted(result.statistics.step for result in results) == list(range(6))


@pytest.mark.parametrize("callers", [1, 8])
async def test_the_request_budget_holds_however_many_callers_there_are(database, callers):
    pairs = arithmetic_pairs(120)
    async with FakeJudge.from_pairs(pairs) as server:
        async with scheduling(server, database, budget=BudgetConfig(requests=50)) as scheduler:
            size = len(pairs) // callers
            parts = [pairs[n * size : (n + 1) * size] for n in range(callers)]
            steps = await asyncio.gather(*(scheduler.route(part) for part in parts))
        assert server.statistics.answered == 50
    outcomes = [outcome for step in steps for outcome in step.outcomes]
    assert sum(outcome.source == "judge" for outcome in outcomes) in range(20, 26)
    assert {outcome.status for outcome in outcomes if outcome.source == "fallback"} == {"budget"}


async def test_two_schedulers_on_one_database_share_the_budget_of_a_run(database):
    pairs = arithmetic_pairs(60)
    async with FakeJudge.from_pairs(pairs, latency=0.01) as server:
        common = {"budget": BudgetConfig(requests=40), "run": "shared"}
        async with scheduling(server, database, **common) as one, scheduling(server, database, **common) as two:
            await asyncio.gather(one.route(pairs[:30], step=0), two.route(pairs[30:], step=1))
        assert server.statistics.answered == 40


async def test_two_schedulers_on_one_database_do_not_both_pay_for_a_question_unless_they_ask_at_the_same_moment(database):
    pairs = arithmetic_pairs(40)
    async with FakeJudge.from_pairs(pairs, latency=0.02) as server:
        common = {"max_in_flight": 4, "run": "shared"}
        async with scheduling(server, database, **common) as one, scheduling(server, database, **common) as two:
            first = asyncio.create_task(one.route(pairs, step=0))
            while server.statistics.requests == 0:
                await asyncio.sleep(0)
            steps = await asyncio.gather(first, two.route(pairs[::-1], step=0))
        assert 80 <= server.statistics.answered <= 120
    assert steps[0].logits == steps[1].logits[::-1]


async def test_a_spent_budget_is_said_once_and_everything_still_gets_an_outcome(database):
    pairs, seen = arithmetic_pairs(12), Watcher()
    async with FakeJudge.from_pairs(pairs) as server:
        async with scheduling(server, database, budget=BudgetConfig(requests=4), observers=[seen]) as scheduler:
            for start in range(0, 12, 3):
                step = await scheduler.route(pairs[start : start + 3])
                assert all(math.isfinite(logit) for logit in step.logits)
    assert [event for event, _ in seen.notices] == ["budget_spent"]
    assert step.statistics.statuses == {"budget": 3}
    assert step.statistics.remaining["requests"] == 0


async def test_at_the_deadline_what_is_missing_is_labelled_and_its_late_reply_is_used_next_time(database):
    pairs = arithmetic_pairs(4)
    routing = RoutingConfig(policy="always", step_deadline_s=1.0)
    async with held(pairs, accuracy=1.0) as server:
        async with scheduling(server, database, routing=routing) as scheduler:
            step = await scheduler.route(pairs)
            assert step.statistics.statuses == {"deadline": 4}
            server.let_go()
        assert server.statistics.answered == 8
        async with scheduling(server, database, run="later") as scheduler:
            later = await scheduler.route(pairs)
        assert server.statistics.requests == 8
    assert {outcome.source for outcome in later.outcomes} == {"store"}


async def test_questions_still_queued_at_the_deadline_are_not_sent_after_it(database):
    pairs = arithmetic_pairs(10)
    routing = RoutingConfig(policy="always", step_deadline_s=1.0)
    async with held(pairs) as server:
        async with scheduling(server, database, routing=routing, max_in_flight=4) as scheduler:
            await scheduler.route(pairs)
            server.let_go()
        assert server.statistics.requests == 4


async def test_the_rate_limit_holds_in_the_judges_own_window(database):
    pairs, clock = arithmetic_pairs(20), LoopClock()
    limits = LimitsConfig(requests_per_minute=15, window_s=1.0, margin_s=0.5)
    strict = JudgeLimits(requests_per_minute=15, window_s=1.0)
    async with FakeJudge.from_pairs(pairs, limits=strict) as server:
        async with scheduling(server, database, gate=ThrottleGate(limits, clock)) as scheduler:
            step = await scheduler.route(pairs)
        assert server.statistics.provoked_429 == 0
        assert server.statistics.answered == 40
    assert step.statistics.seconds > 3.0


async def test_what_failed_for_good_is_remembered_and_asked_again_only_on_request(database):
    pairs = arithmetic_pairs(1)
    async with FakeJudge.from_pairs(pairs, faults=["refusal", "refusal"], accuracy=1.0) as server:
        async with scheduling(server, database) as scheduler:
            first = await scheduler.route(pairs)
        async with scheduling(server, database, run="2") as scheduler:
            second = await scheduler.route(pairs)
        assert server.statistics.requests == 2
        async with scheduling(server, database, run="3", retry_failed=True) as scheduler:
            third = await scheduler.route(pairs)
        assert server.statistics.requests == 4
        async with scheduling(server, database, run="4") as scheduler:
            fourth = await scheduler.route(pairs)
        assert server.statistics.requests == 4
    assert [step.outcomes[0].status for step in (first, second, third, fourth)] == ["refused", "refused", "ok", "ok"]
    assert [step.outcomes[0].source for step in (first, second, third, fourth)] == ["fallback", "fallback", "judge", "store"]


async def test_when_one_order_fails_for_good_the_other_counts_half(database):
    pairs = arithmetic_pairs(1)
    async with FakeJudge.from_pairs(pairs, faults=["length"], accuracy=1.0) as server:
        async with scheduling(server, database, max_in_flight=1) as scheduler:
            step = await scheduler.route(pairs)
    assert step.outcomes[0].status == "one_order"
    assert abs(step.logits[0]) == 1.0
    assert step.outcomes[0].choice == pairs[0].label


async def test_one_order_by_configuration_is_a_whole_verdict(database):
    pairs = arithmetic_pairs(6)
    async with FakeJudge.from_pairs(pairs, accuracy=1.0) as server:
        async with scheduling(server, database, orders="first") as scheduler:
            step = await scheduler.route(pairs)
        assert server.statistics.requests == 6
    assert set(map(abs, step.logits)) == {2.0}
    assert all(outcome.status == "ok" and outcome.verdict.forward is not None for outcome in step.outcomes)


async def test_a_position_biased_judge_is_found_inconsistent_and_its_word_does_not_count(database):
    pairs = arithmetic_pairs(8)
    async with FakeJudge.from_pairs(pairs, position_bias=1.0) as server, scheduling(server, database) as scheduler:
        step = await scheduler.route(pairs)
    assert {outcome.choice for outcome in step.outcomes} == {"inconsistent"}
    assert step.logits == (0.0,) * 8
    assert step.statistics.agreement == 0.0


async def test_an_absent_judge_ends_in_labelled_outcomes_quickly_and_is_tried_again_by_the_next_step(database):
    pairs, seen = arithmetic_pairs(30), Watcher()
    server = FakeJudge.from_pairs(pairs)
    async with server:
        pass
    async with Scheduler(store=database, judge=judge_of(server), routing=ALWAYS, retry=QUICK, observers=[seen]) as scheduler:
        step = await scheduler.route(pairs)
        assert set(step.statistics.statuses) == {"unreachable"}
        assert isinstance(scheduler.refusal, JudgeUnreachable)
        assert ("judge_stopped", 1) in [(event, len(fields)) for event, fields in seen.notices]
        async with FakeJudge(port=server.port):
            step = await scheduler.route(pairs)
        assert step.statistics.sources == {"judge": 30}
        assert scheduler.refusal is None


@pytest.mark.parametrize(("fault", "words"), [("quota", "quota"), ("wrong-model", "404")])
async def test_a_judge_that_refuses_service_is_not_stormed(database, fault, words):
    pairs = arithmetic_pairs(200)
    wrong = fault == "wrong-model"
    async with FakeJudge(faults="" if wrong else "quota:1.0") as server:
        settings = {"model": "other"} if wrong else {}
        async with scheduling(server, database, judge_settings=settings, max_in_flight=8) as scheduler:
            step = await scheduler.route(pairs)
            assert isinstance(scheduler.refusal, JudgeRefusesService)
            assert words in str(scheduler.refusal)
        assert server.statistics.requests <= 16
    assert step.statistics.statuses == {"judge_stopped": 200}


async def test_stop_keeps_what_is_in_flight_and_sends_nothing_more(database):
    pairs = arithmetic_pairs(40)
    async with held(pairs) as server:
        async with scheduling(server, database, max_in_flight=10) as scheduler:
            routing = asyncio.create_task(scheduler.route(pairs))
            while server.statistics.requests < 10:
                await asyncio.sleep(0)
            scheduler.stop()
            server.let_go()
            step = await routing
        assert server.statistics.requests == server.statistics.answered == 10
        async with scheduling(server, database, run="resumed") as scheduler:
            await scheduler.route(pairs)
        assert server.statistics.answered == 80
    assert step.statistics.statuses["interrupted"] == 35


async def test_cancelling_a_step_loses_no_reply_and_leaves_the_scheduler_usable(database):
    pairs = arithmetic_pairs(10)
    async with held(pairs) as server:
        async with scheduling(server, database) as scheduler:
            routing = asyncio.create_task(scheduler.route(pairs))
            while server.statistics.requests < 20:
                await asyncio.sleep(0)
            routing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await routing
            server.let_go()
            step = await scheduler.route(pairs)
        assert server.statistics.requests == 20
    assert len(step.outcomes) == 10


async def test_identical_responses_are_a_tie_without_asking(database):
    async with FakeJudge() as server, scheduling(server, database) as scheduler:
        step = await scheduler.route([Pair(prompt="p", response_a="same", response_b="same")])
        assert server.statistics.requests == 0
    outcome = step.outcomes[0]
    assert (outcome.choice, outcome.status, outcome.logit) == ("tie", "identical", 0.0)
    assert (step.statistics.sources, step.statistics.statuses) == ({}, {"identical": 1})


async def test_a_megabyte_response_is_not_sent_and_says_so_while_its_neighbours_are_judged(database):
    pairs = [Pair(prompt="p", response_a="word " * 200_000, response_b="b"), *arithmetic_pairs(2)]
    async with FakeJudge() as server, scheduling(server, database) as scheduler:
        step = await scheduler.route(pairs)
        assert server.statistics.requests == 4
    assert [outcome.status for outcome in step.outcomes] == ["too_long", "ok", "ok"]


async def test_text_that_is_no_unicode_becomes_a_labelled_outcome(database):
    async with FakeJudge() as server, scheduling(server, database) as scheduler:
        step = await scheduler.route([Pair(prompt="p", response_a="\ud800", response_b="b"), *arithmetic_pairs(1)])
    assert [(outcome.source, outcome.status) for outcome in step.outcomes] == [("fallback", "invalid_text"), ("judge", "ok")]


async def test_random_routing_asks_a_share_and_running_it_again_asks_nothing_new(database):
    pairs = arithmetic_pairs(100)
    routing = RoutingConfig(policy="random", max_share=0.2, seed=3)
    async with FakeJudge.from_pairs(pairs) as server:
        async with scheduling(server, database, routing=routing, run="r") as scheduler:
            first = await scheduler.route(pairs, step=0)
        async with scheduling(server, database, routing=routing, run="r") as scheduler:
            second = await scheduler.route(pairs, step=0)
        assert server.statistics.requests == 40
    assert first.statistics.sources == {"scorer": 80, "judge": 20}
    assert second.statistics.sources == {"scorer": 80, "store": 20}
    assert first.logits == second.logits


async def test_a_step_interrupted_half_way_is_resumed_by_its_own_plan(database):
    pairs = arithmetic_pairs(50)
    routing = RoutingConfig(policy="random", max_share=0.4)
    async with FakeJudge.from_pairs(pairs, latency=0.05) as server:
        async with scheduling(server, database, routing=routing, run="r", max_in_flight=4) as scheduler:
            first = asyncio.create_task(scheduler.route(pairs, step=0))
            while server.statistics.answered < 12:
                await asyncio.sleep(0)
            scheduler.stop()
            await first
        async with scheduling(server, database, routing=routing, run="r") as scheduler:
            step = await scheduler.route(pairs, step=0)
        assert server.statistics.requests == 40
    assert step.statistics.sources["scorer"] == 30


async def test_a_scorer_decides_where_nobody_is_asked_and_the_judge_where_it_is_unsure(database):
    pairs = arithmetic_pairs(100)
    scorer = FakeScorer(pairs, accuracy=0.7)
    routing = RoutingConfig(policy="uncertainty", max_share=0.3)
    async with FakeJudge.from_pairs(pairs, accuracy=1.0) as server:
        async with scheduling(server, database, routing=routing, scorer=scorer) as scheduler:
            step = await scheduler.route(pairs)
    judged = [outcome for outcome in step.outcomes if outcome.source == "judge"]
    kept = [outcome for outcome in step.outcomes if outcome.source == "scorer"]
    assert (len(judged), len(kept)) == (30, 70)
    assert min(outcome.acquisition for outcome in judged) > max(outcome.acquisition for outcome in kept) == step.statistics.threshold
    assert all(outcome.logit == outcome.preference.logit for outcome in kept)


async def test_preferences_are_antisymmetric_to_the_last_bit_whichever_way_a_pair_is_given(database):
    pairs = arithmetic_pairs(20)
    routing = RoutingConfig(policy="never")
    async with Scheduler(store=database, scorer=FakeScorer(pairs), routing=routing) as scheduler:
        step = await scheduler.route([*pairs, *(pair.swapped() for pair in pairs)])
    assert step.logits[:20] == tuple(-logit for logit in step.logits[20:])
    assert len(set(step.logits)) > 20


async def test_a_failing_scorer_becomes_labelled_outcomes_not_a_crash(database):
    pairs, seen = arithmetic_pairs(300), Watcher()
    scorer = FakeScorer(pairs, fail_on=[4, 5])  # after 16, 32 and 64 pairs: 128, and the first 64 of them
    routing = RoutingConfig(policy="error", max_share=0.1)
    async with FakeJudge.from_pairs(pairs) as server:
        async with scheduling(server, database, routing=routing, scorer=scorer, observers=[seen]) as scheduler:
            step = await scheduler.route(pairs)
    assert step.statistics.statuses == {"ok": 236, "scorer_failed": 64}
    assert [event for event, _ in seen.notices] == ["scorer_failed"]


async def test_groups_give_advantages_that_sum_to_zero(database):
    groups = [
        Group(prompt="2 + 2?", responses=("4", "5", "4", "six"), id="g0"),
        Group(prompt="Capital of France?", responses=("Paris", "Rome", "Oslo"), id="g1", mask=(True, False, True)),
    ]
    async with FakeJudge() as server, scheduling(server, database) as scheduler:
        step = await scheduler.route_groups(groups)
        advantages = step.advantages()
        assert (await scheduler.route([])).outcomes == ()
        with pytest.raises(UsageError, match="same id"):
            await scheduler.route_groups([groups[0], groups[0]])
    assert len(step.outcomes) == 7
    assert step.outcomes[1].status == "identical"
    assert sum(advantages["g0"]) == pytest.approx(0.0)
    assert advantages["g1"][1] == 0.0
    assert advantages["g1"][0] == -advantages["g1"][2] == step.logits[-1]


async def test_a_stream_yields_every_outcome_and_takes_pairs_only_as_it_goes(database):
    pairs, taken = arithmetic_pairs(100), []

    def source():
        for pair in pairs:
            taken.append(pair.id)
            yield pair

    async with FakeJudge.from_pairs(pairs) as server, scheduling(server, database) as scheduler:
        stream = scheduler.stream(source(), chunk=10)
        first = await anext(stream)
        assert len(taken) <= 30
        seen = [first.pair.id, *[outcome.pair.id async for outcome in stream]]
        assert server.statistics.requests == 200
    assert sorted(seen) == sorted(pair.id for pair in pairs)


async def test_a_stream_that_is_left_early_stops_asking_and_the_scheduler_goes_on(database):
    pairs = arithmetic_pairs(100)

    async def source():
        for pair in pairs:
            yield pair

    async with FakeJudge.from_pairs(pairs) as server, scheduling(server, database) as scheduler:
        stream = scheduler.stream(source(), chunk=5)
        async for _ in stream:
            break
        await stream.aclose()
        assert (await scheduler.route(pairs[:3])).statistics.pairs == 3
        assert server.statistics.requests < 200


class _BrokenStore(MemoryStore):
    """Fails to store replies, as a full disk would."""

    async def settle(self, run, reservation, question, call):
        raise StoreUnavailable("disk full")


async def test_when_replies_cannot_be_stored_asking_stops_and_outcomes_say_why():
    pairs, seen = arithmetic_pairs(50), Watcher()
    async with FakeJudge.from_pairs(pairs) as server:
        async with scheduling(server, _BrokenStore(), max_in_flight=4, observers=[seen]) as scheduler:
            step = await scheduler.route(pairs)
            assert isinstance(scheduler.refusal, StoreUnavailable)
        assert server.statistics.requests <= 8
    assert step.statistics.statuses == {"store_error": 50}
    assert ("store_failed", {"error": "disk full"}) in seen.notices


async def test_replies_that_come_while_another_program_locks_the_database_are_stored_when_it_lets_go(tmp_path):
    path, pairs = tmp_path / "verdicts.db", arithmetic_pairs(5)
    store = await SqlStore.open(str(path))
    with store._writer.engine.begin() as connection:
        connection.execute(text("PRAGMA busy_timeout=0"))
    async with held(pairs) as server, scheduling(server, store) as scheduler:
        routing = asyncio.create_task(scheduler.route(pairs))
        while server.statistics.requests < 10:
            await asyncio.sleep(0)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        server.let_go()
        assert (await routing).statistics.statuses == {"store_error": 5}
        other.execute("ROLLBACK")
        other.close()
        step = await scheduler.route(pairs)
        assert step.statistics.sources == {"store": 5}
        assert server.statistics.requests == 10
    assert (await store.run_state("default")).reserved.requests == 0
    await store.aclose()


class _SurprisingStore(MemoryStore):
    """Raises what no contract allows."""

    async def settle(self, run, reservation, question, call):
        raise ZeroDivisionError


async def test_a_store_with_a_bug_ends_in_outcomes_too_never_in_a_step_that_hangs():
    async with FakeJudge() as server, scheduling(server, _SurprisingStore()) as scheduler:
        step = await scheduler.route(arithmetic_pairs(5))
        assert "ZeroDivisionError" in str(scheduler.refusal)
    assert step.statistics.statuses == {"store_error": 5}


class _IllegibleJudge(HttpJudge):
    """Cannot read its own replies."""

    def read(self, reply):
        raise KeyError(reply.text)


async def test_a_reply_that_the_judges_reader_chokes_on_is_kept_and_not_asked_again(database):
    pairs, seen = arithmetic_pairs(2), Watcher()
    async with FakeJudge() as server:
        judge = _IllegibleJudge(JudgeConfig(base_url=server.base_url, model="fake-judge"), load_template("default"))
        async with scheduling(server, database, judge=judge, observers=[seen]) as scheduler:
            step = await scheduler.route(pairs)
            again = await scheduler.route(pairs)
        assert server.statistics.requests == 4
    assert step.statistics.statuses == again.statistics.statuses == {"unparseable": 2}
    assert {event for event, _ in seen.notices} == {"reply_unreadable"}


class _BrokenGate(WindowGate):
    """Lets one request pass, then breaks."""

    def __init__(self):
        super().__init__(LimitsConfig(), LoopClock())
        self.passed = 0

    async def admit(self, tokens):
        self.passed += 1
        if self.passed > 1:
            raise ZeroDivisionError
        return await super().admit(tokens)


async def test_a_gate_with_a_bug_ends_in_labelled_outcomes(database):
    async with FakeJudge() as server, scheduling(server, database, gate=_BrokenGate()) as scheduler:
        step = await scheduler.route(arithmetic_pairs(5))
        assert "ZeroDivisionError" in str(scheduler.refusal)
    assert step.statistics.statuses == {"one_order": 1, "judge_error": 4}


class _ThrowingJudge(HttpJudge):
    """Raises something that is no JudgeError."""

    async def ask(self, question):
        raise ZeroDivisionError


async def test_a_judge_object_with_a_bug_is_labelled_and_charged_at_worst_case(database):
    async with FakeJudge() as server:
        judge = _ThrowingJudge(JudgeConfig(base_url=server.base_url, model="fake-judge"), load_template("default"))
        async with scheduling(server, database, judge=judge, budget=BudgetConfig(requests=10)) as scheduler:
            step = await scheduler.route(arithmetic_pairs(2))
    assert step.statistics.statuses == {"judge_error": 2}
    assert step.statistics.remaining["requests"] == 6


async def test_an_observer_that_raises_is_dropped_and_the_others_go_on(database, capsys):
    class Faulty(Watcher):
        def call(self, event):
            raise RuntimeError("no disk for logs")

    seen = Watcher()
    async with FakeJudge() as server, scheduling(server, database, observers=[Faulty(), seen]) as scheduler:
        await scheduler.route(arithmetic_pairs(3))
    assert len(seen.calls) == 6
    assert len(seen.steps) == 1
    assert seen.closed
    assert "no disk for logs" in capsys.readouterr().err


async def test_events_carry_keys_and_figures_and_never_texts(database):
    pairs, seen = arithmetic_pairs(2), Watcher()
    async with FakeJudge(faults=["500"]) as server, scheduling(server, database, observers=[seen]) as scheduler:
        await scheduler.route(pairs)
    assert [event.outcome for event in seen.calls].count("ok") == 4
    assert [event.outcome for event in seen.calls].count("overloaded") == 1
    everything = repr(seen.calls) + repr(seen.steps)
    assert not any(pair.prompt in everything or pair.response_a in everything for pair in pairs)


def test_synchronous_callers_get_a_loop_of_their_own(tmp_path):
    pairs = arithmetic_pairs(5)
    store = functools.partial(SqlStore.open, f"sqlite+aiosqlite:///{tmp_path}/verdicts.db")
    with Scheduler(store=store, scorer=FakeScorer(pairs), routing=RoutingConfig(policy="never")) as scheduler:
        first = scheduler.route_sync(pairs)
        group = Group(prompt="p", responses=("a", "b"), id="g")
        assert set(scheduler.route_groups_sync([group]).advantages()) == {"g"}
        assert scheduler.route_sync(pairs).logits == first.logits
    scheduler.close()


def test_several_threads_may_be_the_first_to_use_a_scheduler_synchronously(tmp_path):
    opened = []

    async def open_store():
        opened.append(await SqlStore.open(f"sqlite+aiosqlite:///{tmp_path}/verdicts.db"))
        return opened[-1]

    pairs = arithmetic_pairs(5)
    with Scheduler(store=open_store, scorer=FakeScorer(pairs), routing=RoutingConfig(policy="never")) as scheduler:
        with ThreadPoolExecutor(max_workers=4) as trainers:
            steps = list(trainers.map(scheduler.route_sync, [pairs] * 4))
    assert len({step.logits for step in steps}) == len(opened) == 1


def test_a_scheduler_that_is_used_synchronously_may_be_stopped_from_any_thread(database):
    pairs = arithmetic_pairs(30)
    with serve_in_thread(held(pairs)) as server, ThreadPoolExecutor(max_workers=1) as trainer:
        scheduler = Scheduler(store=database, judge=judge_of(server), routing=ALWAYS, max_in_flight=4)
        step = trainer.submit(scheduler.route_sync, pairs)
        while server.statistics.requests < 4:
            time.sleep(0.005)
        scheduler.stop()
        server.let_go()
        statuses = step.result().statistics.statuses
        scheduler.close()
        assert server.statistics.requests == server.statistics.answered < 60
    assert statuses["interrupted"] > 0


async def test_route_sync_inside_a_loop_and_route_before_opening_are_refused_with_the_way_out(database):
    scheduler = Scheduler(store=database, routing=RoutingConfig(policy="never"))
    with pytest.raises(UsageError, match="await route"):
        scheduler.route_sync([])
    with pytest.raises(UsageError, match="async with"):
        await scheduler.route([])
    async with scheduler:
        with pytest.raises(UsageError, match="open already"):
            await scheduler.open()
        with pytest.raises(UsageError, match="item 0 is dict"):
            await scheduler.route([{}])
    await scheduler.aclose()


def test_parts_that_do_not_fit_are_refused_before_anything_starts(database):
    with pytest.raises(ConfigurationError, match="needs a judge"):
        Scheduler(store=database, routing=ALWAYS)
    judge = HttpJudge(JudgeConfig(model="m"), load_template("default"))
    with pytest.raises(ConfigurationError, match="pass scorer="):
        Scheduler(store=database, judge=judge, routing=RoutingConfig(policy="error", max_share=0.1))
    with pytest.raises(ConfigurationError, match="nothing to adapt to"):
        Scheduler(store=database, judge=judge, routing=RoutingConfig(policy="random"))


async def test_an_empty_response_of_a_trainer_is_asked_about_like_any_other(database):
    empty = Pair(prompt="What is 2 + 2?", response_a="", response_b="4", label="b")
    async with FakeJudge.from_pairs([empty], accuracy=1.0) as server, scheduling(server, database) as scheduler:
        (outcome,) = (await scheduler.route([empty])).outcomes
    assert (outcome.source, outcome.choice) == ("judge", "b")
