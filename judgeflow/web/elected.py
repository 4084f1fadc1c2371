"""The program of a service that a client has started: `python -m judgeflow.web.elected FOLDER LOCK`, with the settings on standard input.

It returns when the service can be asked, or with exit code 1 and the reason why it cannot.  The service itself is its child, which holds
the inherited lock, belongs to no terminal, and ends when it has no clients any more.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from contextlib import suppress
from pathlib import Path

from judgeflow import __version__
from judgeflow.build import store_url
from judgeflow.client.meeting import Address, Meeting
from judgeflow.config import Config
from judgeflow.engine.scheduler import Scheduler
from judgeflow.errors import JudgeflowError
from judgeflow.observe.log import console_log
from judgeflow.web.complaints import Complaints, say
from judgeflow.web.server import serving
from judgeflow.web.service import Service, ServiceSettings
from judgeflow.web.settings import Settings

HOST = "127.0.0.1"
LOOK_S = 1.0
"""How often to look whether there are clients."""

MOST_BYTES = 64 * 2**20
_STARTED = b"+"


def main(folder: Path, office: int, settings: Config) -> int:
    """Start the service, and return this program's exit code."""
    meeting = Meeting(folder)
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os.close(office)
        with os.fdopen(reading, "rb") as told:
            said = told.read()
        sys.stderr.write(said.removeprefix(_STARTED).decode() or ("" if said else "it died without a word"))
        return 0 if said == _STARTED else 1
    os.close(reading)
    meeting.turn_log()
    _leave_the_terminal(meeting.log)
    return _served(meeting, settings, _Starter(writing))


def _leave_the_terminal(log: Path) -> None:
    """Let nobody wait for this process's output, nor a Ctrl-C that is meant for a trainer reach it."""
    os.setsid()
    nothing, written = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream, descriptor in ((0, nothing), (1, written), (2, written)):
        os.dup2(descriptor, stream)


class _Starter:
    """Whoever waits for the service to begin, and hears once how that went."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def tell(self, said: bytes) -> None:
        """Say it, unless something has been said before, or he has gone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.write(descriptor, said)
            os.close(descriptor)


def _served(meeting: Meeting, settings: Config, starter: _Starter) -> int:
    """Serve until there is nobody to serve; return the process's exit code."""
    try:
        asyncio.run(_serve(meeting, settings, starter))
    except JudgeflowError as error:
        say(f"judgeflow: {error}")
        starter.tell(str(error).encode())
        return 1
    except Exception as error:  # whatever it is, the starter hears of it
        Complaints()(error)
        starter.tell(repr(error).encode())
        return 1
    return 0


async def _serve(meeting: Meeting, settings: Config, starter: _Starter) -> None:
    token, stop = secrets.token_urlsafe(32), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    page = Settings(host=HOST, port=0, token=token, most_bytes=MOST_BYTES)
    async with Scheduler.from_config(settings, observers=[console_log(settings.log)]) as scheduler:
        service = Service(scheduler, ServiceSettings(), tell=scheduler.notice)
        async with serving(store_url(settings), page, complain=Complaints(), service=service) as port:
            meeting.announce(Address(url=f"http://{HOST}:{port}", token=token, pid=os.getpid()))
            say(f"judgeflow {__version__}: a service at {HOST}:{port}, process {os.getpid()}, begins")
            starter.tell(_STARTED)
            await _unneeded(meeting, stop)
            meeting.withdraw()
    say(f"the service of process {os.getpid()} has ended: {'it was told to' if stop.is_set() else 'it has no clients any more'}")


async def _unneeded(meeting: Meeting, stop: asyncio.Event) -> None:
    """Return when a signal has come, or when there are no clients: new ones then wait until this process has ended."""
    while meeting.deserted() is None:
        try:
            await asyncio.wait_for(stop.wait(), LOOK_S)
        except TimeoutError:
            continue
        return


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), Config.model_validate_json(sys.stdin.read())))
