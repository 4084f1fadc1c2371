"""`judgeflow train`: labelled pairs to a scorer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from judgeflow.cli import train_options as options
from judgeflow.cli.options import ShowProgress, Uncertainty
from judgeflow.cli.records import PairsColumns, PairsFormat, PairsSplit, PairsSubset

if TYPE_CHECKING:
    from collections.abc import Callable

_Config = TypeVar("_Config")
_Value = TypeVar("_Value")
_SCRATCH = "scratch"
_ALL = "all"
_FLAGS = {"lora_rank": "--lora"}


def train(
    pairs: options.Source,
    out: options.Out,
    backbone: options.Backbone = _SCRATCH,
    encoder: options.Encoder = "siamese",
    pooling: options.Pooling = "auto",
    surface: options.Surface = False,
    uncertainty: options.Uncertainty = "sngp",
    evidence: options.Evidence = "context",
    weights: options.Weights = "one",
    max_tokens: options.MaxTokens = 512,
    full: options.Full = None,
    lora: options.LoraRank = None,
    epochs: options.Epochs = None,
    batch: options.BatchPairs = None,
    micro_batch: options.MicroBatchPairs = None,
    gradient_checkpointing: options.GradientCheckpointing = False,
    lr: options.LearningRate = None,
    backbone_lr: options.BackboneLearningRate = None,
    logit_scale: options.LogitScale = None,
    schedule: options.Schedule = "cosine",
    dtype: options.Dtype = "auto",
    patience: options.Patience = None,
    evaluate_every: options.EvaluateEvery = None,
    validation_share: options.ValidationShare = 0.1,
    tune: options.Tune = False,
    seed: options.Seed = 0,
    save_every: options.SaveEvery = 60.0,
    restart: options.Restart = False,
    metrics: options.MetricsFile = None,
    tensorboard: options.TensorboardFolder = None,
    device: options.Device = "auto",
    max_batch_tokens: options.MaxBatchTokens = None,
    kind: PairsFormat = "auto",
    subset: PairsSubset = None,
    split: PairsSplit = None,
    columns: PairsColumns = None,
    on_bad_record: options.OnBadRecord = "fatal",
    progress: ShowProgress = True,
    json: options.AsJson = False,
) -> None:
    """Train a scorer on labelled pairs, and measure it on prompts it has not seen.

    Then judgeflow score pairs.jsonl --scorer scorer, or [scorer] path = "scorer" in judgeflow.toml. Interrupted or killed, the same
    command goes on.

    Example: judgeflow train pairs.jsonl --out scorer
    Example: judgeflow train pairs.jsonl --backbone ./MiniLM --lora 8 --out scorer
    """
    from judgeflow.cli.recipes import choose_recipe
    from judgeflow.cli.records import read_records, reading_of
    from judgeflow.cli.training import Settings, Telling, compare_all, train_one
    from judgeflow.model.config import ModelConfig, TrainingConfig

    compared = uncertainty == _ALL
    _check_out(out, compared=compared)
    scratch = backbone == _SCRATCH
    whole = scratch or lora is not None if full is None else full
    _check_together(scratch=scratch, whole=whole, lora=lora, backbone_lr=backbone_lr, tune=tune, uncertainty=uncertainty)
    recipe = choose_recipe(scratch=scratch, trained=whole, lora=lora is not None, surface=surface, concat=encoder == "concat")
    model = _checked(
        ModelConfig,
        encoder=encoder,
        pooling=pooling,
        surface=surface,
        uncertainty="sngp" if compared else uncertainty,
        logit_scale=_or(logit_scale, recipe.logit_scale),
        evidence=evidence,
        weights=weights,
        max_tokens=max_tokens,
    )
    training = _checked(
        TrainingConfig,
        epochs=_or(epochs, recipe.epochs),
        batch=_or(batch, recipe.batch),
        micro_batch=_or(micro_batch, recipe.micro_batch) if whole else micro_batch,
        gradient_checkpointing=gradient_checkpointing,
        lr=_or(lr, recipe.lr),
        backbone_lr=_or(backbone_lr, recipe.backbone_lr) if whole else None,
        lora_rank=lora,
        schedule=schedule,
        dtype=dtype,
        patience=patience,
        evaluate_every=evaluate_every,
        validation_share=validation_share,
        seed=seed,
    )
    settings: Settings = {
        "backbone": backbone,
        "model": model,
        "training": training,
        "device": device,
        "max_batch_tokens": max_batch_tokens,
        "save_every_s": save_every,
        "restart": restart,
    }
    telling = Telling(metrics=metrics, tensorboard=tensorboard, progress=progress, as_json=json)
    labelled = read_records(pairs, on_bad_record, reading_of(kind, split, subset, columns))
    if compared:
        compare_all(labelled, out, settings, telling)
    else:
        train_one(labelled, out, settings, telling, tune=tune)


def _check_out(out: Path, *, compared: bool) -> None:
    """Raise `UsageError` or `ConfigurationError` where scorers cannot be written, before anything is read."""
    from judgeflow.errors import UsageError
    from judgeflow.model.checkpoint import SUMMARY, check_target
    from judgeflow.model.config import UNCERTAINTIES

    if compared and (out / SUMMARY).is_file():
        raise UsageError(f"--out {out} is a scorer; name another folder, in which every kind gets one of its own")
    for folder in [out / kind for kind in UNCERTAINTIES] if compared else [out]:
        check_target(folder)


def _check_together(
    *, scratch: bool, whole: bool, lora: int | None, backbone_lr: float | None, tune: bool, uncertainty: Uncertainty
) -> None:
    """Raise `UsageError` for options that contradict each other; `whole` says that the backbone is trained."""
    from judgeflow.errors import UsageError

    if lora is not None and scratch:
        raise UsageError("--lora: a backbone from scratch has nothing to adapt; name one with --backbone, or train it whole")
    if backbone_lr is not None and not whole:
        raise UsageError("--backbone-lr: a frozen backbone has none; add --full")
    if tune and uncertainty != "sngp":
        raise UsageError(f"--tune: uncertainty {uncertainty} has no spectral bound to choose")


def _or(given: _Value | None, usual: _Value) -> _Value:
    return usual if given is None else given


def _checked(make: Callable[..., _Config], **values: Any) -> _Config:
    """Make a config.  Raises `UsageError` that names the option of a value which cannot be."""
    from judgeflow.errors import UsageError

    try:
        return make(**values)
    except ValueError as error:
        name = str(error).partition(" ")[0]
        option = _FLAGS.get(name, f"--{name.replace('_', '-')}")
        raise UsageError(f"{option}: {error}") from None
