"""What a verdict database holds, as records to learn from or to analyse, one chunk of pairs in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from judgeflow.exchange.calls import call_record
from judgeflow.exchange.preferences import Demands, Format, known, preference_record, preferred
from judgeflow.parquet import Kind
from judgeflow.store import extract
from judgeflow.store.extract import Labelled, Selection, Testimony, Texts
from judgeflow.store.queries import reading
from judgeflow.types import Decision

PAIRS_AT_A_TIME = 256
What = Literal["pairs", "calls", "outcomes"]
Item = TypeVar("Item")

OUTCOME_COLUMNS: dict[str, Kind] = {
    "pair_key": "text",
    "step": "integer",
    "prompt": "text",
    "conversational": "flag",
    "response_a": "text",
    "response_b": "text",
    "asked": "flag",
    "logit": "number",
    "uncertainty": "number",
    "acquisition": "number",
    "threshold": "number",
    "propensity": "number",
    "audit": "flag",
    "source": "text",
    "status": "text",
}


@dataclass(slots=True)
class Tally:
    """What was written, and what was left out and why; `transcripts` counts conversations that were written as text.

    `several_judges` counts pairs with more than one record, `both_ways` those of them in which judges choose different responses.
    """

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    transcripts: int = 0
    several_judges: int = 0
    both_ways: int = 0
    _pair: bytes = b""
    _sides: list[int] = field(default_factory=list)

    def add(self, pair_key: bytes, side: int) -> None:
        """Count a record that prefers `side` (1, -1, 0 neither); those of one pair come one after the other."""
        if pair_key != self._pair:
            self._pair, self._sides = pair_key, []
        self.written += 1
        self.several_judges += len(self._sides) == 1
        self.both_ways += side != 0 and side not in self._sides and -side in self._sides
        self._sides.append(side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A few hundred records, each with the hash of its prompt (None where the texts are not stored)."""

    records: Sequence[dict[str, Any]]
    prompts: Sequence[bytes | None]


async def preferences(
    url: str, selection: Selection, demands: Demands, form: Format, tally: Tally, *, by_label: bool
) -> AsyncGenerator[Exported, None]:
    """Yield preference records in the order of pair keys, and count in `tally` what is left out.  Raises as `reading`."""
    async with reading(url) as connection:
        found: AsyncGenerator[Testimony | Labelled, None] = extract.testimonies(connection, selection)
        if by_label:
            found = extract.labelled(connection, selection)
        async with aclosing(_chunks(found)) as chunks:
            async for chunk in chunks:
                texts = await extract.texts(connection, (item.where for item in chunk))
                yield _preferences(chunk, texts, demands, form, tally)


async def sources(url: str) -> dict[str, int]:
    """Return what a database has to export, in words, and how much of it.  Raises as `reading`."""
    async with reading(url) as connection:
        return await extract.sources(connection)


def _preferences(
    chunk: Sequence[Testimony | Labelled], texts: dict[bytes, Texts], demands: Demands, form: Format, tally: Tally
) -> Exported:
    records, prompts = [], []
    for item in chunk:
        what = known(item, demands) if isinstance(item, Labelled) else preferred(item.calls, demands)
        if isinstance(what, str):
            tally.left_out[what] += 1
            continue
        pair = texts[item.where.pair_key]
        tally.transcripts += form == "text" and pair.conversational
        records.append(preference_record(item, what, pair, form))
        prompts.append(item.where.prompt)
        tally.add(item.where.pair_key, what.side)
    return Exported(records=records, prompts=prompts)


async def calls(url: str, selection: Selection, tally: Tally) -> AsyncGenerator[Exported, None]:
    """Yield every reply with its pair's texts, in the order of pair keys.  Raises as `reading`."""
    async with reading(url) as connection, aclosing(_chunks(extract.testimonies(connection, selection))) as chunks:
        async for chunk in chunks:
            texts = await extract.texts(connection, (item.where for item in chunk))
            whole = await extract.whole_calls(connection, [call.key for item in chunk for call in item.calls])
            found = [(item, whole[call.key]) for item in chunk for call in item.calls]
            tally.written += len(found)
            yield Exported(
                records=[call_record(call, item.judge, _texts(texts[call.pair_key])) for item, call in found],
                prompts=[item.where.prompt for item, _ in found],
            )


async def outcomes(url: str, selection: Selection, tally: Tally) -> AsyncGenerator[Exported, None]:
    """Yield what a run decided, in the order of pair keys; texts are null where no verdict ever brought them in.  Raises as `reading`."""
    async with reading(url) as connection, aclosing(_chunks(extract.decisions(connection, selection))) as chunks:
        async for chunk in chunks:
            texts = await extract.texts(connection, (where for _, _, where in chunk if where is not None))
            tally.written += len(chunk)
            yield Exported(
                records=[_outcome(step, made, texts.get(made.pair_key)) for step, made, _ in chunk],
                prompts=[None if where is None else where.prompt for _, _, where in chunk],
            )


def _texts(texts: Texts | None) -> dict[str, Any]:
    return {
        "prompt": texts and texts.body,
        "conversational": texts and texts.conversational,
        "response_a": texts and texts.low,
        "response_b": texts and texts.high,
    }


def _outcome(step: int, made: Decision, texts: Texts | None) -> dict[str, Any]:
    told = {name: getattr(made, name) for name in OUTCOME_COLUMNS if hasattr(made, name)}
    return {"step": step, **_texts(texts), **told, "pair_key": made.pair_key.hex()}


async def _chunks(items: AsyncGenerator[Item, None]) -> AsyncGenerator[list[Item], None]:
    chunk: list[Item] = []
    async with aclosing(items):
        async for item in items:
            chunk.append(item)
            if len(chunk) == PAIRS_AT_A_TIME:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def held_out(prompt: bytes, share: float) -> bool:
    """Whether a prompt belongs to the part that is held out: about `share` of all prompts, by their hash alone."""
    return int.from_bytes(prompt[:8]) < share * 2**64
