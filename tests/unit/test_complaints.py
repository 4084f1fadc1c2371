"""What users of other tools complain about, in limits, stuck work and money: each complaint is a test, here or where the table says.

overshoot when calls are concurrent (litellm#5783, #2994)
    test_a_thousand_concurrent_calls_spend_no_more_than_the_budget_and_nearly_all_of_it
    test_no_sliding_window_ever_holds_more_than_the_limit
    test_concurrent_steps_do_not_plan_with_the_same_minutes_of_the_rate_limit
check, then spend, passes the budget (litellm#26672, #40095)
    test_a_thousand_concurrent_reservations_never_pass_the_stock
    test_two_processes_on_one_database_one_of_which_is_killed_spend_no_more_than_their_budget
a storm of 429s ends with nothing done (DataDesigner#578)
    test_a_storm_of_429s_that_ends_costs_time_and_no_verdict
    test_a_judge_that_turns_everybody_away_is_given_up_after_the_time_for_one_question
    test_a_judges_retry_after_holds_every_question_back_not_only_its_own
a limiter that is bound to one event loop (deer-flow#4294)
    test_a_scheduler_that_had_to_wait_in_one_event_loop_works_in_the_next
    test_a_gate_that_has_waited_in_one_event_loop_waits_in_the_next_one_too
N workers have N times the limit (verl)
    test_two_schedulers_on_one_database_share_the_budget_of_a_run (the budget; rate limits are a process's own)
stuck for days on retries (METR/hawk#945, inspect_ai#2487, lm-eval#3089, curator#564)
    test_a_judge_that_fails_every_time_ends_in_the_label_of_the_fault_soon
    test_an_absent_judge_ends_in_labelled_outcomes_quickly_and_is_tried_again_by_the_next_step
a remote reward hangs, and its timeout cannot be changed (OpenRLHF#1123, #1109)
    test_a_judge_that_hangs_blocks_a_step_until_its_deadline_and_no_longer
    test_a_deadline_holds_however_long_the_store_takes
    test_a_reply_that_does_not_come_in_time_may_have_been_paid_for
thousands of reward calls at once (slime#1582)
    test_thousands_of_concurrent_calls_are_no_more_requests_at_a_time_than_configured
work that is given up goes on all the same
    test_a_step_that_is_disturbed_at_any_moment_leaves_budget_windows_and_store_consistent
    test_a_step_that_is_cancelled_sends_nothing_more
reasoning eats the token limit and the empty answer is billed again and again (deepeval#3042)
    test_what_failed_for_good_is_remembered_and_asked_again_only_on_request
    test_a_reply_cut_off_by_its_length_lacks_the_verdict_and_is_billed_to_the_limit
a failure of the judge is recorded as a confident verdict (inspect_evals#2284)
    test_at_30_percent_every_pair_has_its_outcome_and_nothing_received_is_asked_again
    test_over_http_at_30_percent_every_pair_has_its_outcome_and_nothing_received_is_asked_again
a missing reward poisons the advantages of its group (trl#5775)
    test_advantages_stay_finite_and_sum_to_zero_whatever_the_judge_fails
a list of another length is silently broadcast (trl#6533)
    test_every_pair_has_a_finite_labelled_outcome_by_its_deadline_within_budget_and_limits
nulls, refusals and failures are cached as verdicts (alpaca_eval#340, inspect_ai#4846)
    test_what_failed_for_good_is_remembered_and_asked_again_only_on_request
progress is lost in a crash (lm-eval#2533)
    test_a_killed_run_asks_only_what_was_not_stored_when_it_is_started_again
    test_ctrl_c_waits_for_replies_that_are_paid_for_and_exits_130
    test_a_run_that_is_terminated_keeps_what_was_paid_for_and_puts_nothing_aside
the database is locked (aiosqlite#251)
    test_replies_that_come_while_the_store_is_locked_are_kept_until_it_takes_them
    test_a_store_that_fails_once_costs_one_step_and_not_the_run
reasoning tokens are counted twice (model-hotel#991)
    test_reasoning_and_cached_tokens_are_not_counted_twice
memory grows to 12 GB (litellm#15128)
    test_what_a_step_has_needed_is_let_go_when_it_is_over
    test_a_gate_remembers_one_window_of_requests_and_not_all_of_them
"""

import asyncio
import math
import re
from pathlib import Path

from judgeflow import Group, Scheduler
from judgeflow.clock import LoopClock, VirtualClock
from judgeflow.config import LimitsConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.judges.gate import ThrottleGate, WindowGate
from judgeflow.store import MemoryStore
from judgeflow.testing import ScriptedJudge, arithmetic_pairs
from judgeflow.testing.faults import parse_faults

ALWAYS = RoutingConfig(policy="always")
ROOT = Path(__file__).parents[2]


def in_virtual_time(main):
    clock = VirtualClock()
    return clock.run(main(clock))


def scheduling(clock, judge, **settings):
    chosen = {"store": MemoryStore(), "routing": ALWAYS} | settings
    return Scheduler(judge=judge, clock=clock, **chosen)


