"""The HTTP client keeps the contract of the Judge port, against a real server; and what only a client over HTTP can get wrong."""

import asyncio
import re
import socket
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from judgeflow.config import JudgeConfig
from judgeflow.errors import (
    GatewayFailed,
    JudgeBusy,
    JudgeOverloaded,
    JudgeRefusesService,
    JudgeUnreachable,
    QuestionRejected,
    QuestionTooLong,
    RateLimited,
    ReplyLost,
)
from judgeflow.judges.client import HttpJudge
from judgeflow.keys import pair_keys, questions
from judgeflow.testing import FakeJudge, JudgeContract, arithmetic_pairs
from judgeflow.types import Pair, RateHeaders, ReadingStatus, Standing, Usage
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import load_template


def http_judge(base_url: str, *, template: str = "default", api_key: str | None = None, **settings) -> HttpJudge:
    chosen = JudgeConfig(base_url=base_url, **{"model": "judge-one", "timeout_s": 300.0, "connect_timeout_s": 300.0} | settings)
    return HttpJudge(chosen, load_template(template), api_key=api_key)


def question(judge: HttpJudge, pair: Pair | None = None):
    chosen = pair or arithmetic_pairs(1)[0]
    return questions(chosen, pair_keys(chosen), judge.identity.fingerprint)[0]


class TestHttpJudge(JudgeContract):
    @asynccontextmanager
    async def open_judge(self, *, faults=(), model="judge-one", template="default"):
        async with FakeJudge(faults=faults, models=[model]) as server:
            judge = http_judge(
                server.base_url, id="contract", model=model, template=template, prompt_usd_per_mtok=1.0, completion_usd_per_mtok=4.0
            )
            try:
                yield judge
            finally:
                await judge.aclose()


@asynccontextmanager
async def serving(status: int = 200, body: str = "", headers: dict[str, str] | None = None):
    """A judge that says exactly one thing; yields (judge, the requests it got)."""
    received = []

    async def answer(request: web.Request) -> web.Response:
        received.append((dict(request.headers), await request.json()))
        return web.Response(status=status, text=body, headers=headers)

    async with served(answer) as base_url:
        yield base_url, received


