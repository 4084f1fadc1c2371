"""Four ways to put questions to a judge, for the case `dispatch`.

The three that only make the HTTP call import nothing of judgeflow, so that openai and litellm may live in an environment of their own.
All keep 64 requests in flight, on one event loop that lasts from round to round.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contest import Prepared

if TYPE_CHECKING:
    from judgeflow import Pair

IN_FLIGHT = 64
WORDS = 105
"""Of each of the three texts of a question, about 700 characters: 2 KB in all."""

LAG_EVERY_S = 0.002

Ask = Callable[[str], Awaitable[object]]


class Texts:
    """Texts that never repeat, in plain words of a vocabulary."""

    def __init__(self, seed: int, vocabulary: int = 2000) -> None:
        self._dice = random.Random(seed)
        self.words = ["".join(self._dice.choices("abcdefghijklmnopqrstuvwxyz", k=self._dice.randint(2, 10))) for _ in range(vocabulary)]

    def next(self, words: int = WORDS) -> str:
        return " ".join(self._dice.choices(self.words, k=words))


def judgeflow(base_url: str, calls: int, seed: int, folder: Path | None = None) -> Prepared:
    """The whole of `route()`: keys, plan, budget, limits, both orders, parsing, and every reply committed to a database file.

    The file is judgeflow.db in `folder`, or in a new one.
    """
    from judgeflow import Pair

    texts, runner, lag = Texts(seed), asyncio.Runner(), _Lag()
    router = scheduler(base_url, folder or Path(tempfile.mkdtemp(prefix="judgeflow-dispatch-")))
    runner.run(router.open())
    pairs: list[Pair] = []

    def renew() -> None:
        pairs[:] = [Pair(prompt=texts.next(), response_a=texts.next(), response_b=texts.next()) for _ in range(calls // 2)]

    async def route() -> None:
        step = await router.route(pairs)
        assert step.statistics.calls == calls, step.statistics

    return Prepared(run=lambda: runner.run(lag.beside(route())), before=renew)


def scheduler(base_url: str, folder: Path) -> Any:
    from judgeflow import Scheduler
    from judgeflow.config import Config

    return Scheduler.from_config(
        Config.model_validate(
            {
                "run": {"name": "dispatch", "directory": str(folder)},
                "judge": {"id": "quick-judge", "base_url": base_url, "model": "quick-judge"},
                "limits": {"requests_per_minute": 10_000_000, "tokens_per_minute": 10**12, "max_in_flight": IN_FLIGHT},
                "budget": {"requests": 10**9},
                "routing": {"policy": "always"},
            }
        )
    )


def raw_aiohttp(base_url: str, calls: int, seed: int) -> Prepared:
    """One shared session: the request's JSON, the call, and the reply's JSON."""
    import aiohttp
    import orjson

    runner = asyncio.Runner()

    async def connect() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT), headers={"Content-Type": "application/json"})

    session = runner.run(connect())

    async def ask(text: str) -> object:
        body = orjson.dumps({"model": "quick-judge", "messages": _messages(text), "max_completion_tokens": 4096})
        async with session.post(f"{base_url}/chat/completions", data=body) as response:
            return orjson.loads(await response.read())["choices"][0]["message"]["content"]

    return _http_only(runner, ask, calls, seed)


def openai(base_url: str, calls: int, seed: int) -> Prepared:
    """`openai.AsyncOpenAI`, one client."""
    import openai as library

    client = library.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)

    async def ask(text: str) -> object:
        reply = await client.chat.completions.create(model="quick-judge", messages=_messages(text), max_completion_tokens=4096)
        return reply.choices[0].message.content

    return _http_only(asyncio.Runner(), ask, calls, seed)


def litellm(base_url: str, calls: int, seed: int) -> Prepared:
    """`litellm.acompletion`."""
    import litellm as library

    async def ask(text: str) -> object:
        reply = await library.acompletion(
            model="openai/quick-judge", api_base=base_url, api_key="none", messages=_messages(text), max_tokens=4096, num_retries=0
        )
        return reply.choices[0].message.content

    return _http_only(asyncio.Runner(), ask, calls, seed)


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _http_only(runner: asyncio.Runner, ask: Ask, calls: int, seed: int) -> Prepared:
    texts, lag = Texts(seed), _Lag()
    batch: list[str] = []

    def renew() -> None:
        batch[:] = [f"{texts.next()}\n{texts.next()}\n{texts.next()}" for _ in range(calls)]

    async def worker(waiting: Iterator[str]) -> None:
        for text in waiting:
            assert await ask(text)

    async def everything() -> None:
        waiting = iter(batch)
        await asyncio.gather(*(worker(waiting) for _ in range(IN_FLIGHT)))

    return Prepared(run=lambda: runner.run(lag.beside(everything())), before=renew)


class _Lag:
    """How late the loop wakes a sleeper while something else runs on it."""

    async def beside(self, work: Coroutine[Any, Any, None]) -> dict[str, float]:
        late: list[float] = []
        watching = asyncio.get_running_loop().create_task(self._watch(late))
        await work
        watching.cancel()
        return {"loop_lag_p99_ms": 1000 * sorted(late)[int(0.99 * len(late))] if late else 0.0}

    async def _watch(self, late: list[float]) -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(LAG_EVERY_S)
            late.append(time.perf_counter() - started - LAG_EVERY_S)
