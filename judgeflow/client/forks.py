"""What a client's process leaves to those that are forked from it: nothing of its connections, which each of them makes for itself."""

from __future__ import annotations

import os
import warnings
from typing import Any, Protocol
from weakref import WeakSet

import aiohttp


class Inherited(Protocol):
    """What a child of `fork` has of its parent, and has to leave alone."""

    def begin_anew(self) -> None:
        """Forget what is the parent's; called in the child before anything else runs there."""
        ...


class Connector(aiohttp.TCPConnector):
    """Connections of one process.

    A child throws them away without closing them: the epoll that they would be taken out of is its parent's too, which would hear of no
    answer any more.
    """

    def __init__(self) -> None:
        super().__init__(limit=0)
        self._process = os.getpid()

    def __del__(self, _warnings: Any = warnings) -> None:
        if self._process == os.getpid():
            super().__del__(_warnings)


_INHERITED: WeakSet[Inherited] = WeakSet()
"""The clients of this process; added to by `begins_anew_when_forked` alone."""


def begins_anew_when_forked(client: Inherited) -> None:
    """Have a client begin anew in every process that is forked from this one."""
    _INHERITED.add(client)


def _all_begin_anew() -> None:
    for client in _INHERITED:
        client.begin_anew()


if hasattr(os, "register_at_fork"):  # elsewhere there is no fork
    os.register_at_fork(after_in_child=_all_begin_anew)
