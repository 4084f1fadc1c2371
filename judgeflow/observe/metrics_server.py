"""`[metrics] port`: metrics served from the process that runs the scheduler, on a thread of prometheus_client's."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable

from prometheus_client import CollectorRegistry, start_http_server

from judgeflow.errors import ConfigurationError
from judgeflow.observe.metrics import MetricsObserver


def served_metrics(host: str, port: int) -> MetricsObserver:
    """Return an observer whose metrics are served until it is closed.  Raises `ConfigurationError` for an address that cannot be had."""
    registry = CollectorRegistry()
    return MetricsObserver(registry, on_close=_serve(registry, host, port))


def _serve(registry: CollectorRegistry, host: str, port: int) -> Callable[[], None]:
    """Serve; return what ends that and gives the port back.  Calling it again does nothing."""
    try:
        server, thread = start_http_server(port, host, registry)
    except socket.gaierror as error:
        raise ConfigurationError(f"[metrics] host: {host} is no address of this machine: {error.strerror}") from None
    except OSError as error:
        hint = "every process on this machine needs a port of its own" if error.errno == errno.EADDRINUSE else "is [metrics] host its own?"
        raise ConfigurationError(f"[metrics] port: {host}:{port} cannot be had: {error.strerror or error}; {hint}") from None

    def close() -> None:
        if not thread.is_alive():
            return
        ending = threading.Thread(target=server.shutdown, name="judgeflow-metrics-end")
        ending.start()
        with contextlib.suppress(OSError):  # it looks every half second whether to end, and at once if its socket changes
            server.socket.shutdown(socket.SHUT_RDWR)
        ending.join()
        server.server_close()

    return close
