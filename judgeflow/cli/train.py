"""`judgeflow train`: labelled pairs to a scorer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, TypeVar

import typer

from judgeflow.cli import INTERRUPTED
from judgeflow.cli.options import DType, Encoder, Evidence, OnBadRecord, Pooling, Schedule, ShowProgress, Uncertainty, Weights
from judgeflow.cli.records import PairsColumns, PairsFormat, PairsSplit, PairsSubset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from judgeflow.model.config import ModelConfig, TrainingConfig
    from judgeflow.model.trainer import TrainingReport
    from judgeflow.model.watch import Observe, Progress


class _Common(TypedDict):
    """What training one scorer and comparing several are both told."""

    backbone: str
    model: ModelConfig
    training: TrainingConfig
    device: str
    max_batch_tokens: int | None
    progress: Progress
    observe: Observe
    stop: Callable[[], bool]
    save_every_s: float
    restart: bool


_Config = TypeVar("_Config")
_Value = TypeVar("_Value")
_SCRATCH = "scratch"
_ALL = "all"
_FEW = 50
_INTERRUPTED_ONE = "{out} is as it was before; the same command goes on from the last state that was kept"
_INTERRUPTED_ALL = "what is finished is in {out}; the same command trains those again, and goes on with the one it was at"
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
    from contextlib import ExitStack

    from judgeflow.cli.interrupt import asked_to_stop
    from judgeflow.cli.progress import activity
    from judgeflow.cli.quality import print_rivals
    from judgeflow.cli.recipes import choose_recipe
    from judgeflow.cli.records import read_records, reading_of
    from judgeflow.errors import UsageError
    from judgeflow.model.config import ModelConfig, TrainingConfig, TuningConfig
    from judgeflow.model.rivals import compare_rivals
    from judgeflow.model.train import train as train_one

    compared = uncertainty == _ALL
    _check_out(out, compared=compared)
    scratch = backbone == _SCRATCH
    if lora is not None and scratch:
        raise UsageError("--lora: a backbone from scratch has nothing to adapt; name one with --backbone, or train it whole")
    whole = scratch or lora is not None if full is None else full
    if backbone_lr is not None and not whole:
        raise UsageError("--backbone-lr: a frozen backbone has none; add --full")
    if tune and uncertainty != "sngp":
        raise UsageError(f"--tune: uncertainty {uncertainty} has no spectral bound to choose")
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
    labelled = read_records(pairs, on_bad_record, reading_of(kind, split, subset, columns))
    told = _Told()
    try:
        with ExitStack() as open_files:
            observers = [told.observe, *(open_files.enter_context(sink) for sink in _sinks(metrics, tensorboard))]
            stop = open_files.enter_context(asked_to_stop())
            common: _Common = {
                "backbone": backbone,
                "model": model,
                "training": training,
                "device": device,
                "max_batch_tokens": max_batch_tokens,
                "progress": open_files.enter_context(activity(wanted=progress, beside=told.words)),
                "observe": _all_of(observers),
                "stop": stop,
                "save_every_s": save_every,
                "restart": restart,
            }
            if compared:
                rivals = compare_rivals(labelled, out, **common)
            else:
                scorer, report = train_one(labelled, out, tuning=TuningConfig() if tune else None, **common)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {_INTERRUPTED_ALL if compared else _INTERRUPTED_ONE}".format(out=out), err=True)
        raise typer.Exit(INTERRUPTED) from None
    if compared:
        print_rivals(rivals, out, as_json=json)
    else:
        _print(report, scorer.fingerprint, out, told.trials, as_json=json)


def _check_out(out: Path, *, compared: bool) -> None:
    """Raise `UsageError` or `ConfigurationError` where scorers cannot be written, before anything is read."""
    from judgeflow.errors import UsageError
    from judgeflow.model.checkpoint import SUMMARY, check_target
    from judgeflow.model.config import UNCERTAINTIES

    if compared and (out / SUMMARY).is_file():
        raise UsageError(f"--out {out} is a scorer; name another folder, in which every kind gets one of its own")
    for folder in [out / kind for kind in UNCERTAINTIES] if compared else [out]:
        check_target(folder)


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


def _sinks(metrics: Path | None, tensorboard: Path | None) -> list[AbstractContextManager[Observe]]:
    from judgeflow.model.metrics import json_lines
    from judgeflow.model.metrics import tensorboard as tensorboard_files

    lines = [json_lines(metrics)] if metrics is not None else []
    return [*lines, tensorboard_files(tensorboard)] if tensorboard is not None else [*lines]


def _all_of(observers: Sequence[Observe]) -> Observe:
    def observe(record: Mapping[str, Any]) -> None:
        for observer in observers:
            observer(record)

    return observe


class _Told:
    """Says on stderr what a user should know while training runs, and collects what tuning tried."""

    def __init__(self) -> None:
        self.trials: list[Mapping[str, Any]] = []
        self._losses: dict[str, str] = {}

    def words(self) -> str:
        """What training has come to: the last loss, and what the last evaluation found."""
        return ", ".join(self._losses.values())

    def observe(self, record: Mapping[str, Any]) -> None:
        if record["event"] == "step":
            self._losses["step"] = f"loss {record['loss']:.3f}"
        elif record["event"] == "evaluation":
            self._losses["held out"] = f"held out {record['loss']:.3f}, accuracy {record['accuracy']:.3f}"
        elif record["event"] == "resume":
            typer.echo(f"going on after step {record['step']:,} of an interrupted run; --restart would start over", err=True)
        elif record["event"] == "restart":
            typer.echo(f"starting over: there is the state of an interrupted run, but {record['reason']}", err=True)
        elif record["event"] == "shortened":
            typer.echo(f"--max-tokens: {record['max_tokens']:,} is all that this backbone reads", err=True)
        elif record["event"] == "trial":
            self.trials.append({name: value for name, value in record.items() if name not in {"event", "again"}})
        elif record["event"] == "tuned" and not record["within"]:
            typer.echo(
                "no spectral bound is as accurate as the plain model, within the tolerance; the most accurate one is taken", err=True
            )


def _print(report: TrainingReport, fingerprint: str, out: Path, trials: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    import dataclasses

    import orjson

    from judgeflow.cli.quality import print_table, quality_rows

    if as_json:
        print(orjson.dumps(dataclasses.asdict(report) | {"fingerprint": fingerprint, "out": str(out), "tuning": trials}).decode())
        return
    cut = f", {report.cut / (report.tokens + report.cut):.1%} of all cut" if report.cut else ""
    rows = [
        ("pairs", f"{report.pairs:,} to train, {report.validation_pairs:,} held out; {report.prompts:,} prompts"),
        ("tokens", f"{report.tokens:,} read{cut}"),
        ("steps", f"{report.steps:,} on {report.device}, {report.seconds:.0f} s in all"),
        *quality_rows(report.validation, of="unseen prompts"),
        *_posterior_rows(report),
        ("temperature, amplitude", f"{report.calibration.temperature:.3g}, {report.calibration.amplitude:.3g}"),
    ]
    if trials:
        print_table("tuning", [_trial_row(trial) for trial in trials])
    print_table(f"scorer {fingerprint} in {out}", rows)
    if report.validation.pairs < _FEW:
        few = "only 1 pair was" if report.validation.pairs == 1 else f"only {report.validation.pairs} pairs were"
        typer.echo(f"{few} held out: the figures and the calibration may be far off", err=True)


def _posterior_rows(report: TrainingReport) -> list[tuple[str, str]]:
    if report.known_share is None:
        return []
    return [("known directions, d_eff / D", f"{report.known_share:.3f} (tau {report.prior_precision:.3g})")]


def _trial_row(trial: Mapping[str, Any]) -> tuple[str, str]:
    bound = trial["spectral_bound"]
    name = "plain model" if bound is None else f"spectral bound {bound:g}"
    return name, f"accuracy {trial['accuracy']:.3f}, logits ±{trial['logit_std']:.2f}, {trial['seconds']:.0f} s"
