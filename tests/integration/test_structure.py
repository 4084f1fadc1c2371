"""What the engine never does on its event loop, and what it never keeps: by structure, on real parts."""

import asyncio
import functools
import gc
import sqlite3.dbapi2
import sys
import threading
from collections import Counter

from judgeflow import Scheduler
from judgeflow.clock import LoopClock
from judgeflow.config import BudgetConfig, JudgeConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.judges.client import HttpJudge
from judgeflow.judges.gate import ThrottleGate
from judgeflow.store import SqlStore
from judgeflow.testing import FakeJudge, FakeScorer, ScriptedJudge, arithmetic_pairs, serve_in_thread
from judgeflow.verdicts.prompt import load_template

SLOW = {
    "keys.py": {"text_hash", "prompt_hash", "prompt_body", "pair_keys", "call_key", "question"},
    "tokens.py": {"measure", "count"},
    "scorer.py": {"score"},
}


class Profile:
    """Which slow things a thread does: hashing, counting tokens, scoring."""

    def __init__(self):
        self.seen = Counter()

    def __call__(self, frame, event, _argument):
        file, name = frame.f_code.co_filename.rpartition("/")[2], frame.f_code.co_name
        if event == "call" and name in SLOW.get(file, ()):
            self.seen[file] += 1


def test_nothing_is_hashed_counted_scored_or_queried_on_the_loop(tmp_path, monkeypatch):
    pairs = arithmetic_pairs(12)
    on_loop, elsewhere, sql_threads, connect = Profile(), Profile(), set(), sqlite3.connect

    def traced(*arguments, **settings):
        connection = connect(*arguments, **settings)
        connection.set_trace_callback(lambda _: sql_threads.add(threading.get_ident()))
        return connection

    for module in (sqlite3, sqlite3.dbapi2):
        monkeypatch.setattr(module, "connect", traced)

    async def main(server):
        scheduler = Scheduler(
            store=functools.partial(SqlStore.open, f"sqlite+aiosqlite:///{tmp_path}/verdicts.db"),
            judge=HttpJudge(JudgeConfig(base_url=server.base_url, model="fake-judge"), load_template("default")),
            scorer=FakeScorer(pairs),
            routing=RoutingConfig(policy="error", threshold=0.0),
        )
        threading.setprofile(elsewhere)  # of threads that begin from here on
        async with scheduler:
            sys.setprofile(on_loop)
            step = await scheduler.route(pairs)
            again = await scheduler.route([pair.swapped() for pair in pairs])
            sys.setprofile(None)
        return step, again

    with serve_in_thread(FakeJudge.from_pairs(pairs)) as server:
        try:
            step, again = asyncio.run(main(server))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    assert (step.statistics.sources, again.statistics.sources) == ({"judge": 12}, {"store": 12})
    assert elsewhere.seen.keys() == SLOW.keys()
    assert on_loop.seen == Counter()
    assert len(sql_threads) > 0
    assert threading.get_ident() not in sql_threads


def alive():
    """How many objects there are of each type of the engine's, of asyncio's, and of what they are made of."""
    gc.collect()
    types = Counter(f"{type(thing).__module__}.{type(thing).__qualname__}" for thing in gc.get_objects())
    for bounded in ("judgeflow.routing.limits.Entry", "judgeflow.routing.threshold._Heard"):  # of one window, and of the latest replies
        types.pop(bounded, None)
    return Counter({name: count for name, count in types.items() if name.startswith(("judgeflow.", "_asyncio.", "asyncio."))})


async def test_what_a_step_has_needed_is_let_go_when_it_is_over(tmp_path):
    """Faults, retries, deadlines, cancelled steps and a limit of requests: forty steps keep no more objects than ten."""
    clock, pairs = LoopClock(), arithmetic_pairs(200)
    judge = ScriptedJudge(faults="500:0.2,reset:0.1,no-tag:0.1", latency="uniform:0:0.01")
    scheduler = Scheduler(
        store=functools.partial(SqlStore.open, f"sqlite+aiosqlite:///{tmp_path}/verdicts.db"),
        judge=judge,
        scorer=FakeScorer(pairs),
        gate=ThrottleGate(LimitsConfig(requests_per_minute=100, window_s=0.05, margin_s=0.0), clock),
        routing=RoutingConfig(policy="error", threshold=0.0, step_deadline_s=0.5),
        budget=BudgetConfig(requests=250),
        retry=RetryPolicy(attempts=3, base_s=0.001, cap_s=0.01),
    )

    async def steps(first, last):
        for start in range(first, last):
            cancelled = asyncio.ensure_future(scheduler.route(pairs[4 * start : 4 * start + 8]))
            await asyncio.sleep(0)
            cancelled.cancel()
            await scheduler.route(pairs[4 * start : 4 * start + 4])
        await asyncio.sleep(0.2)

    async with scheduler:
        await steps(0, 10)
        before = alive()
        await steps(10, 40)
        assert {name: count for name, count in (alive() - before).items() if count >= 10} == {}  # thirty steps more
