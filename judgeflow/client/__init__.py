"""A typed client of a judgeflow service: what a `Scheduler` does, done by another process.

>>> from judgeflow.client import RouteClient
>>> async with RouteClient("http://127.0.0.1:8765") as client:
...     step = await client.route_groups(groups, step=17)

Loaded when first used: importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judgeflow.client.client import RouteClient

__all__ = ["RouteClient"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from judgeflow.client.client import RouteClient

    return RouteClient
