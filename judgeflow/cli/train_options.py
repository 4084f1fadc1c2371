"""The options of `judgeflow train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from judgeflow.cli import options as accepted

# What is read, and written
Source = Annotated[
    Path,
    typer.Argument(metavar="PAIRS.jsonl", help="Pairs with labels: a .jsonl, .json or .parquet file, a folder, or a name of the hub."),
]
OnBadRecord = Annotated[accepted.OnBadRecord, typer.Option(help="fatal: stop before training; skip: leave bad records out.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder that the scorer is written to.")]

# What the scorer is
Backbone = Annotated[
    str, typer.Option(help="Folder or hub name of a transformers model, or scratch: a small one that starts from nothing.")
]
Encoder = Annotated[accepted.Encoder, typer.Option(help="siamese: read each response alone; concat: both together, in both orders.")]
Pooling = Annotated[accepted.Pooling, typer.Option(help="Which hidden states are the embedding; auto: decoders last, encoders mean.")]
Surface = Annotated[bool, typer.Option("--surface/--no-surface", help="Add surface features: lengths, lists, overlap, ...")]
Uncertainty = Annotated[accepted.Uncertainty, typer.Option(help="How the scorer knows what it does not know; all: compare the ways.")]
Evidence = Annotated[accepted.Evidence, typer.Option(help="What uncertainty is built on.")]
Weights = Annotated[accepted.Weights, typer.Option(help="What a training pair counts there: one, or fisher: p (1 - p).")]
MaxTokens = Annotated[int, typer.Option(min=19, help="Longest input, prompt and response together; what is longer is cut.")]

# How it is trained
Full = Annotated[
    bool | None, typer.Option("--full/--frozen", help="Train the backbone too, or its head only. Default: --full for scratch only.")
]
LoraRank = Annotated[int | None, typer.Option("--lora", metavar="RANK", min=1, help="Train adapters of this rank on the backbone.")]
Epochs = Annotated[float | None, typer.Option(min=0.01, max=10_000, help="Passes over the pairs. Default: 3; frozen 5, with --surface 20.")]
BatchPairs = Annotated[int | None, typer.Option(min=2, help="Pairs of one step. Default: 64; frozen with --surface 256.")]
MicroBatchPairs = Annotated[
    int | None, typer.Option(min=1, help="Pairs that a trained backbone reads at a time. Default: 8; scratch: all.")
]
GradientCheckpointing = Annotated[bool, typer.Option("--gradient-checkpointing", help="Compute activations again, where memory is short.")]
LearningRate = Annotated[float | None, typer.Option(min=0.0, help="Learning rate of the head. Default: 0.01; frozen with --surface 0.02.")]
BackboneLearningRate = Annotated[
    float | None, typer.Option(min=0.0, help="Of the backbone. Default: scratch 3e-3 (concat 1e-3), --lora 2e-4, else 3e-5.")
]
LogitScale = Annotated[
    float | None, typer.Option(min=0.0, help="How fast the nonlinear term learns. Default: 10; frozen with --surface 0.1.")
]
Schedule = Annotated[accepted.Schedule, typer.Option(help="How learning rates fall.")]
Dtype = Annotated[accepted.DType, typer.Option(help="What a trained backbone computes in; auto: bfloat16 on a GPU.")]
Patience = Annotated[
    int | None, typer.Option(min=1, help="Stop after so many evaluations without a better loss, and keep the best weights.")
]
EvaluateEvery = Annotated[
    int | None, typer.Option(min=1, metavar="STEPS", help="Steps between evaluations. Default: an epoch, if --patience is given.")
]
ValidationShare = Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of the prompts that is held out.")]
Tune = Annotated[bool, typer.Option("--tune", help="Choose the spectral bound and the logit scale before training.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Another seed gives another split, order and start.")]

# How the training runs, and what it tells
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.")]
MaxBatchTokens = Annotated[
    int | None, typer.Option(min=1, help="Tokens of one batch while reading, padding included. Default: 4096, on a GPU 65536.")
]
SaveEvery = Annotated[float, typer.Option(min=0.0, metavar="SECONDS", help="How often a state to go on from is kept.")]
Restart = Annotated[bool, typer.Option("--restart", help="Start over, even if an interrupted run could go on.")]
MetricsFile = Annotated[
    Path | None, typer.Option(metavar="FILE.jsonl", help="Write every step and evaluation there, one JSON object a line.")
]
TensorboardFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="Write TensorBoard files there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")]
