"""One scheduler for any number of trainer processes: one budget, one quota, one verdict database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from judgeflow.adapters.assembly import Assembly
from judgeflow.adapters.rendezvous import Patience, Rendezvous, Tell
from judgeflow.web.openrlhf import RemoteReward, openrlhf_routes
from judgeflow.web.parts import part_routes
from judgeflow.web.reception import Reception
from judgeflow.web.trainers import Router, trainer_routes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """At most `at_once` steps are routed at a time; when the service is closed, those under way get `drain_s` seconds."""

    at_once: int = 64
    drain_s: float = 30.0
    patience: Patience = field(default_factory=Patience)
    remote_reward: RemoteReward = field(default_factory=RemoteReward)


class Service:
    """Answers trainers from a router that is open on this loop, and stays the caller's to close."""

    def __init__(self, router: Router, settings: ServiceSettings, *, tell: Tell) -> None:
        self._settings = settings
        self._reception = Reception(at_once=settings.at_once)
        self._rendezvous = Rendezvous(router, patience=settings.patience, tell=tell)
        self._assembly = Assembly(patience=settings.patience, tell=tell)
        self._router = router

    @property
    def is_open(self) -> bool:
        """Whether requests are taken."""
        return self._reception.is_open

    @property
    def under_way(self) -> int:
        """How many requests are being answered, or wait for siblings or other ranks."""
        return self._reception.under_way + self._rendezvous.waiting + self._assembly.waiting

    @property
    def gathering(self) -> int:
        """How many of these wait for siblings or other ranks: they are told to come again when it closes."""
        return self._rendezvous.unjudged + self._assembly.waiting

    @property
    def left(self) -> int:
        """How many requests had no answer when it was closed, though they had their time."""
        return self._reception.left + self._rendezvous.left

    def routes(self) -> list[web.RouteDef]:
        """Return the routes by which trainers ask."""
        return [
            *trainer_routes(self._router, self._reception, self._rendezvous),
            *part_routes(self._router, self._reception, self._assembly),
            *openrlhf_routes(self._rendezvous, self._settings.remote_reward),
        ]

    async def aclose(self) -> None:
        """Take no more requests, and give those under way their time.  Idempotent."""
        drain_s = self._settings.drain_s
        await asyncio.gather(self._reception.aclose(drain_s), self._rendezvous.aclose(drain_s), self._assembly.aclose())
