"""One training run over one network: every member's descent, then what becomes exact once the weights are final."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeflow.model.calibration import Calibration
from judgeflow.model.config import ModelConfig, TrainingConfig
from judgeflow.model.data import Examples, halves_by_prompt, make_examples, split_by_prompt
from judgeflow.model.loop import Descent, Lesson, put_trained
from judgeflow.model.measure import cross_fitted, raw_scores
from judgeflow.model.network import Network, RawScores
from judgeflow.model.quality import Quality
from judgeflow.model.reading import Reader, Reading
from judgeflow.model.resume import Keeper, State
from judgeflow.model.texts import FrozenTexts, Texts, TrainedTexts, finish_bodies, prepare_bodies
from judgeflow.model.watch import Watch
from judgeflow.types import Pair

_PREPARATION_PAIRS = 1000
NOT_KEPT = Keeper(None, "", 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """What training found.

    `tokens` were read of each distinct text, `cut` did not fit; `known_share` is d_eff / D, `prior_precision` tau and
    `length_scale` that of the uncertainty's kernel (None where nothing like it is fitted); `logit_std` is the standard deviation of the
    raw logits of held-out pairs; `seconds` are wall-clock, of this process.

    `validation` is measured on held-out prompts, each half of them calibrated by the other; `calibration` is fitted on all.  With an early
    stop the held-out pairs have chosen the weights, and with tuning the spectral bound: `validation` is somewhat optimistic then, the
    more so the fewer pairs are held out and the more often they were asked.
    """

    pairs: int
    prompts: int
    validation_pairs: int
    ties: int
    steps: int
    tokens: int
    cut: int
    known_share: float | None
    prior_precision: float | None
    length_scale: float | None
    logit_std: float
    calibration: Calibration
    validation: Quality
    device: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Material:
    """What there is to learn from: pairs with whole prompts held out, and their distinct texts, read."""

    learning: Sequence[Pair]
    held_out: Sequence[Pair]
    reading: Reading
    known: Examples
    new: Examples


def gather(pairs: Sequence[Pair], reader: Reader, model: ModelConfig, settings: TrainingConfig) -> Material:
    """Split labelled pairs and read their texts.  Raises `UsageError` if they are too few."""
    learning, held_out = split_by_prompt(pairs, settings.validation_share, settings.seed)
    compared, examples = make_examples([*learning, *held_out], model)
    known, new = examples.part(slice(len(learning))), examples.part(slice(len(learning), None))
    return Material(learning, held_out, reader.read(compared.texts), known, new)


class Trainer:
    """Trains one network, which it leaves in evaluation mode."""

    def __init__(
        self, network: Network, settings: TrainingConfig, most_tokens: int, *, watch: Watch | None = None, keeper: Keeper = NOT_KEPT
    ) -> None:
        self._network = network
        self._settings = settings
        self._most_tokens = most_tokens
        self._watch = watch or Watch()
        self._keeper = keeper

    def run(self, material: Material, *, table: Tensor | None = None, state: State | None = None) -> TrainingReport:
        """Train, or go on from `state`, and return what was found.  Raises `UsageError` if the loss diverges.

        `table` has the embeddings of all texts by a frozen body, texts x width, if they are known already.
        """
        started = time.monotonic()
        steps, embeddings = self.fit(material, table=table, state=state)
        self._watch.progress("measuring", 0, 1)
        few = material.known.evenly(self._settings.precision_pairs)
        posterior = self._network.know(embeddings[0], few.first, few.second, few.strength)
        raw = self.measure(material, embeddings)
        half = halves_by_prompt(material.held_out, self._settings.seed)
        calibration, found = cross_fitted(raw, material.new, half, sampled=self._network.samples > 1)
        self._watch.progress("measuring", 1, 1)
        pairs = [*material.learning, *material.held_out]
        return TrainingReport(
            pairs=len(material.learning),
            prompts=len({pair.prompt for pair in pairs}),
            validation_pairs=len(material.held_out),
            ties=sum(pair.label == "tie" for pair in pairs),
            steps=steps,
            tokens=sum(map(len, material.reading.rows)),
            cut=sum(row.cut for row in material.reading.rows),
            known_share=None if posterior is None else posterior.known_share,
            prior_precision=None if posterior is None else posterior.tau,
            length_scale=None if posterior is None else posterior.length_scale,
            logit_std=logit_std(raw),
            calibration=calibration,
            validation=found,
            device=str(self._network.encoder.device),
            seconds=time.monotonic() - started,
        )

    def fit(self, material: Material, *, table: Tensor | None = None, state: State | None = None) -> tuple[int, Tensor]:
        """Train every member; return the number of steps and the embeddings of all texts, one pass for each trained body."""
        self._network.eval()
        if self._settings.trains_body:
            prepare_bodies(self._network, self._settings)
        elif table is None:
            table = self.embed(material.reading)
        if state is not None:
            put_trained(self._network, state)
        steps = self._descend(material, table, state)
        if table is None:
            finish_bodies(self._network, self._settings)
        tables = [table] if table is not None else [self.embed(material.reading, member) for member in range(self._network.members)]
        few = material.known.evenly(self._settings.precision_pairs)
        for member in range(self._network.members):
            self._network.settle(tables[member % len(tables)], few.first, few.second, member)
        return steps, torch.stack(tables)

    def measure(self, material: Material, embeddings: Tensor) -> RawScores:
        """Return the raw scores of the held-out pairs."""
        return raw_scores(self._network, material.reading, embeddings, material.new, self._most_tokens)

    def embed(self, reading: Reading, member: int = 0) -> Tensor:
        """Return embeddings of texts by the body of `member`, n x width."""
        return self._network.embed_plain(reading, self._most_tokens, member=member, tell=self._watch.reading)

    def _descend(self, material: Material, table: Tensor | None, state: State | None) -> int:
        finished = [] if state is None else list(state.finished)
        for member in range(len(finished), self._network.members):
            texts: Texts
            if table is not None:
                texts = FrozenTexts(table)
            else:
                texts = TrainedTexts(self._network, material.reading, member, self._settings, self._most_tokens)
            here = state if state is not None and state.member == member else None
            if here is None:
                self._prepare(member, material, texts)
            lesson = Lesson(member, self._lesson_pairs(member, material.known), material.new, texts)
            finished.append(Descent(self._network, self._settings, lesson, self._watch, self._keeper).run(tuple(finished), here))
        return sum(finished)

    def _lesson_pairs(self, member: int, known: Examples) -> Examples:
        """Return what a member learns from.

        Linear heads over one frozen body would all find the same weights; so each draws pairs with replacement (bagging, Breiman 1996).
        """
        if self._network.members == 1 or self._settings.trains_body:
            return known
        generator = torch.Generator().manual_seed(self._settings.seed + member)
        return known.part(torch.randint(len(known), (len(known),), generator=generator))

    def _prepare(self, member: int, material: Material, texts: Texts) -> None:
        frozen = isinstance(texts, FrozenTexts)
        few = material.known.evenly(self._settings.precision_pairs if frozen else _PREPARATION_PAIRS)
        chosen, places = torch.cat([few.first, few.second]).unique(return_inverse=True)
        first, second = places.chunk(2)
        self._network.prepare(texts.embed_plain(chosen), first, second, member)


def logit_std(raw: RawScores) -> float:
    """Return the standard deviation of raw logits around 0 (which of two responses stands first is chance)."""
    return float(raw.logits.double().square().mean().sqrt())
