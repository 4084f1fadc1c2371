"""Ctrl-C in a training whose reward is being waited for: the program says what it waits for, and ends."""

import contextlib
import signal
import subprocess
import sys
import threading

import pytest

from judgeflow.testing import FakeJudge, serve_in_thread

pytestmark = pytest.mark.slow

LATENCY_S = 3600
PROGRAM = """
import asyncio, sys, threading
from judgeflow.adapters.trl import judge_reward
reward = judge_reward(sys.argv[1])(["p"] * 3, ["a", "bb", "ccc"])
print("asks", flush=True)
"""
AWAITED = {
    "as TRL does": """
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(reward, loop).result()
""",
    "on a loop of its own": "asyncio.run(reward)",
}
CONFIG = """
[judge]
base_url = "{url}"
model = "fake-judge"
timeout_s = 3600
[routing]
policy = "always"
"""


@contextlib.contextmanager
def training(folder, router, awaited):
    command = [sys.executable, "-c", PROGRAM + AWAITED[awaited], router]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout.readline() == "asks\n"
            yield program
        finally:
            program.kill()


@contextlib.contextmanager
def service(folder, judge):
    """A service that asks the judge, and where it is."""
    (folder / "judgeflow.toml").write_text(CONFIG.format(url=judge.base_url), encoding="utf-8")
    command = [sys.executable, "-m", "judgeflow", "serve", "--route", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as program:
        try:
            yield program.stderr.readline().split()[3]
        finally:
            program.kill()


@pytest.fixture
def judge():
    with serve_in_thread(FakeJudge(latency=LATENCY_S)) as serving:
        yield serving


def all_asked(judge, of):
    while judge.statistics.requests < of:
        threading.Event().wait(0.02)


@pytest.mark.parametrize("awaited", AWAITED)
def test_a_program_with_a_scheduler_says_what_it_waits_for_and_a_second_ctrl_c_leaves_it(tmp_path, judge, awaited):
    (tmp_path / "judgeflow.toml").write_text(CONFIG.format(url=judge.base_url), encoding="utf-8")
    with training(tmp_path, "judgeflow.toml", awaited) as program:
        all_asked(judge, 6)
        program.send_signal(signal.SIGINT)
        told = ""
        while "waiting for 6 replies" not in told:
            told += program.stderr.readline()
        program.send_signal(signal.SIGINT)
        _, rest = program.communicate()
    assert "ended without waiting" in rest
    assert program.returncode != 0


@pytest.mark.parametrize("awaited", AWAITED)
def test_a_program_that_asks_a_service_ends_at_once(tmp_path, judge, awaited):
    with service(tmp_path, judge) as address, training(tmp_path, address, awaited) as program:
        all_asked(judge, 6)
        program.send_signal(signal.SIGINT)
        _, told = program.communicate()
    assert "KeyboardInterrupt" in told
    assert program.returncode != 0


FORKING = """
import asyncio, multiprocessing, sys
from judgeflow.adapters.trl import judge_reward
reward = judge_reward(sys.argv[1])
def ask():
    print(sorted(asyncio.run(reward(["p"] * 2, ["a", "bb"]))), flush=True)
ask()
worker = multiprocessing.get_context("fork").Process(target=ask if "asks" in sys.argv else print)
worker.start()
worker.join()
"""


def test_a_worker_that_is_forked_from_a_trainer_ends_without_a_word(tmp_path):
    with serve_in_thread(FakeJudge()) as judge:
        (tmp_path / "judgeflow.toml").write_text(CONFIG.format(url=judge.base_url), encoding="utf-8")
        done = subprocess.run([sys.executable, "-c", FORKING, "judgeflow.toml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[-2.0, 2.0]\n\n")


def test_a_worker_that_is_forked_from_a_trainer_may_ask_the_service_that_it_has_asked(tmp_path):
    with serve_in_thread(FakeJudge()) as judge, service(tmp_path, judge) as address:
        command = [sys.executable, "-c", FORKING, address, "asks"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[-2.0, 2.0]\n" * 2)
