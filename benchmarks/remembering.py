"""A reader and a network that remember what they have read: one frozen body serves many trainings, and every text passes it once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from judgeflow.model.config import ModelConfig
from judgeflow.model.dropout import sampled
from judgeflow.model.layout import Layout, Text, TokenRow
from judgeflow.model.network import Network, Tell, ignore
from judgeflow.model.reading import Reader, Reading

Hidden = dict[tuple[bytes, int], Tensor]
"""What a body gave for a row: (its token ids, how many are the prompt's) to its embedding."""


class RememberingReader(Reader):
    """A `Reader` that reads every text once."""

    def __init__(self, layout: Layout, config: ModelConfig) -> None:
        super().__init__(layout, config)
        self._known: dict[Text, tuple[TokenRow, Tensor]] = {}

    def read(self, texts: Sequence[Text]) -> Reading:
        new = [text for text in texts if text not in self._known]
        reading = super().read(new)
        self._known.update(zip(new, zip(reading.rows, reading.surface, strict=True), strict=True))
        rows, surface = zip(*(self._known[text] for text in texts), strict=True)
        return Reading(rows, torch.stack(surface))


class RememberingNetwork(Network):
    """A `Network` over one frozen body that shares what it has read with others over the same body.

    MC dropout samples the dropout of embeddings only: what precedes it is frozen here, and is not read again for each pass.
    """

    def __init__(self, body: nn.Module, padding: int, config: ModelConfig, hidden: Hidden) -> None:
        super().__init__([body], padding, config)
        self._remembered = hidden

    @torch.no_grad()
    def embed_plain(self, reading: Reading, most_tokens: int, *, member: int = 0, tell: Tell = ignore) -> Tensor:
        keys = [(row.ids.tobytes(), row.prompt) for row in reading.rows]
        new = [index for index, key in enumerate(keys) if key not in self._remembered]
        if new:
            found = super().embed_plain(reading.part(new), most_tokens, member=member, tell=tell)
            self._remembered.update(zip((keys[index] for index in new), found[:, : self.encoder.width].clone(), strict=True))
        hidden = torch.stack([self._remembered[key] for key in keys])
        return torch.cat([hidden, reading.surface.to(hidden)], dim=1)

    @torch.no_grad()
    def embed(self, reading: Reading, most_tokens: int, *, half: bool = False, tell: Tell = ignore) -> Tensor:
        del half  # a body that is read once is read exactly
        plain = self.embed_plain(reading, most_tokens, tell=tell)
        if self.config.uncertainty != "mc-dropout":
            return plain.unsqueeze(0)
        passes = []
        for number in range(self.passes):
            with sampled(self, number):
                passes.append(self.noisy(plain))
        return torch.stack(passes)
