"""The client: routes through a judgeflow service as a `Scheduler` does in process, from async code and from synchronous trainers."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import parse_qsl

import aiohttp
import orjson
from pydantic import TypeAdapter, ValidationError

from judgeflow.client.forks import Connector, begins_anew_when_forked
from judgeflow.client.wire import (
    ANSWER,
    ATTEMPT,
    LINE,
    PART_ANSWER,
    PART_PATH,
    PART_REQUEST,
    REQUEST,
    REWARD_ANSWER,
    REWARD_PATH,
    REWARD_REQUEST,
    ROUTE_PATH,
    STREAM_PATH,
    PartAnswer,
    PartRequest,
    RewardAnswer,
    RewardRequest,
    RouteRequest,
    StreamLine,
    body_of,
)
from judgeflow.engine.loop_thread import LoopThread, in_running_loop
from judgeflow.errors import ServiceError, UsageError
from judgeflow.plurals import plural
from judgeflow.types import Group, Outcome, Pair, Prompt, StepResult

_LOG = logging.getLogger("judgeflow")

T = TypeVar("T")

PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""How long to wait before each further attempt; the last one again and again."""

TOLD_AT = 3
"""Which attempt in vain is told of: a service that is just being started is there by then."""

_LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, asyncio.TimeoutError)
_AGAIN = frozenset({408, 425, 429, 502, 503, 504})
_QUOTED = 300


class RouteClient:
    """Routes pairs and groups by a service at `url`.

    >>> async with RouteClient("http://127.0.0.1:8765") as client:
    ...     step = await client.route(pairs)

    A service that cannot be reached, or is just being restarted, is asked again for `retry_for_s`: what it has paid for is stored, so it
    goes on where it was.  One attempt may take `timeout_s` (None: as long as the step takes).  `token` is what the service asks visitors
    for; it may stand in the address too (`http://HOST:8765/?token=TOKEN`).  Belongs to the loop it is used in; `route_sync` and its like
    keep a loop of their own, and may be called from several threads.  A process that is forked from one with a client may ask by it too.
    All methods raise `ServiceError` where no answer can be had, and `UsageError` for what the service does not accept.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float | None = None,
        connect_timeout_s: float = 5.0,
        retry_for_s: float = 300.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no address of a service; expected is one like http://127.0.0.1:8765")
        address, _, query = url.partition("?")
        token = token or dict(parse_qsl(query)).get("token")
        self._move(address, token)
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s)
        self._retry_for_s = retry_for_s
        self._session: aiohttp.ClientSession | None = None
        self._thread: LoopThread | None = None
        self._starting = threading.Lock()
        self._told = False  # that it does not answer, since it last did
        begins_anew_when_forked(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def route(self, pairs: Sequence[Pair], step: int | None = None) -> StepResult:
        """Return one outcome per pair, in input order."""
        return await self._route(RouteRequest(pairs=tuple(pairs), step=step))

    async def route_groups(self, groups: Sequence[Group], step: int | None = None) -> StepResult:
        """Return the outcomes of all pairs of every group; the result's `advantages()` are per response."""
        return await self._route(RouteRequest(groups=tuple(groups), step=step))

    async def stream(self, pairs: Iterable[Pair]) -> AsyncIterator[Outcome]:
        """Yield outcomes as they become final, in no fixed order.

        A stream that breaks is not begun again: `ServiceError`.  What it has asked is stored, so routing the same pairs once more pays for
        nothing twice.
        """
        request = RouteRequest(pairs=tuple(pairs))
        try:
            await self._reach()
            async with self._opened().post(self.url + STREAM_PATH, data=_body(REQUEST, request), headers=self._headers) as response:
                await _check(response)
                async for raw in response.content:
                    line = _line(raw, self.url)
                    if line.index is not None and line.outcome is not None:
                        yield line.outcome.about(request.pairs[line.index])
                    elif line.total is not None:
                        return
        except (NotNow, *_LOST) as error:
            raise ServiceError(f"{self.url}: {str(error) or 'gave no answer in time'}") from error
        raise ServiceError(f"{self.url}: the stream ended before its last line")

    async def reward(self, prompt: Prompt, response: str, *, size: int, group: str | None = None) -> RewardAnswer:
        """Return what a response is worth among the `size` responses to its prompt, when the others have come too."""
        request = RewardRequest(prompt=prompt, response=response, size=size, group=group)
        return _understood(REWARD_ANSWER, await self._ask(REWARD_PATH, _body(REWARD_REQUEST, request)), self.url)

    async def route_part(self, part: PartRequest) -> PartAnswer:
        """Return what the responses of one rank's part of a batch are worth, when the other ranks have come too."""
        answer = _understood(PART_ANSWER, await self._ask(PART_PATH, _body(PART_REQUEST, part)), self.url)
        if len(answer.places) != part.count:
            raise ServiceError(f"{self.url}: answered about {len(answer.places)} responses, and {part.count} were asked about")
        return answer

    async def ready(self) -> bool:
        """Return whether the service takes requests now."""
        try:
            await self._reach()
            async with self._opened().get(self.url + "/readyz") as response:
                return response.status == 200
        except (NotNow, *_LOST):
            return False

    def route_sync(self, pairs: Sequence[Pair], step: int | None = None) -> StepResult:
        """`route` for synchronous trainers.  End with `close()`."""
        return self._synchronously().run(self.route(pairs, step))

    def route_groups_sync(self, groups: Sequence[Group], step: int | None = None) -> StepResult:
        """`route_groups` for synchronous trainers."""
        return self._synchronously().run(self.route_groups(groups, step))

    def route_part_sync(self, part: PartRequest) -> PartAnswer:
        """`route_part` for synchronous trainers."""
        return self._synchronously().run(self.route_part(part))

    async def aclose(self) -> None:
        """Close the connections.  Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def close(self) -> None:
        """Close a client that was used with `route_sync`.  Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            try:
                thread.run(self.aclose())
            finally:
                thread.stop()

    async def _route(self, request: RouteRequest) -> StepResult:
        return _understood(ANSWER, await self._ask(ROUTE_PATH, _body(REQUEST, request)), self.url).about(request)

    async def _ask(self, path: str, body: bytes) -> bytes:
        """Return the body of an answer.  Every attempt has the same name, so that the service works once."""
        name, end = uuid.uuid4().hex, asyncio.get_running_loop().time() + self._retry_for_s
        for attempt in itertools.count(1):
            try:
                answer = await self._attempt(path, body, name)
            except NotNow as error:
                pause = max(error.retry_after_s, PAUSES_S[min(attempt, len(PAUSES_S)) - 1])
                if asyncio.get_running_loop().time() + pause > end:
                    raise ServiceError(
                        f"{self.url}: {error}; asked {plural(attempt, 'time')} within {self._retry_for_s:g} s"
                    ) from error.__cause__
                if attempt >= TOLD_AT and not self._told:
                    self._told = True
                    _LOG.warning("%s: %s; it is asked again for %.0f s", self.url, error, end - asyncio.get_running_loop().time())
            else:
                self._told = False
                return answer
            await asyncio.sleep(pause)
        raise AssertionError  # the loop above has no end

    async def _attempt(self, path: str, body: bytes, name: str) -> bytes:
        """Ask once.  Raises `NotNow` where asking again may help."""
        await self._reach()
        try:
            async with self._opened().post(self.url + path, data=body, headers={ATTEMPT: name, **self._headers}) as response:
                await _check(response)
                return await response.read()
        except _LOST as error:
            raise NotNow(f"cannot be reached: {error}" if str(error) else "gave no answer in time") from error

    async def _reach(self) -> None:
        """Get ready for an attempt; where a service may move, find it.  Raises `NotNow`, and what no other attempt would mend."""

    def _move(self, url: str, token: str | None) -> None:
        """Ask at another address from now on."""
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Content-Type": "application/json"}
            self._session = aiohttp.ClientSession(timeout=self._timeout, headers=headers, connector=Connector())
        return self._session

    def begin_anew(self) -> None:
        """In a forked process: leave the parent its connections and its loop, and have own ones once something is asked."""
        if self._session is not None:
            self._session.detach()
        self._session = self._thread = None
        self._starting = threading.Lock()

    def _synchronously(self) -> LoopThread:
        if in_running_loop():
            raise UsageError("route_sync was called inside an event loop, which it would block; await route() instead")
        with self._starting:
            self._thread = self._thread or LoopThread()
        return self._thread


