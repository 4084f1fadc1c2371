"""Training: labelled pairs to a scorer.

Logistic (Bradley-Terry) loss on the raw logit, times the pair's strength; a tie is a label half-way.  Both orders of a pair are trained
at once (a siamese network is odd in its responses, a concat one reads both), so it does not matter which of them stands first.  When the
weights are final, bounds and standardisation become exact, the posterior precision is summed over the training pairs in one clean pass,
and calibration and quality are measured on prompts that training has not seen.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from judgeflow.errors import ConfigurationError, ScorerError, UsageError
from judgeflow.model.backbone import load_backbone
from judgeflow.model.calibration import Calibration, calibrate
from judgeflow.model.checkpoint import save
from judgeflow.model.config import ModelConfig, TrainingConfig
from judgeflow.model.data import TARGETS, Examples, labelled, make_examples, orders, split_by_prompt
from judgeflow.model.encoder import longest_input
from judgeflow.model.layout import MARKERS, Layout, prompt_text
from judgeflow.model.network import Network, out_of_memory
from judgeflow.model.quality import Quality, quality
from judgeflow.model.reading import Reader, Reading
from judgeflow.model.scorer import SngpScorer, batch_tokens, choose_device
from judgeflow.model.scratch import character_tokenizer, small_bert
from judgeflow.types import Pair

SCRATCH = "scratch"
_PREPARATION_PAIRS = 1000
_MEMBER_SEEDS = 7919

Progress = Callable[[str, int, int], None]
"""Is told (what is going on, how much of it is done, how much there is)."""


def silent(activity: str, done: int, total: int) -> None:
    """The progress of a run that nobody watches."""
    del activity, done, total


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """What training found.

    `tokens` were read of each distinct text, `cut` did not fit; `known_share` is d_eff / D, `prior_precision` tau and
    `length_scale` that of the uncertainty's kernel (None where nothing like it is fitted); `seconds` are wall-clock.
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
    calibration: Calibration
    validation: Quality
    device: str
    seconds: float


def train(
    pairs: Sequence[Pair],
    out: Path,
    *,
    backbone: str = SCRATCH,
    model: ModelConfig | None = None,
    training: TrainingConfig | None = None,
    device: str = "auto",
    max_batch_tokens: int | None = None,
    progress: Progress = silent,
) -> tuple[SngpScorer, TrainingReport]:
    """Train a scorer on labelled pairs, write it to `out`, and return it with what training found.

    `backbone` is a local folder, a hub name, or "scratch" for a small character-level BERT.  A row is never longer than the backbone
    can take.  Raises `UsageError` for pairs that nothing can be learned from and for a run that diverges, `ConfigurationError` for a
    backbone that cannot be used.
    """
    settings, shape = training or TrainingConfig(), model or ModelConfig()
    usable = labelled(pairs)
    where = choose_device(device)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        bodies, tokenizer = make_bodies(backbone, usable, shape, trained=settings.backbone_lr is not None)
        longest = longest_input(bodies[0]) or shape.max_tokens
        shape = dataclasses.replace(shape, max_tokens=min(shape.max_tokens, longest))
        reader = Reader(Layout(tokenizer, shape.max_tokens), shape)
        network = Network(bodies, reader.layout.padding, shape)
        _try_out(network, reader, backbone)
        network.to(where)
        trainer = Trainer(network, reader, settings, batch_tokens(where, max_batch_tokens))
        report = trainer.run(usable, progress)
    fingerprint = save(out, network, tokenizer, calibration=report.calibration, training=_record(backbone, settings, report))
    scorer = SngpScorer(network, reader, report.calibration, name=fingerprint[:16], max_batch_tokens=max_batch_tokens)
    return scorer, report


def _try_out(network: Network, reader: Reader, backbone: str) -> None:
    """Read one row of the greatest length.  Raises `ConfigurationError` for a body that cannot: it is of a foreign kind, say."""
    longest = reader.longest()
    try:
        network.eval().embed_plain(longest, 1)
    except Exception as error:  # whatever a foreign architecture raises, it cannot be used
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ConfigurationError(f"--backbone {backbone}: cannot read a text of {len(longest.rows[0])} tokens: {reason}") from None


