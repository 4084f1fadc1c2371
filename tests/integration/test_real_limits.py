"""Rate limits at a real judge over HTTP, which counts in its own windows."""

import asyncio
import signal
import sqlite3
import sys
import time
from contextlib import closing

import pytest

from judgeflow import Scheduler
from judgeflow.clock import LoopClock
from judgeflow.config import JudgeConfig, LimitsConfig, RoutingConfig
from judgeflow.judges.client import LARGE_BODY_BYTES, HttpJudge
from judgeflow.judges.gate import ThrottleGate
from judgeflow.keys import pair_keys, questions
from judgeflow.ports import DEPARTURE
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeJudge, JudgeLimits, arithmetic_pairs
from judgeflow.testing.pairs import pair_lines
from judgeflow.testing.threaded import serve_in_thread
from judgeflow.types import Pair, StepResult
from judgeflow.verdicts.prompt import load_template


def strict(requests: int, window_s: float, **settings: object) -> FakeJudge:
    return FakeJudge(limits=JudgeLimits(requests_per_minute=requests, window_s=window_s, headers=False), **settings)


def judge_at(server: FakeJudge, **settings: object) -> HttpJudge:
    return HttpJudge(JudgeConfig(base_url=server.base_url, model="fake-judge", **settings), load_template("default"))


# When a question is sent


class Log:
    """A departure that notes when it is told what."""

    def __init__(self):
        self.told = []

    def hold(self):
        self.told.append(("hold", time.monotonic()))

    def sent(self):
        self.told.append(("sent", time.monotonic()))


@pytest.mark.parametrize("size", [100, LARGE_BODY_BYTES], ids=["small", "large"])
async def test_the_judge_over_http_tells_when_a_question_has_been_written(size):
    pair = Pair(prompt="Which?", response_a="a" * size, response_b="b")
    async with FakeJudge(latency=0.3) as server:
        judge, log = judge_at(server), Log()
        DEPARTURE.set(log)
        await judge.ask(questions(pair, pair_keys(pair), judge.identity.fingerprint)[0])
        await judge.aclose()
    replied = time.monotonic()
    assert [word for word, _ in log.told] == ["hold", "sent"]
    assert replied - log.told[1][1] > 0.25


async def test_a_question_that_never_left_is_never_told_as_sent():
    pair = arithmetic_pairs(1)[0]
    judge, log = HttpJudge(JudgeConfig(base_url="http://127.0.0.1:9", model="m"), load_template("default")), Log()
    DEPARTURE.set(log)
    with pytest.raises(Exception, match="cannot be reached"):
        await judge.ask(questions(pair, pair_keys(pair), judge.identity.fingerprint)[0])
    await judge.aclose()
    assert [word for word, _ in log.told] == ["hold"]


# Stalls


@pytest.mark.slow
def test_a_loop_that_somebody_blocks_passes_no_window_of_the_judge():
    """The loop stands still for half a window again and again, in the middle of bursts and between them."""
    window_s, limits = 0.8, LimitsConfig(requests_per_minute=20, window_s=0.8, margin_s=0.25)

    async def block() -> None:
        for seconds in (0.05, 0.4, 0.1, 0.4, 0.02, 0.4):
            await asyncio.sleep(0.2)
            time.sleep(seconds)  # noqa: ASYNC251 - that is what is tested

    async def main(server: FakeJudge) -> StepResult:
        gate = ThrottleGate(limits, LoopClock())
        settings = {"store": MemoryStore(), "routing": RoutingConfig(policy="always"), "gate": gate}
        async with Scheduler(judge=judge_at(server), **settings) as scheduler:
            blocking = asyncio.ensure_future(block())
            step = await scheduler.route(arithmetic_pairs(35))
            await blocking
        return step

    with serve_in_thread(strict(20, window_s, latency="uniform:0:0.2")) as server:
        step = asyncio.run(main(server))
    assert step.statistics.statuses == {"ok": 35}
    assert server.statistics.answered == 70
    assert server.statistics.provoked_429 == 0


# Whole processes


REQUESTS, WINDOW_S = 20, 6.0


async def start(folder, server, count):
    """Begin to route pairs with a process of its own."""
    (folder / "pairs.jsonl").write_bytes(b"".join(pair_lines(arithmetic_pairs(count))))
    limits = f"[limits]\nrequests_per_minute = {REQUESTS}\nwindow_s = {WINDOW_S}\nmargin_s = 0.5\n"
    judge = f'[judge]\nbase_url = "{server.base_url}"\nmodel = "fake-judge"\nid = "fake"\n'
    (folder / "judgeflow.toml").write_text(f'{judge}\n{limits}\n[routing]\npolicy = "always"\n')
    command = (sys.executable, "-m", "judgeflow", "route", "pairs.jsonl", "--out", "outcomes.jsonl")
    return await asyncio.create_subprocess_exec(*command, cwd=folder)


async def until(server, requests):
    while server.statistics.requests < requests:
        await asyncio.sleep(0.001)


@pytest.mark.exhaustive
@pytest.mark.parametrize("killed_at", [7, 20, 33])
async def test_a_killed_process_that_is_started_again_at_once_passes_no_window_of_the_judge(tmp_path, killed_at):
    async with strict(REQUESTS, WINDOW_S, latency="uniform:0.1:3") as server:
        process = await start(tmp_path, server, 24)
        await until(server, killed_at)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        with closing(sqlite3.connect(tmp_path / "judgeflow.db")) as database:
            left_open = database.execute("SELECT count(*) FROM reservation WHERE state = 'open'").fetchone()[0]
        assert left_open > 0
        assert await (await start(tmp_path, server, 24)).wait() == 0
    assert server.statistics.requests >= 48
    assert server.statistics.provoked_429 == 0


@pytest.mark.exhaustive
async def test_a_process_that_is_put_to_sleep_and_woken_again_passes_no_window_of_the_judge(tmp_path):
    async with strict(REQUESTS, WINDOW_S, latency="uniform:0.1:2") as server:
        process = await start(tmp_path, server, 40)
        for requests, seconds in ((5, 1.0), (25, 8.0), (45, 3.0)):
            await until(server, requests)
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            process.send_signal(signal.SIGCONT)
        assert await process.wait() == 0
    assert server.statistics.answered == 80
    assert server.statistics.provoked_429 == 0
