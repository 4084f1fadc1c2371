"""What routes groups for a trainer, from whatever thread and whatever loop the trainer calls.

Trainers call reward functions synchronously, or on a loop of their own; a `Scheduler` belongs to one loop.  So a `Gateway` never uses the
caller's: it calls `route_groups_sync`, which keeps a private loop on a thread, from a thread that is in no loop.  Any number of trainers,
one after the other or at once, then share one scheduler: one budget, one quota, one verdict database.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from judgeflow.build import check_settings
from judgeflow.client import RouteClient, elect
from judgeflow.client.forks import begins_anew_when_forked
from judgeflow.client.wire import PartAnswer, PartRequest
from judgeflow.config import Config, load_config
from judgeflow.engine.loop_thread import LoopThread, in_running_loop
from judgeflow.engine.scheduler import Scheduler
from judgeflow.errors import UsageError
from judgeflow.plurals import plural
from judgeflow.types import Group, StepResult

_LOG = logging.getLogger("judgeflow")

T = TypeVar("T")


@runtime_checkable
class GroupRouter(Protocol):
    """Whoever says which of K responses are better: a `Scheduler`, or a client of a service that holds one."""

    def route_groups(self, groups: Sequence[Group], step: int | None = None) -> Coroutine[Any, Any, StepResult]:
        """Return the outcomes of all pairs, in the order of the groups.  Raises `JudgeflowError`.

        Awaited on one loop, always the same, which is not the trainer's.
        """
        ...


@runtime_checkable
class SyncGroupRouter(Protocol):
    """The same for callers that are in no loop; preferred where a router has both."""

    def route_groups_sync(self, groups: Sequence[Group], step: int | None = None) -> StepResult:
        """Return the outcomes of all pairs, in the order of the groups.  May be called from any thread.  Raises `JudgeflowError`."""
        ...


@runtime_checkable
class PartRouter(Protocol):
    """Where ranks that hold parts of a batch meet: a client of a service."""

    def route_part_sync(self, part: PartRequest) -> PartAnswer:
        """Return what the part's responses are worth once the whole batch is judged.  Any thread may call.  Raises `JudgeflowError`."""
        ...


CALLERS = 32
"""How many calls of one reward function may wait at a time."""

Router = GroupRouter | SyncGroupRouter
RouterSource = Router | Config | str | Path


class Gateway:
    """Routes through a router, or through one of its own: a scheduler made from a configuration, or a client of the service at an address.

    A configuration is checked at once, so mistakes show before training; the scheduler is built, and its store opened, with the first step,
    and closed when the program ends, as a client is.  Where a launcher has started several processes on this machine, and none elsewhere,
    they have one scheduler in common, in a service that the first of them starts (`judgeflow.client.elect`).  A router that is given is the
    caller's to close.  Raises `ConfigurationError`, and `UsageError` for what is nothing of these.  May be used from any thread.
    """

    def __init__(self, source: RouterSource) -> None:
        self._source = _understood(source)
        if not isinstance(self._source, Config | SyncGroupRouter | GroupRouter):
            raise UsageError(
                f"{self._source!r} routes no groups; give a configuration file, the address of a service, a Scheduler, or what has "
                "route_groups()"
            )
        self.begin_anew()
        begins_anew_when_forked(self)
        self._call: Callable[[Sequence[Group], int | None], StepResult] | None = None  # from the first step on

    def refusal(self) -> Exception | None:
        """Why the judge cannot be used at the moment, where the router is a scheduler and knows."""
        return self._source.refusal_sync() if isinstance(self._source, Scheduler) else None

    def begin_anew(self) -> None:
        """In a process that was forked from this one: threads of one's own, which are none before they are needed."""
        self._opening = threading.Lock()
        self._callers = ThreadPoolExecutor(CALLERS, thread_name_prefix="judgeflow-caller")

    @property
    def brings_ranks_together(self) -> bool:
        """Whether processes that hold parts of a batch meet where this leads."""
        return isinstance(self._source, PartRouter)

    def route_part(self, part: PartRequest) -> PartAnswer:
        """Return what the part's responses are worth; blocks the caller like `route`."""
        source = self._source
        assert isinstance(source, PartRouter)  # callers look at `brings_ranks_together`
        return _elsewhere(lambda: source.route_part_sync(part)) if in_running_loop() else source.route_part_sync(part)

    def route(self, groups: Sequence[Group], step: int | None) -> StepResult:
        """Return the step's result; blocks the caller until it is there, also where the caller is in an event loop."""
        with self._opening:
            call = self._call = self._call or self._opened()
        return _elsewhere(lambda: call(groups, step)) if in_running_loop() else call(groups, step)

    async def beside(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, which routes, while the caller's loop goes on.

        A caller that is cancelled goes on at once, while a loop that ends waits for the threads of its own executor.
        """
        return await asyncio.get_running_loop().run_in_executor(self._callers, contextvars.copy_context().run, work)

    def _opened(self) -> Callable[[Sequence[Group], int | None], StepResult]:
        source = self._source
        if isinstance(source, Config):
            source = self._source = Scheduler.from_config(source)
            close_at_exit(functools.partial(_close, source))
        if isinstance(source, SyncGroupRouter):
            return source.route_groups_sync
        thread, router = LoopThread(), source
        return lambda groups, step: thread.run(router.route_groups(groups, step))


def _understood(source: RouterSource) -> Router | Config:
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        client = RouteClient(source)
        close_at_exit(client.close)
        return client
    settings = load_config(source) if isinstance(source, str | Path) else source
    if isinstance(settings, Config):
        check_settings(settings)
    if not (isinstance(settings, Config) and _shares_machine(os.environ)):
        return settings
    client = elect(settings)
    close_at_exit(client.close)
    return client


def _shares_machine(environ: Mapping[str, str]) -> bool:
    """Whether this is one of several processes that torchrun, or a launcher that does as it does, has started, all of them here."""
    here, everywhere = (environ.get(name, "") for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    return here == everywhere and here.isdigit() and int(here) > 1


def _close(scheduler: Scheduler) -> None:
    """Close a scheduler whose trainer has ended, be it in the middle of a step, and say what there is to wait for."""
    try:
        stop_and_say(scheduler)
        scheduler.close()
    except KeyboardInterrupt:
        scheduler.abandon()
        raise


def stop_and_say(scheduler: Scheduler) -> None:
    """Ask nothing more, and say what there is to wait for."""
    scheduler.stop()
    if waiting := scheduler.in_flight:
        _LOG.warning(
            "waiting for %s that may have to be paid for; Ctrl-C leaves them, and they are asked again by the next run",
            plural(waiting, "reply", "replies"),
        )


def close_at_exit(close: Callable[[], None]) -> None:
    """Let `close` be called when the program ends, while threads can still be given work.

    Functions of `atexit` are called too late for that: executors are closed before.  Their own hook is called in time.
    """
    process = os.getpid()

    def closing() -> None:
        if os.getpid() != process:  # which was forked from this one, and has opened nothing
            return
        try:
            close()
        except KeyboardInterrupt:
            _LOG.warning("ended without waiting")
        except Exception:  # nobody is left to catch it, and the others that want to close must have their turn
            sys.excepthook(*sys.exc_info())

    threading._register_atexit(closing)  # type: ignore[attr-defined]  # noqa: SLF001  # concurrent.futures and asyncio close by it


def _elsewhere(work: Callable[[], T]) -> T:
    """Run `work` on a thread that is in no event loop."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="judgeflow-gateway") as executor:
        return executor.submit(work).result()
