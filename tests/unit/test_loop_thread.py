"""A loop on a thread of its own: who waits for it is not left waiting when it is closed."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from held import held

from judgeflow import Pair, Scheduler
from judgeflow.config import JudgeConnection, RoutingConfig
from judgeflow.engine.loop_thread import LoopThread
from judgeflow.errors import UsageError
from judgeflow.judges.client import HttpJudge
from judgeflow.store import MemoryStore
from judgeflow.testing import serve_in_thread
from judgeflow.verdicts.prompt import load_template


def test_a_call_that_waits_when_the_loop_is_stopped_is_given_up():
    thread, waits, tidied = LoopThread(), threading.Event(), []

    async def for_ever():
        try:
            waits.set()
            await asyncio.Event().wait()
        finally:
            tidied.append(True)

    with ThreadPoolExecutor(1) as caller:
        call = caller.submit(thread.run, for_ever())
        waits.wait()
        thread.stop()
        with pytest.raises(UsageError, match="given up"):
            call.result()
    assert tidied == [True]


def test_an_error_of_the_work_is_the_callers():
    thread = LoopThread()

    async def failing():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        thread.run(failing())
    thread.stop()


def test_a_scheduler_that_two_threads_close_waits_for_what_is_in_flight():
    pairs = [Pair(prompt="p", response_a="a", response_b="b")]
    with serve_in_thread(held(pairs)) as serving, ThreadPoolExecutor(3) as callers:
        judge = HttpJudge(JudgeConnection(base_url=serving.base_url, model="fake-judge"), load_template("default"))
        scheduler = Scheduler(judge=judge, store=MemoryStore(), routing=RoutingConfig(policy="always"))
        step = callers.submit(scheduler.route_sync, pairs)
        while scheduler.in_flight < 2:
            threading.Event().wait(0.01)
        first = callers.submit(scheduler.close)
        while scheduler.in_flight and scheduler._session is not None:
            threading.Event().wait(0.01)
        callers.submit(scheduler.close).result()
        serving.let_go()
        first.result()
        assert step.result().statistics.calls == 2
