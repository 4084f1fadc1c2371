"""TRL trains in two processes that hold parts of groups: rewards are those of the whole groups, whatever dies meanwhile."""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from held import held_port
from tiny import prefer, rule, text
from trainers import advantages

from judgeflow.testing import FakeJudge, JudgeLimits, Opinions, serve_in_thread

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "rank_program.py"
IN_FLIGHT = 4
CONFIG = """
[run]
name = "ranks"
directory = "{folder}"
[judge]
base_url = "{url}"
model = "fake-judge"
[limits]
requests_per_minute = {limit}
window_s = {window_s}
margin_s = 0.5
max_in_flight = {in_flight}
[routing]
policy = "always"
"""


def configured(folder, judge, *, limit=100_000, window_s=60.0):
    (folder / "judgeflow.toml").write_text(
        CONFIG.format(folder=folder, url=judge.base_url, limit=limit, window_s=window_s, in_flight=IN_FLIGHT)
    )


def fake_judge(**more):
    return FakeJudge(Opinions(rule=rule, accuracy=1.0), **more)


@contextlib.contextmanager
def service(folder, *options, port=0):
    command = [sys.executable, "-m", "judgeflow", "serve", "--route", "--port", str(port), *options]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as program:
        try:
            said = program.stderr.readline()
            while said and "page at" not in said:
                said = program.stderr.readline()
            threading.Thread(target=program.stderr.read, daemon=True).start()
            yield re.search(r"http://\S+", said)[0], program
        finally:
            program.kill()


class Ranks:
    """Two processes that train together."""

    def __init__(self, program, port):
        self.program, self.port = program, port
        assert self._answer() == "ready\n"

    def begin(self, trainer, router, folder, **more):
        training = {"trainer": trainer, "router": str(router), "folder": str(folder), "port": self.port, **more}
        self.program.stdin.write(json.dumps(training) + "\n")
        self.program.stdin.flush()

    def end(self, folder):
        """The ranks' exit codes, and what they said."""
        return json.loads(self._answer()), "\n".join((folder / f"rank-{rank}.log").read_text() for rank in range(2))

    def _answer(self):
        assert select.select([self.program.stdout], [], [], 240)[0]
        return self.program.stdout.readline()


@pytest.fixture(scope="module")
def ranks():
    command = [sys.executable, PROGRAM]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with held_port() as port, subprocess.Popen(command, env=environment, **piped) as program:
        try:
            yield Ranks(program, port)
        finally:
            program.kill()


def calls(folder):
    """What both ranks noted of each call, side by side."""
    rows = [[json.loads(line) for line in (folder / f"rank-{rank}.jsonl").read_text().splitlines()] for rank in range(2)]
    return list(zip(*rows, strict=False))


def rows(call):
    """The samples of both ranks in the order in which TRL gathers them: prompt, completion, reward."""
    return [
        (text(prompt), text(completion), reward)
        for rank in call
        for prompt, completion, reward in zip(rank["prompts"], rank["completions"], rank["rewards"], strict=True)
    ]


def by_definition(batch, size):
    rewards = []
    for start in range(0, len(batch), size):
        prompts, completions, _ = zip(*batch[start : start + size], strict=True)
        assert len(set(prompts)) == 1
        rewards += advantages(completions, lambda first, second, prompt=prompts[0]: prefer(prompt, first, second))
    return rewards


def check(call, size):
    batch = rows(call)
    assert [reward for *_, reward in batch] == pytest.approx(by_definition(batch, size), abs=1e-9)
    assert any(reward for *_, reward in batch)


def total(called, name):
    """A figure that the ranks' logs have, over all of them."""
    return sum(rank["metrics"][name] for call in called for rank in call)


@pytest.mark.parametrize("started", ["by hand", "by the first rank"])
def test_grpo_has_the_rewards_of_whole_groups_within_the_limits_of_one_account(tmp_path, ranks, started):
    with serve_in_thread(fake_judge(limits=JudgeLimits(requests_per_minute=40, window_s=1.0))) as judge:
        configured(tmp_path, judge, limit=40, window_s=1.0)
        with service(tmp_path) if started == "by hand" else contextlib.nullcontext([tmp_path / "judgeflow.toml"]) as (router, *_):
            ranks.begin("grpo", router, tmp_path)
            codes, said = ranks.end(tmp_path)
        assert codes == [0, 0], said
        stats = judge.stats()
    called = calls(tmp_path)
    trained = [call for call in called if call[0]["training"]]
    evaluated = [call for call in called if not call[0]["training"]]
    assert (len(trained), len(evaluated)) == (3, 4)
    for call in trained:
        check(call, 4)
    for call in evaluated:
        check(call, 2)
    assert total(called, "of_async/calls") == pytest.approx(judge.statistics.answered)
    assert total(trained, "of_async/pairs") == pytest.approx(3 * 18)
    assert total(called, "of_async/incomplete") == 0
    assert all(rank["metrics"]["of_async/seconds"] > 0 for call in called for rank in call)
    sources = [told for call in trained for rank in call for told in rank["extra"]["of_async/sources"]]
    assert all(sum(map(int, re.findall(r"\w+ (\d)", told))) == 3 for told in sources)
    history = json.loads((tmp_path / "history.json").read_text())
    assert [entry["of_async/pairs"] for entry in history if "of_async/pairs" in entry] == [9.0] * 3
    assert "eval_of_async/pairs" in str(history)
    assert stats["answered"] == stats["requests"] > 40  # the judge has turned nobody away, so no window of all ranks held more
    assert 20 < max(key["peak_requests"] for key in stats["keys"].values()) <= 40


def test_when_a_rank_dies_the_other_is_answered_about_what_is_there(tmp_path, ranks):
    with serve_in_thread(fake_judge()) as judge:
        configured(tmp_path, judge)
        with service(tmp_path, "--linger-s", "1") as (url, _):
            ranks.begin("grpo", url, tmp_path, dies_in=1)
            codes, said = ranks.end(tmp_path)
    assert codes == [0, -9], said
    last = json.loads((tmp_path / "rank-0.jsonl").read_text().splitlines()[-1])
    batch = rows([last])
    assert (last["step"], len(batch)) == (1, 6)
    # One whole group, and half of another, which is compared with itself.
    assert [reward for *_, reward in batch] == pytest.approx([*by_definition(batch[:4], 4), *by_definition(batch[4:], 2)])
    assert last["metrics"]["of_async/incomplete"] == 2
    assert "ranks [1] did not come in time; 2 of 6 responses here are compared with a part of their siblings" in said


def test_rloo_goes_on_where_the_service_is_killed_in_a_step_and_nothing_is_asked_twice(tmp_path, ranks):
    with held_port() as port, serve_in_thread(fake_judge(latency=0.05)) as judge:
        configured(tmp_path, judge)
        with service(tmp_path, port=port) as (url, program):
            ranks.begin("rloo", url, tmp_path)
            while judge.statistics.requests < 20:
                assert program.poll() is None
                threading.Event().wait(0.005)
            program.kill()
        with service(tmp_path, port=port):
            codes, said = ranks.end(tmp_path)
        assert codes == [0, 0], said
        asked = [each["requests"] for each in judge.stats()["questions"].values()]
    called = calls(tmp_path)
    assert len(called) == 3
    for call in called:  # every group of the one prompt by itself
        check(call, 4)
    assert total(called, "judgeflow/incomplete") == 0
    assert len(asked) > 40
    assert max(asked) <= 2
    assert sum(times - 1 for times in asked) <= IN_FLIGHT  # whose replies were on their way when the service died
