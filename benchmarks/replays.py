"""Ways to have the same replies again, for the case `store_read`: judgeflow, plain sqlite3, and the caches of other libraries.

What measures another library imports nothing of judgeflow, so that it may live in an environment of its own.  Each is filled once,
unmeasured; a round then asks for everything again, and nothing is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clients import Texts, scheduler
from benchmarks.contest import Prepared

RESPONSES = 4
REPLY = "The first response answers what was asked, the second one only in part. " * 13 + "<verdict>A</verdict>"
"""About 1 KB, as the quick judge replies."""

VARIABLES = 32_766
"""The most that SQLite takes in one statement."""

Shown = tuple[str, str, str]
"""A prompt and two responses, in the order in which they are shown."""


def groups(prompts: int, seed: int) -> list[tuple[str, ...]]:
    """Return a prompt and its four responses, `prompts` times; every text has about 700 characters."""
    texts = Texts(seed)
    return [tuple(texts.next() for _ in range(1 + RESPONSES)) for _ in range(prompts)]


def pairs_of(prompts: int, seed: int) -> list[Shown]:
    """Return the six pairs of every prompt."""
    return [(prompt, *two) for prompt, *responses in groups(prompts, seed) for two in itertools.combinations(responses, 2)]


def fill(base_url: str, folder: str, prompts: int, seed: int) -> None:
    """Have every pair judged in both orders, and the replies stored in a database in `folder`."""

    async def route() -> None:
        async with scheduler(base_url, Path(folder)) as router:
            step = await router.route(_as_pairs(prompts, seed))
            assert step.statistics.sources == {"judge": len(step.outcomes)}, step.statistics

    asyncio.run(route())


def judgeflow(folder: str, prompts: int, seed: int) -> Prepared:
    """The whole of `route()`: the decisions and statistics of every step are recorded, too."""
    runner, router, pairs = asyncio.Runner(), scheduler("http://127.0.0.1:9/v1", Path(folder)), _as_pairs(prompts, seed)
    runner.run(router.open())

    async def route() -> None:  # a runner prints the result of its task whenever it restores the handling of signals
        step = await router.route(pairs)
        assert step.statistics.sources == {"store": len(pairs)}, step.statistics

    return Prepared(run=lambda: runner.run(route()))


def _as_pairs(prompts: int, seed: int) -> list[Any]:
    from judgeflow import Pair

    return [Pair(prompt=prompt, response_a=first, response_b=second) for prompt, first, second in pairs_of(prompts, seed)]


def raw_sqlite(folder: str, prompts: int, seed: int) -> Prepared:
    """The same keys, hashed pair by pair, and all columns of the same rows."""
    (file,) = Path(folder).rglob("*.db")
    connection = sqlite3.connect(file)
    ((judge,),) = connection.execute("SELECT fingerprint FROM judge").fetchall()
    pairs = pairs_of(prompts, seed)

    def run() -> None:
        keys = [key for pair in pairs for key in _call_keys(pair, judge)]
        assert len(read_rows(connection, keys)) == len(keys)

    return Prepared(run=run)


def read_rows(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, tuple[Any, ...]]:
    """Return the rows of `call` with these keys, by key."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for start in range(0, len(keys), VARIABLES):
        chunk = keys[start : start + VARIABLES]
        marks = ",".join("?" * len(chunk))
        found.update((row[0], row) for row in connection.execute(f"SELECT * FROM call WHERE key IN ({marks})", chunk))
    return found


def _call_keys(shown: Shown, judge: bytes) -> Iterator[bytes]:
    """What judgeflow.keys makes of a pair: the key of the pair, which a decision is recorded by, and those of its two questions."""
    prompt, first, second = (hashlib.blake2b(text.encode(), digest_size=32, person=b"jf-text-1").digest() for text in shown)
    _digest("pair/1", prompt, *sorted((first, second)))
    for order in ((first, second), (second, first)):
        yield _digest("call/1", judge, prompt, *order, sample=",0")


def _digest(kind: str, *parts: bytes, sample: str = "") -> bytes:
    inside = ",".join(f'"{part.hex()}"' for part in parts)
    return hashlib.blake2b(f'["{kind}",[{inside}{sample}]]'.encode(), digest_size=32).digest()


def litellm_cache(folder: str, prompts: int, seed: int) -> Prepared:
    """`litellm.completion` with its disk cache."""
    import litellm
    from litellm.caching.caching import Cache

    litellm.suppress_debug_info = True
    litellm.cache = Cache(type="disk", disk_cache_dir=f"{folder}/litellm")
    messages = [[{"role": "user", "content": text}] for text in _questions(prompts, seed)]

    def replay(**more: Any) -> None:
        for each in messages:
            reply = litellm.completion(
                model="openai/quick-judge", api_base="http://127.0.0.1:9/v1", api_key="none", messages=each, caching=True, **more
            )
            assert reply.choices[0].message.content == REPLY

    replay(mock_response=REPLY)
    return Prepared(run=replay)


def inspect_cache(folder: str, prompts: int, seed: int) -> Prepared:
    """`Model.generate(cache=True)` of inspect_ai."""
    os.environ["INSPECT_CACHE_DIR"] = f"{folder}/inspect"
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    texts = _questions(prompts, seed)

    def answer(*_: object) -> ModelOutput:
        output = ModelOutput.from_content("mockllm/model", REPLY)
        output.usage = ModelUsage(input_tokens=500, output_tokens=250, total_tokens=750)  # else it counts with a downloaded tokenizer
        return output

    async def replay(outputs: Callable[..., ModelOutput] | list[ModelOutput]) -> None:
        model = get_model("mockllm/model", custom_outputs=outputs, memoize=False)
        for text in texts:
            assert (await model.generate(text, cache=True)).completion == REPLY

    runner = asyncio.Runner()
    runner.run(replay(answer))
    return Prepared(run=lambda: runner.run(replay([])))


def _questions(prompts: int, seed: int) -> list[str]:
    """Every pair in both orders, as one text each."""
    shown = (each for prompt, a, b in pairs_of(prompts, seed) for each in ((prompt, a, b), (prompt, b, a)))
    return ["\n".join(each) for each in shown]
