"""Rows of whatever was recorded, gathered into the columns of a trace."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from judgeflow.replay.selection import Design, Draw, Log
from judgeflow.replay.trace import CANONICAL, NO_REPLY, STATUSES, SWAPPED, Bools, Bytes, Repetitions, Testimony, Trace
from judgeflow.store.identities import names
from judgeflow.types import JudgeIdentity, Preference, Reading, ReadingStatus, Usage

_OK = STATUSES.index(ReadingStatus.OK)
NAN = float("nan")


@dataclass(slots=True)
class _Said:
    """The replies of one judge: the number of the question (2 x pair + order), and what was said, reply by reply."""

    judge: JudgeIdentity
    place: array[int] = field(default_factory=lambda: array("q"))
    status: array[int] = field(default_factory=lambda: array("b"))
    preferred: array[int] = field(default_factory=lambda: array("b"))
    strong: array[int] = field(default_factory=lambda: array("b"))
    prompt_tokens: array[int] = field(default_factory=lambda: array("q"))
    completion_tokens: array[int] = field(default_factory=lambda: array("q"))
    usd: array[float] = field(default_factory=lambda: array("d"))
    latency_s: array[float] = field(default_factory=lambda: array("d"))

    def testimony(self, pairs: int, log: Log) -> Testimony:
        """Return it as columns.  Of several replies to a question the first that was understood counts, else the last."""
        place, status = np.array(self.place, dtype=np.intp), np.array(self.status, dtype=np.int8)
        fails = np.array(status != _OK)
        order = np.arange(len(place))
        # Later entries are written over earlier ones: those that were not understood first, then the others backwards.
        written = np.lexsort((np.where(fails, order, -order), ~fails))

        def column(values: array[int] | array[float], kind: type, empty: float = 0) -> Any:
            flat: Any = np.full(2 * pairs, empty, dtype=kind)
            flat[place[written]] = np.array(values)[written]
            return flat.reshape(pairs, 2)

        statuses = column(self.status, np.int8, NO_REPLY)
        return Testimony(
            judge=self.judge,
            statuses=statuses,
            preferred=column(self.preferred, np.int8),
            strong=column(self.strong, np.bool_),
            prompt_tokens=column(self.prompt_tokens, np.int64),
            completion_tokens=column(self.completion_tokens, np.int64),
            usd=column(self.usd, np.float64),
            latency_s=column(self.latency_s, np.float64),
            chances=log.chances({self.judge.fingerprint}, (statuses != NO_REPLY).any(axis=1)),
            repetitions=self._repetitions(place, status),
        )

    def _repetitions(self, place: NDArray[np.intp], status: Bytes) -> Repetitions | None:
        """Return every reply, those to one question in the order in which they came; None where none was asked again."""
        order = np.argsort(place, kind="stable")
        ordered = place[order]
        begins = np.flatnonzero(np.diff(ordered, prepend=-1))
        if len(begins) == len(ordered):
            return None
        turn = np.arange(len(ordered)) - np.repeat(begins, np.diff(begins, append=len(ordered)))
        places, row = np.unique(np.stack([ordered // 2, turn], axis=1), axis=0, return_inverse=True)
        at = row.ravel(), ordered % 2
        statuses, preferred = np.full((len(places), 2), NO_REPLY, dtype=np.int8), np.zeros((len(places), 2), dtype=np.int8)
        statuses[at], preferred[at] = status[order], np.array(self.preferred, dtype=np.int8)[order]
        return Repetitions(pairs=places[:, 0], statuses=statuses, preferred=preferred)


class Gathering:
    """A trace in the making.  Pairs are known by their key; a pair that comes again stays where it was first."""

    def __init__(self) -> None:
        self.index: dict[bytes, int] = {}
        self._prompts: dict[bytes, int] = {}
        self._prompt, self._step, self._swapped, self._placed = array("q"), array("q"), array("b"), array("b")
        self._logit, self._doubt, self._truth = array("d"), array("d"), array("d")
        self._categories: dict[int, str] = {}
        self._said: dict[bytes, _Said] = {}
        self._draws: dict[int, list[Draw]] = {}

    def add(self, key: bytes, prompt: bytes | None, *, swapped: bool | None = None, step: int = -1) -> bool:
        """Add a pair; return whether it is new.  A pair whose prompt is not known counts as a prompt of its own.

        `swapped`: whether it was given with its canonical order exchanged; None: nobody knows.
        """
        if key in self.index:
            return False
        self.index[key] = len(self.index)
        self._prompt.append(self._prompts.setdefault(prompt or key, len(self._prompts)))
        self._step.append(step)
        self._swapped.append(swapped is True)
        self._placed.append(swapped is not None)
        for column in (self._logit, self._doubt, self._truth):
            column.append(NAN)
        return True

    def believe(self, key: bytes, belief: Preference) -> None:
        """Note what the scorer thinks of a pair that is there, in canonical order."""
        index = self.index.get(key)
        if index is not None:
            self._logit[index] = belief.logit
            self._doubt[index] = NAN if belief.uncertainty is None else belief.uncertainty

    def label(self, key: bytes, preferred: int, category: str | None) -> None:
        """Note which response is better: 1 the first of the canonical order, -1 the second, 0 neither."""
        index = self.index.get(key)
        if index is not None:
            self._truth[index] = (preferred + 1) / 2
            self.file(key, category)

    def file(self, key: bytes, category: str | None) -> None:
        """Note what kind of pair it is."""
        if category is not None and key in self.index:
            self._categories[self.index[key]] = category

    def draw(self, key: bytes, draw: Draw) -> None:
        """Note what a run has decided about a pair, the earliest first."""
        index = self.index.get(key)
        if index is not None:
            self._draws.setdefault(index, []).append(draw)

    def hear(
        self, judge: JudgeIdentity, key: bytes, *, canonical: bool, reading: Reading, usage: Usage, usd: float, latency_s: float
    ) -> None:
        """Note a reply about a pair that is there."""
        index = self.index.get(key)
        if index is None:
            return
        said = self._said.setdefault(judge.fingerprint, _Said(judge))
        said.place.append(2 * index + (CANONICAL if canonical else SWAPPED))
        said.status.append(STATUSES.index(reading.status))
        said.preferred.append((reading.preferred or 0) * (1 if canonical else -1))
        said.strong.append(reading.strong)
        said.prompt_tokens.append(usage.prompt)
        said.completion_tokens.append(usage.completion)
        said.usd.append(usd)
        said.latency_s.append(latency_s)

    def trace(self, source: str, scorer: str | None, designs: Mapping[str, Design] | None = None) -> Trace:
        """Return the trace of everything that was noted; `designs` tell by run whom it has asked."""
        pairs = len(self.index)
        log = Log(draws=self._draws, designs=designs or {})
        called = names({key: said.judge for key, said in self._said.items()})
        testimonies = {called[key]: said.testimony(pairs, log) for key, said in self._said.items()}
        placed = np.array(self._placed, dtype=np.bool_)
        return Trace(
            source=source,
            scorer=scorer,
            keys=tuple(self.index),
            prompts=np.array(self._prompt, dtype=np.intp),
            logits=np.array(self._logit),
            uncertainties=np.array(self._doubt),
            truth=np.array(self._truth),
            swapped=np.array(self._swapped, dtype=np.bool_) | (~placed & _shown_swapped_alone(testimonies.values(), pairs)),
            placed=placed,
            steps=np.array(self._step, dtype=np.int64),
            testimonies=testimonies,
            categories=tuple(map(self._categories.get, range(pairs))) if self._categories else None,
            log=log,
        )


def _shown_swapped_alone(testimonies: Iterable[Testimony], pairs: int) -> Bools:
    """Which pairs every judge that has seen them has seen with the canonical order exchanged, and in no other."""
    shown = np.zeros((pairs, 2), dtype=bool)
    for testimony in testimonies:
        shown |= testimony.replied
    return np.asarray(shown[:, SWAPPED] & ~shown[:, CANONICAL])
