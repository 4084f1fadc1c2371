"""Locks on files that a process holds, and a process that is forked from it does not.

A child of `fork` shares the open files of its parent, and with them the locks: a worker of a DataLoader would keep a service going that
nobody needs, and would be taken for one.  So it closes what it has inherited before it does anything else.  A program that is executed
holds a lock only if it is given the descriptor.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


class Held:
    """A lock that is held until it is closed, or its process has died."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def of(cls, path: Path, how: int) -> Self:
        """Lock a file, which is made if it is not there.  Raises `OSError`: `BlockingIOError` where it must not wait."""
        with _CHANGING:
            held = cls(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            _HELD.add(held)
        try:
            fcntl.flock(held.descriptor, how)
        except BaseException:
            held.close()
            raise
        return held

    def close(self) -> None:
        """Let go.  Idempotent."""
        with _CHANGING:
            if self in _HELD:
                _HELD.remove(self)
                os.close(self.descriptor)


_HELD: set[Held] = set()
"""What this process holds, or waits for; changed with `_CHANGING` locked."""

_CHANGING = threading.Lock()
"""Locked while this process forks, too: no child has a descriptor that is not among `_HELD`."""


def _let_go() -> None:
    for held in _HELD:
        with suppress(OSError):
            os.close(held.descriptor)  # the parent's stays locked
    _HELD.clear()
    _CHANGING.release()


os.register_at_fork(before=_CHANGING.acquire, after_in_parent=_CHANGING.release, after_in_child=_let_go)
