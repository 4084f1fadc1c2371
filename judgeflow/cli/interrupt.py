"""Ctrl-C and SIGTERM for work that is to stop where nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

import typer

from judgeflow.cli import INTERRUPTED

if TYPE_CHECKING:
    import asyncio


def say(message: str) -> None:
    """Print a line on stderr, from where nothing may be raised: nobody may be there to read it."""
    with suppress(OSError):
        typer.echo(message, err=True)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield whether SIGINT or SIGTERM has come since; a second one raises `KeyboardInterrupt` wherever the work is."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        del number, frame
        if came:
            raise KeyboardInterrupt
        came = True
        say("stopping after this step; press Ctrl-C again to stop at once")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_on_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set `stop` when SIGINT or SIGTERM comes: for servers, which lose nothing when they end at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


@contextmanager
def interruptible(words: Callable[[], str]) -> Iterator[None]:
    """End the command with exit code 130 where Ctrl-C comes inside the block; `words` say what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted: {words()}")
        raise typer.Exit(INTERRUPTED) from None