def make_bodies(source: str, pairs: Sequence[Pair], model: ModelConfig, *, trained: bool) -> tuple[list[nn.Module], Any]:
    """Return the bodies that a model needs, and their tokenizer: one, or those of an ensemble whose bodies are `trained`.

    Bodies from scratch start from different weights, loaded ones from the same.
    """
    count = model.members if model.uncertainty == "ensemble" and trained else 1
    if source != SCRATCH:
        loaded = [load_backbone(source) for _ in range(count)]
        return [body for body, _ in loaded], loaded[0][1]
    texts = (text for pair in pairs for text in (prompt_text(pair.prompt), pair.response_a, pair.response_b))
    tokenizer = character_tokenizer((*texts, *MARKERS), model.max_tokens)
    dropout = model.dropout if model.uncertainty == "mc-dropout" else 0.0
    return [small_bert(len(tokenizer), model.max_tokens, dropout=dropout) for _ in range(count)], tokenizer


def _record(backbone: str, settings: TrainingConfig, report: TrainingReport) -> dict[str, Any]:
    return {"backbone": backbone, **dataclasses.asdict(settings), **dataclasses.asdict(report)}


class Trainer:
    """One training run over one network, which it leaves in evaluation mode."""

    def __init__(self, network: Network, reader: Reader, training: TrainingConfig, most_tokens: int) -> None:
        self._network = network
        self._reader = reader
        self._training = training
        self._most_tokens = most_tokens

    def run(self, pairs: Sequence[Pair], progress: Progress = silent) -> TrainingReport:
        """Train on labelled pairs and return what was found.  Raises `UsageError` if the pairs do not do, or the loss diverges."""
        started = time.monotonic()
        learning, held_out = split_by_prompt(pairs, self._training.validation_share, self._training.seed)
        compared, examples = make_examples([*learning, *held_out], self._network.config)
        reading = self._reader.read(compared.texts)
        known, new = examples.part(slice(len(learning))), examples.part(slice(len(learning), None))
        steps, embeddings = self._fit(reading, known, progress)
        progress("measuring", 0, 1)
        few = known.evenly(self._training.precision_pairs)
        posterior = self._network.know(embeddings[0], few.first, few.second)
        calibration, found = self._judge(reading, embeddings, new)
        progress("measuring", 1, 1)
        return TrainingReport(
            pairs=len(learning),
            prompts=len({pair.prompt for pair in pairs}),
            validation_pairs=len(held_out),
            ties=sum(pair.label == "tie" for pair in pairs),
            steps=steps,
            tokens=sum(map(len, reading.rows)),
            cut=sum(row.cut for row in reading.rows),
            known_share=None if posterior is None else posterior.known_share,
            prior_precision=None if posterior is None else posterior.tau,
            length_scale=None if posterior is None else posterior.length_scale,
            calibration=calibration,
            validation=found,
            device=str(self._network.encoder.device),
            seconds=time.monotonic() - started,
        )

    def _fit(self, reading: Reading, examples: Examples, progress: Progress) -> tuple[int, Tensor]:
        """Train every member; return the number of steps and the embeddings of all texts, one pass for each trained body."""
        self._network.eval()
        frozen = self._training.backbone_lr is None
        tables = [self._embed(reading, 0, progress)] if frozen else []
        steps = 0
        for member in range(self._network.members):
            if frozen:
                steps += self._fit_head(member, tables[0], examples, progress)
            else:
                steps += self._fit_whole(member, reading, examples, progress)
                tables.append(self._embed(reading, member, progress))
            few = examples.evenly(self._training.precision_pairs)
            self._network.settle(tables[-1], few.first, few.second, member)
        return steps, torch.stack(tables)

    def _fit_head(self, member: int, table: Tensor, examples: Examples, progress: Progress) -> int:
        self._network.prepare(table, examples.first, examples.second, member)
        return self._descend(member, examples, lambda texts: table[texts], progress)

    def _fit_whole(self, member: int, reading: Reading, examples: Examples, progress: Progress) -> int:
        few = examples.evenly(_PREPARATION_PAIRS)
        texts, places = torch.cat([few.first, few.second]).unique(return_inverse=True)
        sample = self._network.embed_plain(reading.part(texts.tolist()), self._most_tokens, member=member)
        first, second = places.chunk(2)
        self._network.prepare(sample, first, second, member)
        steps = self._descend(member, examples, lambda texts: self._network.encode(reading.part(texts.tolist()), member), progress)
        self._network.eval()
        return steps

    def _embed(self, reading: Reading, member: int, progress: Progress) -> Tensor:
        def tell(done: int, total: int) -> None:
            progress("reading", done, total)

        return self._network.embed_plain(reading, self._most_tokens, member=member, tell=tell)

    def _descend(self, member: int, examples: Examples, embed: Callable[[Tensor], Tensor], progress: Progress) -> int:
        """Minimise the loss of one member; `embed` gives the embeddings of texts, n x width."""
        settings = self._training
        total = max(1, round(settings.epochs * len(examples) / settings.batch))
        optimiser, schedule = self._optimiser(member, total)
        self._network.train()
        seed = settings.seed + _MEMBER_SEEDS * member
        for step, chosen in zip(range(1, total + 1), orders(len(examples), settings.batch, seed), strict=False):
            optimiser.zero_grad(set_to_none=True)
            with _told_of_memory():
                loss = self._loss(member, examples.part(chosen), embed)
                loss.backward()
            nn.utils.clip_grad_norm_(self._network.parameters(), settings.clip)
            optimiser.step()
            schedule.step()
            if not math.isfinite(loss.item()):
                raise UsageError(f"training diverged: the loss of step {step} is {loss.item()}; try a smaller --lr")
            progress("training", member * total + step, self._network.members * total)
        return total

    def _loss(self, member: int, batch: Examples, embed: Callable[[Tensor], Tensor]) -> Tensor:
        texts, places = torch.cat([batch.first, batch.second]).unique(return_inverse=True)
        embeddings = self._network.noisy(embed(texts))
        first, second = places.to(embeddings.device).chunk(2)
        views = self._network.judge(embeddings, first, second, member)
        logits = torch.stack([view.logit for view in views])
        target, strength = (part.to(logits).expand_as(logits) for part in (batch.target, batch.strength))
        return nn.functional.binary_cross_entropy_with_logits(logits, target, weight=strength)

    def _optimiser(self, member: int, total: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        settings, network = self._training, self._network
        groups: list[dict[str, Any]] = [{"params": list(network.heads[member].parameters()), "lr": settings.lr}]
        if settings.backbone_lr is not None:
            groups.append({"params": list(network.encoders[member].parameters()), "lr": settings.backbone_lr})
        optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        warm = max(1, round(settings.warmup * total))

        def rate(step: int) -> float:
            return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)

    def _judge(self, reading: Reading, embeddings: Tensor, examples: Examples) -> tuple[Calibration, Quality]:
        """Calibrate and measure on held-out pairs."""
        if self._network.samples > len(embeddings):  # MC dropout: held-out texts are read once for each sample
            texts, places = torch.cat([examples.first, examples.second]).unique(return_inverse=True)
            embeddings = self._network.embed(reading.part(texts.tolist()), self._most_tokens)
            first, second = places.chunk(2)
            raw = self._network.compare(embeddings, first, second)
        else:
            raw = self._network.compare(embeddings, examples.first, examples.second)
        if not bool(torch.isfinite(raw.logits).all()):
            raise ScorerError("the trained network gives no finite numbers; train again with a smaller --lr")
        calibration = calibrate(raw.logits, raw.variances, examples.target, sampled=self._network.samples > 1)
        s, u = calibration.apply(raw.logits, raw.variances)
        decided = examples.target != TARGETS["tie"]
        return calibration, quality(s[decided].tolist(), u[decided].tolist(), (examples.target[decided] == TARGETS["a"]).tolist())


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """Say what to do about a step that does not fit into memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UsageError("a training step does not fit into memory; try a smaller --batch or --max-tokens") from error
