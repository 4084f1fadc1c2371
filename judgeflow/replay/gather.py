"""Rows of whatever was recorded, gathered into the columns of a trace."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from judgeflow.replay.trace import CANONICAL, NO_REPLY, STATUSES, SWAPPED, Testimony, Trace
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

    def testimony(self, pairs: int) -> Testimony:
        """Return it as columns.  Of several samples of a question the first that was understood counts, else the last."""
        place, status = np.array(self.place, dtype=np.intp), np.array(self.status, dtype=np.int8)
        fails = np.array(status != _OK)
        order = np.arange(len(place))
        # Later entries are written over earlier ones: those that were not understood first, then the others backwards.
        written = np.lexsort((np.where(fails, order, -order), ~fails))

        def column(values: array[int] | array[float], kind: type, empty: float = 0) -> Any:
            flat: Any = np.full(2 * pairs, empty, dtype=kind)
            flat[place[written]] = np.array(values)[written]
            return flat.reshape(pairs, 2)

        return Testimony(
            judge=self.judge,
            statuses=column(self.status, np.int8, NO_REPLY),
            preferred=column(self.preferred, np.int8),
            strong=column(self.strong, np.bool_),
            prompt_tokens=column(self.prompt_tokens, np.int64),
            completion_tokens=column(self.completion_tokens, np.int64),
            usd=column(self.usd, np.float64),
            latency_s=column(self.latency_s, np.float64),
        )


class Gathering:
    """A trace in the making.  Pairs are known by their key; a pair that comes again stays where it was first."""

    def __init__(self) -> None:
        self.index: dict[bytes, int] = {}
        self._prompts: dict[bytes, int] = {}
        self._prompt, self._step, self._swapped = array("q"), array("q"), array("b")
        self._logit, self._doubt, self._truth, self._never = array("d"), array("d"), array("d"), array("d")
        self._categories: dict[int, str] = {}
        self._said: dict[str, _Said] = {}
        self._drawn: set[int] = set()

    def add(self, key: bytes, prompt: bytes | None, *, swapped: bool = False, step: int = -1) -> bool:
        """Add a pair; return whether it is new.  A pair whose prompt is not known counts as a prompt of its own."""
        if key in self.index:
            return False
        self.index[key] = len(self.index)
        self._prompt.append(self._prompts.setdefault(prompt or key, len(self._prompts)))
        self._step.append(step)
        self._swapped.append(swapped)
        for column in (self._logit, self._doubt, self._truth):
            column.append(NAN)
        self._never.append(1.0)
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

    def draw(self, key: bytes, propensity: float) -> None:
        """Note that a run asked about the pair with this probability; runs draw independently of each other."""
        index = self.index.get(key)
        if index is not None:
            self._never[index] *= 1.0 - propensity
            self._drawn.add(index)

    def hear(
        self,
        name: str,
        judge: JudgeIdentity,
        key: bytes,
        *,
        canonical: bool,
        reading: Reading,
        usage: Usage,
        usd: float,
        latency_s: float,
    ) -> None:
        """Note a reply about a pair that is there."""
        index = self.index.get(key)
        if index is None:
            return
        said = self._said.setdefault(name, _Said(judge))
        said.place.append(2 * index + (CANONICAL if canonical else SWAPPED))
        said.status.append(STATUSES.index(reading.status))
        said.preferred.append((reading.preferred or 0) * (1 if canonical else -1))
        said.strong.append(reading.strong)
        said.prompt_tokens.append(usage.prompt)
        said.completion_tokens.append(usage.completion)
        said.usd.append(usd)
        said.latency_s.append(latency_s)

    def trace(self, source: str, scorer: str | None) -> Trace:
        """Return the trace of everything that was noted."""
        pairs = len(self.index)
        testimonies = {name: said.testimony(pairs) for name, said in self._said.items()}
        return Trace(
            source=source,
            scorer=scorer,
            keys=tuple(self.index),
            prompts=np.array(self._prompt, dtype=np.intp),
            logits=np.array(self._logit),
            uncertainties=np.array(self._doubt),
            truth=np.array(self._truth),
            propensities=self._propensities(testimonies),
            swapped=np.array(self._swapped, dtype=np.bool_),
            steps=np.array(self._step, dtype=np.int64),
            testimonies=testimonies,
            categories=tuple(map(self._categories.get, range(pairs))) if self._categories else None,
        )

    def _propensities(self, testimonies: dict[str, Testimony]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """1 less the chance that no run asked; 1 for what nobody decided about, or was judged although no run would have asked."""
        chance = 1.0 - np.array(self._never)
        drawn = np.zeros(len(chance), dtype=bool)
        drawn[list(self._drawn)] = True
        judged = np.zeros(len(chance), dtype=bool)
        for testimony in testimonies.values():
            judged |= testimony.replied.any(axis=1)
        return np.where(~drawn | (judged & (chance <= 0.0)), 1.0, chance)
