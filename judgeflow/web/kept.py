"""What was read, kept for a while: many who ask at once wait for one read."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """The last `most` values by key.  Used on one loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        # Reads under way and done, with the version each is of, the one asked for last at the end.  Written by `get` alone.
        self._reads: OrderedDict[Hashable, tuple[Hashable, asyncio.Future[Value]]] = OrderedDict()

    async def get(self, key: Hashable, version: Hashable, read: Callable[[], Awaitable[Value]]) -> Value:
        """Return what `read` returns, or returned for this version; what failed is read again the next time."""
        known, future = self._reads.get(key, (None, None))
        if future is None or known != version or _failed(future):
            future = asyncio.ensure_future(read())
            self._reads[key] = version, future
        self._reads.move_to_end(key)
        while len(self._reads) > self._most:
            self._reads.popitem(last=False)
        return await asyncio.shield(future)  # one visitor who leaves does not end the read for the others

    def forget(self, key: Hashable) -> None:
        """Have it read again the next time."""
        self._reads.pop(key, None)


def _failed(future: asyncio.Future[Value]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)
