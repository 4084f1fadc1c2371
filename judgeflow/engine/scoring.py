"""What the scorer says of a step's items, as far as there is time for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from judgeflow.engine.batcher import ScoringThread
from judgeflow.engine.events import Observers
from judgeflow.engine.items import Item
from judgeflow.errors import ScorerError
from judgeflow.types import Preference

SCORING_SHARE = 0.75
"""How much of the time before its deadline a step may spend on scoring; the rest is for the judge."""


class Scoring:
    """Gives items their preferences, piece by piece."""

    def __init__(self, thread: ScoringThread, observers: Observers) -> None:
        self.thread = thread
        self._observers = observers

    async def score(self, items: Sequence[Item], left_s: float | None, news: asyncio.Event) -> None:
        """Let the scorer speak about the items of a step that has `left_s` seconds; what it has said by then is kept, and told as news."""
        try:
            async with asyncio.timeout(None if left_s is None else SCORING_SHARE * left_s) as limit:
                async for piece, scored in self.thread.score([item.pair for item in items]):
                    self._keep(items[piece.start : piece.stop], scored)
                    news.set()
            _failed(items)  # those that no piece has brought
        except TimeoutError:
            if not limit.expired():
                raise

    def _keep(self, items: Sequence[Item], scored: Sequence[Preference] | ScorerError) -> None:
        if isinstance(scored, ScorerError):
            _failed(items)
            self._observers.notice("scorer_failed", error=str(scored))
            return
        for item, preference in zip(items, scored, strict=True):
            item.preference = preference


def _failed(items: Iterable[Item]) -> None:
    """Note that the scorer has had its turn: those of the items that have no preference now will get none."""
    for item in items:
        item.unscored = "scorer_failed"
