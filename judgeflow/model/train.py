"""Training: labelled pairs to a scorer.

Logistic (Bradley-Terry) loss on the raw logit; a tie is a label half-way.  The network is odd in its two responses, so a pair trains
both orders at once, and it does not matter which of them stands first.  When the weights are final, bounds and standardisation become
exact, the posterior precision is summed over the training pairs in one clean pass, and calibration and quality are measured on
prompts that training has not seen.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from judgeflow.errors import ConfigurationError, ScorerError, UsageError
from judgeflow.keys import prompt_hash
from judgeflow.model.calibration import Calibration, calibrate
from judgeflow.model.checkpoint import save
from judgeflow.model.config import ModelConfig, TrainingConfig
from judgeflow.model.encoder import Layout, TokenRow, load_backbone, longest_input, prompt_text
from judgeflow.model.network import Network, out_of_memory
from judgeflow.model.quality import Quality, quality
from judgeflow.model.scorer import SngpScorer, batch_tokens, choose_device
from judgeflow.model.scratch import character_tokenizer, small_bert
from judgeflow.model.uncertainty import Posterior
from judgeflow.types import Pair, Prompt

SCRATCH = "scratch"
TARGETS = {"a": 1.0, "tie": 0.5, "b": 0.0}

Progress = Callable[[str, int, int], None]
"""Is told (what is going on, how much of it is done, how much there is)."""


def silent(activity: str, done: int, total: int) -> None:
    """The progress of a run that nobody watches."""
    del activity, done, total


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingReport:
    """What training found.

    `tokens` were read of each distinct text, `cut` did not fit; `known_share` is d_eff / D, `prior_precision` tau and
    `length_scale` that of the uncertainty's kernel, in units of the standardised context; `seconds` are wall-clock.
    """

    pairs: int
    prompts: int
    validation_pairs: int
    ties: int
    steps: int
    tokens: int
    cut: int
    known_share: float
    prior_precision: float
    length_scale: float
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
        body, tokenizer = _backbone(backbone, usable, shape.max_tokens)
        shape = dataclasses.replace(shape, max_tokens=min(shape.max_tokens, longest_input(body) or shape.max_tokens))
        layout = Layout(tokenizer, shape.max_tokens)
        network = Network(body, layout.padding, shape)
        _try_out(network, layout, backbone)
        network.to(where)
        trainer = Trainer(network, layout, shape, settings, batch_tokens(where, max_batch_tokens))
        report = trainer.run(usable, progress)
    fingerprint = save(out, network, tokenizer, model=shape, calibration=report.calibration, training=_record(backbone, settings, report))
    scorer = SngpScorer(network, layout, report.calibration, name=fingerprint[:16], max_batch_tokens=max_batch_tokens)
    return scorer, report


def _try_out(network: Network, layout: Layout, backbone: str) -> None:
    """Read one row of the greatest length.  Raises `ConfigurationError` for a body that cannot: no encoder, or one with fewer positions."""
    try:
        network.eval().embed([layout.longest()], 1)
    except Exception as error:  # whatever a foreign architecture raises, it cannot be used
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ConfigurationError(f"--backbone {backbone}: cannot read a text of {len(layout.longest())} tokens: {reason}") from None


def _backbone(source: str, pairs: Sequence[Pair], max_tokens: int) -> tuple[nn.Module, Any]:
    if source != SCRATCH:
        return load_backbone(source)
    texts = (text for pair in pairs for text in (prompt_text(pair.prompt), pair.response_a, pair.response_b))
    tokenizer = character_tokenizer(texts, max_tokens)
    return small_bert(len(tokenizer), max_tokens), tokenizer


def _record(backbone: str, settings: TrainingConfig, report: TrainingReport) -> dict[str, Any]:
    return {"backbone": backbone, **dataclasses.asdict(settings), **dataclasses.asdict(report)}


def labelled(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs with a label.  Raises `UsageError` if there is nothing to learn from them."""
    found = [pair for pair in pairs if pair.label is not None]
    if not found:
        raise UsageError(f"none of the {len(pairs)} pairs has a label; a training record needs label: a, b or tie")
    if all(pair.label == "tie" for pair in found):
        raise UsageError(f"all {len(found)} labels are ties: there is no preference to learn")
    return found


