"""`judgeflow serve --route` as a program: trainers ask it, the page shows what they do, and a signal ends it where nothing is lost."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from judgeflow import Group
from judgeflow.cli.ending import waits_for_requests
from judgeflow.client import RouteClient
from judgeflow.testing import FakeJudge, Opinions, arithmetic_pairs, serve_in_thread

PAIRS = arithmetic_pairs(30)
GROUPS = [
    Group(id=f"g{k}", prompt=pair.prompt, responses=(pair.response_a, pair.response_b, "I do not know."))
    for k, pair in enumerate(PAIRS[:5])
]
CONFIG = """
[run]
name = "from trainers"
[judge]
base_url = "{url}"
model = "fake-judge"
[limits]
requests_per_minute = 100000
[routing]
policy = "always"
[store]
url = "verdicts.db"
"""


@contextlib.contextmanager
def service(folder, judge, *options):
    """A running program; its address, and the process."""
    (folder / "judgeflow.toml").write_text(CONFIG.format(url=judge.base_url))
    command = [sys.executable, "-m", "judgeflow", "serve", "--route", "--port", "0", *options]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as program:
        try:
            said = [program.stderr.readline()]
            while said[-1] and "page at" not in said[-1]:
                said.append(program.stderr.readline())
            assert said[-1], "".join(said)
            yield re.search(r"http://\S+", said[-1])[0].rstrip("/"), program
        finally:
            if program.poll() is None:
                program.kill()


def judgeflow(folder, *arguments):
    """What a verb says."""
    return subprocess.run([sys.executable, "-m", "judgeflow", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def posted(url, body, **headers):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def told(program, beginning):
    """The next line that a program says which begins so; what the scheduler tells may stand before it."""
    while line := program.stderr.readline():
        if line.startswith(beginning):
            return line.strip()
    raise AssertionError(f"it ended without a line that begins with {beginning!r}")


def test_trainers_are_answered_the_page_shows_it_and_a_signal_ends_it(tmp_path):
    with (
        serve_in_thread(FakeJudge.from_pairs(PAIRS, accuracy=0.9)) as judge,
        service(tmp_path, judge, "--group-size", "3") as (url, program),
    ):
        with RouteClient(url) as client:
            result = client.route_groups_sync(GROUPS, step=7)
        assert (result.statistics.run, result.statistics.step, result.statistics.sources["judge"]) == ("from trainers", 7, 15)
        with ThreadPoolExecutor(3) as threads:
            samples = [{"query": [f"{PAIRS[9].prompt} {each}"], "prompts": [PAIRS[9].prompt], "labels": [None]} for each in ("x", "y", "z")]
            answers = list(threads.map(lambda sample: posted(f"{url}/get_reward", sample), samples))
        assert [status for status, _ in answers] == [200, 200, 200]
        assert sum(answer["rewards"][0] for _, answer in answers) == pytest.approx(0)
        with urllib.request.urlopen(f"{url}/api/runs") as shown:
            run = json.load(shown)["runs"][0]
        assert "from trainers" in json.dumps(run)
        with urllib.request.urlopen(f"{url}/readyz") as ready:
            assert ready.status == 200
        asked = judge.statistics.answered
        program.send_signal(signal.SIGTERM)
        assert program.wait(300) == 0
        assert told(program, "ending") == "ending: no request is under way"
        assert told(program, "ended") == "ended: no request was left without an answer; all replies that came are stored"
    done = judgeflow(tmp_path, "report", "--url", "verdicts.db", "--json")
    assert json.loads(done.stdout)["spent"]["requests"] == asked == 2 * (15 + 3)


PAIR = {"pairs": [{"prompt": "p", "response_a": "x", "response_b": "y"}]}


@pytest.mark.parametrize("second", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=["ctrl-c", "sigterm"])
def test_the_first_ctrl_c_says_what_is_waited_for_and_a_second_signal_leaves_it(tmp_path, second):
    slow = FakeJudge.from_pairs(PAIRS, latency=3000)
    with serve_in_thread(slow) as judge, service(tmp_path, judge) as (url, program), ThreadPoolExecutor(1) as thread:
        asking = thread.submit(posted, f"{url}/v1/route", PAIR)
        while not judge.statistics.requests:
            time.sleep(0.02)
        program.send_signal(signal.SIGINT)
        assert told(program, "ending") == "ending: 1 request under way gets 30 s at most; press Ctrl-C again to stop at once"
        program.send_signal(second)
        assert program.wait(300) == 130
        assert told(program, "stopped at once").endswith(
            "replies under way are lost, and the budget counts them at their worst case; everything before is stored"
        )
        with contextlib.suppress(OSError):
            asking.result(300)


@pytest.mark.parametrize(
    ("under_way", "gathering", "said"),
    [
        (0, 0, "no request is under way"),
        (1, 1, "no request is under way, 1 that waits for others is told to come again"),
        (5, 3, "2 requests under way get 9 s at most, 3 that wait for others are told to come again; press Ctrl-C again to stop at once"),
    ],
)
def test_who_waits_for_siblings_is_not_counted_among_those_that_get_time(under_way, gathering, said):
    assert waits_for_requests(under_way, gathering, 9.0) == said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "bodies"),
    [
        ("/v1/route", [PAIR]),
        ("/v1/reward", [{"prompt": "p", "response": response, "size": 2} for response in ("x", "y")]),
    ],
    ids=["route", "reward"],
)
def test_requests_that_have_had_their_time_are_left_and_what_the_judge_says_to_them_is_stored(tmp_path, path, bodies):
    said, judge = threading.Event(), FakeJudge(Opinions(rule=lambda _shown: said.wait(300) and 1))
    with serve_in_thread(judge), service(tmp_path, judge, "--drain-s", "0.05") as (url, program), ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(posted, f"{url}{path}", body) for body in bodies]
        while not judge.statistics.requests:
            time.sleep(0.02)
        program.send_signal(signal.SIGTERM)
        count = "1 request under way gets" if len(bodies) == 1 else "2 requests under way get"
        assert told(program, "ending") == f"ending: {count} 0.05 s at most; press Ctrl-C again to stop at once"
        assert "of the judge" in told(program, "ending")
        said.set()
        assert program.wait(300) == 0
        count = "1 request" if len(bodies) == 1 else "2 requests"
        assert told(program, "ended") == f"ended: {count} had no answer within 0.05 s; ask again; all replies that came are stored"
        for each in asking:
            with contextlib.suppress(OSError):
                assert each.result(300)[0] == 503
        asked = judge.statistics.answered
    done = judgeflow(tmp_path, "report", "--url", "verdicts.db", "--json")
    assert json.loads(done.stdout)["spent"]["requests"] == asked > 0


def test_a_token_is_asked_for_and_what_cannot_be_posted_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PAGE_TOKEN", "a token that nobody guesses")
    with serve_in_thread(FakeJudge.from_pairs(PAIRS)) as judge, service(tmp_path, judge, "--token-env", "PAGE_TOKEN") as (url, _):
        status, answer = posted(f"{url}/v1/route", {"pairs": []})
        assert (status, "Give the token" in answer["error"]["message"]) == (401, True)
        status, answer = posted(f"{url}/v1/route?token=a%20token%20that%20nobody%20guesses", {"pairs": []})
        assert (status, answer["outcomes"]) == (200, [])
        status, answer = posted(f"{url}/v1/route", {"pairs": []}, Authorization="Bearer a token that nobody guesses")
        assert (status, answer["outcomes"]) == (200, [])
        with RouteClient(url, token="a token that nobody guesses") as client:
            assert len(client.route_sync(PAIRS[:3]).outcomes) == 3
        status, answer = posted(f"{url}/runs", {}, Authorization="Bearer a token that nobody guesses")
        assert (status, answer["error"]["message"]) == (405, "This page can only be read.")
        assert judge.statistics.answered == 6


def test_an_address_of_a_database_is_not_taken_beside_a_configuration(tmp_path):
    (tmp_path / "judgeflow.toml").write_text(CONFIG.format(url="http://127.0.0.1:1/v1"))
    done = judgeflow(tmp_path, "serve", "--route", "--url", "other.db")
    assert (done.returncode, "where [store] url of its configuration says" in done.stderr) == (2, True)
