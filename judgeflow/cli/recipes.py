"""What `judgeflow train` takes where its user says nothing: settings that were found to work for each kind of scorer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Defaults of a run.  `backbone_lr` is for a backbone that is trained."""

    epochs: float = 3.0
    batch: int = 64
    lr: float = 1e-2
    backbone_lr: float = 3e-5
    logit_scale: float = 10.0
    micro_batch: int | None = None


def choose_recipe(*, scratch: bool, trained: bool, lora: bool, surface: bool, concat: bool) -> Recipe:
    """Return the defaults for a kind of scorer."""
    if not trained:
        # On a frozen body with surface features the nonlinear term soon knows the training prompts by heart; it has to learn slowly.
        return Recipe(epochs=20.0, batch=256, lr=2e-2, logit_scale=0.1) if surface else Recipe(epochs=5.0)
    if scratch:
        return Recipe(backbone_lr=1e-3 if concat else 3e-3)
    # The activations of 64 pairs of a small encoder are more than most machines hold.
    return Recipe(backbone_lr=2e-4 if lora else 3e-5, micro_batch=8)
