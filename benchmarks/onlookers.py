"""People who look at the live page, for the case `page`: four pages that follow a run, and a reader who goes through steps and searches.

`python -m benchmarks.onlookers DATABASE` serves the page, and looks on from a line "look" on its standard input to a line "rest", which it
answers with how often it was shown a page.  The server ends with it, and both when the standard input does.
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import PIPE

from benchmarks.contest import Prepared

_ROOT = Path(__file__).parent.parent
PAGES = 4
READS = ("/runs", "/runs/1", "/runs/1/steps", "/runs/1/steps/1?order=latency", "/api/runs/1", "/judges", "/search?q=the", "/metrics")
BETWEEN_READS_S = 0.1


def watched(base_url: str, calls: int, seed: int) -> Prepared:
    """`benchmarks.clients.judgeflow`, while somebody looks on."""
    from benchmarks.clients import judgeflow

    folder = Path(tempfile.mkdtemp(prefix="judgeflow-page-"))
    engine = judgeflow(base_url, calls, seed, folder)
    onlookers = _Process(_ROOT, "-m", "benchmarks.onlookers", str(folder / "judgeflow.db"))

    def run() -> dict[str, float]:
        onlookers.say("look")
        figures = engine.run()
        shown = float(onlookers.ask("rest"))
        return (figures if isinstance(figures, dict) else {}) | {"pages_shown": shown}

    return Prepared(run=run, before=engine.before)


class _Process:
    """Somebody to talk to, a line at a time."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._process = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdin=PIPE, stdout=PIPE, text=True, bufsize=1)

    def say(self, line: str) -> None:
        assert self._process.stdin is not None  # for the type checker
        self._process.stdin.write(line + "\n")

    def ask(self, line: str) -> str:
        self.say(line)
        assert self._process.stdout is not None  # for the type checker
        return self._process.stdout.readline()


async def look_on(address: str) -> None:
    """Look on while the standard input says so."""
    import aiohttp

    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(address, timeout=aiohttp.ClientTimeout(total=None)) as browser:
        while await loop.run_in_executor(None, sys.stdin.readline):
            onlookers = _Onlookers(browser)
            looking = [asyncio.create_task(onlookers.follow()) for _ in range(PAGES)] + [asyncio.create_task(onlookers.browse())]
            await loop.run_in_executor(None, sys.stdin.readline)
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
            print(onlookers.shown, flush=True)


class _Onlookers:
    """Counts what is shown to them."""

    def __init__(self, browser: object) -> None:
        self._browser = browser
        self.shown = 0

    async def follow(self) -> None:
        """Read the page of the run again whenever there is something new, as the script of the page does."""
        async with self._browser.get("/events/runs/1") as events:
            async for line in events.content:
                if line.startswith(b"event: news"):
                    await self._read("/runs/1")

    async def browse(self) -> None:
        for path in itertools.cycle(READS):
            await self._read(path)
            await asyncio.sleep(BETWEEN_READS_S)

    async def _read(self, path: str) -> None:
        async with self._browser.get(path) as answer:
            await answer.read()
            self.shown += answer.status == 200


def main(database: str) -> None:
    """Serve the page and look on."""
    command = [sys.executable, "-m", "judgeflow", "serve", "--url", database, "--port", "0"]
    with subprocess.Popen(command, cwd=_ROOT, stderr=PIPE, text=True) as server:
        try:
            assert server.stderr is not None  # for the type checker
            asyncio.run(look_on(server.stderr.readline().split()[3]))
        finally:
            server.terminate()


if __name__ == "__main__":
    main(sys.argv[1])
