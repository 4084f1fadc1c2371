"""Runs to look at: routed for real, in a virtual clock's time."""

import functools
import operator
from contextlib import asynccontextmanager

from judgeflow import Scheduler
from judgeflow.config import RoutingConfig
from judgeflow.report.survey import open_survey
from judgeflow.store import SqlStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge, arithmetic_pairs

PAIRS = arithmetic_pairs(300)
OPINIONS = Opinions(truth=Opinions.truths(PAIRS), accuracy=0.9, position_bias=0.15, tie_rate=0.05)
ROUTING = RoutingConfig(policy="error", max_share=0.3, audit_fraction=0.3)


@asynccontextmanager
async def routing(url, clock, *, judge=True, scorer=True, run="live", opinions=OPINIONS, **settings):
    """A scheduler that writes to a database."""
    told = {"latency": "lognormal:20:0.4", "prompt_usd_per_mtok": 1.0} | settings.pop("judge_settings", {})
    speaker = ScriptedJudge(opinions, clock=clock, **told) if judge is True else judge
    store = await SqlStore.open(url, wall=clock.wall)
    settings = {"routing": ROUTING, "clock": clock, "run": run} | settings
    who = {"judges": speaker} if isinstance(speaker, list) else {"judge": speaker or None}
    try:
        async with Scheduler(scorer=FakeScorer(PAIRS) if scorer else None, store=store, **who, **settings) as scheduler:
            yield scheduler
    finally:
        await store.aclose()


async def route_steps(scheduler, steps, size=50, first=0):
    """Route some steps of pairs that are all different; return the results."""
    return [await scheduler.route(PAIRS[step * size : (step + 1) * size], step=step) for step in range(first, first + steps)]


async def look(url, run="latest", **settings):
    """Read all figures of a run from scratch."""
    async with open_survey(url, run, wall=lambda: 0.0, **settings) as survey:
        return await survey.refresh()


def total(values):
    return functools.reduce(operator.add, values)
