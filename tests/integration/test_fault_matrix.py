"""Every fault that the test kit knows, alone and mixed: in virtual time, and over HTTP with a database in a file.

At a rate of 30 % most pairs survive: their verdicts are right, the others are labelled with what happened to them, and the budget
counts exactly what the judge says it has served or may have charged for.  At 100 % everything ends in that label, soon.
"""

import functools
import math
from collections import Counter
from dataclasses import dataclass

import pytest

from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, JudgeConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.ending import GRACE_S
from judgeflow.engine.retry import RetryPolicy
from judgeflow.judges.client import HttpJudge
from judgeflow.judges.gate import WindowGate
from judgeflow.store import MemoryStore, SqlStore
from judgeflow.store.check import check
from judgeflow.testing import FAULTS, FakeJudge, Opinions, ScriptedJudge, arithmetic_pairs
from judgeflow.testing.desk import Statistics
from judgeflow.types import Pair, RunState, StepResult
from judgeflow.verdicts.prompt import load_template

LABELS = {
    "429": "rate_limited",
    "429-bare": "rate_limited",
    "quota": "judge_stopped",
    "400": "rejected",
    "500": "overloaded",
    "503": "overloaded",
    "504": "overloaded",
    "error-200": "overloaded",
    "hang": "reply_lost",
    "reset": "reply_lost",
    "cut-off": "reply_lost",
    "truncated-json": "reply_lost",
    "garbage": "reply_lost",
    "null": "unparseable",
    "no-tag": "unparseable",
    "length": "truncated",
    "refusal": "refused",
    "content-filter": "refused",
    "reasoning": "ok",
    "content-parts": "ok",
    "surrogate": "ok",
    "odd-usage": "ok",
    "odd-fields": "ok",
    "slow": "ok",
}
"""The status of a pair whose every attempt meets the fault."""

MAYBE_PAID = ("504", "error-200", "hang", "reset", "cut-off", "truncated-json", "garbage")
"""No reply came, but the judge may have charged for it: the budget counts the worst case."""

MIXES = {
    "all": [fault for fault in FAULTS if fault != "quota"],
    "all and a used-up quota": list(FAULTS),
    "overload": ["429", "429-bare", "500", "503", "slow"],
    "lost": [*MAYBE_PAID, "slow"],
    "speechless": ["null", "no-tag", "length", "refusal", "content-filter"],
}
ALONE = {fault: [fault] for fault in FAULTS}
UNPAID = {"rate_limited", "judge_stopped", "rejected", "overloaded"}
"""Statuses of pairs that were to be paid for and were not."""

RETRY = RetryPolicy(attempts=3, for_s=200.0)
QUICK = RetryPolicy(attempts=3, for_s=5.0, base_s=0.01, cap_s=0.05)


def spec(faults, rate: float) -> str:
    return ",".join(f"{fault}:{rate / len(faults):.6f}" for fault in faults)


def some_pairs(count: int) -> list[Pair]:
    """A step as trainers make them: some pairs come twice, some the other way round."""
    pairs = arithmetic_pairs(count)
    return [*pairs, pairs[0], pairs[1].swapped(), pairs[2].swapped()]


@dataclass
class Ran:
    """Two runs of one step: the first by itself, the second after it, by another scheduler."""

    pairs: list[Pair]
    faults: list[str]
    first: StepResult
    again: StepResult
    judge: Statistics
    state: RunState
    stored: int


def check_outcomes(ran: Ran, step: StepResult) -> None:
    """In order, finite, rightly labelled; equal pairs have equal outcomes, swapped ones opposite ones."""
    labels = {LABELS[fault] for fault in ran.faults} | {"deadline", "budget"}
    assert [outcome.pair for outcome in step.outcomes] == ran.pairs
    for outcome in step.outcomes:
        assert math.isfinite(outcome.logit)
        if outcome.verdict is None:
            assert (outcome.source, outcome.logit) == ("fallback", 0.0)
            assert outcome.status in labels - {"ok"}
        else:
            assert outcome.source in {"judge", "store"}
            assert (outcome.status, abs(outcome.logit)) in {("ok", 2.0), ("one_order", 1.0)}
            assert outcome.choice == outcome.pair.label
    *_, equal, swapped, swapped_too = step.outcomes
    one, two, three = step.outcomes[:3]
    assert (equal.logit, swapped.logit, swapped_too.logit) == (one.logit, -two.logit, -three.logit)
    assert (equal.status, swapped.status, swapped_too.status) == (one.status, two.status, three.status)


