"""Replies that a real judge once gave, ready to be given again.

A pair record may carry them as `"judge": {NAME: {"order_ab": {"raw": TEXT}, "order_ba": {"raw": TEXT}}}`, where `order_ba` showed
response_b first; or, for repetitions, one level deeper as `{NAME: {REPETITION: {...}}}`, which is then called NAME/REPETITION.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from judgeflow.errors import ConfigurationError
from judgeflow.testing.opinions import Asked, NotRecorded, nonces
from judgeflow.types import Pair

_ORDERS = ("order_ab", "order_ba")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """The recorded replies of one judge by the nonce of their question; `pairs` have at least one."""

    judge: str
    replies: Mapping[str, str] = field(repr=False)
    pairs: int

    def reply(self, asked: Asked) -> str:
        """Return the recorded text.  Raises `NotRecorded`."""
        if asked.question not in self.replies:
            raise NotRecorded(f"{self.judge} has no recorded reply to question {asked.question} in this order")
        return self.replies[asked.question]


def recording(pairs: Iterable[Pair], judge: str | None = None) -> Recording:
    """Return the replies that `judge` gave about `pairs` (their metadata's "judge"); it may be left out where there is only one.

    Where a pair occurs twice, its first reply stays.  Raises `ConfigurationError` naming the judges there are.
    """
    pairs = list(pairs)
    names = sorted({name for pair in pairs for name, _ in _replies(pair)})
    if judge is None and len(names) == 1:
        judge = names[0]
    if judge not in names:
        raise ConfigurationError(_choose(judge, names))
    found: dict[str, str] = {}
    count = 0
    for pair in pairs:
        texts = _texts(dict(_replies(pair)).get(judge, {}))
        count += bool(texts)
        for order, nonce in zip(_ORDERS, nonces(pair), strict=True):
            if order in texts:
                found.setdefault(nonce, texts[order])
    return Recording(judge=judge, replies=found, pairs=count)


def _choose(judge: str | None, names: list[str]) -> str:
    if not names:
        return 'no recorded replies; a record to replay needs "judge": {NAME: {"order_ab": {"raw": TEXT}, "order_ba": ...}}'
    start = f"no replies of judge {judge!r} are recorded" if judge else "replies of more than one judge are recorded: name one"
    return f"{start}; there are {', '.join(names)}"


def _replies(pair: Pair) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(name, its orders) of every judge and repetition of one record."""
    judges = pair.metadata.get("judge")
    for name, entry in judges.items() if isinstance(judges, dict) else ():
        if not isinstance(entry, dict):
            continue
        if any(order in entry for order in _ORDERS):
            yield name, entry
            continue
        for repetition, orders in entry.items():
            if isinstance(orders, dict) and any(order in orders for order in _ORDERS):
                yield f"{name}/{repetition}", orders


def _texts(orders: Mapping[str, Any]) -> dict[str, str]:
    raw = {order: reply.get("raw") for order, reply in orders.items() if order in _ORDERS and isinstance(reply, dict)}
    return {order: text for order, text in raw.items() if isinstance(text, str)}
