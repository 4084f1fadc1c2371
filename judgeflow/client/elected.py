"""A service that nobody has to start: the first process of a machine that needs one starts it, and the others find it."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from pathlib import Path

from judgeflow.client.client import NotNow, RouteClient
from judgeflow.client.held import Held
from judgeflow.client.meeting import Address, Meeting
from judgeflow.config import DEFAULT_FILE, Config, load_config
from judgeflow.errors import ServiceError

_LOG = logging.getLogger("judgeflow")

PROGRAM = "judgeflow.web.elected"
LOOK_S = 0.05
"""How often to look for a service that another process is starting."""


def elect(config: str | Path | Config = DEFAULT_FILE, *, retry_for_s: float = 300.0) -> RouteClient:
    """Return a client of the service that the processes of this machine with this configuration have in common.

    >>> with elect("judgeflow.toml") as client:
    ...     step = client.route_groups_sync(groups)

    The first that asks something starts the service, in a process of its own, which ends when its last client is closed or dead.  If it
    dies before, the next that asks starts it again.  The configuration is read at once: raises `ConfigurationError`.  A service that cannot
    be started is a `ServiceError` of the method that needs it.  A process that is forked from one with such a client is a client only
    once it asks something itself.
    """
    return ElectedClient(config if isinstance(config, Config) else load_config(config), retry_for_s=retry_for_s)


class ElectedClient(RouteClient):
    """A client that looks before each attempt where the service is, and starts it where nobody has."""

    def __init__(self, settings: Config, *, retry_for_s: float = 300.0) -> None:
        super().__init__("http://127.0.0.1", retry_for_s=retry_for_s)
        self._settings = settings
        self._meeting = Meeting.of(settings)
        self._attending: Held | None = None  # from the first look until it is closed; changed with the entrance locked
        self._entrance, self._electing = threading.Lock(), threading.Lock()
        self._found = False  # a service, since it attends: another one means that the first has died

    async def aclose(self) -> None:
        """Close the connections; the last client's end is the service's.  Idempotent."""
        await super().aclose()
        await asyncio.to_thread(self._leave)

    def close(self) -> None:
        """Close a client that was used with `route_sync`.  Idempotent."""
        super().close()
        self._leave()

    def begin_anew(self) -> None:
        """In a process that was forked from a client's: be none of the service's clients until something is asked."""
        super().begin_anew()
        self._attending = None  # which this process has let go of
        self._entrance, self._electing = threading.Lock(), threading.Lock()

    async def _reach(self) -> None:
        end = asyncio.get_running_loop().time() + self._retry_for_s
        while (found := await asyncio.to_thread(self._look)) is None:
            if asyncio.get_running_loop().time() > end:
                raise NotNow(f"another process has not got the service started; its log is {self._meeting.log}")
            await asyncio.sleep(LOOK_S)
        self._found = True
        self._move(found.url, found.token)

    def _look(self) -> Address | None:
        """Return where the service is, once it is this process's turn to start it; None while others are about to."""
        with self._entrance:
            if self._attending is None:
                self._attending, self._found = self._meeting.attend(), False
        with self._electing:
            office = self._meeting.office()
            if office is not None:
                try:
                    self._start(office.descriptor)
                finally:
                    office.close()  # the service has it
            return self._meeting.address()

    def _start(self, office: int) -> None:
        """Start the service, which inherits the office, and return when it can be asked.

        One that takes longer than a request is tried for goes on by itself.
        """
        self._meeting.withdraw()
        command = [sys.executable, "-m", PROGRAM, str(self._meeting.folder), str(office)]
        settings, limit_s = self._settings.model_dump_json(), self._retry_for_s
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter, and a module of ours
                command, input=settings, pass_fds=[office], capture_output=True, text=True, check=False, timeout=limit_s
            )
        except subprocess.TimeoutExpired:
            raise ServiceError(f"the service has not started within {limit_s:g} s; its log is {self._meeting.log}") from None
        if done.returncode:
            raise ServiceError(f"the service could not be started: {done.stderr.strip()} (its log is {self._meeting.log})")
        again = self._found
        _LOG.log(
            logging.WARNING if again else logging.INFO,
            "%sstarted a service for the processes of this machine; its log is %s",
            "the service has ended before its clients; " if again else "",
            self._meeting.log,
        )

    def _leave(self) -> None:
        with self._entrance:
            attending, self._attending = self._attending, None
            if attending is not None:
                attending.close()
