"""A real HTTP server that speaks the OpenAI chat-completions protocol, judges, and misbehaves on request.

>>> async with FakeJudge.from_pairs(pairs, accuracy=0.9, faults="429:0.1,500:0.05") as judge:
...     await my_pipeline(base_url=judge.base_url, model="fake-judge")
>>> judge.statistics.answered

    POST /v1/chat/completions    one answer, or one fault (`faults.FAULTS`)
    GET  /v1/models              the models it accepts
    GET  /stats                  everything it has counted, as JSON

Both /v1 addresses also work below a longer base path.  What it decides is in `desk`, without I/O; here is HTTP only.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import orjson
from aiohttp import web

from judgeflow.clock import LoopClock
from judgeflow.errors import ConfigurationError
from judgeflow.ports import Clock
from judgeflow.records import read_pairs
from judgeflow.testing.desk import Desk, Ruling, Statistics
from judgeflow.testing.limits import JudgeLimits, OverLimit, duration, retry_headers
from judgeflow.testing.opinions import Opinions, Speaker
from judgeflow.testing.recorded import Recording, recording
from judgeflow.testing.wire import ERRORS, completion_body, error_body, parse_request
from judgeflow.types import Pair
from judgeflow.verdicts.prompt import Grade

DEFAULT_MODEL = "fake-judge"
ANONYMOUS = "anonymous"
_LARGEST_BODY = 64 * 2**20
_GARBAGE = "<html><body><h1>It works!</h1></body></html>"
_UNANSWERED = frozenset({"hang", "reset"})
_BROKEN = frozenset({"cut-off", "truncated-json", "garbage", "error-200"})


class FakeJudge:
    """A judge on a loopback port, for as long as its `async with` block lasts.

    `speaker` decides what it says (`Opinions`, or a `Recording`; default: a steady opinion about everything).  `faults` are
    probabilities ("429:0.1,hang:0.01") or a script (["500", "ok"]), `latency` is in seconds ("0.05", "uniform:0.1:0.3",
    "lognormal:20:0.4"), `limits` hold for each API key by itself.  Without `api_keys` everybody is served.  Other models than
    `models` get a 404; a replaying judge takes any model unless `models` says otherwise.  A scripted 429 tells the client to
    come back in `retry_after_s`.  `port=0` takes a free port.  A test may bring the `clock` that limits go by, and move it by
    hand; latencies are real.  Raises `ConfigurationError` for specifications that it does not understand and, on entering, for a
    port that cannot be had.

    The judge runs on the loop that enters it; leaving cancels whatever is under way.  It may be entered once.
    """

    def __init__(
        self,
        speaker: Speaker | None = None,
        *,
        faults: str | Sequence[str] = "",
        latency: str | float = 0.0,
        limits: JudgeLimits | None = None,
        models: Sequence[str] | None = None,
        api_keys: Sequence[str] = (),
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        slow_s: float = 5.0,
        retry_after_s: float = 0.1,
        clock: Clock | None = None,
    ) -> None:
        speaker = speaker or Opinions(seed=seed)
        self.host, self.port = host, port
        self._desk = Desk(speaker, faults=faults, latency=latency, limits=limits, slow_s=slow_s, seed=seed)
        self._any_model = models is None and isinstance(speaker, Recording)
        self._models = tuple(models or ([speaker.judge] if isinstance(speaker, Recording) else [DEFAULT_MODEL]))
        self._api_keys = frozenset(api_keys)
        self._retry_after_s = retry_after_s
        self._clock = clock or LoopClock()
        self._arrivals = 0
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[Pair],
        *,
        accuracy: float = 0.9,
        position_bias: float = 0.0,
        tie_rate: float = 0.0,
        verdict_format: Mapping[str, Grade] | None = None,
        faults: str | Sequence[str] = "",
        latency: str | float = 0.0,
        limits: JudgeLimits | None = None,
        seed: int = 0,
    ) -> Self:
        """Return a judge that knows the labels of `pairs` and is as good and as biased as told (see `Opinions`)."""
        opinions = Opinions(
            truth=Opinions.truths(pairs),
            accuracy=accuracy,
            position_bias=position_bias,
            tie_rate=tie_rate,
            verdict_format=verdict_format,
            seed=seed,
        )
        return cls(opinions, faults=faults, latency=latency, limits=limits, seed=seed)

    @classmethod
    def from_recorded(
        cls,
        path: str | Path,
        judge: str | None = None,
        *,
        faults: str | Sequence[str] = "",
        latency: str | float = 0.0,
        limits: JudgeLimits | None = None,
        seed: int = 0,
    ) -> Self:
        """Return a judge that gives the recorded replies of a file of pairs again, whichever order it is asked.

        `judge` is NAME or NAME/REPETITION and may be left out where the file holds one judge.  A question that is not recorded gets
        a 400 with code "not_recorded".  Raises `RecordError` for an unusable file, `ConfigurationError` for an unknown judge.
        """
        pairs, _ = read_pairs(path)
        return cls(recording(pairs, judge), faults=faults, latency=latency, limits=limits, seed=seed)

    @property
    def base_url(self) -> str:
        """What a client calls base_url: everything before /chat/completions."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    @property
    def statistics(self) -> Statistics:
        """What has been counted so far."""
        return self._desk.statistics

    def stats(self) -> dict[str, Any]:
        """Return what GET /stats returns."""
        return self._desk.report()

    def change_limits(self, limits: JudgeLimits) -> None:
        """Admit by other limits from now on, as an account does whose tier changes; what was admitted still counts.

        Raises `ConfigurationError` unless the same things are limited, in windows as long as before.
        """
        self._desk.change(limits)

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_LARGEST_BODY)
        for prefix in ("", "/{base:.+}"):
            app.router.add_post(f"{prefix}/v1/chat/completions", self._completions)
            app.router.add_get(f"{prefix}/v1/models", self._list_models)
        app.router.add_get("/stats", self._show_stats)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port, backlog=1024).start()
        except (OSError, OverflowError) as error:
            await self._runner.cleanup()
            message = f"cannot listen on {self.host} port {self.port}: {error}; choose another port, or 0 for any free one"
            raise ConfigurationError(message) from None
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _list_models(self, request: web.Request) -> web.Response:
        if not self._is_known(_key(request)):
            return _wrong_key()
        models = [{"id": name, "object": "model"} for name in self._models]
        return _response(orjson.dumps({"object": "list", "data": models}))

    async def _show_stats(self, _request: web.Request) -> web.Response:
        return _response(orjson.dumps(self.stats()))

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        self._arrivals += 1
        self.statistics.requests += 1
        request_id = f"req_{self._arrivals:08d}"
        response = await self._respond(request, request_id)
        if response is None:
            self.statistics.statuses["none"] += 1
            _reset_connection(request)
            return web.Response(status=500)  # goes nowhere: the connection is gone
        self.statistics.statuses[str(response.status)] += 1
        if not response.prepared:
            response.headers["x-request-id"] = request_id
        return response

    async def _respond(self, request: web.Request, request_id: str) -> web.StreamResponse | None:
        key = _key(request)
        if not self._is_known(key):
            return _wrong_key()
        try:
            model, asked = parse_request(await request.read())
        except ValueError as error:
            return _response(error_body(400, "invalid_request", str(error)), 400)
        if not self._any_model and model not in self._models:
            message = f"The model {model!r} does not exist; this judge serves {', '.join(self._models)}."
            return _response(error_body(404, "model_not_found", message), 404)
        ruling = self._desk.receive(asked, key=self._label(key), now=self._clock.now())
        answered = False
        try:
            if not await self._wait(ruling):
                return None
            response = self._error_response(ruling) or await self._completion(request, ruling, model, request_id)
            answered = response.status == 200 and ruling.kind not in _BROKEN
            return response
        finally:
            self._desk.leave(ruling, answered=answered)

    def _is_known(self, key: str) -> bool:
        return not self._api_keys or key in self._api_keys

    def _label(self, key: str) -> str:
        """The name of an API key in the statistics: a key that is not one of ours may be a real one and is not shown."""
        if key in self._api_keys:
            return key
        return f"key-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}" if key else ANONYMOUS

    async def _wait(self, ruling: Ruling) -> bool:
        """Let the latency pass; False if there will be no answer: the fault wants none, or the judge is stopping."""
        seconds = None if ruling.kind == "hang" else ruling.delay_s
        if seconds is None or seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)
                return False
        return ruling.kind not in _UNANSWERED

    def _error_response(self, ruling: Ruling) -> web.Response | None:
        if ruling.over is not None:
            return self._limited(ruling, ruling.over)
        if ruling.problem:
            return _response(error_body(400, "not_recorded", ruling.problem), 400)
        if ruling.kind not in ERRORS:
            return None
        status, code, message = ERRORS[ruling.kind]
        return _response(error_body(status, code, message), status, self._scripted_headers(ruling) if ruling.kind == "429" else None)

    def _scripted_headers(self, ruling: Ruling) -> dict[str, str]:
        scripted = {
            "x-ratelimit-limit-requests": "10000",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": duration(self._retry_after_s),
        }
        return scripted | self._limit_headers(ruling) | retry_headers(self._retry_after_s)

    def _limited(self, ruling: Ruling, over: OverLimit) -> web.Response:
        advice = "" if over.retry_after_s is None else f" Please try again in {duration(over.retry_after_s)}."
        headers = self._limit_headers(ruling)
        if over.retry_after_s is not None and self._desk.meter(ruling.key).limits.headers:
            headers |= retry_headers(over.retry_after_s)
        message = f"Rate limit reached on {over.over}.{advice}"
        return _response(error_body(429, "rate_limit_exceeded", message), 429, headers)

    def _limit_headers(self, ruling: Ruling) -> dict[str, str]:
        return self._desk.meter(ruling.key).headers(self._clock.now())

    async def _completion(self, request: web.Request, ruling: Ruling, model: str, request_id: str) -> web.StreamResponse:
        body = completion_body(ruling.answer, model, request_id, fault=ruling.kind)
        headers = self._limit_headers(ruling)
        match ruling.kind:
            case "garbage":
                return web.Response(text=_GARBAGE, content_type="text/html", headers=headers)
            case "truncated-json":
                return _response(body[: len(body) // 2], headers=headers)
            case "cut-off":
                return await _cut_off(request, body)
            case _:
                return _response(body, headers=headers)


def _key(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ").strip()


def _wrong_key() -> web.Response:
    return _response(error_body(401, "invalid_api_key", "Incorrect API key provided."), 401)


def _response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


async def _cut_off(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _reset_connection(request: web.Request) -> None:
    """Close the connection the hard way: with SO_LINGER at zero seconds the client sees a reset instead of an end."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
