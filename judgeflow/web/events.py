"""Server-sent events: a page hears that there is something new, and reads itself again.

The news carry a version and one sentence, never the figures: a page that was away misses nothing, and a slow one holds nothing up.
"""

from __future__ import annotations

import asyncio

import orjson
from aiohttp import web

from judgeflow.web.desk import Desk
from judgeflow.web.live import Hub, Look, News, TooMany, Watcher
from judgeflow.web.settings import Settings
from judgeflow.web.views import whole

RETRY_MS = 2000
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
HEARTBEAT = b": still here\n\n"

GONE = (ConnectionError, TimeoutError)
"""What it looks like when a page was closed, or does not read."""


async def stream(request: web.Request, hub: Hub, settings: Settings, look: Look) -> web.StreamResponse:
    """Tell a page what is new until it leaves, or is too slow."""
    response = web.StreamResponse(headers=HEADERS)
    if request.method == "HEAD":
        return response
    try:
        async with hub.watching(request.path, look) as watcher:
            await response.prepare(request)
            await _tell(response, watcher, settings, request.headers.get("Last-Event-ID") or request.query.get("seen"))
    except TooMany:
        raise web.HTTPServiceUnavailable(text="Too many pages are watching; close some, or reload this one by hand.") from None
    except GONE:
        _hang_up(request)
    return response


async def _tell(response: web.StreamResponse, watcher: Watcher, settings: Settings, seen: str | None) -> None:
    await response.write(f"retry: {RETRY_MS}\n\n".encode())
    async for news in watcher.news(settings.heartbeat_s):
        if news is None:
            await _send(response, HEARTBEAT, settings)
        elif news.version != seen:
            await _send(response, event(news), settings)
            seen = None


async def _send(response: web.StreamResponse, data: bytes, settings: Settings) -> None:
    async with asyncio.timeout(settings.send_s):
        await response.write(data)


def event(news: News) -> bytes:
    """Return news as an event."""
    data = orjson.dumps({"version": news.version, "summary": news.summary})
    return b"id: %s\nevent: news\ndata: %s\n\n" % (news.version.encode(), data)


def _hang_up(request: web.Request) -> None:
    """Drop the connection with whatever is still waiting to be sent."""
    if request.transport is not None:
        request.transport.abort()


def event_routes(desk: Desk, hub: Hub, settings: Settings) -> list[web.RouteDef]:
    """Return the routes of what can be watched: the list of runs, and each run."""

    async def all_runs(request: web.Request) -> web.StreamResponse:
        return await stream(request, hub, settings, desk.news)

    async def one_run(request: web.Request) -> web.StreamResponse:
        number = whole(request, "run")
        await desk.run(number)
        return await stream(request, hub, settings, lambda: desk.news(number))

    return [web.get("/events/runs", all_runs), web.get("/events/runs/{run}", one_run)]
