"""A run that nobody has routed: its rows are made up and written in bulk, as a run of that size would have left them.

Steps of 1,536 pairs, six to a prompt; a tenth of the pairs asked about in both orders, a tenth of these for the audit; the scorer is right
as often as it believes, the judge in eight of ten.  Replies of 1 KB and texts of a few hundred bytes, as in `store_scale`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replays import REPLY
from judgeflow.keys import call_key, pair_key, text_hash
from judgeflow.store import migrate

STEP = 1536
TO_A_PROMPT = 6
ASKED, AUDITED = 0.1, 0.1
SECONDS_A_STEP = 90.0
START = 1.75e9
JUDGE = hashlib.blake2b(b"the judge of a run that was made up", digest_size=32).digest()
TEXT = "One of the texts that a run of this size has stored for a pair that somebody was asked about, as long as texts often are. " * 3
CONFIG = {
    "judge": {"id": "judge", "model": "judge"},
    "limits": {"requests_per_minute": 500, "tokens_per_minute": 1_000_000, "window_s": 60.0},
    "budget": {"requests": 1_000_000, "usd": 2_000.0},
    "routing": {"policy": "error", "audit_fraction": AUDITED},
}

Row = tuple[Any, ...]


def write_run(path: Path, decisions: int, seed: int) -> None:
    """Write a database with one run of so many decisions."""
    asyncio.run(migrate.upgrade(str(path)))
    dice = np.random.default_rng(seed)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous=OFF")
        calls = 0
        for number, start in enumerate(range(0, decisions, STEP)):
            with database:
                calls += _write_step(database, number, min(STEP, decisions - start), dice)
        with database:
            spent = (calls, 1_150 * calls, 0.003 * calls)
            _insert(database, "judge", [(JUDGE, "judge", "judge", "{}", START)])
            _insert(database, "run", [(1, "made up", json.dumps(CONFIG), *spent, 0, 0, 0.0, START)])


def _write_step(database: sqlite3.Connection, step: int, pairs: int, dice: np.random.Generator) -> int:
    """Write one step, and return how many calls it took."""
    made = [_pair(step, number) for number in range(pairs)]
    keys = [pair_key(*hashes) for hashes in made]
    truth = np.where(dice.random(pairs) < 0.5, 1, -1)
    sizes = dice.gamma(2.0, 0.7, pairs)
    q = 1 / (1 + np.exp(sizes))
    logits = np.where(dice.random(pairs) < 1 - q, truth, -truth) * sizes
    asked = round(ASKED * pairs)
    by_rank = np.argsort(-q)
    routed, audited = (
        by_rank[: round(asked * (1 - AUDITED))],
        dice.permutation(by_rank[round(asked * (1 - AUDITED)) :])[: round(asked * AUDITED)],
    )
    drawn = set(audited.tolist())
    chosen = [*routed.tolist(), *drawn]
    chance = len(drawn) / max(1, pairs - len(routed))
    threshold = float(q[routed[-1]]) if len(routed) else None
    ended = START + SECONDS_A_STEP * (step + 1)
    is_asked = set(chosen)
    uncertainties = 1 + dice.gamma(1.0, 0.3, pairs)
    _insert(
        database,
        "decision",
        [
            (
                1, step, keys[n], n in is_asked, float(logits[n]), float(uncertainties[n]), float(q[n]), threshold,
                1.0 if n in is_asked and n not in drawn else chance, n in drawn, "judge" if n in is_asked else "scorer", "ok",
            )
            for n in range(pairs)
        ],
    )  # fmt: skip
    calls = list(_calls(chosen, made, keys, truth, ended, dice))
    _insert(database, "text", {key: (key, False, TEXT) for n in chosen for key in made[n]}.values())
    _insert(database, "pair", [(keys[n], *made[n]) for n in chosen])
    _insert(database, "call", calls)
    _insert(database, "reservation", [_reservation(f"{step:024x}{number:08x}", call) for number, call in enumerate(calls)])
    latencies = sorted(call[-5] for call in calls)
    waited = {"p50": latencies[len(latencies) // 2], "p90": latencies[len(latencies) * 9 // 10], "max": latencies[-1]} if latencies else {}
    sources = {"scorer": pairs - len(chosen), "judge": len(chosen)}
    spent = (len(calls), len(calls), 1_150 * len(calls), 0.003 * len(calls), 900 * len(calls), 250 * len(calls))
    row = (
        None,
        1,
        step,
        pairs,
        threshold,
        json.dumps(sources),
        json.dumps({"ok": pairs}),
        *spent,
        0.8,
        json.dumps(waited),
        "{}",
        60.0,
        ended,
    )
    _insert(database, "step", [row])
    return len(calls)


def _pair(step: int, number: int) -> tuple[bytes, bytes, bytes]:
    """The hashes of a prompt and of two responses, the smaller one first."""
    low, high = sorted(text_hash(f"{step} {number} {side}") for side in "ab")
    return text_hash(f"prompt {step} {number // TO_A_PROMPT}"), low, high


def _calls(
    chosen: Sequence[int], made: Sequence[tuple[bytes, bytes, bytes]], keys: Sequence[bytes], truth: Any, ended: float, dice: Any
) -> Iterator[Row]:
    for n in chosen:
        prompt, low, high = made[n]
        for canonical, first, second in ((True, low, high), (False, high, low)):
            side = int(truth[n]) if dice.random() < 0.8 else -int(truth[n])
            latency = float(dice.lognormal(3.4, 0.33))
            answer = (REPLY, "", None, "stop", "ok", side if canonical else -side, True, 1)
            yield (
                call_key(JUDGE, prompt, first, second), keys[n], JUDGE, canonical, 0, *answer, 900, 250, 0, 0, 0.003, latency, 1, "judge",
                "req", ended - 60.0 + min(latency, 59.0),
            )  # fmt: skip


def _reservation(name: str, call: Row) -> Row:
    key, replied_at, latency = call[0], call[-1], call[-5]
    sent = replied_at - latency
    return (1, name, key, 1, 1_150, 0.003, "settled", sent - 1.0, JUDGE, 1, sent)


def _insert(database: sqlite3.Connection, table: str, rows: Any) -> None:
    rows = list(rows)
    if rows:
        database.executemany(f'INSERT OR IGNORE INTO "{table}" VALUES ({",".join("?" * len(rows[0]))})', rows)
