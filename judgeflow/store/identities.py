"""Judges as a verdict database knows them, and how people name them: by id, by model, or by the beginning of a fingerprint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from judgeflow.errors import UsageError
from judgeflow.store import schema
from judgeflow.types import JudgeIdentity


async def judges(connection: AsyncConnection) -> dict[bytes, JudgeIdentity]:
    """Return every judge by its fingerprint, oldest first."""
    judge = schema.judge.c
    rows = await connection.execute(select(schema.judge).order_by(judge.created_at, judge.id, judge.fingerprint))
    return {
        row["fingerprint"]: JudgeIdentity(id=row["id"], model=row["model"], fingerprint=row["fingerprint"], parameters=row["parameters"])
        for row in rows.mappings()
    }


def names(there: Mapping[bytes, JudgeIdentity]) -> dict[bytes, str]:
    """Return what judges are called: by their id, and by the beginning of their fingerprint too where two have the same."""
    ids = [judge.id for judge in there.values()]
    return {key: judge.id if ids.count(judge.id) == 1 else f"{judge.id}@{key.hex()[:8]}" for key, judge in there.items()}


def judges_named(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the weights of the judges in a run's configuration, by their ids, in order of preference."""
    judges = [settings["judge"], *(settings.get("judges") or {}).values()] if settings.get("judge") else []
    return {judge.get("id") or f"{judge.get('base_url')} {judge.get('model')}": judge.get("weight", 1.0) for judge in judges}


def named(wanted: str, there: Mapping[bytes, JudgeIdentity]) -> bytes:
    """Return the fingerprint of the judge with this name or id, else of the one with this model or whose fingerprint begins so.

    Raises `UsageError` naming the judges there are where it is none of them, and those it may be where it is several.
    """
    called = names(there)
    ways = (
        [key for key, name in called.items() if name == wanted],
        [key for key, judge in there.items() if judge.id == wanted],
        [key for key, judge in there.items() if judge.model == wanted],
        [key for key in there if wanted and key.hex().startswith(wanted.lower())],
    )
    found = next(filter(None, ways), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"--judge {wanted}: may be {listed(called[key] for key in found)}; name one of these")
    raise UsageError(f"--judge {wanted}: no such judge; there are {listed(called.values()) or 'none'}")


def listed(called: Iterable[str]) -> str:
    """Return names one after the other; those with spaces in quotes, so that each can be copied to the command line."""
    return ", ".join(f'"{name}"' if " " in name else name for name in called)