def split_by_prompt(pairs: Sequence[Pair], share: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Return (training, validation): every prompt's pairs stand on one side, about `share` of the prompts on the second.

    The split depends on the seed and the prompts alone.  Raises `UsageError` if either side would have no preference in it.
    """
    hashes = [prompt_hash(pair.prompt) for pair in pairs]
    prompts = sorted(set(hashes))
    random.Random(seed).shuffle(prompts)  # noqa: S311  # a split, not a secret
    held_out = set(prompts[: max(1, round(share * len(prompts)))])
    training = [pair for pair, key in zip(pairs, hashes, strict=True) if key not in held_out]
    validation = [pair for pair, key in zip(pairs, hashes, strict=True) if key in held_out]
    for name, side in (("training", training), ("validation", validation)):
        if all(pair.label == "tie" for pair in side):
            raise UsageError(
                f"{len(pairs)} labelled pairs of {len(prompts)} prompts are too few: whole prompts are held out for validation, and "
                f"{name} would have no preference in it"
            )
    return training, validation


@dataclass(frozen=True, slots=True)
class Examples:
    """Pairs as positions of their two texts among the distinct texts, and their targets; all n."""

    first: Tensor
    second: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def part(self, chosen: slice | Tensor) -> Examples:
        """Return some of them."""
        return Examples(self.first[chosen], self.second[chosen], self.target[chosen])


class Trainer:
    """One training run over one network, which it leaves in evaluation mode."""

    def __init__(self, network: Network, layout: Layout, model: ModelConfig, training: TrainingConfig, most_tokens: int) -> None:
        self._network = network
        self._layout = layout
        self._model = model
        self._training = training
        self._most_tokens = most_tokens

    def run(self, pairs: Sequence[Pair], progress: Progress = silent) -> TrainingReport:
        """Train on labelled pairs and return what was found.  Raises `UsageError` if the pairs do not do, or the loss diverges."""
        started = time.monotonic()
        learning, held_out = split_by_prompt(pairs, self._training.validation_share, self._training.seed)
        rows, examples = self._examples([*learning, *held_out])
        known, new = examples.part(slice(len(learning))), examples.part(slice(len(learning), None))
        steps, table = self._fit(rows, known, progress)
        progress("measuring", 0, 1)
        posterior = self._know(table, known)
        calibration, found = self._judge(table, new)
        progress("measuring", 1, 1)
        return TrainingReport(
            pairs=len(learning),
            prompts=len({pair.prompt for pair in pairs}),
            validation_pairs=len(held_out),
            ties=sum(pair.label == "tie" for pair in pairs),
            steps=steps,
            tokens=sum(map(len, rows)),
            cut=sum(row.cut for row in rows),
            known_share=posterior.known_share,
            prior_precision=posterior.tau,
            length_scale=posterior.length_scale,
            calibration=calibration,
            validation=found,
            device=str(self._network.encoder.device),
            seconds=time.monotonic() - started,
        )

    def _examples(self, pairs: Sequence[Pair]) -> tuple[list[TokenRow], Examples]:
        places: dict[tuple[Prompt, str], int] = {}
        first = [places.setdefault((pair.prompt, pair.response_a), len(places)) for pair in pairs]
        second = [places.setdefault((pair.prompt, pair.response_b), len(places)) for pair in pairs]
        target = [TARGETS[pair.label or "tie"] for pair in pairs]
        return self._layout.rows(list(places)), Examples(torch.tensor(first), torch.tensor(second), torch.tensor(target))

    def _fit(self, rows: Sequence[TokenRow], examples: Examples, progress: Progress) -> tuple[int, Tensor]:
        """Train the weights; return the number of steps and the final embeddings of all rows."""
        if self._training.backbone_lr is None:
            self._network.eval()
            table = self._embed(rows, progress)
            steps = self._descend(examples, lambda texts: table[texts], progress)
        else:
            steps = self._descend(examples, lambda texts: self._network.encoder([rows[index] for index in texts.tolist()]), progress)
        self._network.head.settle()
        self._network.eval()
        return steps, table if self._training.backbone_lr is None else self._embed(rows, progress)

    def _embed(self, rows: Sequence[TokenRow], progress: Progress) -> Tensor:
        def tell(done: int, total: int) -> None:
            progress("reading", done, total)

        return self._network.embed(rows, self._most_tokens, tell=tell).clone()  # a clone can take part in differentiation

    def _descend(self, examples: Examples, embed: Callable[[Tensor], Tensor], progress: Progress) -> int:
        """Minimise the loss; `embed` gives the embeddings of texts, n x width."""
        settings = self._training
        total = max(1, round(settings.epochs * len(examples) / settings.batch))
        optimiser, schedule = self._optimiser(total)
        self._network.train()
        for step, chosen in zip(range(1, total + 1), _orders(len(examples), settings.batch, settings.seed), strict=False):
            optimiser.zero_grad(set_to_none=True)
            with _told_of_memory():
                loss = self._loss(examples.part(chosen), embed)
                loss.backward()
            nn.utils.clip_grad_norm_(self._network.parameters(), settings.clip)
            optimiser.step()
            schedule.step()
            if not math.isfinite(loss.item()):
                raise UsageError(f"training diverged: the loss of step {step} is {loss.item()}; try a smaller --lr")
            progress("training", step, total)
        return total

    def _loss(self, batch: Examples, embed: Callable[[Tensor], Tensor]) -> Tensor:
        texts, places = torch.cat([batch.first, batch.second]).unique(return_inverse=True)
        embeddings = embed(texts)
        first, second = places.to(embeddings.device).chunk(2)
        judged = self._network.head(embeddings[first], embeddings[second])
        return nn.functional.binary_cross_entropy_with_logits(judged.logit, batch.target.to(judged.logit))

    def _optimiser(self, total: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        settings = self._training
        groups: list[dict[str, Any]] = [{"params": list(self._network.head.parameters()), "lr": settings.lr}]
        if settings.backbone_lr is not None:
            groups.append({"params": list(self._network.encoder.parameters()), "lr": settings.backbone_lr})
        optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        warm = max(1, round(settings.warmup * total))

        def rate(step: int) -> float:
            return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))

        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, rate)

    def _know(self, table: Tensor, examples: Examples) -> Posterior:
        """Make the standardisation exact and fit the uncertainty, on the training pairs or an even selection of them."""
        stride = max(1, math.ceil(len(examples) / self._training.precision_pairs))
        head, few = self._network.head, examples.part(slice(None, None, stride))
        raw = self._network.raw_contexts(table, few.first, few.second)
        head.standardise_by(raw)
        return self._network.uncertainty.fit(
            head.standardise(raw),
            length_scale=self._model.uncertainty_scale,
            prior_precision=self._model.prior_precision,
            known_share=self._model.known_share,
        )

    def _judge(self, table: Tensor, examples: Examples) -> tuple[Calibration, Quality]:
        raw = self._network.compare(table, examples.first, examples.second)
        if not bool(torch.isfinite(raw.logits).all()):
            raise ScorerError("the trained network gives no finite numbers; train again with a smaller --lr")
        calibration = calibrate(raw.logits, raw.variances, examples.target)
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


def _orders(count: int, size: int, seed: int) -> Iterator[Tensor]:
    """Yield positions in batches, every position once per pass, in an order that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(count, generator=generator).split(size)
