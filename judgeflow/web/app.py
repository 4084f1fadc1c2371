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
from judgeflow.web.service import Service
from judgeflow.web.settings import Settings
from judgeflow.web.vitals import vital_routes


def create_app(
    desk: Desk, settings: Settings, *, complain: Callable[[BaseException], None], service: Service | None = None
) -> web.Application:
    """Return the application over what `desk` reads, which answers trainers by `service`; `complain` hears of what nobody foresaw."""
    hub, pages = Hub(poll_s=settings.poll_s, backlog=settings.backlog, most=settings.watchers), Pages(desk.where)
    trainers = service.routes() if service is not None else []
    app = web.Application(middlewares=[problem_pages(pages, complain), guard(settings)], client_max_size=settings.most_bytes)
    app.on_response_prepare.append(add_headers)
    for routes in (page_routes(desk, pages), event_routes(desk, hub, settings), vital_routes(desk, service), asset_routes(), trainers):
        app.add_routes(routes)

    async def say_goodbye(_app: web.Application) -> None:
        if service is not None:
            await service.aclose()
        await hub.aclose()

    app.on_shutdown.append(say_goodbye)
    return app
