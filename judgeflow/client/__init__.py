"""A typed client of a judgeflow service: what a `Scheduler` does, done by another process.

>>> from judgeflow.client import RouteClient
>>> async with RouteClient("http://127.0.0.1:8765") as client:
...     step = await client.route_groups(groups, step=17)

`elect("judgeflow.toml")` is such a client whose service nobody has to start.  Loaded when first used: importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judgeflow.client.client import RouteClient
    from judgeflow.client.elected import elect

__all__ = ["RouteClient", "elect"]

_HOMES = {"RouteClient": "judgeflow.client.client", "elect": "judgeflow.client.elected"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
