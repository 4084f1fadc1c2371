"""How the verdict database behaves as it grows, beside plain sqlite3 on the same rows.

Read: 3,072 random replies by key, which is a step of 1,536 pairs in both orders, out of 10,000 and out of `size` replies of 1 KB,
warm: `SqlStore.read` with everything it makes of a row, and one statement for all columns. `read_growth_vs_raw_1m` (or `_10m`, by
`size`) is how much longer ours takes from the large database than from the small one, divided by how much longer plain sqlite3 does.
The databases hold rows of `call` alone, which is all that a read looks at.

Write: questions are reserved and settled through `SqlStore`, as many at a time as the engine does, into an empty database; plain sqlite3
then writes the very rows that this left (texts, pairs, replies, and reservations twice: as they are made, and as they are closed) with
executemany, in as many transactions.  Ours hands every writer a result of its own: `write_throughput_vs_raw_awaited` is beside the same
plain writes made on a thread, and waited for by as many coroutines as write through ours.  `bytes_per_verdict` is the size of that
database over its replies: with their texts, pairs, reservations and indexes.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from benchmarks.clients import Texts
from benchmarks.replays import REPLY, read_rows
from benchmarks.runner import Finding, Goal
from judgeflow.keys import pair_keys, questions
from judgeflow.store import SqlStore, migrate
from judgeflow.types import Call, Cost, JudgeIdentity, Pair, Question, Reading, ReadingStatus, Reply, Reservation, Stock, Usage

SIZE = 1_000_000
"""Replies of the large database; 10,000,000 is the slow case."""

GOALS = {"read_growth_vs_raw_1m": Goal("<=", 1.3), "read_growth_vs_raw_10m": Goal("<=", 1.3), "write_throughput_vs_raw": Goal(">=", 0.5)}

SMALL = 10_000
READ = 3_072
ROUNDS = 7
WRITTEN = 7_680
AT_A_TIME = 384
"""Calls that wait for one commit: 32 groups of four responses, in both orders."""

JUDGE = JudgeIdentity(id="judge", model="judge", fingerprint=b"the judge whose answers we count", parameters={})
INSERTED = 5_000


def measure(size: int, seed: int) -> Finding:
    """Return the figures; `size` is the number of replies in the large database."""
    with tempfile.TemporaryDirectory(prefix="judgeflow-store-scale-") as folder:
        figures = _reads(Path(folder), max(size, SMALL), seed) | _writes(Path(folder), seed)
    other = {"1m": "10m", "10m": "1m"}[_scale(size)]
    return Finding(figures=figures, missing={f"read_growth_vs_raw_{other}": f"this is the case of {size:,} replies"})


def _scale(size: int) -> str:
    return "10m" if size >= 10_000_000 else "1m"


# Reading


def _reads(folder: Path, size: int, seed: int) -> dict[str, float]:
    files = {name: folder / f"{name}.db" for name in ("small", "large")}
    dice = random.Random(seed)
    for name, count in (("small", SMALL), ("large", size)):
        asyncio.run(migrate.upgrade(str(files[name])))
        with closing(sqlite3.connect(files[name])) as database:
            for start in range(0, count, INSERTED):
                with database:
                    rows = (_call_row(number) for number in range(start, min(count, start + INSERTED)))
                    database.executemany(f"INSERT INTO call VALUES ({','.join('?' * 23)})", rows)
    counts = {"small": SMALL, "large": size}
    keys = {name: [_key(number) for number in dice.sample(range(count), min(READ, count))] for name, count in counts.items()}
    ours, raw = asyncio.run(_timed(files, keys))
    growth = {"ours": ours["large"] / ours["small"], "raw": raw["large"] / raw["small"]}
    return {
        f"read_growth_vs_raw_{_scale(size)}": growth["ours"] / growth["raw"],
        "read_growth": growth["ours"],
        "read_growth_raw": growth["raw"],
        "read_us_per_key_small": 1e6 * ours["small"] / len(keys["small"]),
        "read_us_per_key_large": 1e6 * ours["large"] / len(keys["large"]),
        "read_us_per_key_raw_small": 1e6 * raw["small"] / len(keys["small"]),
        "read_us_per_key_raw_large": 1e6 * raw["large"] / len(keys["large"]),
    }


async def _timed(files: dict[str, Path], keys: dict[str, list[bytes]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return median seconds of ours and of plain sqlite3, by database; all take turns, after a round to warm up."""
    ours: dict[str, list[float]] = {name: [] for name in files}
    raw: dict[str, list[float]] = {name: [] for name in files}
    stores = {name: await SqlStore.open(str(path)) for name, path in files.items()}
    plain = {name: sqlite3.connect(path) for name, path in files.items()}
    for number in range(ROUNDS + 1):
        for name, wanted in keys.items():
            for turn in (number, number + 1):  # who comes first alternates: the second finds pages that the first has read
                started = time.perf_counter()
                found = await stores[name].read(wanted) if turn % 2 else read_rows(plain[name], wanted)
                (ours if turn % 2 else raw)[name].append(time.perf_counter() - started)
                assert len(found) == len(wanted)
    for name in files:
        plain[name].close()
        await stores[name].aclose()
    return ({name: statistics.median(values[1:]) for name, values in each.items()} for each in (ours, raw))  # type: ignore[return-value]


def _key(number: int) -> bytes:
    """Keys are hashes, so their order is nobody's."""
    import hashlib

    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=32).digest()


def _call_row(number: int) -> tuple[object, ...]:
    key = _key(number)
    said = (REPLY, "", None, "stop", "ok", 1, 1, 1)
    return (key, key, JUDGE.fingerprint, number % 2, 0, *said, 900, 250, 0, 0, 0.003, 31.5, 1, "judge", f"req-{number}", 1.75e9)


