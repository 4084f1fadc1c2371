"""A loop on a thread of its own: who waits for it is not left waiting when it is closed."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from judgeflow.engine.loop_thread import LoopThread
from judgeflow.errors import UsageError


def test_a_call_that_waits_when_the_loop_is_stopped_is_given_up():
    thread, waits, tidied = LoopThread(), threading.Event(), []

    async def for_ever():
        try:
            waits.set()
            await asyncio.Event().wait()
        finally:
            tidied.append(True)

    with ThreadPoolExecutor(1) as caller:
        call = caller.submit(thread.run, for_ever())
        waits.wait()
        thread.stop()
        with pytest.raises(UsageError, match="given up"):
            call.result()
    assert tidied == [True]


def test_an_error_of_the_work_is_the_callers():
    thread = LoopThread()

    async def failing():
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        thread.run(failing())
    thread.stop()
