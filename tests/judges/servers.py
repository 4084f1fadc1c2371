"""Servers that are not ours, from the environments that `.ci/judges` makes, and the command line in a folder of a user's."""

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import pytest
from recipes import ROOT

HOME = ROOT / "build" / "judges"
FIGURES = "figures.txt"
MASTER_KEY, PROVIDER_KEY = "sk-in-front", "sk-behind"
STARTS_WITHIN_S = 300


class Server:
    """A running server: its process, what it has said, and where it listens as it says itself."""

    def __init__(self, command, listening, environment, folder):
        self._listening = re.compile(listening)
        self._said = deque(maxlen=60)
        self._found = threading.Event()
        self.address = None
        self._process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self._said.append(line)
            found = self._listening.search(line)
            if found:
                self.address = found[1]
                self._found.set()
        self._found.set()  # or it has ended

    def wait(self):
        self._found.wait(STARTS_WITHIN_S)
        if self.address is None or self._process.poll() is not None:
            raise RuntimeError(f"the server did not start; it said:\n{''.join(self._said)}")

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join()
        self._process.stdout.close()


@contextlib.contextmanager
def running(command, listening, folder, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHON", "LITELLM"))}
    server = Server([str(part) for part in command], listening, inherited | environment, folder)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def installed(name):
    python = HOME / name / "bin" / "python"
    if not python.exists():
        pytest.fail(f"{python} is not there: run `bash .ci/judges`, or `make test-judges`, which does")
    return python


@dataclass(frozen=True)
class Proxy:
    """The proxy, and the port on which it looks for its provider."""

    base_url: str
    provider_port: int


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class Folder:
    """A folder of a user's with a configuration, and the command line in it."""

    def __init__(self, path: Path, block: str, base_url: str, **environment: str) -> None:
        self.path = path
        self._environment = environment
        block = re.sub(r"^base_url = .*$", f'base_url = "{base_url}"', block, flags=re.MULTILINE)
        more = '[routing]\npolicy = "always"\n\n[log]\npath = "judgeflow.log"\n'
        (path / "judgeflow.toml").write_text(f"{block}\n{more}")

    def write_pairs(self, pairs):
        keys = ("id", "prompt", "response_a", "response_b", "label")
        lines = [json.dumps({key: getattr(pair, key) for key in keys}) for pair in pairs]
        (self.path / "pairs.jsonl").write_text("\n".join(lines) + "\n")

    def judgeflow(self, *arguments, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "judgeflow", *arguments],
            cwd=self.path,
            env={"PATH": "/usr/bin:/bin", "TERM": "dumb"} | self._environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def doctor(self, *arguments, **environment):
        """{check: finding} of `judgeflow doctor`."""
        ended = self.judgeflow("doctor", "--json", *arguments, **environment)
        return {finding["check"]: finding for finding in json.loads(ended.out)["findings"]}

    def route(self, *arguments, **environment):
        """The outcomes, the summary, and what was said."""
        ended = self.judgeflow("route", "pairs.jsonl", "--out", "outcomes.jsonl", "--json", "--no-progress", *arguments, **environment)
        written = [path for path in (self.path / "outcomes.jsonl", self.path / "outcomes.jsonl.partial") if path.exists()]
        outcomes = [json.loads(line) for line in written[0].read_text().splitlines()] if written else []
        return outcomes, json.loads(ended.out) if ended.out else None, ended

    def latencies(self):
        """The median and the ninth decile of all attempts in seconds, in words."""
        deciles = statistics.quantiles((call["latency_s"] for call in self.events()), n=10, method="inclusive")
        return f"latency p50 {deciles[4]:.3g} s, p90 {deciles[8]:.3g} s"

    def events(self, name="call"):
        lines = map(json.loads, (self.path / "judgeflow.log").read_text().splitlines())
        return [event for event in lines if event["event"] == name]
