"""docs/service.md says what is true: its configuration, command and code run as they stand, and its table has every path."""

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from judgeflow.testing import FakeJudge, serve_in_thread
from judgeflow.web.description import description

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]


def asked_as_by_curl(command):
    """What a curl command would be answered: not every machine has curl."""
    _, _, url, _, header, _, body = shlex.split(command.replace("\\\n", ""))
    name, _, value = header.partition(": ")
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), {name: value}), timeout=300) as answer:
        return json.load(answer)


def test_the_page_runs_as_it_stands(tmp_path):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command, _, shown = block("console").removeprefix("$ ").partition("\n")
    with serve_in_thread(FakeJudge()) as judge:
        (tmp_path / "judgeflow.toml").write_text(block("toml").replace("http://127.0.0.1:8399/v1", judge.base_url))
        started = subprocess.Popen([*command.split(), "--port", "0"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
        with started as server:
            try:
                said = server.stderr.readline()
                while said and "page at" not in said:
                    said = server.stderr.readline()
                port = re.search(r":(\d+)/", said)[1]
                assert said.replace(port, "8765") == shown
                code = block("python").replace("8765", port)
                done = subprocess.run(
                    [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
                )
                assert (done.stderr, done.stdout) == ("", block("text"))
                (outcome,) = asked_as_by_curl(block("sh").replace("8765", port))["outcomes"]
                assert outcome["source"] == "store"  # the same pair as above
            finally:
                server.terminate()


@pytest.mark.slow
def test_a_service_that_nobody_started_knows_what_the_other_has_asked(tmp_path):
    started, elected = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    started = started.replace('RouteClient("http://127.0.0.1:8765")', 'elect("judgeflow.toml")').replace(
        "import RouteClient", "import elect"
    )
    with serve_in_thread(FakeJudge()) as judge:
        (tmp_path / "judgeflow.toml").write_text(block("toml").replace("http://127.0.0.1:8399/v1", judge.base_url))
        for code, shown in ((started, block("text")), (elected, "6 pairs known\n")):
            command = [sys.executable, "-W", "error", "-c", code]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
            assert (done.stderr, done.stdout) == ("", shown)


def test_every_path_of_the_description_is_in_the_table():
    assert set(re.findall(r"^\| `POST (/v1/\w+)`", PAGE, re.MULTILINE)) == set(description()["paths"])
