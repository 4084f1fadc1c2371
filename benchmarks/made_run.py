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
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Step:
    """One step: hashes and keys of its pairs, what scorer and judge think of them, and which were asked about, which of these drawn."""

    number: int
    hashes: Sequence[tuple[bytes, bytes, bytes]]
    keys: Sequence[bytes]
    truth: Any
    logits: Any
    acquisitions: Any
    uncertainties: Any
    asked: Sequence[int]
    drawn: frozenset[int]
    threshold: float | None
    chance: float

    @property
    def ended(self) -> float:
        return START + SECONDS_A_STEP * (self.number + 1)


def _step(number: int, pairs: int, dice: np.random.Generator) -> _Step:
    hashes = [_pair(number, place) for place in range(pairs)]
    truth, sizes = np.where(dice.random(pairs) < 0.5, 1, -1), dice.gamma(2.0, 0.7, pairs)
    q = 1 / (1 + np.exp(sizes))
    logits = np.where(dice.random(pairs) < 1 - q, truth, -truth) * sizes
    ranked = np.argsort(-q)
    audits = round(ASKED * AUDITED * pairs)
    routed = ranked[: round(ASKED * pairs) - audits]
    drawn = dice.permutation(ranked[len(routed) :])[:audits].tolist()
    return _Step(
        number=number,
        hashes=hashes,
        keys=[pair_key(*each) for each in hashes],
        truth=truth,
        logits=logits,
        acquisitions=q,
        uncertainties=1 + dice.gamma(1.0, 0.3, pairs),
        asked=[*routed.tolist(), *drawn],
        drawn=frozenset(drawn),
        threshold=float(q[routed[-1]]) if len(routed) else None,
        chance=len(drawn) / max(1, pairs - len(routed)),
    )


def _write_step(database: sqlite3.Connection, number: int, pairs: int, dice: np.random.Generator) -> int:
    """Write one step, and return how many calls it took."""
    step = _step(number, pairs, dice)
    calls = list(_calls(step, dice))
    _insert(database, "decision", _decisions(step))
    _insert(database, "text", {key: (key, False, TEXT) for n in step.asked for key in step.hashes[n]}.values())
    _insert(database, "pair", [(step.keys[n], *step.hashes[n]) for n in step.asked])
    _insert(database, "call", calls)
    _insert(database, "reservation", [_reservation(f"{number:024x}{place:08x}", call) for place, call in enumerate(calls)])
    _insert(database, "step", [_step_row(step, calls)])
    return len(calls)


def _decisions(step: _Step) -> Iterator[Row]:
    asked = set(step.asked)
    for n, key in enumerate(step.keys):
        beliefs = (float(step.logits[n]), float(step.uncertainties[n]), float(step.acquisitions[n]))
        propensity = 1.0 if n in asked and n not in step.drawn else step.chance
        source = "judge" if n in asked else "scorer"
        yield (1, step.number, key, n in asked, *beliefs, step.threshold, propensity, n in step.drawn, source, "ok")


def _step_row(step: _Step, calls: Sequence[Row]) -> Row:
    latencies = sorted(call[_LATENCY] for call in calls) or [0.0]
    waited = {"p50": latencies[len(latencies) // 2], "p90": latencies[len(latencies) * 9 // 10], "max": latencies[-1]}
    pairs, number = len(step.keys), len(calls)
    told = (json.dumps({"scorer": pairs - len(step.asked), "judge": len(step.asked)}), json.dumps({"ok": pairs}))
    spent = (number, number, 1_150 * number, 0.003 * number, 900 * number, 250 * number)
    return (None, 1, step.number, pairs, step.threshold, *told, *spent, 0.8, json.dumps(waited), "{}", 60.0, step.ended, None)


def _pair(step: int, number: int) -> tuple[bytes, bytes, bytes]:
    """The hashes of a prompt and of two responses, the smaller one first."""
    low, high = sorted(text_hash(f"{step} {number} {side}") for side in "ab")
    return text_hash(f"prompt {step} {number // TO_A_PROMPT}"), low, high


_LATENCY = -5
"""Where it stands in a row of `call`."""


def _calls(step: _Step, dice: np.random.Generator) -> Iterator[Row]:
    for n in step.asked:
        prompt, low, high = step.hashes[n]
        for canonical, first, second in ((True, low, high), (False, high, low)):
            side = int(step.truth[n]) if dice.random() < 0.8 else -int(step.truth[n])
            latency = float(dice.lognormal(3.4, 0.33))
            about = (call_key(JUDGE, prompt, first, second), step.keys[n], JUDGE, canonical, 0)
            said = (REPLY, "", None, "stop", "ok", side if canonical else -side, True, 1)
            yield (*about, *said, 900, 250, 0, 0, 0.003, latency, 1, "judge", "req", step.ended - 60.0 + min(latency, 59.0))


def _reservation(name: str, call: Row) -> Row:
    sent = call[-1] - call[_LATENCY]
    return (1, name, call[0], 1, 1_150, 0.003, "settled", sent - 1.0, JUDGE, 1, sent)


def _insert(database: sqlite3.Connection, table: str, rows: Any) -> None:
    rows = list(rows)
    if rows:
        database.executemany(f'INSERT OR IGNORE INTO "{table}" VALUES ({",".join("?" * len(rows[0]))})', rows)
