"""Training: labelled pairs to a scorer.

Logistic (Bradley-Terry) loss on the raw logit, times the pair's strength; a tie is a label half-way.  Both orders of a pair are trained
at once (a siamese network is odd in its responses, a concat one reads both), so it does not matter which of them stands first.  When the
weights are final, bounds and standardisation become exact, the posterior precision is summed over the training pairs in one clean pass,
and calibration and quality are measured on prompts that training has not seen.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from judgeflow.dialogue import transcript
from judgeflow.errors import ConfigurationError, UsageError
from judgeflow.model.backbone import load_backbone
from judgeflow.model.checkpoint import check_target, save
from judgeflow.model.config import ModelConfig, TrainingConfig, TuningConfig
from judgeflow.model.data import labelled
from judgeflow.model.encoder import longest_input
from judgeflow.model.layout import MARKERS, Layout
from judgeflow.model.network import Network, out_of_memory
from judgeflow.model.reading import Reader
from judgeflow.model.resume import Keeper, OtherRun, State, UnusableState, forget, identity_of, state_folder
from judgeflow.model.scorer import SngpScorer, batch_tokens, choose_device
from judgeflow.model.scratch import character_tokenizer, small_bert
from judgeflow.model.trainer import Trainer, TrainingReport, gather
from judgeflow.model.tune import TrialBook, Tuner
from judgeflow.model.watch import Observe, Progress, Watch, never, silent, unobserved
from judgeflow.types import Pair

SCRATCH = "scratch"


def train(
    pairs: Sequence[Pair],
    out: Path,
    *,
    backbone: str = SCRATCH,
    model: ModelConfig | None = None,
    training: TrainingConfig | None = None,
    tuning: TuningConfig | None = None,
    device: str = "auto",
    max_batch_tokens: int | None = None,
    progress: Progress = silent,
    observe: Observe = unobserved,
    stop: Callable[[], bool] = never,
    save_every_s: float = 60.0,
    restart: bool = False,
) -> tuple[SngpScorer, TrainingReport]:
    """Train a scorer on labelled pairs, write it to `out`, and return it with what training found.

    `backbone` is a local folder, a hub name, or "scratch" for a small character-level BERT.  A row is never longer than the backbone
    can take.  With `tuning` the spectral bound and the logit scale are chosen first (`model.tune`).  Raises `UsageError` for pairs that
    nothing can be learned from and for a run that diverges, `ConfigurationError` for a backbone that cannot be used.

    Every `save_every_s` seconds, and when `stop` says so, the state goes into a hidden folder beside `out`.  The same call goes on from
    there after a kill, unless `restart`; a damaged state is replaced, and `observe` is told; another run's is a `UsageError`.  After
    `stop` it raises `KeyboardInterrupt`; one that comes from elsewhere leaves the state before it.
    """
    settings, shape = training or TrainingConfig(), model or ModelConfig()
    if tuning is not None and shape.uncertainty != "sngp":
        raise UsageError(f"tuning chooses a spectral bound; uncertainty {shape.uncertainty!r} has none")
    check_target(out)
    folder, watch = state_folder(out), Watch(progress, observe, stop)
    if restart:
        forget(folder)
    usable, where = labelled(pairs), choose_device(device)
    most_tokens = batch_tokens(where, max_batch_tokens)
    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        made = _make(backbone, usable, shape, settings)
        if made.network.config.max_tokens < shape.max_tokens:
            watch.observe({"event": "shortened", "max_tokens": made.network.config.max_tokens})
        material = gather(usable, made.reader, made.network.config, settings)
        more = [backbone, where.type, tuning and dataclasses.asdict(tuning)]
        identity = identity_of(usable, material.reading, settings=settings, model=made.network.config, more=more, bodies=made.bodies)
        network, tuned, table = made.network.to(where), None, None
        _try_out(network, made.reader, backbone)
        if tuning is not None:
            tuner = Tuner(made.again, settings, most_tokens, watch=watch, book=TrialBook(folder, identity))
            tuned = tuner.tune(material, network.config, tuning)
            network, table = made.again(tuned.model), tuner.table
        keeper = Keeper(folder, identity, save_every_s)
        trainer = Trainer(network, settings, most_tokens, watch=watch, keeper=keeper)
        report = trainer.run(material, table=table, state=_found(keeper, watch))
    record = {"backbone": backbone, **dataclasses.asdict(settings), **dataclasses.asdict(report), "tuning": tuned and tuned.as_json()}
    fingerprint = save(out, network, made.tokenizer, calibration=report.calibration, training=record)
    forget(folder)
    watch.observe({"event": "final", "fingerprint": fingerprint, **_flat(report)})
    return SngpScorer(network, made.reader, report.calibration, name=fingerprint[:16], max_batch_tokens=max_batch_tokens), report


@dataclass(frozen=True, slots=True)
class _Made:
    """What a run starts from."""

    tokenizer: Any
    reader: Reader
    network: Network
    trained: bool
    random: Tensor

    @property
    def bodies(self) -> list[nn.Module]:
        return [encoder.body for encoder in self.network.encoders]  # type: ignore[misc]  # a ModuleList does not know what it holds

    def again(self, model: ModelConfig) -> Network:
        """Return what `network` would have been with another config; bodies that are `trained` are copied, others shared."""
        torch.set_rng_state(self.random)
        bodies = copy.deepcopy(self.bodies) if self.trained else self.bodies
        return Network(bodies, self.reader.layout.padding, model).to(self.network.encoder.device)


def _make(backbone: str, pairs: Sequence[Pair], model: ModelConfig, settings: TrainingConfig) -> _Made:
    bodies, tokenizer = make_bodies(backbone, pairs, model, trained=settings.trains_body)
    longest = longest_input(bodies[0]) or model.max_tokens
    model = dataclasses.replace(model, max_tokens=min(model.max_tokens, longest))
    reader = Reader(Layout(tokenizer, model.max_tokens), model)
    random = torch.get_rng_state()
    network = Network(bodies, reader.layout.padding, model)
    return _Made(tokenizer, reader, network, settings.trains_body, random)


def _try_out(network: Network, reader: Reader, backbone: str) -> None:
    """Read one row of the greatest length.

    Raises `ConfigurationError` for a body that cannot: a foreign kind, or one with fewer positions.
    """
    longest = reader.longest()
    try:
        network.eval().embed_plain(longest, 1)
    except Exception as error:  # whatever a foreign architecture raises, it cannot be used
        if out_of_memory(error):
            raise ConfigurationError(f"--max-tokens {len(longest.rows[0])}: a text of that length does not fit into memory") from None
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
    texts = (text for pair in pairs for text in (transcript(pair.prompt), pair.response_a, pair.response_b))
    tokenizer = character_tokenizer((*texts, *MARKERS), model.max_tokens)
    dropout = model.dropout if model.uncertainty == "mc-dropout" else 0.0
    return [small_bert(len(tokenizer), model.max_tokens, dropout=dropout) for _ in range(count)], tokenizer


def _found(keeper: Keeper, watch: Watch) -> State | None:
    """Return the state to go on from; tell of a damaged one.  Raises `UsageError` for another run's."""
    try:
        return keeper.find()
    except OtherRun as error:
        raise UsageError(
            f"{keeper.folder} holds the state of an interrupted run, and {error}: give that run's command again to go on with it, "
            f"or --restart (restart=True) to drop it"
        ) from None
    except UnusableState as error:
        watch.observe({"event": "restart", "reason": str(error)})
        return None


def _flat(report: TrainingReport) -> dict[str, Any]:
    """What a report says in one level: single numbers and words, and the AUROCs by name."""
    values = dataclasses.asdict(report)
    validation, calibration = values.pop("validation"), values.pop("calibration")
    aurocs = {f"auroc_{name}": value for name, value in validation["error_auroc"].items()}
    measured = {name: value for name, value in validation.items() if isinstance(value, float)}
    return {**values, **calibration, **measured, **aurocs}