def check_money(ran: Ran, budget: int) -> None:
    """What the judge has served is stored, was served once, and is counted; beside it nothing but what may have been paid for."""
    maybe = sum(ran.judge.faults[fault] for fault in MAYBE_PAID)
    assert max(ran.judge.question_answers.values(), default=0) <= 1
    assert ran.stored == ran.judge.answered
    assert ran.state.spent.requests == ran.judge.answered + maybe <= budget
    assert ran.state.spent.tokens >= (ran.judge.prompt_tokens + ran.judge.completion_tokens) * ("odd-usage" not in ran.faults)
    assert (ran.state.reserved.requests, ran.state.reserved.tokens, ran.state.reserved.usd) == (0, 0, 0.0)


def test_every_fault_of_the_kit_is_in_the_matrix():
    assert set(LABELS) == set(FAULTS)
    assert set(MIXES["all and a used-up quota"]) == set(FAULTS)


# In virtual time


def in_virtual_time(faults, rate, *, count, budget, deadline_s=None, seed=0) -> Ran:
    pairs, clock, store = some_pairs(count), VirtualClock(), MemoryStore()
    opinions = Opinions(truth=Opinions.truths(pairs), accuracy=1.0)

    async def main() -> Ran:
        judge = ScriptedJudge(opinions, clock=clock, faults=spec(faults, rate), latency="uniform:1:20", timeout_s=30.0, seed=seed)
        steps = []
        for _ in range(2):
            scheduler = Scheduler(
                store=store.reopen(),
                judge=judge,
                gate=WindowGate(LimitsConfig(requests_per_minute=40), clock),
                routing=RoutingConfig(policy="always", step_deadline_s=deadline_s),
                budget=BudgetConfig(requests=budget),
                retry=RETRY,
                max_in_flight=8,
                clock=clock,
            )
            async with scheduler:
                steps.append(await scheduler.route(pairs, step=0))
            if budget < 2 * count:
                break
        return Ran(pairs, list(faults), steps[0], steps[-1], judge.statistics, await store.run_state("default"), len(store._contents.calls))

    return clock.run(main())


def each(*, slow_alone: bool) -> list:
    """Every fault alone, where `slow_alone` says so in the second stage only, and every mix."""
    marks = pytest.mark.exhaustive if slow_alone else ()
    alone = [pytest.param(faults, id=name, marks=marks) for name, faults in ALONE.items()]
    return [*alone, *(pytest.param(faults, id=name) for name, faults in MIXES.items())]


@pytest.mark.parametrize("faults", each(slow_alone=False))
def test_at_30_percent_every_pair_has_its_outcome_and_nothing_received_is_asked_again(faults):
    check_at_30_percent(faults, None)


@pytest.mark.parametrize("faults", each(slow_alone=True))
def test_at_30_percent_every_pair_has_its_outcome_by_the_deadline(faults):
    check_at_30_percent(faults, 20.0)


def check_at_30_percent(faults, deadline_s) -> None:
    ran = in_virtual_time(faults, 0.3, count=16, budget=500, deadline_s=deadline_s)
    for step in (ran.first, ran.again):
        check_outcomes(ran, step)
        assert deadline_s is None or step.statistics.seconds <= deadline_s + 2 * GRACE_S
    check_money(ran, 500)
    assert sum(ran.judge.faults.values()) > 0
    answered_before = ran.first.statistics.statuses.get("ok", 0)
    assert ran.again.statistics.sources.get("store", 0) >= answered_before


