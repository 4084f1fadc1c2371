"""Style sheets and scripts: read once, compressed once, and named by what is in them, so that a browser keeps them for good."""

from __future__ import annotations

import asyncio
import functools
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

from judgeflow.report.pages import asset, library

STATIC = "/static/"
FOR_GOOD = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One file as it is sent."""

    kind: str
    plain: bytes
    packed: bytes
    tag: str


def _own(name: str) -> bytes:
    return (files("judgeflow.web") / "static" / name).read_bytes()


SOURCES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "style.css": ("text/css", lambda: asset("style.css").encode() + _own("page.css")),
    "charts.js": ("text/javascript", lambda: asset("charts.js").encode()),
    "live.js": ("text/javascript", lambda: _own("live.js")),
    "plotly.js": ("text/javascript", library),
}


@functools.cache
def read(name: str) -> Asset:
    """Return a file by its name.  Raises `KeyError` for another name than those in `SOURCES`."""
    kind, source = SOURCES[name]
    plain = source()
    return Asset(kind=kind, plain=plain, packed=gzip.compress(plain, 6, mtime=0), tag=hashlib.blake2b(plain, digest_size=8).hexdigest())


def address(name: str) -> str:
    """Return where a page finds a file, with a tag that changes when the file does."""
    return f"{STATIC}{name}?{read(name).tag}"


def asset_routes() -> list[web.RouteDef]:
    """Return the route of the files."""

    async def give(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in SOURCES:
            raise web.HTTPNotFound
        found = await asyncio.to_thread(read, name)
        headers = {"ETag": f'"{found.tag}"', "Cache-Control": FOR_GOOD, "Vary": "Accept-Encoding"}
        if f'"{found.tag}"' in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=found.packed, content_type=found.kind, headers=headers | {"Content-Encoding": "gzip"})
        return web.Response(body=found.plain, content_type=found.kind, charset="utf-8", headers=headers)

    return [web.get(STATIC + "{name}", give)]
