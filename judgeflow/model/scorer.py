"""The scorer that routing uses: pairs in, preferences out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

import torch

from judgeflow.errors import ConfigurationError, ScorerError
from judgeflow.model.calibration import Calibration
from judgeflow.model.config import DType
from judgeflow.model.network import Network
from judgeflow.model.reading import Comparisons, Reader, compare_pairs
from judgeflow.types import Pair, Preference

CPU_BATCH_TOKENS = 4096
CUDA_BATCH_TOKENS = 65_536


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of a name as torch knows it ("cpu", "cuda:1"); "auto" is a GPU where there is one.

    Raises `ConfigurationError` for one that does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError(f"device {name!r} cannot be used here: {reason}; 'auto' takes what there is") from None
    return device


def batch_tokens(device: torch.device, most: int | None = None) -> int:
    """Return how many tokens one batch may hold, padding included: `most`, or what suits the device."""
    return most or (CUDA_BATCH_TOKENS if device.type == "cuda" else CPU_BATCH_TOKENS)


@dataclass(slots=True)
class Seen:
    """What a scorer has read so far.  Changed by `SngpScorer.score` only."""

    texts: int = 0
    tokens: int = 0
    cut_texts: int = 0
    cut_tokens: int = 0


class SngpScorer:
    """A `Scorer`: a trained network with its calibration.

    Every distinct text of a call (a response after its prompt; two, for the concat encoder) is read once, in batches of similar
    length and at most `max_batch_tokens` tokens; results do not depend on the batch beyond 1e-5 in single precision.  A pair is compared
    in one order and negated for the other, so swapping it negates its logit and keeps its uncertainty, exactly.  `seen` counts what was
    read, and cut.
    """

    def __init__(
        self,
        network: Network,
        reader: Reader,
        calibration: Calibration,
        *,
        name: str,
        dtype: DType = "auto",
        max_batch_tokens: int | None = None,
    ) -> None:
        device = network.encoder.device
        self._network = network.eval()
        network.compare_exactly()
        self._reader = reader
        self._calibration = calibration
        self._half = dtype == "bfloat16" or (dtype == "auto" and device.type == "cuda")
        self._most_tokens = batch_tokens(device, max_batch_tokens)
        self._name = name
        self.seen = Seen()

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        dtype: DType = "auto",
        max_batch_tokens: int | None = None,
        compiled: bool = False,
    ) -> Self:
        """Load what `judgeflow train` has written.  Raises `ConfigurationError` naming the file that is missing, cut or altered.

        With `compiled` the body goes through torch.compile: the first call takes long, and every later one may be faster.
        """
        from judgeflow.model.checkpoint import load

        if dtype not in get_args(DType):
            raise ConfigurationError(f"dtype is {dtype!r}; one of {', '.join(get_args(DType))} is expected")
        with torch.random.fork_rng(devices=[]):  # building a network draws weights, which are replaced
            saved = load(Path(folder))
        network = saved.network.to(choose_device(device))
        for encoder in network.encoders if compiled else ():
            encoder.body.compile(dynamic=True)  # type: ignore[union-attr]  # a module's own method
        name = saved.fingerprint[:16] + ("-compiled" if compiled else "")
        return cls(network, saved.reader, saved.calibration, name=name, dtype=dtype, max_batch_tokens=max_batch_tokens)

    @property
    def fingerprint(self) -> str:
        return f"sngp-{self._name}{'-bf16' if self._half else ''}"

    @property
    def device(self) -> str:
        """Where the weights are."""
        return str(self._network.encoder.device)

    def score(self, pairs: Sequence[Pair]) -> list[Preference]:
        """Return one preference per pair, in order.  Raises `ScorerError` if the network gives anything but numbers."""
        if not pairs:
            return []
        canonical = [pair.swapped() if pair.response_a > pair.response_b else pair for pair in pairs]
        distinct = {pair: index for index, pair in enumerate(dict.fromkeys(canonical))}
        preferences = self._preferences(compare_pairs(distinct, self._network.config))
        found = [preferences[distinct[pair]] for pair in canonical]
        return [
            preference if pair is one_way else preference.swapped()
            for pair, one_way, preference in zip(pairs, canonical, found, strict=True)
        ]

    def _preferences(self, compared: Comparisons) -> list[Preference]:
        reading = self._reader.read(compared.texts)
        self.seen.texts += len(reading)
        self.seen.tokens += sum(map(len, reading.rows))
        self.seen.cut_texts += sum(row.cut > 0 for row in reading.rows)
        self.seen.cut_tokens += sum(row.cut for row in reading.rows)
        embeddings = self._network.embed(reading, self._most_tokens, half=self._half)
        raw = self._network.compare(embeddings, torch.tensor(compared.first), torch.tensor(compared.second))
        s, u = self._calibration.apply(raw.logits, raw.variances)
        # Rounded to single precision, so that the last bits of a double, which depend on the batch, never show.
        rounded = torch.stack([part.float() for part in (s, u, raw.variances.mean(1))])
        if not bool(torch.isfinite(rounded).all()):
            raise ScorerError(f"the scorer gave no finite number for some of {len(s)} pairs; its weights may be damaged")
        return [
            Preference(logit=logit, uncertainty=uncertainty, variance=variance)
            for logit, uncertainty, variance in zip(*rounded.tolist(), strict=True)
        ]
