"""What a scorer is made of, and what was found when it was trained.  Plain values: readable without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape and constants of the siamese SNGP scorer.

    Lengths are in tokens, prompt and response together.  `difference_scale` (l_d) and `context_scale` (l_c) are the length scales
    of the two kernels behind the preference, in units of the projected difference and of the standardised context;
    `uncertainty_scale` is that of the uncertainty's kernel, in units of the median distance between two training contexts.
    `prior_precision` is tau; it is raised until no more than `known_share` of the D directions count as known.
    """

    max_tokens: int = 512
    projection: int = 64
    features: int = 1024
    spectral_bound: float = 1.0
    difference_scale: float = 6.0
    context_scale: float = 12.0
    logit_scale: float = 10.0
    uncertainty_scale: float = 0.3
    prior_precision: float = 1.0
    known_share: float = 0.2

    def as_json(self) -> dict[str, Any]:
        """Return the values as JSON would hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the config of a checkpoint.  Raises `ValueError` naming what is unknown or no number."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown keys {', '.join(sorted(unknown))}")
        for name, value in values.items():
            if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
                raise ValueError(f"{name} is {value!r}; a positive number is expected")
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How a scorer is trained.

    A `batch` counts pairs; `lr` is the head's learning rate and `backbone_lr` the body's (None: the body stays as it is).  Both
    warm up over `warmup` of all steps and then fall to 0 along a cosine.  `precision_pairs` of the training pairs, at most, make
    up the posterior precision.
    """

    epochs: float = 3.0
    batch: int = 64
    lr: float = 1e-2
    backbone_lr: float | None = None
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    validation_share: float = 0.1
    precision_pairs: int = 20_000
    seed: int = 0
