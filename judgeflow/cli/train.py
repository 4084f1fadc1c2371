"""`judgeflow train`: labelled pairs to a scorer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from judgeflow.cli.options import DType, Encoder, Evidence, OnBadRecord, Pooling, Schedule, ShowProgress, Uncertainty, Weights
from judgeflow.cli.records import PairsColumns, PairsFormat, PairsSplit, PairsSubset

if TYPE_CHECKING:
    from collections.abc import Callable

_Config = TypeVar("_Config")
_Value = TypeVar("_Value")
_SCRATCH = "scratch"
_ALL = "all"
_FLAGS = {"lora_rank": "--lora"}


def train(
    pairs: Annotated[
        Path,
        typer.Argument(metavar="PAIRS.jsonl", help="Pairs with labels: a .jsonl, .json or .parquet file, a folder, or a name of the hub."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder that the scorer is written to.")],
    backbone: Annotated[
        str, typer.Option(help="Folder or hub name of a transformers model, or scratch: a small one that starts from nothing.")
    ] = _SCRATCH,
    encoder: Annotated[Encoder, typer.Option(help="siamese: read each response alone; concat: both together, in both orders.")] = "siamese",
    pooling: Annotated[Pooling, typer.Option(help="Which hidden states are the embedding; auto: decoders last, encoders mean.")] = "auto",
    surface: Annotated[bool, typer.Option("--surface/--no-surface", help="Add surface features: lengths, lists, overlap, ...")] = False,
    uncertainty: Annotated[Uncertainty, typer.Option(help="How the scorer knows what it does not know; all: compare the ways.")] = "sngp",
    evidence: Annotated[Evidence, typer.Option(help="What uncertainty is built on.")] = "context",
    weights: Annotated[Weights, typer.Option(help="What a training pair counts there: one, or fisher: p (1 - p).")] = "one",
    max_tokens: Annotated[int, typer.Option(min=19, help="Longest input, prompt and response together; what is longer is cut.")] = 512,
    full: Annotated[
        bool | None, typer.Option("--full/--frozen", help="Train the backbone too, or its head only. Default: --full for scratch only.")
    ] = None,
    lora: Annotated[int | None, typer.Option("--lora", metavar="RANK", min=1, help="Train adapters of this rank on the backbone.")] = None,
    epochs: Annotated[
        float | None, typer.Option(min=0.01, max=10_000, help="Passes over the pairs. Default: 3; frozen 5, with --surface 20.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Pairs of one step. Default: 64; frozen with --surface 256.")] = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Pairs that a trained backbone reads at a time. Default: 8; scratch: all.")
    ] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Compute activations again, where memory is short.")
    ] = False,
    lr: Annotated[float | None, typer.Option(min=0.0, help="Learning rate of the head. Default: 0.01; frozen with --surface 0.02.")] = None,
    backbone_lr: Annotated[
        float | None, typer.Option(min=0.0, help="Of the backbone. Default: scratch 3e-3 (concat 1e-3), --lora 2e-4, else 3e-5.")
    ] = None,
    logit_scale: Annotated[
        float | None, typer.Option(min=0.0, help="How fast the nonlinear term learns. Default: 10; frozen with --surface 0.1.")
    ] = None,
    schedule: Annotated[Schedule, typer.Option(help="How learning rates fall.")] = "cosine",
    dtype: Annotated[DType, typer.Option(help="What a trained backbone computes in; auto: bfloat16 on a GPU.")] = "auto",
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many evaluations without a better loss, and keep the best weights.")
    ] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(min=1, metavar="STEPS", help="Steps between evaluations. Default: an epoch, if --patience is given.")
    ] = None,
    validation_share: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of the prompts that is held out.")] = 0.1,
    tune: Annotated[bool, typer.Option("--tune", help="Choose the spectral bound and the logit scale before training.")] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Another seed gives another split, order and start.")] = 0,
    save_every: Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="How often a state to go on from is kept.")] = 60.0,
    restart: Annotated[bool, typer.Option("--restart", help="Start over, even if an interrupted run could go on.")] = False,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Write every step and evaluation there, one JSON object a line.")
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(metavar="DIR", help="Write TensorBoard files there.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.")] = "auto",
    max_batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of one batch while reading, padding included. Default: 4096, on a GPU 65536.")
    ] = None,
    kind: PairsFormat = "auto",
    subset: PairsSubset = None,
    split: PairsSplit = None,
    columns: PairsColumns = None,
    on_bad_record: Annotated[OnBadRecord, typer.Option(help="fatal: stop before training; skip: leave bad records out.")] = "fatal",
    progress: ShowProgress = True,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
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
