"""The demo's judge: `judgeflow fake-judge` in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judgeflow.errors import JudgeflowError

ACCURACY, POSITION_BIAS = 0.95, 0.05
LATENCY = "uniform:0.05:0.15"
REQUESTS_PER_WINDOW, WINDOW_S = 300, 1.0


@dataclass(frozen=True, slots=True)
class LocalJudge:
    """A running judge; `base_url` ends in /v1."""

    base_url: str

    def statistics(self) -> dict[str, Any]:
        """Return what the judge itself has counted."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
        with direct.open(self.base_url.removesuffix("/v1") + "/stats", timeout=10) as reply:
            return dict(json.load(reply))


@contextmanager
def local_judge(pairs: Path, keys: Iterable[str], log: Path) -> Iterator[LocalJudge]:
    """Run a judge that knows the labels of `pairs` and serves these API keys, each within its own limits, while the block lasts.

    Raises `JudgeflowError` if it does not start.
    """
    options = {
        "--pairs": pairs,
        "--accuracy": ACCURACY,
        "--position-bias": POSITION_BIAS,
        "--latency": LATENCY,
        "--requests-per-minute": REQUESTS_PER_WINDOW,
        "--window-s": WINDOW_S,
        "--port": 0,
    }
    command = [sys.executable, "-m", "judgeflow", "fake-judge", *(str(part) for option in options.items() for part in option)]
    for key in keys:
        command += ["--api-key", key]
    with log.open("w", encoding="utf-8") as errors, subprocess.Popen(command, stderr=errors) as process:  # noqa: S603  # ourselves
        try:
            yield LocalJudge(_address(process, log))
        finally:
            process.terminate()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait for the line that tells the address."""
    while True:
        told = re.search(r"http://\S+/v1", log.read_text(encoding="utf-8"))
        if told:
            return told[0]
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        raise JudgeflowError(f"the local judge did not start: {log.read_text(encoding='utf-8').strip()}")
