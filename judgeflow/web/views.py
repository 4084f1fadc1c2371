"""One function for each page: what it shows, whether as HTML or as JSON.

A view reads and validates what its address says; it raises `BadAddress` for what cannot be meant, `Unknown` for what is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from markupsafe import Markup

from judgeflow.keys import KEY_BYTES
from judgeflow.plurals import plural
from judgeflow.report.charts import charts_of
from judgeflow.report.pages import chart_figures
from judgeflow.report.safe import json_for_script
from judgeflow.store.paging import ORDERS
from judgeflow.web.desk import Desk, Unknown

LARGEST = 2**53
"""Numbers in addresses go as far as those that JSON can say exactly."""

LARGEST_RUN = 2**31 - 1
"""No database numbers its runs further."""

LONGEST_SEARCH = 200
STEPS_A_PAGE = 100

LATEST_STEPS = 12
"""So many stand on the page of their run."""


class BadAddress(Exception):
    """An address says what cannot be meant; the message says which part, and what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A page: `value` is what the API gives, `more` what only the template needs, `live` the path to hear news from."""

    template: str
    value: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)
    live: str | None = None
    version: str = ""


Show = Callable[[Desk, web.Request], Awaitable[View]]


async def runs(desk: Desk, _request: web.Request) -> View:
    """Every run."""
    news = await desk.news()
    return View(template="runs.html", value={"runs": await desk.runs()}, live="/events/runs", version=news.version)


async def run(desk: Desk, request: web.Request) -> View:
    """A run."""
    number = whole(request, "run")
    news, head = await desk.news(number), await desk.run(number)
    figures = await desk.figures(head.state, news.version)
    charts = await asyncio.to_thread(charts_of, figures)
    data = Markup(json_for_script(chart_figures(charts)))  # noqa: S704 - cannot leave its script element
    return View(
        template="live.html",
        value={"head": head, "run": figures},
        more={"charts": charts, "chart_figures": data, "latest": LATEST_STEPS},
        live=f"/events/runs/{number}",
        version=news.version,
    )


async def steps(desk: Desk, request: web.Request) -> View:
    """All steps of a run, the last one first."""
    number, at = whole(request, "run"), page(request)
    head, version = await desk.run(number), (await desk.news(number)).version
    ended = (await desk.figures(head.state, version)).steps[::-1]
    pages = max(1, -(-len(ended) // STEPS_A_PAGE))
    if at > pages:
        raise Unknown(f"Run {head.run.name!r} has {plural(len(ended), 'step')}, so there is no page {at}.")
    shown = ended[(at - 1) * STEPS_A_PAGE : at * STEPS_A_PAGE]
    return View(template="steps.html", value={"head": head, "steps": shown, "page": at, "pages": pages})


async def step(desk: Desk, request: web.Request) -> View:
    """The pairs of a step."""
    order = request.query.get("order", "uncertainty")
    if order not in ORDERS:
        raise BadAddress(f"order={order!r} is no way to sort pairs; it is one of {', '.join(ORDERS)}.")
    found = await desk.step(whole(request, "run"), whole(request, "step"), order, page(request))
    return View(template="step.html", value={"step": found}, more={"orders": ORDERS})


async def pair(desk: Desk, request: web.Request) -> View:
    """A pair with its two raw replies; with `run` and `step`, what was decided about it there."""
    asked = request.query
    number, number_of_step = (number_of(asked[name], name) if name in asked else None for name in ("run", "step"))
    found = await desk.pair(key(request.match_info["key"]).hex(), number, number_of_step)
    run = None if number is None else (await desk.run(number)).run
    return View(template="pair.html", value={"pair": found}, more={"run": run, "step": number_of_step})


async def judges(desk: Desk, _request: web.Request) -> View:
    """Every judge."""
    found = await desk.judges()
    return View(template="judges.html", value={"judges": found.judges, "complete": found.complete, "latest": found.latest, "of": found.of})


async def search(desk: Desk, request: web.Request) -> View:
    """The pairs that contain a text."""
    words = request.query.get("q", "").strip()
    if len(words) > LONGEST_SEARCH:
        raise BadAddress(f"The text to look for has {len(words)} characters; look for at most {LONGEST_SEARCH}.")
    after = key(request.query["after"]) if request.query.get("after") else b""
    found = await desk.search(words, after) if words else None
    return View(template="search.html", value={"q": words, "found": found})


def whole(request: web.Request, name: str) -> int:
    """A number in the path."""
    return number_of(request.match_info[name], name)


def page(request: web.Request) -> int:
    """The page that is asked for, from 1."""
    number = number_of(request.query.get("page", "1"), "page")
    if number < 1:
        raise BadAddress("page=0 does not exist; pages count from 1.")
    return number


def number_of(text: str, name: str) -> int:
    """A number as an address holds it."""
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= LARGEST):
        raise BadAddress(f"{name}={text[:40]!r} is no number of a {name}.")
    if name == "run" and int(text) > LARGEST_RUN:
        raise Unknown(f"There is no run {text}.")
    return int(text)


def key(text: str) -> bytes:
    """A pair's key in hexadecimal digits."""
    try:
        found = bytes.fromhex(text) if text.isalnum() else b""
    except ValueError:
        found = b""
    if len(found) != KEY_BYTES:
        raise BadAddress(f"{text[:80]!r} is no key of a pair: that has {2 * KEY_BYTES} hexadecimal digits.")
    return found
