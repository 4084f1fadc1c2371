"""judgeflow fake-judge as a process: started, asked, interrupted."""

import asyncio
import re
import signal
import socket
import sys
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
import typer
from typer.testing import CliRunner

from judgeflow.cli.fake_judge import fake_judge
from judgeflow.errors import ConfigurationError
from judgeflow.keys import pair_keys, questions
from judgeflow.testing import arithmetic_pairs
from judgeflow.testing.pairs import pair_lines
from judgeflow.types import Reply
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import load_template, render

START = "import typer; from judgeflow.cli.fake_judge import fake_judge; a = typer.Typer(); a.command('fake-judge')(fake_judge); a()"
PAIRS = arithmetic_pairs(5)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"".join(pair_lines(PAIRS)))
    return path


@asynccontextmanager
async def running(*arguments, end=signal.SIGINT):
    """A started judge: (its base_url, what it said when ready, a list that receives what it said at its end)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", START, "--port", "0", *map(str, arguments), stderr=asyncio.subprocess.PIPE
    )
    said = []
    try:
        async with asyncio.timeout(300):
            ready = (await process.stderr.readline()).decode()
            yield re.search(r"http://\S+/v1", ready)[0], ready, said
            process.send_signal(end)
            said.append((await process.stderr.read()).decode())
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def request(pair):
    messages = render(load_template("default"), questions(pair, pair_keys(pair), b"judge")[0])
    return {"model": "fake-judge", "messages": [{"role": message.role, "content": message.content} for message in messages]}


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
async def test_it_says_where_it_is_judges_and_sums_up_when_interrupted(file, end):
    async with running("--pairs", file, "--accuracy", "1", "--faults", "500,ok", end=end) as (base_url, ready, said):
        assert "(5 labelled pairs, accuracy 1)" in ready
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{base_url}/chat/completions", json=request(PAIRS[0])) as response:
                assert response.status == 500
            async with session.post(f"{base_url}/chat/completions", json=request(PAIRS[0])) as response:
                text = (await response.json())["choices"][0]["message"]["content"]
    assert read_reply(Reply(text=text), load_template("default").verdicts).preferred == (1 if PAIRS[0].label == "a" else -1)
    assert said == ["fake judge stopped: 2 requests, 1 answered (by status: 200: 1, 500: 1)\n"]


async def test_it_ends_at_once_though_a_request_hangs():
    async with running("--faults", "hang") as (base_url, _, said), aiohttp.ClientSession() as session:
        hanging = asyncio.create_task(session.post(f"{base_url}/chat/completions", json=request(PAIRS[0])))
        while True:
            async with session.get(base_url.removesuffix("/v1") + "/stats") as response:
                if (await response.json())["in_flight"]:
                    break
    await asyncio.wait([hanging])
    assert isinstance(hanging.exception(), aiohttp.ClientError)
    assert "1 request, 0 answered" in said[0]


async def test_it_replays_a_recording_and_leaves_out_what_nobody_can_ask_about(tmp_path):
    pair = PAIRS[0]
    judge = {"order_ab": {"raw": "so it is"}}
    record = {"prompt": pair.prompt, "response_a": pair.response_a, "response_b": pair.response_b, "judge": {"o1": judge}}
    path = tmp_path / "recorded.jsonl"
    path.write_bytes(orjson.dumps(record))
    async with running("--replay", path) as (base_url, ready, _), aiohttp.ClientSession() as session:
        assert "(1 recorded pairs of o1)" in ready
        async with session.post(f"{base_url}/chat/completions", json=request(pair)) as response:
            assert (await response.json())["choices"][0]["message"]["content"] == "so it is"


class TestMistakes:
    def refusal(self, *arguments):
        app = typer.Typer()
        app.command("fake-judge")(fake_judge)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert isinstance(result.exception, ConfigurationError), result.output
        return str(result.exception)

    def test_a_missing_file_is_named(self, tmp_path):
        assert "nowhere.jsonl" in self.refusal("--pairs", tmp_path / "nowhere.jsonl")

    def test_a_taken_port_is_named_with_the_way_out(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            assert re.search(rf"port {port}.*choose another", self.refusal("--port", port))

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--faults", "flood"], "no fault is called 'flood'"),
            (["--latency", "fast"], "write seconds"),
            (["--accuracy", "7"], "accuracy is 7"),
            (["--requests-per-minute", "0"], "requests-per-minute is 0"),
            (["--judge", "o1"], "--replay"),
            (["--template", "none-such"], "no template 'none-such'"),
        ],
    )
    def test_an_option_that_makes_no_sense_is_explained(self, arguments, said):
        assert said in self.refusal(*arguments)

    def test_opinions_and_a_recording_exclude_each_other(self, file):
        assert "exclude each other" in self.refusal("--pairs", file, "--replay", file)

    def test_a_file_without_recorded_replies_cannot_be_replayed(self, file):
        assert "no recorded replies" in self.refusal("--replay", file)
