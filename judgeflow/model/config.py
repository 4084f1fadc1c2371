"""What a scorer is made of, and how it is trained.  Plain values: readable without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

EncoderKind = Literal["siamese", "concat"]
Pooling = Literal["auto", "mean", "first", "last"]
UncertaintyKind = Literal["sngp", "mc-dropout", "last-layer-laplace", "ensemble", "none"]
Evidence = Literal["context", "preference", "relative"]
Weights = Literal["one", "fisher"]
Schedule = Literal["cosine", "linear", "constant"]
DType = Literal["auto", "float32", "bfloat16"]

UNCERTAINTIES: tuple[UncertaintyKind, ...] = get_args(UncertaintyKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape and constants of a scorer.

    `encoder`: "siamese" reads each response alone after the prompt (K passes for K responses), "concat" both together, in both
    orders (K (K - 1) passes; the paper's).  `pooling` makes a text's embedding of its hidden states: their mean, the first or the
    last; "auto" is the last for decoders and the mean for encoders.  `surface` adds a linear term over `model.surface`'s features.

    `uncertainty`: "sngp"; or a rival over a linear head: "mc-dropout" (variance over `passes` with dropout of probability `dropout`),
    "last-layer-laplace", "ensemble" (variance over `members`), "none".

    Lengths are in tokens, a whole row.  `difference_scale` (l_d) and `context_scale` (l_c) are the length scales of the two kernels
    behind the siamese preference, in units of the projected difference and of the standardised context; `length_scale` is that of
    the concat encoder's only kernel, and `uncertainty_scale` that of the siamese uncertainty's, both in units of the median distance
    between two training inputs of that kernel.

    `evidence` names the features that the posterior is built on: "context" (psi, siamese only), "preference" (phi; the paper's), or
    "relative" (phi, and v divided by |phi|^2).  `weights` are the w_i of the precision: "one", or "fisher" for p (1 - p).
    `prior_precision` is tau; it is raised until no more than `known_share` of the D directions count as known.
    """

    encoder: EncoderKind = "siamese"
    pooling: Pooling = "auto"
    surface: bool = False
    uncertainty: UncertaintyKind = "sngp"
    max_tokens: int = 512
    projection: int = 64
    features: int = 1024
    spectral_bound: float = 1.0
    difference_scale: float = 6.0
    context_scale: float = 12.0
    length_scale: float = 1.0
    logit_scale: float = 10.0
    evidence: Evidence = "context"
    weights: Weights = "one"
    uncertainty_scale: float = 0.3
    prior_precision: float = 1.0
    known_share: float = 0.2
    dropout: float = 0.1
    passes: int = 10
    members: int = 5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            expected = _expected(name, value)
            if expected is not None:
                raise ValueError(f"{name} is {value!r}; {expected} is expected")

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON would hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the config of a checkpoint.  Raises `ValueError` naming what is unknown or impossible."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown keys {', '.join(sorted(unknown))}")
        return cls(**values)


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "encoder": get_args(EncoderKind),
    "pooling": get_args(Pooling),
    "uncertainty": UNCERTAINTIES,
    "evidence": get_args(Evidence),
    "weights": get_args(Weights),
}


_SHARES = frozenset({"known_share", "dropout"})


def _expected(name: str, value: object) -> str | None:
    """Return what a setting should be; None if it is that."""
    if name in _CHOICES:
        return None if value in _CHOICES[name] else f"one of {', '.join(_CHOICES[name])}"
    if name == "surface":
        return None if isinstance(value, bool) else "true or false"
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if name in _SHARES:
        return None if number and 0 < value < 1 else "a number between 0 and 1"  # type: ignore[operator]  # it is a number
    return None if number and value > 0 else "a positive number"  # type: ignore[operator]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How a scorer is trained.

    A `batch` counts pairs; `lr` is the head's learning rate and `backbone_lr` the body's (None: the body stays as it is).  Both
    warm up over `warmup` of all steps and then follow `schedule`: fall to 0 along a cosine or a line, or stay.

    The body reads the texts of `micro_batch` pairs at a time (None: of all), which bounds memory and changes no gradient;
    `gradient_checkpointing` keeps one layer's activations at a time.  Both read twice what they do not keep.  `dtype` is what a trained
    body computes in; "auto" is bfloat16 on a GPU.  With `lora_rank` the body learns by low-rank adapters, which are merged into it.

    Every `evaluate_every` steps (None: once an epoch, if `patience` is set) the loss on the held-out pairs is measured.  After
    `patience` measurements without improvement training stops; the best weights are kept, also if it never stops early.

    `precision_pairs` of the training pairs, at most, make up the posterior precision.
    """

    epochs: float = 3.0
    batch: int = 64
    lr: float = 1e-2
    backbone_lr: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: Schedule = "cosine"
    clip: float = 1.0
    micro_batch: int | None = None
    gradient_checkpointing: bool = False
    dtype: DType = "auto"
    lora_rank: int | None = None
    patience: int | None = None
    evaluate_every: int | None = None
    validation_share: float = 0.1
    precision_pairs: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_numbers()
        for name, choices in (("schedule", get_args(Schedule)), ("dtype", get_args(DType))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {getattr(self, name)!r}; one of {', '.join(choices)} is expected")
        if self.backbone_lr is None:
            for name in ("micro_batch", "gradient_checkpointing", "lora_rank"):
                if getattr(self, name):
                    raise ValueError(f"{name} is for a body that is trained; this one is frozen")

    def _check_numbers(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}; a positive number is expected")
        for name in ("weight_decay", "warmup"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; a number from 0 to 1 is expected")

    @property
    def trains_body(self) -> bool:
        """Whether the body learns, or its head only."""
        return self.backbone_lr is not None


_POSITIVE = ("epochs", "batch", "lr", "backbone_lr", "clip", "micro_batch", "lora_rank", "patience", "evaluate_every", "precision_pairs")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningConfig:
    """What `tune` tries: spectral bounds in `grid`, and how much accuracy below the plain model's is good enough.

    `tolerance` is a share of pairs; None is one standard error of the plain model's accuracy.
    """

    grid: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    tolerance: float | None = None

    def __post_init__(self) -> None:
        if not self.grid or min(self.grid) <= 0:
            raise ValueError(f"grid is {self.grid!r}; positive numbers are expected")
        if self.tolerance is not None and self.tolerance < 0:
            raise ValueError(f"tolerance is {self.tolerance!r}; 0 or more is expected")