@asynccontextmanager
async def served(answer):
    """A server that answers every question by `answer`; yields its base_url."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def ask_once(status: int = 200, body: str = "", headers: dict[str, str] | None = None, **settings):
    async with serving(status, body, headers) as (base_url, received):
        judge = http_judge(base_url, **settings)
        try:
            return await judge.ask(question(judge)), received
        finally:
            await judge.aclose()


FULL_REPLY = """{"model": "served-model", "choices": [{"finish_reason": "stop", "message": {"content": "<verdict>A</verdict>",
"reasoning_content": "thinking"}}], "usage": {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140,
"completion_tokens_details": {"reasoning_tokens": 30}, "prompt_tokens_details": {"cached_tokens": 64}}}"""


async def test_a_reply_keeps_text_reasoning_and_usage_apart_and_counts_reasoning_once():
    reply, _ = await ask_once(body=FULL_REPLY, headers={"x-request-id": "req-7"}, prompt_usd_per_mtok=10.0, completion_usd_per_mtok=20.0)
    assert (reply.text, reply.reasoning, reply.model, reply.request_id) == ("<verdict>A</verdict>", "thinking", "served-model", "req-7")
    assert reply.usage == Usage(prompt=100, completion=40, reasoning=30, cached=64)
    assert reply.usage.total == 140
    assert reply.usd == pytest.approx((100 * 10 + 40 * 20) / 1e6)


async def test_the_request_holds_what_was_configured_and_nothing_else():
    _, received = await ask_once(body=FULL_REPLY, temperature=0.5, max_tokens_field="max_tokens", extra_body={"top_p": 0.9})
    body = received[0][1]
    assert set(body) == {"model", "messages", "temperature", "max_tokens", "top_p"}
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    _, received = await ask_once(body=FULL_REPLY)
    assert "temperature" not in received[0][1]
    assert received[0][1]["max_completion_tokens"] == 4096


async def test_the_api_key_is_sent_and_never_repeated_in_an_error():
    secret = "sk-very-secret"
    _, received = await ask_once(body=FULL_REPLY, api_key=secret)
    assert received[0][0]["Authorization"] == f"Bearer {secret}"
    with pytest.raises(JudgeRefusesService) as caught:
        await ask_once(401, f'{{"error": {{"message": "Incorrect API key: {secret}"}}}}', api_key=secret)
    assert secret not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, '{"error": {"message": "context length", "code": "context_length_exceeded"}}', QuestionRejected),
        (403, "{}", JudgeRefusesService),
        (404, '{"error": {"message": "no such model", "code": "model_not_found"}}', JudgeRefusesService),
        (409, "{}", JudgeOverloaded),
        (408, "{}", GatewayFailed),
        (422, '{"detail": "bad"}', QuestionRejected),
        (429, '{"error": {"message": "quota", "code": "insufficient_quota"}}', JudgeRefusesService),
        (429, '{"error": {"message": "quota", "type": "insufficient_quota"}}', JudgeRefusesService),
        (429, "slow down", RateLimited),
        (500, "{}", JudgeOverloaded),
        (503, "{}", JudgeBusy),
        (529, "{}", JudgeBusy),
        (502, "<html>bad gateway</html>", GatewayFailed),
        (504, "", GatewayFailed),
        (524, "error code: 524", GatewayFailed),
        (200, "[]", ReplyLost),
        (200, '{"choices": []}', ReplyLost),
        (200, '{"error": {"code": 401, "message": "No auth"}}', JudgeRefusesService),
        (200, '{"error": {"code": "insufficient_quota", "message": "pay"}}', JudgeRefusesService),
        (200, '{"error": {"code": 429, "message": "slow down"}}', RateLimited),
        (200, '{"error": {"code": "context_length_exceeded", "message": "too long"}}', QuestionRejected),
        (200, '{"error": {"code": 503, "message": "upstream failed"}}', GatewayFailed),
        (200, '{"error": {"message": "hm"}}', ReplyLost),
    ],
)
async def test_every_answer_that_is_no_reply_becomes_the_error_that_fits_it(status, body, error):
    with pytest.raises(error) as caught:
        await ask_once(status, body)
    assert type(caught.value) is error


@pytest.mark.parametrize("status", [408, 502, 504, 524])
async def test_a_question_that_a_gateway_gave_up_on_may_have_been_paid_for(status):
    with pytest.raises(GatewayFailed) as caught:
        await ask_once(status, "{}", {"retry-after": "3"})
    assert caught.value.maybe_paid
    assert caught.value.retry_after_s == 3.0


async def test_an_error_reported_as_a_success_is_told_with_its_own_code():
    with pytest.raises(JudgeRefusesService, match=r"answered 401: No auth credentials; set \[judge\] api_key_env"):
        await ask_once(200, '{"error": {"code": 401, "message": "No auth credentials"}}')


@pytest.mark.parametrize("status", [200, 400])
async def test_a_judge_that_quotes_the_question_back_does_not_get_it_into_the_error(status):
    private = Pair(prompt="Who is Mr. Smith of 12 Hidden Lane?", response_a="A client of ours since 1998.", response_b="Nobody knows him.")

    async def answer(request: web.Request) -> web.Response:
        sent = (await request.json())["messages"]
        error = {"error": {"code": 400, "message": f"invalid input: {sent} is not accepted"}}
        return web.json_response(error, status=status)

    async with served(answer) as base_url:
        judge = http_judge(base_url)
        with pytest.raises(QuestionRejected) as caught:
            await judge.ask(question(judge, private))
        await judge.aclose()
    said = str(caught.value)
    assert "invalid input" in said
    assert len(said) < 500
    assert not any(word in said for word in ("Hidden Lane", "client of ours", "Nobody knows"))


ODD_FIELDS = {
    "content in parts": '{"message": {"content": [{"type": "text", "text": "<verdict>A</verdict>"}]}, "finish_reason": "stop"}',
    "a lone surrogate": r'{"message": {"content": "\ud83d <verdict>A</verdict>"}, "finish_reason": "stop"}',
    "a log-probability of -Infinity": '{"message": {"content": "<verdict>A</verdict>"}, "logprobs": -Infinity, "finish_reason": "stop"}',
    "reasoning as an object": '{"message": {"content": "<verdict>A</verdict>", "reasoning": {"x": 1}}, "finish_reason": "stop"}',
    "refusal false": '{"message": {"content": "<verdict>A</verdict>", "refusal": false}, "finish_reason": "stop"}',
    "finish_reason as an object": '{"message": {"content": "<verdict>A</verdict>"}, "finish_reason": {"type": "stop"}}',
}


@pytest.mark.parametrize("choice", ODD_FIELDS.values(), ids=ODD_FIELDS)
@pytest.mark.parametrize(
    "usage", ['{"prompt_tokens": 9}', '{"prompt_tokens": "n/a"}', '{"prompt_tokens": 9223372036854775813}', "-5", "null"]
)
async def test_an_odd_field_never_costs_the_reply_it_stands_in(choice, usage):
    reply, _ = await ask_once(body=f'{{"choices": [{choice}], "usage": {usage}}}')
    assert read_reply(reply, load_template("default").verdicts).preferred == 1
    assert reply.finish_reason == "stop"
    assert 0 < reply.usage.total < 10_000


async def test_a_request_id_that_is_no_text_does_not_cost_the_reply():
    head = b"HTTP/1.1 200 OK\r\nx-request-id: req-\xff\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(FULL_REPLY)

    async def answer(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", request)[1]))
        writer.write(head + FULL_REPLY.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        judge = http_judge(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        reply = await judge.ask(question(judge))
        await judge.aclose()
    assert (reply.text, reply.request_id) == ("<verdict>A</verdict>", "req-?")


async def test_content_that_cannot_be_read_is_a_reply_without_a_verdict():
    reply, _ = await ask_once(body='{"choices": [{"message": {"content": {"answer": "<verdict>A</verdict>"}}}]}')
    assert read_reply(reply, load_template("default").verdicts).status is ReadingStatus.UNPARSEABLE
    assert "<verdict>A</verdict>" in reply.reasoning


async def test_a_completion_under_another_status_of_success_is_a_reply():
    assert (await ask_once(201, FULL_REPLY))[0].text == "<verdict>A</verdict>"


async def test_a_wrong_model_names_the_setting_to_check():
    with pytest.raises(JudgeRefusesService, match=r"404.*no such model.*\[judge\] model = 'judge-one'"):
        await ask_once(404, '{"error": {"message": "no such model"}}')


async def test_without_a_key_a_401_says_which_setting_is_missing():
    with pytest.raises(JudgeRefusesService, match="api_key_env"):
        await ask_once(401, "{}")


async def test_content_null_is_a_reply_that_was_paid_for():
    reply, _ = await ask_once(body='{"choices": [{"message": {"content": null}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 9}}')
    assert (reply.text, reply.usage.prompt) == ("", 9)


async def test_a_server_that_reports_no_usage_is_charged_by_size():
    reply, received = await ask_once(body='{"choices": [{"message": {"content": "<verdict>A</verdict>"}}]}')
    shown = sum(len(message["content"]) for message in received[0][1]["messages"])
    assert shown / 4 < reply.usage.prompt < shown / 2
    assert reply.usage.completion == 5


HEADERS = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s", "retry-after": "2"}


async def test_what_the_headers_say_about_limits_comes_with_the_reply():
    reply, _ = await ask_once(body=FULL_REPLY, headers=HEADERS)
    assert reply.rates == RateHeaders(requests=Standing(limit=500), tokens=Standing(remaining=0, reset_s=360.0))
    assert (await ask_once(body=FULL_REPLY))[0].rates is None


@pytest.mark.parametrize(("status", "body"), [(429, "{}"), (503, ""), (200, '{"error": {"code": 429, "message": "slow down"}}')])
async def test_what_the_headers_say_about_limits_comes_with_the_error(status, body):
    with pytest.raises(JudgeOverloaded) as caught:
        await ask_once(status, body, HEADERS)
    assert caught.value.rates == RateHeaders(requests=Standing(limit=500), tokens=Standing(remaining=0, reset_s=360.0))
    assert caught.value.retry_after_s == 2.0


async def test_nobody_listening_is_unreachable_and_cannot_have_cost_anything():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        judge = http_judge(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        with pytest.raises(JudgeUnreachable, match="check \\[judge\\] base_url") as caught:
            await judge.ask(question(judge))
        assert not caught.value.maybe_paid
        await judge.aclose()


async def test_a_reply_that_does_not_come_in_time_may_have_been_paid_for():
    async with FakeJudge(faults=["hang"], models=["judge-one"]) as server:
        judge = http_judge(server.base_url, timeout_s=1.0)
        with pytest.raises(ReplyLost, match=r"1 s \(\[judge\] timeout_s\)") as caught:
            await judge.ask(question(judge))
        assert caught.value.maybe_paid
        await judge.aclose()


def test_a_question_over_the_length_limit_is_rejected_before_it_is_sent():
    judge = http_judge("http://127.0.0.1:9/v1", max_prompt_tokens=1000)
    long = Pair(prompt="p", response_a="x" * 1_000_000, response_b="y")
    with pytest.raises(QuestionTooLong, match="max_prompt_tokens is 1000"):
        judge.cost(question(judge, long))


def test_a_question_that_fits_by_estimate_is_asked_though_its_worst_case_would_not_fit(monkeypatch, tmp_path):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    judge = http_judge("http://127.0.0.1:9/v1", max_prompt_tokens=9000, max_completion_tokens=1)
    chinese = Pair(prompt="p", response_a="哪个更好" * 2500, response_b="y")
    assert judge.cost(question(judge, chinese)).tokens > 30_000


async def test_a_question_of_several_megabytes_is_sent_whole_where_it_is_allowed():
    long = Pair(prompt="p", response_a="word " * 600_000, response_b="b")
    async with serving(body=FULL_REPLY) as (base_url, received):
        judge = http_judge(base_url)
        await judge.ask(question(judge, long))
        await judge.aclose()
    assert long.response_a in received[0][1]["messages"][1]["content"]


def test_the_fingerprint_follows_what_changes_answers_and_nothing_else():
    base = http_judge("http://one/v1", id="same")
    same = http_judge("http://other/v1", id="same", timeout_s=1.0, retry_attempts=1, max_prompt_tokens=5, prompt_usd_per_mtok=3.0)
    assert base.identity.fingerprint == same.identity.fingerprint
    for changed in ({"temperature": 0.0}, {"max_completion_tokens": 7}, {"extra_body": {"seed": 1}}, {"model": "m"}, {"id": "else"}):
        other = http_judge("http://one/v1", **{"id": "same"} | changed)
        assert other.identity.fingerprint != base.identity.fingerprint, changed
    assert http_judge("http://one/v1", id="same", template="verdict-scale").identity.fingerprint != base.identity.fingerprint
