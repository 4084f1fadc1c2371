"""judgeflow serve: the live page."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from judgeflow.cli.db.common import ConfigFile, Url, address_of
from judgeflow.cli.ending import AGAIN, Ending, Losses, requests_ended, waits_for_replies, waits_for_requests
from judgeflow.cli.interrupt import say
from judgeflow.plurals import plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from judgeflow.engine.scheduler import Scheduler
    from judgeflow.web.service import ServiceSettings
    from judgeflow.web.settings import Settings

NICENESS = 10
"""The page gives way to the runs on its machine."""

NOTHING_LOST = "the page only reads, so there is nothing to lose"


def serve(
    context: typer.Context,
    url: Url = None,
    config: ConfigFile = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any other than this machine's own needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8765,
    token_env: Annotated[str | None, typer.Option(help="Environment variable that holds the token visitors must know.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="Answer to this host name too; may be repeated.")] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    route: Annotated[bool, typer.Option("--route", help="Answer trainers too, with the scheduler that --config describes.")] = False,
    group_size: Annotated[
        int | None, typer.Option(help="With --route: responses to a prompt, where OpenRLHF sends each alone.", min=2)
    ] = None,
    linger_s: Annotated[float, typer.Option(help="With --route: seconds that a response waits for its siblings.", min=0.1)] = 60.0,
    response_marker: Annotated[
        str | None, typer.Option(help="With --route: text before a response, where OpenRLHF before 0.7 sends no prompts.")
    ] = None,
    max_steps: Annotated[int, typer.Option(help="With --route: requests that are answered at a time.", min=1)] = 64,
    max_request_mb: Annotated[int, typer.Option(help="With --route: the largest request.", min=1)] = 64,
    drain_s: Annotated[float, typer.Option(help="With --route: seconds that requests under way get when the service ends.", min=0)] = 30.0,
) -> None:
    """Show runs live in a browser: whether judging is healthy, what it costs, and whether it helps; with --route, answer trainers.

    Example: judgeflow serve --url verdicts.db
    Example: judgeflow serve --route --config judgeflow.toml --group-size 4

    The page only reads. It listens on this machine alone unless --host says
    otherwise; then visitors need a token, which is printed once or taken
    from the variable that --token-env names. Ctrl-C ends it.
    """
    import asyncio

    from judgeflow.web.settings import Settings

    token, made = _token(token_env, host)
    settings = Settings(host=host, port=port, token=token, names=_names(host, allow_host or []), most_bytes=max_request_mb * 2**20)
    announce = _announce(settings, show_token=made, open_it=open_, nicely=not route)
    if not route:
        _require_no_trainers(context)
        asyncio.run(_serve(address_of(url, config), settings, announce))
        return
    if url is not None:
        raise typer.BadParameter("a service keeps its verdicts where [store] url of its configuration says", param_hint="--url")
    from judgeflow.adapters.rendezvous import Patience
    from judgeflow.web.openrlhf import RemoteReward
    from judgeflow.web.service import ServiceSettings

    service = ServiceSettings(
        at_once=max_steps,
        drain_s=drain_s,
        patience=Patience(linger_s=linger_s),
        remote_reward=RemoteReward(group_size=group_size, response_marker=response_marker),
    )
    _serve_trainers(config, settings, service, announce)


def _require_no_trainers(context: typer.Context) -> None:
    """Raise `BadParameter` for an option that was given and is about trainers only."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if str(getattr(parameter, "help", "")).startswith("With --route:") and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter("is for trainers; give --route too", param_hint=parameter.opts[0])


def _names(host: str, allowed: list[str]) -> frozenset[str]:
    """The names under which the page answers, beside localhost and addresses."""
    import socket

    from judgeflow.web.settings import is_loopback

    own = [] if is_loopback(host) else [host, socket.gethostname(), socket.getfqdn()]
    return frozenset(name.lower() for name in (*own, *allowed))


def _token(variable: str | None, host: str) -> tuple[str | None, bool]:
    """The token, if there is to be one, and whether it was made up here."""
    import secrets

    from judgeflow.errors import ConfigurationError
    from judgeflow.web.settings import SHORTEST_TOKEN, is_loopback

    if variable is not None:
        token = os.environ.get(variable, "").strip()
        if len(token) < SHORTEST_TOKEN:
            problem = "is not set" if not token else f"holds {plural(len(token), 'character')}"
            raise ConfigurationError(
                f"--token-env {variable}: the variable {problem}; set it to {SHORTEST_TOKEN} characters or more that nobody can guess"
            )
        return token, False
    return (None, False) if is_loopback(host) else (secrets.token_urlsafe(32), True)


def _announce(settings: Settings, *, show_token: bool, open_it: bool, nicely: bool) -> Callable[[int], None]:
    """What to do once the page can be visited."""

    def announce(port: int) -> None:
        if nicely and hasattr(os, "nice"):
            os.nice(NICENESS)
        host = _visited(settings.host)
        visited = f"http://{host}:{port}/"
        secret = f"{visited}?token={settings.token}" if show_token else visited
        print(f"judgeflow page at {secret} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        if open_it:
            import webbrowser

            webbrowser.open(secret)

    return announce


def _visited(host: str) -> str:
    """The name under which a browser finds what listens on `host`."""
    import socket

    if host in {"0.0.0.0", "::"}:  # noqa: S104 - what the user has asked for
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


async def _serve(address: str, settings: Settings, ready: Callable[[int], None]) -> None:
    import asyncio

    from judgeflow.web.complaints import Complaints
    from judgeflow.web.server import GOODBYE_S, serving

    ending = Ending(asyncio.get_running_loop())
    async with serving(address, settings, complain=Complaints()) as port:
        ending.waits_for = lambda: f"pages that are being read get {GOODBYE_S:g} s at most; {AGAIN}"
        ending.lost = NOTHING_LOST
        ready(port)
        await ending.asked()
    say(f"ended: {NOTHING_LOST}")


def _serve_trainers(config: Path | None, settings: Settings, service: ServiceSettings, ready: Callable[[int], None]) -> None:
    """Serve a scheduler and the page of its database.  It is built before there is a loop, so that a signal ends its loading at once."""
    import asyncio

    from judgeflow.build import store_url
    from judgeflow.config import DEFAULT_FILE, load_config
    from judgeflow.engine.scheduler import Scheduler
    from judgeflow.observe.log import console_log

    loaded, losses = load_config(config or DEFAULT_FILE), Losses()
    scheduler = Scheduler.from_config(loaded, observers=[console_log(loaded.log), losses])
    asyncio.run(_answer(scheduler, losses, store_url(loaded), settings, service, ready))


async def _answer(
    scheduler: Scheduler, losses: Losses, address: str, settings: Settings, service: ServiceSettings, ready: Callable[[int], None]
) -> None:
    """Answer trainers.  Signals end it as they end the page, with the time that requests get."""
    import asyncio

    from judgeflow.web.complaints import Complaints
    from judgeflow.web.server import serving
    from judgeflow.web.service import Service

    ending = Ending(asyncio.get_running_loop())
    async with scheduler:
        trainers = Service(scheduler, service, tell=scheduler.notice)
        async with serving(address, settings, complain=Complaints(), service=trainers) as port:
            ending.waits_for = lambda: waits_for_requests(trainers.under_way, trainers.gathering, service.drain_s)
            ending.lost = "replies under way are lost, and the budget counts them at their worst case; everything before is stored"
            ready(port)
            await ending.asked()
        if scheduler.in_flight:
            say(f"ending: {waits_for_replies(scheduler.in_flight)}")
    say(requests_ended(trainers.left, service.drain_s, losses.count))
