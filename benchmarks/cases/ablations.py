"""What the siamese uncertainty is built on: the context, or the preference's own features; weights 1 or p (1 - p); absolute or relative.

One network is trained on the demo's familiar tasks, and every variant of the posterior is fitted to it, so they differ in nothing else.
They are measured on routed pairs, three in ten of them of families that training has not seen.  For each variant, `new_auroc_*` is the
probability that an unfamiliar pair is more uncertain than a familiar one, `error_auroc_*` that a wrongly scored pair is more uncertain
than a rightly scored one, and `gain_*` what asking an oracle about the most uncertain 20 % wins over random, in accuracy.  Calibration
cancels out of all three but for `error`, the acquisition that the default policy ranks by, whose gain is `error_gain_*`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

SIZE = 12
"""Thousands of training pairs."""

GOALS: dict[str, Any] = {}

ROUTED = 1500
SHARE = 0.2
VARIANTS = {
    "context": {"evidence": "context", "weights": "one"},
    "context_fisher": {"evidence": "context", "weights": "fisher"},
    "preference": {"evidence": "preference", "weights": "one"},
    "preference_fisher": {"evidence": "preference", "weights": "fisher"},
    "relative": {"evidence": "relative", "weights": "one"},
    "relative_fisher": {"evidence": "relative", "weights": "fisher"},
}


def measure(size: int, seed: int) -> dict[str, float]:
    """Return the figures; `size` is thousands of training pairs."""
    trained = _Trained(1000 * size, seed)
    figures = {"accuracy": trained.accuracy}
    for name, settings in VARIANTS.items():
        figures |= {f"{figure}_{name}": value for figure, value in trained.worth(settings).items()}
    return figures


class _Trained:
    """One trained network, with the embeddings of what it learned from and of what it is measured on."""

    def __init__(self, size: int, seed: int) -> None:
        import torch

        from judgeflow.cli.demo.tasks import routed_pairs, training_pairs
        from judgeflow.model.config import ModelConfig, TrainingConfig
        from judgeflow.model.data import make_examples
        from judgeflow.model.layout import Layout
        from judgeflow.model.network import Network
        from judgeflow.model.reading import Reader
        from judgeflow.model.train import SCRATCH, make_bodies
        from judgeflow.model.trainer import Trainer, gather

        torch.manual_seed(seed)
        learned = training_pairs(size, seed)
        routed = routed_pairs(ROUTED, seed + 1, without={pair.prompt for pair in learned})
        self._config = ModelConfig(max_tokens=48)
        bodies, tokenizer = make_bodies(SCRATCH, learned, self._config, trained=True)
        reader = Reader(Layout(tokenizer, self._config.max_tokens), self._config)
        self._network = Network(bodies, reader.layout.padding, self._config)
        settings = TrainingConfig(epochs=1.0, backbone_lr=3e-3, validation_share=0.05, precision_pairs=6000, seed=seed)
        material = gather(learned, reader, self._config, settings)
        _, self._embeddings = Trainer(self._network, settings, 4096).fit(material)
        self._few = material.known.evenly(settings.precision_pairs)
        compared, self._examples = make_examples(routed, self._config)
        self._routed = self._network.embed(reader.read(compared.texts), 4096)
        self._unfamiliar = torch.tensor([pair.metadata["kind"] == "unfamiliar" for pair in routed])
        logits = self._network.compare(self._routed, self._examples.first, self._examples.second).logits.mean(1)
        self._right = torch.where(logits == 0, 0.5, ((logits > 0) == (self._examples.target == 1)).double())
        self.accuracy = float(self._right.mean())

    def worth(self, settings: dict[str, str]) -> dict[str, float]:
        """Return what the uncertainty of one variant says of the routed pairs."""
        from judgeflow.model.calibration import Calibration
        from judgeflow.model.quality import auroc, gains
        from judgeflow.model.uncertainty import make_variance

        config = dataclasses.replace(self._config, **settings)  # type: ignore[arg-type]  # names from this file
        self._network.uncertainty = make_variance(self._network.encoder.width, config)
        self._network.know(self._embeddings[0], self._few.first, self._few.second, self._few.strength)
        raw = self._network.compare(self._routed, self._examples.first, self._examples.second)
        s, u = Calibration().apply(raw.logits, raw.variances)
        return {
            "new_auroc": _known(auroc(u, self._unfamiliar)),
            "error_auroc": _known(auroc(u, self._right < 0.5)),
            "gain": gains(u, self._right)[str(SHARE)],
            "error_gain": gains(-s.abs(), self._right)[str(SHARE)],
        }


def _known(value: float | None) -> float:
    return float("nan") if value is None else value
