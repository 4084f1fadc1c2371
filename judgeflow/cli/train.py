"""`judgeflow train`: labelled pairs to a scorer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli import INTERRUPTED

if TYPE_CHECKING:
    from judgeflow.model.trainer import TrainingReport


def train(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.jsonl", help="Pair records with labels, one JSON object a line.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder that the scorer is written to.")],
    backbone: Annotated[
        str, typer.Option(help="Folder or hub name of a transformers encoder, or scratch: a small one that starts from nothing.")
    ] = "scratch",
    full: Annotated[
        bool | None, typer.Option("--full/--frozen", help="Train the backbone too, or its head only. Default: --full for scratch only.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(min=0.01, max=10_000, help="Passes over the pairs. Default: 3, frozen 5.")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Pairs of one step.")] = 64,
    lr: Annotated[float, typer.Option(min=0.0, help="Learning rate of the head.")] = 1e-2,
    backbone_lr: Annotated[float | None, typer.Option(min=0.0, help="Of the backbone. Default: 3e-3 for scratch, else 3e-5.")] = None,
    max_tokens: Annotated[int, typer.Option(min=19, help="Longest input, prompt and response together; what is longer is cut.")] = 512,
    validation_share: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of the prompts that is held out.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Another seed gives another split, order and start.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.")] = "auto",
    max_batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of one batch while reading, padding included. Default: 4096, on a GPU 65536.")
    ] = None,
    on_bad_record: Annotated[str, typer.Option(help="fatal: stop before training; skip: leave bad records out.")] = "fatal",
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Train a scorer on labelled pairs, and measure it on prompts it has not seen.

    Example: judgeflow train pairs.jsonl --backbone ./MiniLM --out scorer

    Then judgeflow score pairs.jsonl --scorer scorer, or [scorer] path = "scorer"
    in judgeflow.toml.
    """
    from judgeflow.cli.progress import activity
    from judgeflow.cli.records import read_records
    from judgeflow.model.checkpoint import check_target
    from judgeflow.model.config import ModelConfig, TrainingConfig
    from judgeflow.model.train import SCRATCH
    from judgeflow.model.train import train as run

    check_target(out)
    labelled = read_records(pairs, on_bad_record)
    scratch = backbone == SCRATCH
    whole = scratch if full is None else full
    training = TrainingConfig(
        epochs=(3.0 if whole else 5.0) if epochs is None else epochs,
        batch=batch,
        lr=lr,
        backbone_lr=_backbone_lr(backbone_lr, scratch=scratch) if whole else None,
        validation_share=validation_share,
        seed=seed,
    )
    try:
        with activity() as progress:
            scorer, report = run(
                labelled,
                out,
                backbone=backbone,
                model=ModelConfig(max_tokens=max_tokens),
                training=training,
                device=device,
                max_batch_tokens=max_batch_tokens,
                progress=progress,
            )
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {out} is as it was before", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _print(report, scorer.fingerprint, out, as_json=json)


def _backbone_lr(given: float | None, *, scratch: bool) -> float:
    if given is not None:
        return given
    return 3e-3 if scratch else 3e-5


def _print(report: TrainingReport, fingerprint: str, out: Path, *, as_json: bool) -> None:
    import dataclasses

    import orjson

    from judgeflow.cli.quality import print_table, quality_rows

    if as_json:
        print(orjson.dumps(dataclasses.asdict(report) | {"fingerprint": fingerprint, "out": str(out)}).decode())
        return
    cut = f", {report.cut / (report.tokens + report.cut):.1%} of all cut" if report.cut else ""
    rows = [
        ("pairs", f"{report.pairs:,} to train, {report.validation_pairs:,} held out; {report.prompts:,} prompts"),
        ("tokens", f"{report.tokens:,} read{cut}"),
        ("steps", f"{report.steps:,} on {report.device}, {report.seconds:.0f} s in all"),
        *quality_rows(report.validation, of="unseen prompts"),
        ("known directions, d_eff / D", f"{report.known_share:.3f} (tau {report.prior_precision:.3g})"),
        ("temperature, amplitude", f"{report.calibration.temperature:.3g}, {report.calibration.amplitude:.3g}"),
    ]
    print_table(f"scorer {fingerprint} in {out}", rows)
