"""The spectral bound and the logit scale, chosen by the recipe of SNGP (Liu et al. 2023, appendix A.2).

A small bound keeps distances meaningful, too small a one costs accuracy.  So: train the plain model (no bound, a linear head), then the
bounded one for one bound after the other, from the smallest, until its accuracy on held-out pairs is within a tolerance of the plain
model's.  The logit scale is then multiplied by what the range of its logits lacks to the plain model's.  Training with another scale
learns other weights, so the range comes near to the plain model's, no more; what was reached is recorded beside it as `logit_std`.
A frozen body reads the texts once for all of it.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import Tensor

from judgeflow.errors import UsageError
from judgeflow.model.config import ModelConfig, TrainingConfig, TuningConfig
from judgeflow.model.data import TARGETS, Examples
from judgeflow.model.network import Network, RawScores
from judgeflow.model.resume import write_whole
from judgeflow.model.trainer import Material, Trainer, logit_std
from judgeflow.model.watch import Watch

_SMALLEST_STD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One model that was trained: its accuracy on held-out pairs, and the range of its raw logits there.

    `spectral_bound` is None for the plain model.
    """

    spectral_bound: float | None
    accuracy: float
    logit_std: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What was tried and chosen: `trials` has the plain model first, `tolerance` is a share of pairs, `model` the chosen config.

    Where no bound of the grid is within the tolerance, the most accurate one is chosen, and `within` is false.
    """

    model: ModelConfig
    trials: Sequence[Trial]
    tolerance: float
    within: bool

    def as_json(self) -> dict[str, Any]:
        """Return what a checkpoint records of it."""
        return {
            "spectral_bound": self.model.spectral_bound,
            "logit_scale": self.model.logit_scale,
            "tolerance": self.tolerance,
            "within": self.within,
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }


class TrialBook:
    """The trials of one tuning that are done, on disk: a run that was killed does not repeat them."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._path = folder / "trials.json"
        self._identity = identity
        self._trials = self._read()

    def _read(self) -> list[Trial]:
        if not self._path.is_file():
            return []
        try:
            about = orjson.loads(self._path.read_bytes())
            return [Trial(**trial) for trial in about["trials"]] if about["identity"] == self._identity else []
        except (OSError, ValueError, KeyError, TypeError):  # a damaged book is an empty one: its trials are made again
            return []

    def find(self, spectral_bound: float | None) -> Trial | None:
        """Return the trial of a bound, if it is done."""
        return next((trial for trial in self._trials if trial.spectral_bound == spectral_bound), None)

    def add(self, trial: Trial) -> None:
        """Write down one more.  Raises `UsageError` if it cannot be written."""
        self._trials.append(trial)
        content = orjson.dumps({"identity": self._identity, "trials": [dataclasses.asdict(trial) for trial in self._trials]})
        try:
            self._path.parent.mkdir(exist_ok=True)
            write_whole(self._path, content)
        except OSError as error:
            raise UsageError(f"{self._path}: cannot be written: {error.strerror or error}") from None


class Tuner:
    """Trains the models that a tuning compares; `build` gives the network of a config, always from the same start."""

    def __init__(
        self, build: Callable[[ModelConfig], Network], settings: TrainingConfig, most_tokens: int, *, watch: Watch, book: TrialBook
    ) -> None:
        self._build = build
        self._settings = settings
        self._most_tokens = most_tokens
        self._watch = watch
        self._book = book
        self.table: Tensor | None = None

    def tune(self, material: Material, model: ModelConfig, tuning: TuningConfig) -> Tuning:
        """Choose the bound and the logit scale of `model`.

        Afterwards `table` has the embeddings of the material's texts by a frozen body, if they were needed.
        """
        plain = self._trial(material, dataclasses.replace(model, uncertainty="none"), None)
        tolerance = _standard_error(plain, material) if tuning.tolerance is None else tuning.tolerance
        trials: list[Trial] = []
        for bound in sorted(tuning.grid):
            trials.append(self._trial(material, dataclasses.replace(model, spectral_bound=bound), bound))
            if trials[-1].accuracy >= plain.accuracy - tolerance:
                break
        within = trials[-1].accuracy >= plain.accuracy - tolerance
        chosen = trials[-1] if within else max(trials, key=lambda trial: trial.accuracy)
        scale = model.logit_scale * plain.logit_std / max(chosen.logit_std, _SMALLEST_STD)
        tuned = dataclasses.replace(model, spectral_bound=chosen.spectral_bound or 1.0, logit_scale=max(scale, _SMALLEST_STD))
        self._watch.observe({"event": "tuned", "spectral_bound": tuned.spectral_bound, "logit_scale": tuned.logit_scale, "within": within})
        return Tuning(model=tuned, trials=(plain, *trials), tolerance=tolerance, within=within)

    def _trial(self, material: Material, model: ModelConfig, bound: float | None) -> Trial:
        known = self._book.find(bound)
        trial = known or self._train(material, model, bound)
        if known is None:
            self._book.add(trial)
        self._watch.observe({"event": "trial", **dataclasses.asdict(trial), "again": known is not None})
        return trial

    def _train(self, material: Material, model: ModelConfig, bound: float | None) -> Trial:
        started = time.monotonic()
        name = "training the plain model" if bound is None else f"training with bound {bound:g}"
        trainer = Trainer(self._build(model), self._settings, self._most_tokens, watch=self._renamed(name))
        if self.table is None and not self._settings.trains_body:
            self.table = trainer.embed(material.reading)
        _, embeddings = trainer.fit(material, table=self.table)
        raw = trainer.measure(material, embeddings)
        accuracy = _accuracy(raw, material.new)
        return Trial(spectral_bound=bound, accuracy=accuracy, logit_std=logit_std(raw), seconds=time.monotonic() - started)

    def _renamed(self, name: str) -> Watch:
        """The watch of a trial: its bar has a name of its own, its steps are not the run's."""

        def progress(activity: str, done: int, total: int) -> None:
            self._watch.progress(name if activity == "training" else activity, done, total)

        return Watch(progress=progress, stop=self._watch.stop)


def _accuracy(raw: RawScores, examples: Examples) -> float:
    g = raw.logits.mean(1)[examples.decided]
    right = torch.where(g == 0, 0.5, ((g > 0) == (examples.target[examples.decided] == TARGETS["a"])).double())
    return float(right.mean())


def _standard_error(plain: Trial, material: Material) -> float:
    decided = int(material.new.decided.sum())
    return math.sqrt(plain.accuracy * (1.0 - plain.accuracy) / decided)
