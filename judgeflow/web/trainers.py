"""`POST /v1/route`, `/v1/stream` and `/v1/reward`: any trainer over HTTP.  What goes over the wire is `judgeflow.client.wire`'s."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from judgeflow.adapters.gathering import Place
from judgeflow.adapters.rendezvous import Closing, Rendezvous
from judgeflow.client.wire import (
    ANSWER,
    ATTEMPT,
    LINE,
    LINES,
    REWARD_ANSWER,
    REWARD_PATH,
    ROUTE_PATH,
    STREAM_PATH,
    Decided,
    RewardAnswer,
    RouteAnswer,
    RouteRequest,
    StreamLine,
    pairs_of,
    read_request,
    read_reward_request,
)
from judgeflow.errors import JudgeflowError, StoreUnavailable, UsageError
from judgeflow.types import Group, Outcome, Pair, StepResult
from judgeflow.web.description import DESCRIPTION_PATH, description
from judgeflow.web.reception import Busy, Reception

T = TypeVar("T")

SMALL = 65_536
"""Bytes that are read or written as JSON on the event loop; more takes long enough for a thread."""


REASON = 300
"""Characters of an error in the status line."""

_UNPRINTABLE = re.compile(r"[^ -~]+")


class Router(Protocol):
    """What answers: a `Scheduler`."""

    async def route(self, pairs: Sequence[Pair], step: int | None = None) -> StepResult:
        """Return one outcome per pair, in input order."""
        ...

    async def route_groups(self, groups: Sequence[Group], step: int | None = None) -> StepResult:
        """Return the outcomes of all pairs of every group."""
        ...

    def stream(self, pairs: Iterable[Pair]) -> AsyncIterator[Outcome]:
        """Yield outcomes as they become final."""
        ...

    @property
    def refusal(self) -> Exception | None:
        """Why the judge cannot be used at the moment."""
        ...


def trainer_routes(router: Router, reception: Reception, rendezvous: Rendezvous) -> list[web.RouteDef]:
    """Return the routes by which trainers ask; every one of them answers in JSON, errors too."""

    async def route(request: web.Request) -> web.StreamResponse:
        body = await json_body(request)

        async def work() -> bytes:
            asked = await off_loop(len(body), lambda: read_request(body))
            result = await _routed(router, asked)
            return await off_loop(SMALL + 1, lambda: ANSWER.dump_json(RouteAnswer.of(result)))

        return web.Response(body=await reception.answer(_name(request, body), work), content_type="application/json")

    async def stream(request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        pairs = pairs_of(await off_loop(len(body), lambda: read_request(body)))
        with reception.place():
            response = web.StreamResponse(headers={"Content-Type": LINES})
            await response.prepare(request)
            async with aclosing(_lines(router, pairs)) as lines:  # ends at once when nobody reads it any more
                async for line in lines:
                    await response.write(LINE.dump_json(line, exclude_defaults=True) + b"\n")
            await response.write_eof()
            return response

    async def reward(request: web.Request) -> web.StreamResponse:
        body = await json_body(request)
        asked = await off_loop(len(body), lambda: read_reward_request(body))
        name = request.headers.get(ATTEMPT)
        place = await rendezvous.join(asked.prompt, asked.response, wanted=asked.size, group=asked.group, name=name)
        return web.Response(body=REWARD_ANSWER.dump_json(_worth(place)), content_type="application/json")

    async def describe(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=orjson.dumps(description()), content_type="application/json")

    return [
        web.post(ROUTE_PATH, answering(route)),
        web.post(STREAM_PATH, answering(stream)),
        web.post(REWARD_PATH, answering(reward)),
        web.get(DESCRIPTION_PATH, describe),
    ]


def _name(request: web.Request, body: bytes) -> str | None:
    """What a request is known by when it is repeated: its name, and what it asks for, lest a name be used again for something else."""
    name = request.headers.get(ATTEMPT)
    return f"{name} {hashlib.blake2b(body, digest_size=16).hexdigest()}" if name else None


def _worth(place: Place) -> RewardAnswer:
    return RewardAnswer(reward=place.reward, share=place.share, of=place.of, wanted=place.wanted, sources=place.sources)


async def _routed(router: Router, asked: RouteRequest) -> StepResult:
    if asked.groups:
        return await router.route_groups(asked.groups, asked.step)
    return await router.route(asked.pairs, asked.step)


async def _lines(router: Router, pairs: Sequence[Pair]) -> AsyncGenerator[StreamLine, None]:
    """Yield the lines of a streamed answer; after an error there is one more line, which says what it was."""
    places = {id(pair): index for index, pair in enumerate(pairs)}  # equal pairs are told apart
    try:
        async for outcome in router.stream(pairs):
            yield StreamLine(index=places[id(outcome.pair)], outcome=Decided.of(outcome))
    except JudgeflowError as error:
        yield StreamLine(error=str(error))
    else:
        yield StreamLine(total=len(pairs))


async def json_body(request: web.Request) -> bytes:
    """Return the body of a request.  Raises `UsageError` for one that is not said to be JSON.

    A browser asks before it sends JSON to another site, and is told no; it does not ask before it sends a form.
    """
    if request.content_type != "application/json":
        raise UsageError(f"Content-Type: application/json is expected, not {request.content_type}")
    return await request.read()


async def off_loop(size: int, work: Callable[[], T]) -> T:
    """Return what `work` makes of `size` bytes: on a thread, unless they are few."""
    return work() if size <= SMALL else await asyncio.to_thread(work)


def answering(handler: Handler) -> Handler:
    """Let a handler's errors be answers: `{"error": {"message": ...}}` with the status that tells whether to ask again."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Busy as error:
            return refusal(503, str(error), {"Retry-After": str(error.retry_after_s)})
        except (Closing, StoreUnavailable) as error:
            return refusal(503, str(error), {"Retry-After": "5"})
        except web.HTTPRequestEntityTooLarge:
            return refusal(
                413, f"a request may have {request.client_max_size:,} bytes; send fewer pairs at a time, or raise --max-request-mb"
            )
        except UsageError as error:
            return refusal(400, str(error))
        except JudgeflowError as error:
            return refusal(500, str(error))

    return handle


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """Return an error as an answer.  Trainers that do not read its body write its status line to their log, so that says why too."""
    body = orjson.dumps({"error": {"message": message}})
    reason = _UNPRINTABLE.sub(" ", message)[:REASON]
    return web.Response(body=body, status=status, reason=reason, headers=headers, content_type="application/json")
