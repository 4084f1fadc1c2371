"""Who may look: only under a name of ours, with the token where there is one, and as an address is asked: pages by GET and HEAD alone.

It also puts the headers on every answer.

A page on another site can make a browser resolve that site's name to 127.0.0.1 and read what answers there (DNS rebinding).  Such a
request names the other site in its Host header, so a name that is not ours is turned away.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from judgeflow.web import signposts
from judgeflow.web.settings import Settings, address_in

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN_TO_ALL = frozenset({"/healthz", "/readyz"})
"""Say nothing about the database, and are asked by machines that know no token."""

READS = ("GET", "HEAD")
COOKIE_DAYS = 30

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""Styles may stand inline because the library that draws the charts writes them so; scripts may not."""


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Put the headers on an answer that is about to be sent."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if not request.path.startswith("/static/"):
        response.headers.setdefault("Cache-Control", "no-store")


def guard(settings: Settings) -> Middleware:
    """Return the middleware that turns visitors away, or lets them in with a cookie."""
    doorkeeper = Doorkeeper(settings)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not doorkeeper.knows_host(request):
            raise web.HTTPMisdirectedRequest(text=doorkeeper.strange_host(request))
        if request.path not in OPEN_TO_ALL and not doorkeeper.lets_in(request):
            if not doorkeeper.is_token(request.query.get("token", "")):
                raise web.HTTPUnauthorized(text="Give the token that `judgeflow serve` printed, or that its --token-env variable holds.")
            if request.method in READS:  # a trainer, who posts, may know an address only, and keeps no cookies
                return doorkeeper.welcome(request)
        signposts.check(request)
        return await handler(request)

    return check


class Doorkeeper:
    """Decides about single requests."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cookie = f"judgeflow-{settings.port}"
        # The cookie is not the token: who reads a browser's cookies cannot log in elsewhere with it.
        self._pass = None if settings.token is None else hashlib.blake2b(b"judgeflow page", key=_key(settings.token)).hexdigest()

    def knows_host(self, request: web.Request) -> bool:
        """Whether the Host header names this server: localhost, an address, or a name that was allowed."""
        name = _host_name(request)
        if name == "localhost" or name in self._settings.names:
            return True
        address = address_in(name)
        return address is not None and (self._settings.open_to_others or address.is_loopback)

    def strange_host(self, request: web.Request) -> str:
        """What to say about a host that is not ours."""
        name = _host_name(request)
        return f"This page does not answer to the name {name!r}; if you know it, start judgeflow serve with --allow-host {name}"

    def lets_in(self, request: web.Request) -> bool:
        """Whether a request shows that its visitor knows the token."""
        if self._pass is None:
            return True
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(bearer.strip())
        return hmac.compare_digest(request.cookies.get(self._cookie, "").encode(), self._pass.encode())

    def is_token(self, given: str) -> bool:
        """Whether a text is the token."""
        token = self._settings.token
        return token is not None and hmac.compare_digest(_key(given), _key(token))

    def welcome(self, request: web.Request) -> web.Response:
        """Send a visitor to where they wanted to go, with a cookie and without the token in the address."""
        response = web.Response(status=303, headers={"Location": str(request.rel_url.without_query_params("token"))})
        seconds = COOKIE_DAYS * 86_400
        response.set_cookie(self._cookie, self._pass or "", max_age=seconds, httponly=True, samesite="Strict", path="/")
        return response


def _host_name(request: web.Request) -> str:
    try:
        return (request.url.host or "").lower()
    except ValueError:  # no host at all
        return request.host.lower()


def _key(token: str) -> bytes:
    """A token of any length and any characters as a key of one length."""
    return hashlib.blake2b(token.encode(errors="surrogatepass")).digest()