@pytest.mark.parametrize("faults", each(slow_alone=True))
def test_a_budget_that_is_too_small_is_spent_to_the_last_request_and_no_further(faults):
    ran = in_virtual_time(faults, 0.3, count=30, budget=24)
    check_outcomes(ran, ran.first)
    check_money(ran, 24)
    assert ran.first.statistics.statuses["budget"] > 0
    assert ran.state.spent.requests == 24 or {*UNPAID, "one_order"} & ran.first.statistics.statuses.keys()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_judge_that_fails_every_time_ends_in_the_label_of_the_fault_soon(fault):
    ran = in_virtual_time([fault], 1.0, count=5, budget=500)
    check_outcomes(ran, ran.first)
    check_money(ran, 500)
    assert ran.first.statistics.statuses == {LABELS[fault]: 8}
    assert ran.first.statistics.seconds <= RETRY.for_s + 3 * 30.0


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("faults", MIXES.values(), ids=MIXES)
def test_the_mixed_matrix_holds_for_many_seeds_deadlines_and_budgets(faults, seed):
    budget, deadline_s = [30, 90, 1000][seed % 3], [None, 15.0, 60.0, 200.0][seed % 4]
    ran = in_virtual_time(faults, 0.3, count=40, budget=budget, deadline_s=deadline_s, seed=seed)
    for step in (ran.first, ran.again):
        check_outcomes(ran, step)
    check_money(ran, budget)


# Over HTTP, with a database in a file


async def over_http(tmp_path, faults, rate, *, count, seed=0, budget=500) -> Ran:
    pairs, url = some_pairs(count), f"sqlite+aiosqlite:///{tmp_path}/verdicts.db"
    opinions = Opinions(truth=Opinions.truths(pairs), accuracy=1.0)
    settings = {"model": "fake-judge", "id": "fake", "timeout_s": 2.0 if "hang" in faults else 30.0}
    server = FakeJudge(opinions, faults=spec(faults, rate), slow_s=0.05, retry_after_s=0.02, seed=seed)
    steps = []
    async with server:
        for _ in range(2):
            judge = HttpJudge(JudgeConfig(base_url=server.base_url, **settings), load_template("default"))
            scheduler = Scheduler(
                store=functools.partial(SqlStore.open, url),
                judge=judge,
                routing=RoutingConfig(policy="always", step_deadline_s=30.0),
                budget=BudgetConfig(requests=budget),
                retry=QUICK,
                run="matrix",
            )
            async with scheduler:
                steps.append(await scheduler.route(pairs, step=0))
    findings = await check(url)
    assert [finding for finding in findings if not finding.ok] == []
    state, stored = await contents(url)
    return Ran(pairs, list(faults), *steps, server.statistics, state, stored)


async def contents(url: str) -> tuple[RunState, int]:
    store = await SqlStore.open(url)
    try:
        (calls,) = await store._reader.visit(lambda connection: connection.exec_driver_sql("select count(*) from call").one())
        return await store.run_state("matrix"), calls
    finally:
        await store.aclose()


def check_over_http(ran: Ran, budget: int = 500) -> None:
    for step in (ran.first, ran.again):
        check_outcomes(ran, step)
        assert "deadline" not in step.statistics.statuses
    check_money(ran, budget)
    assert sum(ran.judge.faults.values()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("faults", [*ALONE.values(), [fault for fault in MIXES["all"] if fault != "hang"]], ids=[*ALONE, "all"])
async def test_over_http_at_30_percent_every_pair_has_its_outcome_and_nothing_received_is_asked_again(tmp_path, faults):
    check_over_http(await over_http(tmp_path, faults, 0.3, count=5, seed=3))


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("faults", [*ALONE.values(), *MIXES.values()], ids=[*ALONE, *MIXES])
async def test_over_http_the_matrix_holds_for_larger_steps(tmp_path, faults, seed):
    check_over_http(await over_http(tmp_path, faults, 0.3, count=40, seed=seed))


@pytest.mark.exhaustive
@pytest.mark.parametrize("fault", FAULTS)
async def test_over_http_a_judge_that_fails_every_time_ends_in_the_same_labels_as_in_virtual_time(tmp_path, fault):
    ran = await over_http(tmp_path, [fault], 1.0, count=5)
    check_over_http(ran)
    assert Counter(ran.first.statistics.statuses) == {LABELS[fault]: 8}
