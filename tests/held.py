"""What a test holds in its hand: a judge whose replies wait for a word, and a port that nobody else is given."""

import asyncio
import contextlib
import socket

from judgeflow.testing import FakeJudge


class HeldJudge(FakeJudge):
    """A judge that answers its first `answers` requests as they come, and keeps all others waiting until it is `let_go`."""

    answers = 0

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._freed, self._received = asyncio.Event(), 0

    async def __aenter__(self):
        self._loop = asyncio.get_running_loop()
        return await super().__aenter__()

    def let_go(self):
        """Let it answer whatever it is asked from now on, and has been asked.  May be called from any thread."""
        self._loop.call_soon_threadsafe(self._freed.set)

    async def _wait(self, ruling):
        self._received += 1
        if self._received > self.answers and ruling.over is None:
            ends = [asyncio.ensure_future(event.wait()) for event in (self._freed, self._closing)]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in ends:
                    each.cancel()
        return not self._closing.is_set() and await super()._wait(ruling)


def held(pairs, *, answers=0, **options):
    """A `HeldJudge` that knows the labels of `pairs`."""
    judge = HeldJudge.from_pairs(pairs, **options)
    judge.answers = answers
    return judge


@contextlib.contextmanager
def held_port():
    """A port of this machine where nobody listens: it is given to nobody else meanwhile, but to a server that asks for its number."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
