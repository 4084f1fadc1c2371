"""Replies that are odd but readable go the whole way: asked once, stored, charged and counted as verdicts."""

import functools

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from judgeflow import Scheduler
from judgeflow.config import BudgetConfig, JudgeConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.judges.client import HttpJudge
from judgeflow.store import SqlStore
from judgeflow.testing import FakeJudge, arithmetic_pairs
from judgeflow.verdicts.prompt import load_template

PAIRS = arithmetic_pairs(6)
QUICK = RetryPolicy(attempts=4, for_s=5.0, base_s=0.01, cap_s=0.05)


@pytest.fixture
def database(tmp_path):
    return functools.partial(SqlStore.open, f"sqlite+aiosqlite:///{tmp_path}/verdicts.db")


def scheduling(base_url, database, **settings):
    judge = HttpJudge(JudgeConfig(base_url=base_url, model="fake-judge", max_completion_tokens=100), load_template("default"))
    return Scheduler(store=database, judge=judge, routing=RoutingConfig(policy="always"), retry=QUICK, run="r", **settings)


async def spent(database):
    store = await database()
    try:
        return await store.run_state("r")
    finally:
        await store.aclose()


@pytest.mark.parametrize("fault", ["content-parts", "surrogate", "odd-usage", "odd-fields"])
async def test_an_odd_reply_is_paid_for_once_and_never_asked_for_again(database, fault):
    async with FakeJudge.from_pairs(PAIRS, accuracy=1.0, faults=f"{fault}:1") as server:
        async with scheduling(server.base_url, database) as scheduler:
            step = await scheduler.route(PAIRS)
            again = await scheduler.route(PAIRS)
        assert all(outcome.choice == outcome.pair.label for outcome in (*step.outcomes, *again.outcomes))
        assert {outcome.source for outcome in again.outcomes} == {"store"}
        assert server.statistics.requests == server.statistics.answered == 12
        state = await spent(database)
    assert state.spent.requests == 12
    assert 0 < state.spent.tokens < 100_000
    assert state.reserved.requests == 0


@pytest.mark.parametrize("fault", ["504", "error-200"])
async def test_a_gateway_that_gives_up_is_charged_and_asked_again(database, fault):
    async with FakeJudge.from_pairs(PAIRS, accuracy=1.0, faults=[fault]) as server:
        async with scheduling(server.base_url, database) as scheduler:
            step = await scheduler.route(PAIRS)
        assert {outcome.source for outcome in step.outcomes} == {"judge"}
        assert server.statistics.requests == 13
        assert (await spent(database)).spent.requests == 13


async def test_what_a_judge_bills_beyond_the_reservation_is_charged_and_counts_against_the_budget(database):
    usage = {"prompt_tokens": 50_000, "completion_tokens": 20_000}

    async def answer(_request):
        return web.json_response({"choices": [{"message": {"content": "<verdict>A</verdict>"}}], "usage": usage})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with (
        TestServer(app) as server,
        scheduling(str(server.make_url("/v1")), database, budget=BudgetConfig(tokens=100_000)) as scheduler,
    ):
        step = await scheduler.route(PAIRS[:1])
        assert step.statistics.spent.tokens == 140_000
        assert step.statistics.remaining["tokens"] == 0
        later = await scheduler.route(PAIRS[1:])
        assert {outcome.status for outcome in later.outcomes} == {"budget"}
    assert (await spent(database)).spent.tokens == 140_000