# Writing


def _writes(folder: Path, seed: int) -> dict[str, float]:
    asked = list(_questions(seed))
    ours = folder / "ours.db"
    reserving, settling = asyncio.run(_written(ours, asked))
    raw = folder / "raw.db"
    asyncio.run(migrate.upgrade(str(raw)))
    making, closing_ = _copied(ours, raw)
    plain = making + closing_
    awaited = plain + asyncio.run(_waited())
    return {
        "write_throughput_vs_raw": plain / (reserving + settling),
        "write_throughput_vs_raw_awaited": awaited / (reserving + settling),
        "settle_rate_vs_raw": closing_ / settling,
        "verdicts_per_second": WRITTEN / (reserving + settling),
        "verdicts_per_second_raw": WRITTEN / plain,
        "bytes_per_verdict": ours.stat().st_size / WRITTEN,
    }


def _questions(seed: int) -> Iterator[Question]:
    """Six pairs of each group of four responses, both orders of each."""
    import itertools

    texts, made = Texts(seed), 0
    while made < WRITTEN:
        prompt, *responses = (texts.next() for _ in range(5))
        for first, second in itertools.combinations(responses, 2):
            pair = Pair(prompt=prompt, response_a=first, response_b=second)
            yield from questions(pair, pair_keys(pair), JUDGE.fingerprint)
            made += 2


async def _written(path: Path, asked: Sequence[Question]) -> tuple[float, float]:
    """Return the seconds that reserving and settling everything takes."""
    store = await SqlStore.open(str(path))
    await store.open_run("scale", {}, JUDGE)
    seconds = [0.0, 0.0]
    for start in range(0, len(asked), AT_A_TIME):
        batch = asked[start : start + AT_A_TIME]
        held = [_reservation(question, start + number) for number, question in enumerate(batch)]
        calls = [_call(question) for question in batch]
        began = time.perf_counter()
        await asyncio.gather(*(store.reserve("scale", each, Stock()) for each in held))
        reserved = time.perf_counter()
        settled = (store.settle("scale", each, question, call) for each, question, call in zip(held, batch, calls, strict=True))
        await asyncio.gather(*settled)
        seconds[0] += reserved - began
        seconds[1] += time.perf_counter() - reserved
    await store.aclose()
    return seconds[0], seconds[1]


def _reservation(question: Question, number: int) -> Reservation:
    cost = Cost(requests=1, tokens=2_000, usd=0.01)
    return Reservation(id=f"{number}", call_key=question.call_key, cost=cost, judge=JUDGE.fingerprint)


def _call(question: Question) -> Call:
    usage = Usage(prompt=900, completion=250)
    return Call(
        key=question.call_key,
        pair_key=question.pair_key,
        judge=JUDGE.fingerprint,
        canonical=question.canonical,
        reply=Reply(text=REPLY, usage=usage, usd=0.003, latency_s=31.5, model="judge", request_id="req"),
        reading=Reading(status=ReadingStatus.OK, preferred=1),
        created_at=1.75e9,
    )


def _copied(source: Path, target: Path) -> tuple[float, float]:
    """Return the seconds that plain sqlite3 takes to make the reservations of `source`, and to write the rest and close them.

    In as many transactions as ours.
    """
    with closing(sqlite3.connect(source)) as database:
        rows = {
            name: database.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall() for name in ("text", "pair", "call", "reservation")
        }
    batches = -(-WRITTEN // AT_A_TIME)
    with closing(sqlite3.connect(target)) as database:
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            database.execute(f"PRAGMA {pragma}")
        parts = [{name: _slice(found, number, batches) for name, found in rows.items()} for number in range(batches)]
        seconds = [0.0, 0.0]
        for part in parts:
            began = time.perf_counter()
            _insert(database, {"reservation": part["reservation"]})
            made = time.perf_counter()
            _insert(database, part, closing_of=part["reservation"])
            seconds[0] += made - began
            seconds[1] += time.perf_counter() - made
        return seconds[0], seconds[1]


async def _waited() -> float:
    """Return the seconds that it takes, beside the writing, to wait for it: for each of the two batches of a call one visit to a thread,
    and a coroutine for every call."""
    loop, seconds = asyncio.get_running_loop(), 0.0

    async def wait(written: asyncio.Future[None]) -> None:
        await written

    async def write(batch: Sequence[asyncio.Future[None]]) -> None:
        await asyncio.to_thread(lambda: None)
        for written in batch:
            written.set_result(None)

    for _ in range(2 * -(-WRITTEN // AT_A_TIME)):
        began = time.perf_counter()
        batch: list[asyncio.Future[None]] = [loop.create_future() for _ in range(AT_A_TIME)]
        await asyncio.gather(write(batch), *(wait(written) for written in batch))
        seconds += time.perf_counter() - began
    return seconds


def _slice(rows: Sequence[tuple[object, ...]], number: int, of: int) -> Sequence[tuple[object, ...]]:
    return rows[len(rows) * number // of : len(rows) * (number + 1) // of]


def _insert(
    database: sqlite3.Connection,
    part: dict[str, Sequence[tuple[object, ...]]],
    closing_of: Sequence[tuple[object, ...]] = (),
) -> None:
    with database:
        for name, rows in part.items():
            if rows and not (name == "reservation" and closing_of):
                database.executemany(f"INSERT INTO {name} VALUES ({','.join('?' * len(rows[0]))})", rows)
        closed = [(row[1],) for row in closing_of]
        database.executemany("UPDATE reservation SET state = 'settled', tokens = 1150 WHERE run_id = 1 AND id = ?", closed)
