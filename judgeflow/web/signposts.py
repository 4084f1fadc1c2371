"""What to say at an address that leads nowhere: which addresses there are, and which was probably meant.

An address has no slash at its end; one that has is told so, and not led on, since a POST that is led on loses its body in many clients.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from aiohttp import web

API = "/api"
"""What stands before a page's path gives the page as JSON."""

TRAINERS = ("/v1", "/get_reward", "/openapi.json")
"""What trainers ask begins so."""

_ALIKE = 0.75
_LONGEST = 100

Ways = Mapping[str, tuple[str, ...]]
"""The methods of every address."""


def asks_as_trainer(request: web.Request) -> bool:
    """Whether a request is a trainer's, or would be if its address were right: programs post, and read JSON."""
    return request.method == "POST" or _begins(request.path, *TRAINERS)


def asks_for_data(request: web.Request) -> bool:
    """Whether a request is for what a page shows, as JSON."""
    return _begins(request.path, API)


def check(request: web.Request) -> None:
    """Raise `HTTPNotFound` for an address that is none, and `HTTPMethodNotAllowed` for one that is asked otherwise.

    Pages that are not there, and pages that somebody tries to change, are told the same whatever their address.
    """
    match request.match_info.http_exception:
        case web.HTTPNotFound():
            raise web.HTTPNotFound(text=_lost(request))
        case web.HTTPMethodNotAllowed() as error:
            told = _otherwise(request.path, request.method, error.allowed_methods)
            raise web.HTTPMethodNotAllowed(request.method, error.allowed_methods, text=told)


def _otherwise(path: str, method: str, allowed: Iterable[str]) -> str:
    if _begins(path, API, *TRAINERS):
        return f"{path} is asked by {_either(allowed)}, and this was {method}."
    return "This page can only be read."


def _lost(request: web.Request) -> str | None:
    """What to say about an address that is none; None says that there is no page of it, as of any other."""
    if asks_as_trainer(request):
        return _no_question(request.path, _ways(request.app, TRAINERS))
    if asks_for_data(request):
        pages = _ways(request.app, (API,))
        return f"No page has this address.{_meant(request.path, pages)} There are {', '.join(pages)}."
    return None


def _no_question(path: str, ways: Ways) -> str:
    """What to say to a trainer."""
    if not ways:
        return f"{_cut(path)} is no address here: this server shows runs only. To answer trainers, start judgeflow serve with --route."
    listed = ", ".join(f"{_either(methods)} {address}" for address, methods in ways.items())
    return f"{_cut(path)} is no address here.{_meant(path, ways)} There are {listed}."


def _meant(path: str, ways: Ways) -> str:
    """The address that is most like `path`, as a question; nothing if none is like it."""
    plain = "/" + "/".join(filter(None, path.lower().split("/")))
    if plain in ways:
        return f" It is written {plain}."
    near = difflib.get_close_matches(plain[:_LONGEST], ways, n=1, cutoff=_ALIKE)
    return f" Did you mean {near[0]}?" if near else ""


def _ways(app: web.Application, beginnings: tuple[str, ...]) -> Ways:
    """The addresses that begin so, in the order in which they were added."""
    resources = [resource for resource in app.router.resources() if _begins(resource.canonical, *beginnings)]
    return {resource.canonical: tuple(route.method for route in resource if route.method != "HEAD") for resource in resources}


def _begins(path: str, *beginnings: str) -> bool:
    """Whether a path is one of `beginnings`, or below it, however many slashes are written for one."""
    first = next(filter(None, path.split("/")), "")
    return any(first == beginning.strip("/") for beginning in beginnings)


def _either(methods: Iterable[str]) -> str:
    return " or ".join(sorted(methods))


def _cut(path: str) -> str:
    return path if len(path) <= _LONGEST else f"{path[:_LONGEST]}..."
