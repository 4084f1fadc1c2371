"""A preference model that needs no weights."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence

from judgeflow.chance import chance
from judgeflow.errors import ScorerError
from judgeflow.keys import PairKeys, digest, pair_keys
from judgeflow.types import Pair, Preference


class FakeScorer:
    """A `Scorer` whose beliefs follow from a seed and the pair's texts, and who is right about labelled `pairs` as often as told.

    It is right with probability `accuracy`, and then tends to be sure of it: uncertainty is uniform over 1.0 to 1.6 and the logit's
    size over 0.3 to 3 where it is right, 1.2 to 2.0 and 0.1 to 1.5 where it is wrong.  So asking a judge about its uncertain pairs
    pays off, but not perfectly, as with real models.  About pairs without a label its belief is a coin's.  A pair labelled "tie"
    gets a logit near 0.

    `fail_on` are the batches, counted from 1, that raise `ScorerError`.  `seconds_per_batch` is how long a batch blocks its thread:
    real time, as a model's would be.  `batches` counts those that were asked for.
    """

    def __init__(
        self,
        pairs: Iterable[Pair] = (),
        *,
        accuracy: float = 0.7,
        seed: int = 0,
        fail_on: Collection[int] = (),
        seconds_per_batch: float = 0.0,
    ) -> None:
        self.batches = 0
        self._accuracy = accuracy
        self._seed = seed
        self._fail_on = frozenset(fail_on)
        self._seconds = seconds_per_batch
        self._truth = dict(_truth(pair) for pair in pairs if pair.label is not None)

    @property
    def fingerprint(self) -> str:
        truth = sorted((key.hex(), sign) for key, sign in self._truth.items())
        return f"fake-{digest('fake-scorer/1', [self._accuracy, self._seed, truth]).hex()[:16]}"

    def score(self, pairs: Sequence[Pair]) -> list[Preference]:
        self.batches += 1
        if self._seconds > 0:
            time.sleep(self._seconds)
        if self.batches in self._fail_on:
            raise ScorerError(f"batch {self.batches} fails, as it was told to")
        return [self._preference(pair_keys(pair)) for pair in pairs]

    def _preference(self, keys: PairKeys) -> Preference:
        name = keys.pair.hex()
        luck = {part: chance(self._seed, part, name) for part in ("right", "side", "size", "doubt")}
        right = luck["right"] < self._accuracy
        coin = 1 if luck["side"] < 0.5 else -1
        truth = self._truth.get(keys.pair)
        side = coin if not truth else truth if right else -truth
        size = 0.3 + 2.7 * luck["size"] if right else 0.1 + 1.4 * luck["size"]
        if truth == 0:
            size *= 0.1
        logit = side * size if keys.canonical else -side * size
        uncertainty = 1.0 + 0.6 * luck["doubt"] if right else 1.2 + 0.8 * luck["doubt"]
        return Preference(logit=0.0 if keys.identical else logit, uncertainty=uncertainty)


def _truth(pair: Pair) -> tuple[bytes, int]:
    """The pair's key, and which response is better in canonical order: +1, -1 or 0."""
    keys = pair_keys(pair)
    sign = {"a": 1, "b": -1, "tie": 0}[pair.label or "tie"]
    return keys.pair, sign if keys.canonical else -sign