def test_every_test_that_the_table_names_is_there():
    named = set(re.findall(r"^ +(test_\w+)", __doc__, re.MULTILINE))
    sources = [path.read_text() for folder in ("tests", "judgeflow/testing") for path in (ROOT / folder).rglob("*.py")]
    there = {name for source in sources for name in re.findall(r"def (test_\w+)", source)}
    assert len(named) > 20
    assert named - there == set()


def test_a_storm_of_429s_that_ends_costs_time_and_no_verdict():
    async def main(clock):
        judge = ScriptedJudge(clock=clock, faults="429-bare:1", latency=2.0)
        gate = WindowGate(LimitsConfig(requests_per_minute=60), clock)
        async with scheduling(clock, judge, gate=gate) as scheduler:
            step = asyncio.ensure_future(scheduler.route(arithmetic_pairs(100)))
            await clock.sleep(300.0)
            judge._desk._faults = parse_faults("")
            return (await step).statistics

    statistics = in_virtual_time(main)
    assert statistics.statuses == {"ok": 100}
    assert statistics.seconds < 300.0 + 45.0 + 4 * 60.0  # what was left of the longest backoff, and 200 requests at 60 a minute


def test_a_judge_that_turns_everybody_away_is_given_up_after_the_time_for_one_question():
    async def main(clock):
        judge = ScriptedJudge(clock=clock, faults="429-bare:1", latency=2.0)
        async with scheduling(clock, judge, retry=RetryPolicy(for_s=600.0)) as scheduler:
            step = await scheduler.route(arithmetic_pairs(60))
            refusal = scheduler.refusal
            judge._desk._faults = parse_faults("")
            later = await scheduler.route(arithmetic_pairs(60))
            return step.statistics, refusal, later.statistics.statuses, scheduler.refusal

    statistics, refusal, later, refusal_later = in_virtual_time(main)
    assert statistics.statuses == {"rate_limited": 60}
    assert statistics.seconds < 700.0
    assert refusal is not None
    assert (later, refusal_later) == ({"ok": 60}, None)


def test_a_scheduler_that_had_to_wait_in_one_event_loop_works_in_the_next():
    limits = LimitsConfig(requests_per_minute=20, tokens_per_minute=8_000, window_s=0.1, margin_s=0.0)
    scheduler = Scheduler(store=MemoryStore(), judge=ScriptedJudge(), gate=ThrottleGate(limits, LoopClock()), routing=ALWAYS)

    async def one_step(seed):
        async with scheduler:
            return (await scheduler.route(arithmetic_pairs(8, seed=seed))).statistics.statuses

    assert [asyncio.run(one_step(seed)) for seed in range(2)] == [{"ok": 8}] * 2
    for seed in (2, 3):
        assert scheduler.route_sync(arithmetic_pairs(8, seed=seed)).statistics.statuses == {"ok": 8}
        scheduler.close()


def test_a_judge_that_hangs_blocks_a_step_until_its_deadline_and_no_longer():
    async def main(clock):
        judge = ScriptedJudge(clock=clock, faults="hang:1", timeout_s=3600.0)
        routing = RoutingConfig(policy="always", step_deadline_s=30.0)
        async with scheduling(clock, judge, routing=routing) as scheduler:
            return (await scheduler.route(arithmetic_pairs(100))).statistics

    statistics = in_virtual_time(main)
    assert statistics.statuses == {"deadline": 100}
    assert statistics.seconds <= 30.0 + 1e-6


def test_thousands_of_concurrent_calls_are_no_more_requests_at_a_time_than_configured():
    pairs = arithmetic_pairs(1_000)

    async def main(clock):
        judge = ScriptedJudge(clock=clock, latency="uniform:1:3")
        async with scheduling(clock, judge, max_in_flight=64) as scheduler:
            steps = await asyncio.gather(*(scheduler.route(pairs[start : start + 2]) for start in range(0, 1_000, 2)))
        return steps, judge.statistics

    steps, seen = in_virtual_time(main)
    assert all(step.statistics.sources == {"judge": 2} for step in steps)
    assert (seen.max_concurrency, seen.requests) == (64, 2_000)


def test_advantages_stay_finite_and_sum_to_zero_whatever_the_judge_fails():
    groups = [Group(prompt=f"{n} + 1?", responses=tuple(f"{n}-{k}" for k in range(4)), id=str(n)) for n in range(20)]

    async def main(clock):
        faults = "500:0.2,no-tag:0.2,refusal:0.1,hang:0.1"
        judge = ScriptedJudge(clock=clock, faults=faults, latency=2.0, timeout_s=20.0)
        async with scheduling(clock, judge, retry=RetryPolicy(attempts=2)) as scheduler:
            return await scheduler.route_groups(groups)

    step = in_virtual_time(main)
    assert len(step.statistics.statuses) > 3
    for advantages in step.advantages().values():
        assert len(advantages) == 4
        assert all(math.isfinite(value) for value in advantages)
        assert abs(sum(advantages)) < 1e-9
