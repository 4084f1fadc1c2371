"""Puts the routes together: each group of them comes from a function of its own."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from judgeflow.web.assets import asset_routes
from judgeflow.web.desk import Desk
from judgeflow.web.events import event_routes
from judgeflow.web.guard import add_headers, guard
from judgeflow.web.live import Hub
from judgeflow.web.pages import Pages, page_routes, problem_pages
from judgeflow.web.settings import Settings
from judgeflow.web.vitals import vital_routes


def create_app(desk: Desk, settings: Settings, *, complain: Callable[[BaseException], None]) -> web.Application:
    """Return the application over what `desk` reads; `complain` hears of errors that nobody foresaw."""
    hub, pages = Hub(poll_s=settings.poll_s, backlog=settings.backlog, most=settings.watchers), Pages(desk.where)
    app = web.Application(middlewares=[problem_pages(pages, complain), guard(settings)])
    app.on_response_prepare.append(add_headers)
    for routes in (page_routes(desk, pages), event_routes(desk, hub, settings), vital_routes(desk), asset_routes()):
        app.add_routes(routes)

    async def say_goodbye(_app: web.Application) -> None:
        await hub.aclose()

    app.on_shutdown.append(say_goodbye)
    return app
