"""The judge over HTTP: OpenAI chat completions, as spoken by OpenAI, vLLM, DeepSeek, gateways and llama.cpp.

One session, one attempt per call.  Every failure becomes a `JudgeError` whose class says whether another attempt makes sense and
whether the attempt may have been charged for.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter

from judgeflow.config import JudgeConnection
from judgeflow.dialogue import transcript
from judgeflow.errors import (
    JudgeError,
    JudgeRefusesService,
    JudgeUnreachable,
    QuestionRejected,
    QuestionTooLong,
    ReplyLost,
)
from judgeflow.judges.completion import Completion, ErrorBody, error_of, parse_json, read_completion, read_error, readable
from judgeflow.judges.failures import BAD_GATEWAY, Cause, is_passed_on, refused_because, transient
from judgeflow.judges.pricing import Prices
from judgeflow.judges.quoting import quotable
from judgeflow.judges.rates import read_rates, retry_after_s
from judgeflow.keys import digest
from judgeflow.ports import DEPARTURE, Departure
from judgeflow.tokens import TokenCount, TokenCounter
from judgeflow.types import Cost, JudgeIdentity, Question, Reading, Reply, Usage
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import Template, render

LARGE_BODY_BYTES = 2**20
_TOKENS_PER_MESSAGE = 8
_EMPTY = Question(prompt="", first="", second="", canonical=True, nonce="0a1b2c3d4e5f6a7b", pair_key=b"", call_key=b"")
"""A question of no words.  Digits and letters that alternate are the nonce that takes the most tokens."""


_SPENT: Mapping[Cause, str] = {
    "quota": "the account's quota is used up; nothing more is asked",
    "credit": "the account has no credit left; nothing more is asked",
}
_GATEWAYS_REMEDIES: Mapping[Cause, str] = {
    "key": "the gateway at this address passes that on from its provider; check the provider's API key there, not in [judge]",
    "model": "the gateway at this address passes that on from its provider; check the provider's model there, not in [judge]",
}


class HttpJudge:
    """A judge behind `base_url`/chat/completions.

    `cost` counts tokens and runs on any thread; everything else belongs to one event loop.  The API key is sent and never shown.
    `section` is where errors say that its settings stand.
    """

    def __init__(
        self,
        settings: JudgeConnection,
        template: Template,
        *,
        api_key: str | None = None,
        max_in_flight: int = 64,
        section: str = "judge",
    ) -> None:
        self._settings = settings
        self._section = f"[{section}]"
        self._template = template
        self._api_key = api_key
        self._max_in_flight = max_in_flight
        self._prices = Prices(prompt=settings.prompt_usd_per_mtok, completion=settings.completion_usd_per_mtok)
        self._address = settings.base_url.rstrip("/") + "/chat/completions"
        self._counter: TokenCounter | None = None
        self._frame: TokenCount | None = None
        self._session: aiohttp.ClientSession | None = None
        self.identity = identity_of(settings, template)

    @property
    def counts_exactly(self) -> bool:
        """Whether tokens are counted with the model's vocabulary, not estimated."""
        return self._token_counter().exact

    def _token_counter(self) -> TokenCounter:
        if self._counter is None:
            self._counter = TokenCounter(self._settings.model)
        return self._counter

    def cost(self, question: Question) -> Cost:
        """Return one request, the prompt's tokens (bounded from above) plus the longest reply, and their price.

        Raises `QuestionTooLong` for a prompt over max_prompt_tokens, by its count or estimate: a bound would turn away what fits.
        """
        counter = self._token_counter()
        counts = [counter.measure(text) for text in (transcript(question.prompt), question.first, question.second)]
        frame = self._frame_of_all()
        about = frame.count + sum(count.count for count in counts)
        if about > self._settings.max_prompt_tokens:
            raise QuestionTooLong(f"about {about} tokens; {self._section} max_prompt_tokens is {self._settings.max_prompt_tokens}")
        prompt = frame.bound + sum(count.bound for count in counts)
        usage = Usage(prompt=prompt, completion=self._settings.max_completion_tokens)
        return Cost(requests=1, tokens=usage.total, usd=self._prices.usd(usage))

    def _frame_of_all(self) -> TokenCount:
        """What every question takes beside its three texts: the template, the delimiters, and the protocol's own framing."""
        if self._frame is None:
            messages = render(self._template, _EMPTY)
            counts = [self._token_counter().measure(message.content) for message in messages]
            framing = _TOKENS_PER_MESSAGE * len(messages)
            self._frame = TokenCount(
                count=framing + sum(count.count for count in counts), bound=framing + sum(count.bound for count in counts)
            )
        return self._frame

    def read(self, reply: Reply) -> Reading:
        """Return what the reply says, by the template's verdict tags."""
        return read_reply(reply, self._template.verdicts)

    async def ask(self, question: Question) -> Reply:
        """Ask once.  Raises a `JudgeError` subclass for everything but a complete reply."""
        departure = DEPARTURE.get()
        if departure is not None:
            departure.hold()
        body = self._body(question)
        started = time.perf_counter()
        try:
            async with self._open_session().post(self._address, data=_payload(body, departure)) as response:
                payload = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._transport_error(error) from None
        if not 200 <= response.status < 300:
            raise await self._refused(error_of(payload), response.status, response.headers, question)
        completion = await self._completion(payload, response, len(body), question)
        return Reply(
            text=completion.text,
            reasoning=completion.reasoning,
            refusal=completion.refusal,
            finish_reason=completion.finish_reason,
            usage=completion.usage,
            usd=self._prices.usd(completion.usage),
            latency_s=time.perf_counter() - started,
            model=completion.model,
            request_id=_request_id(response.headers),
            rates=read_rates(response.headers),
        )

    async def aclose(self) -> None:
        """Close the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Content-Type": "application/json"}
            if self._api_key:
                headers["Authorization"] = f"Bearer {self._api_key}"
            timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s, sock_connect=self._settings.connect_timeout_s)
            connector = aiohttp.TCPConnector(limit=self._max_in_flight)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)
        return self._session

    def _body(self, question: Question) -> bytes:
        messages = [{"role": message.role, "content": message.content} for message in render(self._template, question)]
        body: dict[str, Any] = {"model": self._settings.model, "messages": messages, **self._settings.extra_body}
        body[self._settings.max_tokens_field] = self._settings.max_completion_tokens
        if self._settings.temperature is not None:
            body["temperature"] = self._settings.temperature
        return orjson.dumps(body)

    def _transport_error(self, error: Exception) -> JudgeError:
        """Tell apart what never left from what may have been served."""
        where = f"the judge at {self._settings.base_url}"
        if isinstance(error, aiohttp.InvalidURL):
            return JudgeRefusesService(f"{where}: not a usable address; check {self._section} base_url")
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return JudgeUnreachable(f"{where} cannot be reached ({error}); check {self._section} base_url, and that the judge is running")
        if isinstance(error, TimeoutError):
            return ReplyLost(f"{where} gave no reply within {self._settings.timeout_s:g} s ({self._section} timeout_s)")
        return ReplyLost(f"{where} closed the connection before its reply was complete ({type(error).__name__})")

    async def _completion(self, payload: bytes, response: aiohttp.ClientResponse, asked_bytes: int, question: Question) -> Completion:
        """What a successful answer holds.  A gateway whose judge failed under way may report that as a success, too."""
        where = f"the judge at {self._settings.base_url} answered {response.status}"
        try:
            data = parse_json(payload)
        except ValueError:
            raise ReplyLost(f"{where} with something that is no JSON") from None
        completion = read_completion(data, asked_bytes)
        if completion is not None:
            return completion
        error = read_error(data)
        if error is None:
            raise ReplyLost(f"{where} with something that is no chat completion")
        if error.status is None:
            raise ReplyLost(f"{where} with an error: {await self._quoted(error, question)}")
        status = BAD_GATEWAY if error.status >= 500 else error.status
        raise await self._refused(error, status, response.headers, question)

    async def _refused(self, error: ErrorBody, status: int, headers: Mapping[str, str], question: Question) -> JudgeError:
        quoted, cause = await asyncio.to_thread(self._reason, error, status, headers, question)
        words = quoted.removeprefix(f"{status}: ")  # with which errors of aiohttp's own begin
        refusal = self._refusal(f"the judge at {self._settings.base_url} answered {status}: {words}", cause, status, headers)
        refusal.rates = read_rates(headers)
        return refusal

    def _reason(self, error: ErrorBody, status: int, headers: Mapping[str, str], question: Question) -> tuple[str, Cause | None]:
        """The judge's words, and what they mean.  Long texts take their time, so this runs on a worker thread."""
        sent = self._sent(question)
        quoted = quotable(error.message, sent=sent, secret=self._api_key)
        return quoted, refused_because(error, status, headers, quoted=quoted, model=self._settings.model, sent=sent)

    def _refusal(self, said: str, cause: Cause | None, status: int, headers: Mapping[str, str]) -> JudgeError:
        if cause is not None:
            remedy = _GATEWAYS_REMEDIES.get(cause) if is_passed_on(headers) else None
            return JudgeRefusesService(f"{said}; {remedy or self._remedy(cause)}")
        passing = transient(status, headers)
        return QuestionRejected(said) if passing is None else passing(said, retry_after_s=retry_after_s(headers))

    async def _quoted(self, error: ErrorBody, question: Question) -> str:
        """The judge's words without the question's."""
        return await asyncio.to_thread(quotable, error.message, sent=self._sent(question), secret=self._api_key)

    def _sent(self, question: Question) -> list[str]:
        """The texts of a question, rendered and by themselves."""
        asked = [message.content for message in render(self._template, question)]
        return [*asked, transcript(question.prompt), question.first, question.second]

    def _remedy(self, cause: Cause) -> str:
        if cause in _SPENT:
            return _SPENT[cause]
        if cause == "model":
            return f"check {self._section} model = {self._settings.model!r} and base_url"
        if self._settings.api_key_env is None:
            return f"set {self._section} api_key_env to the name of the variable that holds the API key"
        return f"check the API key in {self._settings.api_key_env}"


