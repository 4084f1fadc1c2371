"""A judgeflow service for tests, on a thread of its own, over a real scheduler and an in-process judge."""

import asyncio
import contextlib
import threading
from concurrent.futures import Future

from aiohttp import web

from judgeflow import Scheduler
from judgeflow.config import RoutingConfig
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge
from judgeflow.web.service import Service, ServiceSettings


def scheduler(pairs, *, policy="always", **more):
    judge = None if policy == "never" else ScriptedJudge(Opinions(truth=Opinions.truths(pairs)), latency=0.01)
    return Scheduler(scorer=FakeScorer(pairs), judge=judge, store=MemoryStore(), routing=RoutingConfig(policy=policy), **more)


class Served:
    """A running service: where it is, and what it told."""

    def __init__(self, service, port, told):
        self.service, self.told = service, told
        self.url = f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def serving(router, *, port=0, max_bytes=2**20, **settings):
    told = []
    service = Service(router, ServiceSettings(**settings), tell=lambda event, **fields: told.append((event, fields)))
    app = web.Application(client_max_size=max_bytes)
    app.add_routes(service.routes())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield Served(service, runner.addresses[0][1], told)
    finally:
        await service.aclose()
        await runner.cleanup()


@contextlib.contextmanager
def on_a_thread(opened):
    """What an async context manager gives, held open by a loop on a thread of its own."""
    ready, done = Future(), threading.Event()

    async def hold():
        async with opened as given:
            ready.set_result(given)
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        yield ready.result(60)
    finally:
        done.set()
        thread.join()


def served_in_a_thread(pairs=(), *, make=None, **settings):
    """A service for trainers that block, or are processes of their own; over `make()`, or a scheduler with a judge who knows `pairs`."""

    @contextlib.asynccontextmanager
    async def opened():
        async with make() if make else scheduler(pairs) as router, serving(router, **settings) as served:
            yield served

    return on_a_thread(opened())
