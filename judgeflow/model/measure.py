"""What a trained network is worth on held-out pairs, and the calibration that is saved with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from judgeflow.errors import ScorerError
from judgeflow.model.calibration import Calibration, calibrate
from judgeflow.model.data import TARGETS, Examples
from judgeflow.model.network import Network, RawScores
from judgeflow.model.quality import Quality, quality
from judgeflow.model.reading import Reading


def raw_scores(network: Network, reading: Reading, embeddings: Tensor, examples: Examples, most_tokens: int) -> RawScores:
    """Return the raw scores of held-out pairs; `embeddings` of all texts, one pass for each trained body.

    Raises `ScorerError` if they are no finite numbers.
    """
    first, second = examples.first, examples.second
    if network.samples > len(embeddings) and network.passes > 1:  # MC dropout: held-out texts are read once for each sample
        texts, places = torch.cat([first, second]).unique(return_inverse=True)
        embeddings = network.embed(reading.part(texts.tolist()), most_tokens)
        first, second = places.chunk(2)
    raw = network.compare(embeddings, first, second)
    if not bool(torch.isfinite(raw.logits).all()):
        raise ScorerError("the trained network gives no finite numbers; train again with a smaller --lr")
    return raw


def cross_fitted(raw: RawScores, examples: Examples, half: Sequence[bool], *, sampled: bool) -> tuple[Calibration, Quality]:
    """Return the calibration fitted on all held-out pairs, and the quality of one that has not seen the pairs it is measured on.

    For `quality`, each half of the pairs is calibrated by the other half, and both are measured together.  Of one prompt there are no
    two halves: it is then measured with Calibration's defaults, which have seen nothing.
    """
    side, targets, decided = torch.tensor(half), examples.target, examples.decided
    s, u = torch.empty(len(targets), dtype=torch.float64), torch.empty(len(targets), dtype=torch.float64)
    for here in (side, ~side):
        found = _fitted(raw, targets, ~here, sampled=sampled)
        s[here], u[here] = found.apply(raw.logits[here], raw.variances[here])
    preferred = (targets[decided] == TARGETS["a"]).tolist()
    everything = torch.ones_like(side)
    return _fitted(raw, targets, everything, sampled=sampled), quality(s[decided].tolist(), u[decided].tolist(), preferred)


def _fitted(raw: RawScores, targets: Tensor, some: Tensor, *, sampled: bool) -> Calibration:
    if not bool(some.any()):
        return Calibration()
    return calibrate(raw.logits[some], raw.variances[some], targets[some], sampled=sampled)