class NotNow(Exception):
    """The service cannot answer now; asking again may help."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise what a response that is no answer means."""
    if response.status == 200:
        return
    reason = _reason(await response.read()) or response.reason or "no reason given"
    if response.status in _AGAIN:
        raise NotNow(f"{response.status} {reason}", _seconds(response.headers.get("Retry-After", "")))
    asked = response.url.with_query(None)
    if response.status == 401:
        raise ServiceError(f"{asked}: asks for its token, or does not know this one: {reason}")
    if response.status < 500:
        raise UsageError(f"{asked}: {reason}")
    raise ServiceError(f"{asked}: {response.status} {reason}")


def _reason(body: bytes) -> str:
    """Return what an error's body says, cut to a line."""
    try:
        said = orjson.loads(body)["error"]["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = body.decode(errors="replace")
    return " ".join(str(said).split())[:_QUOTED]


def _seconds(header: str) -> float:
    return min(60.0, float(header)) if header.isdigit() else 0.0


def _body(adapter: TypeAdapter[T], request: T) -> bytes:
    """Return a request as JSON.  Raises `UsageError` for what JSON cannot hold, and for what is not of its type."""
    try:
        return body_of(adapter, request)
    except UsageError as error:
        raise UsageError(f"RouteClient: {error}") from None


def _understood(adapter: TypeAdapter[T], body: bytes, url: str) -> T:
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise ServiceError(f"{url}: its answer cannot be read; is it a judgeflow service of this version? {_first_line(error)}") from None


def _line(raw: bytes, url: str) -> StreamLine:
    try:
        line = LINE.validate_json(raw)
    except ValidationError as error:
        raise ServiceError(f"{url}: a line of its stream cannot be read: {_first_line(error)}") from None
    if line.error is not None:
        raise ServiceError(f"{url}: {line.error}")
    return line


def _first_line(error: ValidationError) -> str:
    return str(error).splitlines()[0]
