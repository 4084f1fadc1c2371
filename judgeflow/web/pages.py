"""Views as HTML and as JSON; what went wrong is said in the same two ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from judgeflow.report.pages import environment
from judgeflow.web import assets, views
from judgeflow.web.desk import Desk
from judgeflow.web.problems import Problem, problem_of
from judgeflow.web.shown import preferences_of_row
from judgeflow.web.signposts import API, asks_as_trainer, asks_for_data
from judgeflow.web.trainers import refusal
from judgeflow.web.views import Show, View
from judgeflow.web.words import first_words, spots, words_of

if TYPE_CHECKING:
    from jinja2 import Environment

VIEWS: dict[str, Show] = {
    "/runs": views.runs,
    "/runs/{run}": views.run,
    "/runs/{run}/steps": views.steps,
    "/runs/{run}/steps/{step}": views.step,
    "/pairs/{key}": views.pair,
    "/judges": views.judges,
    "/search": views.search,
}
"""Every page by its path; `/api` before it gives the same as JSON."""


class Pages:
    """Renders values; knows the templates."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._templates: Environment = environment((Path(__file__).parent / "templates",)).overlay()
        self._templates.globals["asset"] = assets.address
        self._templates.filters |= {
            "first_words": first_words,
            "preferences_of_row": preferences_of_row,
            "spots": spots,
            "words_of": words_of,
        }

    def html(self, view: View, *, status: int = 200) -> web.Response:
        """Return a view as a page."""
        shown = {"where": self._where, "live": view.live, "version": view.version} | dict(view.value) | dict(view.more)
        return web.Response(text=self._templates.get_template(view.template).render(shown), content_type="text/html", status=status)

    def problem(self, request: web.Request, problem: Problem) -> web.Response:
        """Return what went wrong, as the address was asked for."""
        if asks_for_data(request):
            response = as_json({"error": problem.text}, status=problem.status)
        elif asks_as_trainer(request):
            response = refusal(problem.status, problem.text)
        else:
            told = {"title": problem.title, "text": problem.text, "status": problem.status}
            response = self.html(View(template="problem.html", value=told), status=problem.status)
        response.headers.update(problem.headers)
        return response


def page_routes(desk: Desk, pages: Pages) -> list[web.RouteDef]:
    """Return the routes of the pages, and of the same as JSON."""

    async def home(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/runs")

    routes = [web.get("/", home)]
    for path, show in VIEWS.items():
        routes += [web.get(path, _as_page(desk, pages, show)), web.get(API + path, _as_data(desk, show))]
    return routes


def _as_page(desk: Desk, pages: Pages, show: Show) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await asyncio.to_thread(pages.html, await show(desk, request))

    return handle


def _as_data(desk: Desk, show: Show) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return as_json((await show(desk, request)).value)

    return handle


def as_json(value: object, *, status: int = 200) -> web.Response:
    """Return values as JSON: keys of the database in hexadecimal digits, what is not finite as null."""
    body = orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(body=body, content_type="application/json", status=status)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "_asdict"):
        return value._asdict()
    raise TypeError(f"no JSON for {type(value).__name__}")


def problem_pages(pages: Pages, complain: Callable[[BaseException], None]) -> Middleware:
    """Return the middleware that says what went wrong; `complain` hears of what nobody foresaw."""

    @web.middleware
    async def tell(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:  # whatever it is, the visitor gets a page and the server stays
            if isinstance(error, web.HTTPException) and error.status < 400:
                raise
            problem = problem_of(error)
            if problem.status == 500:
                complain(error)
            return pages.problem(request, problem)

    return tell
