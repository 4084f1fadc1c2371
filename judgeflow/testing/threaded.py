"""A fake judge for synchronous code, which has no event loop to run it on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from judgeflow.testing.fake_judge import FakeJudge


@contextmanager
def serve_in_thread(judge: FakeJudge) -> Iterator[FakeJudge]:
    """Run `judge` on a loop in a thread of its own, as long as the `with` block lasts.

    >>> with serve_in_thread(FakeJudge()) as judge:
    ...     train(base_url=judge.base_url)

    Read its statistics when nothing is under way, or over HTTP.  Raises what entering the judge raises.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, name="fake-judge", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(judge.__aenter__(), loop).result()
            try:
                yield judge
            finally:
                asyncio.run_coroutine_threadsafe(judge.__aexit__(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
