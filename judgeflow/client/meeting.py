"""Where the processes of one machine that have one configuration find the service that one of them has started.

It is a folder below `.judgeflow`, beside the run's files.  Who holds `service.lock` is the service, or is about to start it; who holds
`clients.lock` (shared) wants one to be there.  The kernel lets go of both when their process ends, however it ends, so nobody has to be
trusted to clean up; a process that is forked from one of them lets go by itself.  `address.json` says where the service is, and the token
that it asks for; only this user can read it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from judgeflow import __version__
from judgeflow.client.held import Held
from judgeflow.config import Config
from judgeflow.errors import ConfigurationError
from judgeflow.keys import digest

LARGEST_LOG = 2**22
"""Bytes of a service's log that its successor goes on with."""

_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a service is, what it asks visitors for, and which process it is."""

    url: str
    token: str
    pid: int


class Meeting:
    """The folder, and what is in it.  Raises `ConfigurationError` where files cannot be made or locked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._address = folder / "address.json"

    @classmethod
    def of(cls, settings: Config) -> Meeting:
        """Return where those meet who have these settings on this machine.

        A machine is part of the name, since folders may be on a disk that others see too, and a service is reached from its own alone.
        """
        directory = settings.path(".").resolve()
        name = digest("meeting/1", [__version__, settings.model_dump_json(), str(directory)]).hex()[:_DIGITS]
        return cls(directory / ".judgeflow" / f"{socket.gethostname()}-{name}")

    @property
    def log(self) -> Path:
        """The file that the service writes to what others say on stderr."""
        return self.folder / "service.log"

    def turn_log(self) -> None:
        """Put a long log aside, in the place of the one before; for who is about to write to it."""
        with suppress(OSError):  # a service without a log is better than none
            if self.log.stat().st_size > LARGEST_LOG:
                self.log.replace(self.log.with_name(f"{self.log.name}.1"))

    def office(self) -> Held | None:
        """Return a lock by whose descriptor whoever has it, or inherits it, is the service; None if somebody is already."""
        return self._locked("service.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)

    def attend(self) -> Held:
        """Return a lock that keeps the service going while it is held; waits for a service that is ending."""
        attending = self._locked("clients.lock", fcntl.LOCK_SH)
        assert attending is not None  # it waits
        return attending

    def deserted(self) -> Held | None:
        """Return a lock that keeps clients waiting, if there are none; None if there are."""
        return self._locked("clients.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)

    def address(self) -> Address | None:
        """Return where the service is; None while it is being started, or where a machine went down as that was written."""
        try:
            return Address(**json.loads(self._address.read_text(encoding="utf-8")))
        except (FileNotFoundError, TypeError, ValueError):
            return None

    def announce(self, address: Address) -> None:
        """Say where the service is, all at once."""
        written = self._address.with_suffix(".new")
        written.unlink(missing_ok=True)
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(address), file)
            file.flush()
            os.fsync(descriptor)
        written.replace(self._address)

    def withdraw(self) -> None:
        """Take back where a service is, or was."""
        with suppress(FileNotFoundError):
            self._address.unlink()

    def _check(self, found: os.stat_result) -> None:
        """Raise `ConfigurationError` unless the folder is this user's alone: whoever writes there could answer in the service's place."""
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise ConfigurationError(
                f"{self.folder}: is no folder of yours alone, so others could pose as the service that is found by it; remove it, or "
                "choose another [run] directory"
            )

    def _locked(self, name: str, how: int) -> Held | None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check(self.folder.lstat())
            return Held.of(self.folder / name, how)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ConfigurationError(
                f"{self.folder / name}: cannot be locked ({error.strerror}); the processes of a machine find each other by it. Start "
                "judgeflow serve --route and give its address instead, or choose another [run] directory"
            ) from None
