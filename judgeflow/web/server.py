"""Runs the application."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from judgeflow.errors import ConfigurationError
from judgeflow.store.window import Window
from judgeflow.web.app import create_app
from judgeflow.web.desk import Desk
from judgeflow.web.service import Service
from judgeflow.web.settings import Settings

GOODBYE_S = 3.0
"""What answers under way may take once the server is to stop: most are there at once, the longest search takes two seconds."""


@asynccontextmanager
async def serving(
    url: str, settings: Settings, *, complain: Callable[[BaseException], None], service: Service | None = None
) -> AsyncIterator[int]:
    """Serve the database at `url`, and trainers by `service`, as long as the block lasts; yield the port.

    `complain` hears of errors that nobody foresaw.  Raises `ConfigurationError` for an address that cannot be listened on, and as
    `Window.open`.
    """
    window = await Window.open(url, visit_s=settings.visit_s, at_once=settings.at_once)
    # Addresses hold tokens when somebody logs in, so there is no log of them.
    desk = Desk(window)
    app = create_app(desk, settings, complain=complain, service=service)
    # Who goes away is no longer worked for: a trainer's place is kept, a page's read is not.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=GOODBYE_S, handler_cancellation=True)
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise _cannot_listen(settings, error) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        await desk.aclose()
        await window.aclose()


def _cannot_listen(settings: Settings, error: OSError) -> ConfigurationError:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(f"{where} is taken by another program; choose another with --port, or --port 0 for a free one")
    if error.errno == errno.EACCES:
        return ConfigurationError(f"{where}: ports below 1024 are for administrators; choose a larger --port")
    return ConfigurationError(f"{where} cannot be listened on ({error.strerror or error}); --host is an address of this machine")
