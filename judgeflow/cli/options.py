"""Options that verbs share, and the values that options accept.

They repeat what their owners accept, since most owners are slow to import; a test compares them.  typer takes a repeatable option's values
from an enumeration, and those of others from a `Literal`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

import typer

from judgeflow.cli.completion import setting_names

OnBadRecord = Literal["fatal", "skip"]
Orders = Literal["both", "adaptive", "random", "first"]
Exported = Literal["pairs", "calls", "outcomes"]
MinAgreement = Literal["both", "any"]
ExportedLabel = Literal["verdict", "label"]
ExportedForm = Literal["text", "messages"]
Level = Literal["debug", "info", "warning", "error"]
Encoder = Literal["siamese", "concat"]
Pooling = Literal["auto", "mean", "first", "last"]
Uncertainty = Literal["sngp", "mc-dropout", "last-layer-laplace", "ensemble", "none", "all"]
Evidence = Literal["context", "preference", "relative"]
Weights = Literal["one", "fisher"]
Schedule = Literal["cosine", "linear", "constant"]
DType = Literal["auto", "float32", "bfloat16"]
Format = Literal[
    "auto",
    "pairs",
    "preference",
    "implicit-prompt",
    "hh-rlhf",
    "helpsteer2",
    "ultrafeedback",
    "rewardbench",
    "rewardbench2",
    "rm-bench",
    "judgebench",
]

ReplayPolicy = StrEnum("ReplayPolicy", ["error", "uncertainty", "margin", "random", "always", "never", "oracle"])
Source = StrEnum("Source", ["judge", "store", "scorer", "fallback"])

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.", autocompletion=setting_names),
]
ShowProgress = Annotated[bool, typer.Option("--progress/--no-progress", help="Say on stderr how far it is.")]
