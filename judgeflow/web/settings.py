"""What can be set about the live page."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the page is served.  Durations are seconds; a request may have `most_bytes`.

    `token` is what a visitor must know; None lets everybody in.  `names` are host names under which it may be asked for, beside addresses
    and localhost.  `poll_s` is how often the database is looked at while somebody watches, `visit_s` what one visit may take,
    `at_once` how many may look at the same time.  At most `watchers` watch; one who has not read `backlog` pieces of news, or takes
    `send_s` for one, is dropped.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    names: frozenset[str] = frozenset()
    poll_s: float = 1.0
    visit_s: float = 5.0
    at_once: int = 2
    heartbeat_s: float = 15.0
    backlog: int = 8
    send_s: float = 10.0
    watchers: int = 64
    most_bytes: int = 2**20

    @property
    def open_to_others(self) -> bool:
        """Whether other machines may reach the page."""
        return not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reached from this machine alone."""
    address = address_in(host)
    return host == "localhost" if address is None else address.is_loopback


def address_in(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
