"""Tells who watches when something has changed: one look at the database for all who watch the same, and none when nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import NamedTuple

from judgeflow.errors import StoreError

Look = Callable[[], Awaitable["News"]]

SHARE = 0.1
"""Of the time, at most this is spent looking: after a slow look follows a long pause."""


class News(NamedTuple):
    """What is the case: `version` changes whenever a page should be read again, `summary` says in one sentence what is new."""

    version: str
    summary: str


def version_of(*facts: object) -> str:
    """Return a version that is another one whenever any of the facts is."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


class TooMany(Exception):
    """As many watch as may."""


class Watcher:
    """Somebody who watches.  News wait in a queue of bounded length; who does not read them is `dropped`."""

    def __init__(self, backlog: int) -> None:
        self._queue: asyncio.Queue[News | None] = asyncio.Queue(backlog + 1)
        self._backlog = backlog
        # Set once, by `tell` or `end`; nothing more is queued then.
        self.dropped = False

    def tell(self, news: News) -> None:
        """Queue news, or drop a watcher who has not read the ones before."""
        if self.dropped:
            return
        if self._queue.qsize() >= self._backlog:
            self.end()
        else:
            self._queue.put_nowait(news)

    def end(self) -> None:
        """Let the watcher go."""
        if not self.dropped:
            self.dropped = True
            self._queue.put_nowait(None)

    async def news(self, patience_s: float) -> AsyncIterator[News | None]:
        """Yield news as they come, None whenever there were none for so long, until the watcher is let go."""
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    news = await self._queue.get()
            except TimeoutError:
                yield None
                continue
            if news is None:
                return
            yield news


class Channel:
    """One thing that is watched, the task that looks at it, and those who watch."""

    def __init__(self, look: Look, poll_s: float) -> None:
        self.watchers: set[Watcher] = set()
        self._look = look
        self._poll_s = poll_s
        self._latest: News | None = None
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._watch())

    def join(self, watcher: Watcher) -> None:
        """Add a watcher, who is told at once what is known."""
        self.watchers.add(watcher)
        if self._latest is not None:
            watcher.tell(self._latest)

    @property
    def ended(self) -> bool:
        """Whether nobody looks any more, or soon."""
        return self._over.is_set() or self._task.done()

    def end(self) -> None:
        """Look no more, and let everybody go; a look under way is not broken off."""
        self._over.set()
        for watcher in self.watchers:
            watcher.end()

    def when_gone(self, tell: Callable[[Channel], None]) -> None:
        """Have somebody told once nobody looks any more."""
        self._task.add_done_callback(lambda _: tell(self))

    async def gone(self) -> None:
        """Wait until nobody looks any more, once it has ended."""
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._over.is_set():
                started = loop.time()
                self._spread(await self._what_is_new())
                pause = max(self._poll_s, (loop.time() - started) * (1 / SHARE - 1))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._over.wait()
        finally:
            self.end()

    def _spread(self, news: News) -> None:
        if news != self._latest:
            self._latest = news
            for watcher in self.watchers:
                watcher.tell(news)

    async def _what_is_new(self) -> News:
        try:
            return await self._look()
        except StoreError as error:
            return News(version=version_of(str(error)), summary=str(error))


class Hub:
    """All that is watched, by what it is."""

    def __init__(self, *, poll_s: float, backlog: int, most: int) -> None:
        self._poll_s, self._backlog, self._most = poll_s, backlog, most
        # Written by `watching` alone.
        self._channels: dict[Hashable, Channel] = {}
        # Channels that nobody watches any more, until their last look is over.
        self._ending: set[Channel] = set()
        self._closed = False

    @property
    def looking(self) -> int:
        """How many things are being looked at."""
        return len(self._channels)

    @property
    def watchers(self) -> int:
        """How many watch."""
        return sum(len(channel.watchers) for channel in self._channels.values())

    @asynccontextmanager
    async def watching(self, what: Hashable, look: Look) -> AsyncIterator[Watcher]:
        """Watch something for as long as the block lasts.  Raises `TooMany`."""
        if self.watchers >= self._most or self._closed:
            raise TooMany
        channel = self._channels.get(what)
        if channel is None or channel.ended:
            channel = self._channels[what] = Channel(look, self._poll_s)
        watcher = Watcher(self._backlog)
        channel.join(watcher)
        try:
            yield watcher
        finally:
            channel.watchers.discard(watcher)
            if not channel.watchers and self._channels.get(what) is channel:
                del self._channels[what]
                self._retire(channel)

    def _retire(self, channel: Channel) -> None:
        channel.end()
        self._ending.add(channel)
        channel.when_gone(self._ending.discard)

    async def aclose(self) -> None:
        """Let everybody go, now and from now on, and wait for the looks under way."""
        self._closed = True
        for channel in self._channels.values():
            channel.end()
        await asyncio.gather(*(channel.gone() for channel in {*self._channels.values(), *self._ending}))
