"""The network: rows of texts become embeddings, and pairs are compared by the embeddings of their two texts alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from judgeflow.model.config import ModelConfig
from judgeflow.model.dropout import SampledDropout, make_sampled, sampled
from judgeflow.model.encoder import Encoder, default_pooling
from judgeflow.model.layout import TokenRow, batches
from judgeflow.model.preference import ConcatHead, Judged, LinearHead, SiameseHead, make_head
from judgeflow.model.reading import Reading
from judgeflow.model.uncertainty import Posterior, make_variance

PAIRS_AT_ONCE = 4096

Tell = Callable[[int, int], None]
"""Is told (rows done, rows)."""


def ignore(done: int, total: int) -> None:
    """A `Tell` that nobody listens to."""
    del done, total


@dataclass(frozen=True, slots=True)
class RawScores:
    """Raw logits g and variances v of n pairs, both n x k for k views of each, on the CPU, in the pairs' own order."""

    logits: Tensor
    variances: Tensor


class Network(nn.Module):
    """One body and one head; or, of an ensemble, several of both (bodies only where they are trained).

    Embeddings are passes x n x width: one pass, one for each body of an ensemble, or one for each sample of MC dropout.  They end with
    the texts' surface features, where the config has them.
    """

    def __init__(self, bodies: Sequence[nn.Module], padding: int, config: ModelConfig) -> None:
        super().__init__()
        self.config = replace(config, pooling=default_pooling(bodies[0])) if config.pooling == "auto" else config
        for body in bodies if self._sampling else ():
            make_sampled(body)
        self.encoders = nn.ModuleList([Encoder(body, padding, self.config.pooling) for body in bodies])
        self.heads = nn.ModuleList([make_head(self.encoder.width, config) for _ in range(self.members)])
        self.uncertainty = make_variance(self.encoder.width, config)
        self.dropout = SampledDropout(config.dropout if self._sampling else 0.0, seed=0)

    @property
    def members(self) -> int:
        """How many heads there are."""
        return self.config.members if self.config.uncertainty == "ensemble" else 1

    @property
    def passes(self) -> int:
        """How many embeddings a text has."""
        return self.config.passes if self._sampling else len(self.encoders)

    @property
    def samples(self) -> int:
        """How many logits a view has."""
        return max(self.passes, self.members)

    @property
    def _sampling(self) -> bool:
        return self.config.uncertainty == "mc-dropout"

    @property
    def encoder(self) -> Encoder:
        """The first body; the only one but in an ensemble whose bodies are trained."""
        return self.encoders[0]  # type: ignore[return-value]  # a ModuleList does not know what it holds

    def encode(self, reading: Reading, member: int = 0) -> Tensor:
        """Return embeddings of texts, n x width, through which the body of `member` can be trained."""
        return _complete(self._encoder_of(member)(reading.rows), reading)

    def noisy(self, embeddings: Tensor) -> Tensor:
        """Return embeddings, n x width, as training sees them: with dropout, where the config has it, but never of surface features."""
        hidden, surface = embeddings[:, : self.encoder.width], embeddings[:, self.encoder.width :]
        return torch.cat([self.dropout(hidden), surface], dim=1)

    @torch.inference_mode()
    def embed(self, reading: Reading, most_tokens: int, *, half: bool = False, tell: Tell = ignore) -> Tensor:
        """Return the embeddings that `compare` takes, passes x n x width, wherever the weights are.

        Batches hold rows of similar length and at most `most_tokens`; one that does not fit into memory is halved and tried again.
        With `half` the body computes in bfloat16.  `tell` is told (rows done, rows) after every batch, over all passes.
        """
        passes, hidden, rereads = [], None, self._rereads
        total = (self.passes if rereads else 1) * len(reading)
        for number in range(self.passes):
            told = _told_from(tell, number * len(reading), total)
            with sampled(self, number) if self._sampling else nullcontext():
                if hidden is None or rereads:
                    hidden = self._hidden(self._encoder_of(number), reading, most_tokens, half=half, tell=told)
                passes.append(_complete(self.dropout(hidden), reading))
        return torch.stack(passes)

    @property
    def _rereads(self) -> bool:
        """Whether passes differ before the embedding: another body, or dropout inside of it (decoders have none)."""
        return len(self.encoders) > 1 or any(isinstance(module, SampledDropout) for module in self.encoders.modules())

    @torch.no_grad()
    def embed_plain(self, reading: Reading, most_tokens: int, *, member: int = 0, tell: Tell = ignore) -> Tensor:
        """Return the embeddings of the body of `member`, n x width, without dropout: what a head is trained on."""
        told = _told_from(tell, 0, len(reading))
        hidden = self._hidden(self._encoder_of(member), reading, most_tokens, half=False, tell=told)
        return _complete(hidden, reading)

    def _encoder_of(self, member: int) -> Encoder:
        return self.encoders[member % len(self.encoders)]  # type: ignore[return-value]

    @staticmethod
    def _hidden(encoder: Encoder, reading: Reading, most_tokens: int, *, half: bool, tell: Callable[[int], None]) -> Tensor:
        done = 0
        hidden = torch.empty(len(reading), encoder.width, device=encoder.device)
        with torch.autocast(encoder.device.type, dtype=torch.bfloat16, enabled=half):
            for chosen in batches(reading.rows, most_tokens):
                hidden[chosen] = _halving(encoder, [reading.rows[index] for index in chosen])
                done += len(chosen)
                tell(done)
        return hidden

    @torch.inference_mode()
    def compare(self, embeddings: Tensor, first: Tensor, second: Tensor) -> RawScores:
        """Compare texts `first` and `second` of `embeddings` (both n); the network must be in evaluation mode.

        Where there are samples, g is their mean and v their variance (in units of g squared).
        """
        logits, variances = [], []
        for one, other in zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True):
            samples = [self.judge(embeddings[number % len(embeddings)], one, other, number) for number in range(self.samples)]
            each = torch.stack([torch.stack([view.logit for view in views], dim=1) for views in samples])
            logits.append(each.mean(0).cpu())
            variances.append((each.var(0, correction=0) if self.uncertainty is None else self._variances(samples[0])).cpu())
        return RawScores(torch.cat(logits), torch.cat(variances))

    def _variances(self, views: Sequence[Judged]) -> Tensor:
        assert self.uncertainty is not None  # for the type checker
        return torch.stack([self.uncertainty(view) for view in views], dim=1)

    def judge(self, embeddings: Tensor, first: Tensor, second: Tensor, member: int = 0) -> list[Judged]:
        """Return what the head of `member` says of pairs, by embeddings n x width: one view, or one for each order."""
        head = self._head_of(member)
        dtype = next(head.parameters()).dtype
        return head.views(embeddings[first].to(dtype), embeddings[second].to(dtype))

    def compare_exactly(self) -> None:
        """From now on compare in double precision: a matrix product rounds differently in another batch, and bounded logits are small.

        Apple's GPUs have no such numbers; there the comparison stays as it is.
        """
        if self.encoder.device.type == "mps":
            return
        self.heads.double()
        if self.uncertainty is not None:
            self.uncertainty.double()

    def _head_of(self, member: int) -> SiameseHead | ConcatHead | LinearHead:
        return self.heads[member % len(self.heads)]  # type: ignore[return-value]

    @torch.no_grad()
    def prepare(self, embeddings: Tensor, first: Tensor, second: Tensor, member: int = 0) -> None:
        """Fix what depends on the data in the head of `member` before it is trained."""
        self._head_of(member).prepare(embeddings[first], embeddings[second])

    @torch.no_grad()
    def settle(self, embeddings: Tensor, first: Tensor, second: Tensor, member: int = 0) -> None:
        """Make the head of `member` exact, now that it is trained."""
        self._head_of(member).settle(embeddings[first], embeddings[second])

    @torch.no_grad()
    def know(self, embeddings: Tensor, first: Tensor, second: Tensor, strength: Tensor) -> Posterior | None:
        """Fit the uncertainty on training pairs and their strengths (all n); None where there is nothing to fit."""
        if self.uncertainty is None:
            return None
        chunks = zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strength.split(PAIRS_AT_ONCE), strict=True)
        return self.uncertainty.fit(
            (view, weight.to(view.logit)) for one, other, weight in chunks for view in self.judge(embeddings, one, other)
        )


def _told_from(tell: Tell, before: int, total: int) -> Callable[[int], None]:
    return lambda done: tell(before + done, total)


def _complete(hidden: Tensor, reading: Reading) -> Tensor:
    return torch.cat([hidden, reading.surface.to(hidden)], dim=1)


def _halving(encoder: Encoder, rows: list[TokenRow]) -> Tensor:
    try:
        return encoder(rows)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
    except (MemoryError, RuntimeError) as error:
        if len(rows) == 1 or not out_of_memory(error):
            raise
    half = len(rows) // 2
    return torch.cat([_halving(encoder, rows[:half]), _halving(encoder, rows[half:])])


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU (where torch raises a plain RuntimeError)."""
    signs = ("can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)