class _Told(aiohttp.payload.Payload):
    """A body that tells when it has been written: by then the connection stands, and everything is with the network."""

    departure: Departure | None = None

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await super().write_with_length(writer, content_length)
        if self.departure is not None:
            self.departure.sent()


class _Body(_Told, aiohttp.BytesPayload):
    """A body that is written at once."""


class _LargeBody(_Told, aiohttp.BytesIOPayload):
    """A body that is written in pieces, as aiohttp demands: it would warn that one write of it blocks the loop."""


def _payload(body: bytes, departure: Departure | None) -> aiohttp.payload.Payload:
    payload = _Body(body) if len(body) < LARGE_BODY_BYTES else _LargeBody(io.BytesIO(body))
    payload.departure = departure
    return payload


def identity_of(settings: JudgeConnection, template: Template) -> JudgeIdentity:
    """Return what verdicts of this judge are keyed by: every parameter that can change an answer, and no other."""
    parameters = {
        "id": settings.name,
        "model": settings.model,
        "template": template.hash.hex(),
        "temperature": settings.temperature,
        "max_completion_tokens": settings.max_completion_tokens,
        "extra_body": settings.extra_body,
    }
    return JudgeIdentity(id=settings.name, model=settings.model, fingerprint=digest("judge/1", parameters), parameters=parameters)


def _request_id(headers: Mapping[str, str]) -> str | None:
    name = headers.get("x-request-id")
    return None if name is None else readable(name)
