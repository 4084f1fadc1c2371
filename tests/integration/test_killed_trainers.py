"""A trainer's process is killed while it waits at the service: its siblings are answered, and nothing of it stays behind."""

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from served import served_in_a_thread

from judgeflow import Pair, Scheduler
from judgeflow.adapters.rendezvous import Patience
from judgeflow.client import RouteClient
from judgeflow.config import RoutingConfig
from judgeflow.store import MemoryStore
from judgeflow.testing import Opinions, ScriptedJudge, arithmetic_pairs

PAIRS = arithmetic_pairs(8)
PROMPT = PAIRS[0].prompt

TRAINER = """
import asyncio, json, sys
from judgeflow import Pair
from judgeflow.client import RouteClient

async def main():
    url, how, asked = json.loads(sys.stdin.read())
    pairs = [Pair(prompt="p", response_a=each, response_b="y") for each in asked]
    async with RouteClient(url) as client:
        if how == "reward":
            await asyncio.gather(*(client.reward("{prompt}", each, size=4) for each in asked))
        elif how == "route":
            await client.route(pairs)
        else:
            async for _ in client.stream(pairs):
                pass

asyncio.run(main())
""".replace("{prompt}", PROMPT)


@contextlib.contextmanager
def trainer(url, how, asked):
    """A process that asks, and is killed in the end."""
    with subprocess.Popen([sys.executable, "-c", TRAINER], stdin=subprocess.PIPE, text=True) as process:
        process.stdin.write(json.dumps([url, how, asked]))
        process.stdin.close()
        try:
            yield process
        finally:
            process.kill()


def until(condition, within_s=300):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def gatherings(served):
    return served.service._rendezvous._gatherings


def rewards(url, responses):
    """What a process that lives on is told of its responses."""

    async def asked():
        async with RouteClient(url) as client:
            return await asyncio.gather(*(client.reward(PROMPT, each, size=4) for each in responses))

    return asyncio.run(asked())


def test_siblings_of_a_killed_process_are_answered_after_the_linger_time_and_nothing_is_left():
    patience = Patience(linger_s=3.0, keep_s=0.1, return_s=0.2)
    with served_in_a_thread(PAIRS, patience=patience) as served, ThreadPoolExecutor(1) as thread:
        with trainer(served.url, "reward", ["5"]):
            until(lambda: served.service.under_way == 1)
            living = thread.submit(rewards, served.url, ["4", "22"])
            until(lambda: served.service.under_way == 3)
        answers = living.result(300)
        assert [(answer.of, answer.wanted, answer.sources["judge"]) for answer in answers] == [(3, 4, 2)] * 2
        assert served.told == [("group_incomplete", {"responses": 3, "wanted": 4, "linger_s": 3.0})]
        until(lambda: not gatherings(served))
        assert served.service.under_way == 0


def test_a_killed_training_leaves_no_group_behind_and_nothing_is_asked_for_it():
    with served_in_a_thread(PAIRS, patience=Patience(linger_s=60, return_s=0.2)) as served:
        with trainer(served.url, "reward", ["4", "5", "22"]):
            until(lambda: served.service.under_way == 3)
        until(lambda: not gatherings(served))
        assert (served.service.under_way, served.told) == (0, [])


class Slow(ScriptedJudge):
    """Answers when it is let go, and counts what it was asked."""

    def __init__(self):
        super().__init__(Opinions())
        self.asked, self.free = 0, threading.Event()

    async def ask(self, question):
        self.asked += 1
        while not self.free.is_set():
            await asyncio.sleep(0.01)
        return await super().ask(question)

    def scheduler(self):
        return Scheduler(judge=self, store=MemoryStore(), routing=RoutingConfig(policy="always"), max_in_flight=1)


MANY = [f"response {k}" for k in range(100)]


@pytest.mark.parametrize("how", ["stream", pytest.param("route", marks=pytest.mark.slow)])
def test_a_killed_process_gives_its_place_among_the_requests_back(how):
    judge = Slow()
    with served_in_a_thread(make=judge.scheduler, at_once=1) as served:
        with trainer(served.url, how, MANY):
            until(lambda: judge.asked)
        until(lambda: served.service.under_way == 0)
        judge.free.set()
        with RouteClient(served.url) as client:
            assert client.route_sync([Pair(prompt="p", response_a="same", response_b="same")]).outcomes[0].status == "identical"
    assert judge.asked == 1


def test_a_group_that_is_being_judged_for_a_killed_process_is_not_judged_any_further():
    judge = Slow()
    with served_in_a_thread(make=judge.scheduler, patience=Patience(return_s=0.2)) as served:
        with trainer(served.url, "reward", ["4", "5", "22", "x"]):
            until(lambda: judge.asked)
        until(lambda: not gatherings(served))
        assert served.service.under_way == 0
        judge.free.set()
    assert judge.asked == 1
