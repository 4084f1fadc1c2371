"""Pairs to read: their texts, what was decided about them, and their raw replies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from judgeflow.report.compose import Deep
from judgeflow.report.figures import PairFigures, SideReply
from judgeflow.store import browse, identities
from judgeflow.store.columns import cut
from judgeflow.store.extract import Texts, Where, texts
from judgeflow.store.survey import Readable
from judgeflow.types import Call, Decision, Label

_PREFERRED: Mapping[int, Label] = {1: "a", -1: "b", 0: "tie"}


Whose = Collection[bytes] | None
"""Fingerprints of the judges whose replies are told; None: of all."""


async def pair_figures(
    database: Readable, key: str, *, run_id: int | None = None, step: int | None = None, judges: Whose = None
) -> PairFigures | None:
    """Return a pair by its key in hexadecimal digits, in its canonical order, with how `step` of a run decided about it.

    None where its texts are not stored, or the key is none.
    """
    try:
        wanted = bytes.fromhex(key)
    except ValueError:
        return None
    async with database.connect() as connection:
        where = await browse.pair_named(connection, wanted)
    if where is None:
        return None
    steps = {} if step is None else {where.pair_key: step}
    return (await _told(database, [where], steps, run_id, judges))[0]


async def with_pairs(database: Readable, run_id: int, deep: Deep, before: Deep | None, judges: Whose) -> Deep:
    """Return `deep` with the pairs that it wants to show, read anew where they are not those of `before`; with replies of `judges`."""
    if before is not None and (before.slow, before.torn, before.decided_in) == (deep.slow, deep.torn, deep.decided_in):
        return replace(deep, slowest=before.slowest, inconsistent=before.inconsistent)
    wanted = list(dict.fromkeys((*deep.slow, *deep.torn)))
    async with database.connect() as connection:
        there = await browse.pairs_beginning(connection, wanted)
    beginnings = dict(zip(cut([where.pair_key for where in there]).tolist(), there, strict=True))
    steps = {beginnings[key].pair_key: step for key, step in deep.decided_in.items() if key in beginnings}
    told = {pair.key: pair for pair in await _told(database, there, steps, run_id, judges)}

    def of(keys: Sequence[int]) -> tuple[PairFigures, ...]:
        return tuple(told[beginnings[key].pair_key.hex()] for key in keys if key in beginnings)

    return replace(deep, slowest=of(deep.slow), inconsistent=of(deep.torn))


async def _told(
    database: Readable, pairs: Sequence[Where], steps: Mapping[bytes, int], run_id: int | None, judges: Whose
) -> list[PairFigures]:
    async with database.connect() as connection:
        there = await identities.judges(connection)
        bodies = await texts(connection, pairs)
        calls = await browse.calls_about(connection, pairs, list(there))
        decided = {key: await browse.decision_of(connection, run_id, step, key) for key, step in steps.items() if run_id is not None}
    called, about = identities.names(there), {pair.pair_key: [call for call in calls if call.pair_key == pair.pair_key] for pair in pairs}
    told = {pair.pair_key: _pair(pair, bodies[pair.pair_key], about[pair.pair_key], called, judges) for pair in pairs}
    return [_decided(pair, decided.get(key), steps.get(key)) for key, pair in told.items()]


def _pair(where: Where, bodies: Texts, calls: Sequence[Call], called: Mapping[bytes, str], judges: Whose) -> PairFigures:
    prompt, wanted = bodies.prompt, [call for call in calls if judges is None or call.judge in judges]
    return PairFigures(
        key=where.pair_key.hex(),
        prompt=prompt if isinstance(prompt, str) else tuple({"role": message.role, "content": message.content} for message in prompt),
        response_a=bodies.low,
        response_b=bodies.high,
        replies=tuple(_reply(call, called[call.judge]) for call in wanted),
        others=len(calls) - len(wanted),
    )


def _decided(pair: PairFigures, decision: Decision | None, step: int | None) -> PairFigures:
    if decision is None:
        return pair
    return replace(
        pair,
        step=step,
        logit=decision.logit,
        uncertainty=decision.uncertainty,
        source=decision.source,
        status=decision.status,
        asked=decision.asked,
        audit=decision.audit,
    )


def _reply(call: Call, judge: str) -> SideReply:
    preferred = call.reading.preferred
    side = None if preferred is None else preferred if call.canonical else -preferred
    return SideReply(
        shown="ab" if call.canonical else "ba",
        judge=judge,
        text=call.reply.text,
        reasoning=call.reply.reasoning,
        status=call.reading.status.value,
        preferred=None if side is None else _PREFERRED[side],
        latency_s=call.reply.latency_s,
        prompt_tokens=call.reply.usage.prompt,
        completion_tokens=call.reply.usage.completion,
        usd=call.reply.usd,
        at=call.created_at,
    )
