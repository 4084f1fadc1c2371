"""Gateways and providers that word their errors in their own way: each becomes the error that it means.

The bodies are theirs, shortened.  `make test-judges` hears some of them from the litellm proxy itself.
"""

import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from judgeflow.config import JudgeConfig
from judgeflow.errors import GatewayFailed, JudgeOverloaded, JudgeRefusesService, QuestionRejected, RateLimited
from judgeflow.judges.client import HttpJudge
from judgeflow.keys import pair_keys, questions
from judgeflow.types import Pair, RateHeaders, Standing
from judgeflow.verdicts.prompt import load_template

LITELLM = {"x-litellm-call-id": "1", "x-litellm-timeout": "30"}
PASSED_ON = LITELLM | {"llm_provider-content-type": "application/json"}
QUOTA = "You exceeded your current quota, please check your plan and billing details."
GEMINI = f"{QUOTA} For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."


def litellm(status, message, kind):
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": str(status)}})


@asynccontextmanager
async def saying(status, body, headers):
    async def answer(_request):
        return web.Response(status=status, text=body, headers=headers)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def error_of(status, body, headers=None, pair=None):
    pair = pair or Pair(prompt="What is 2 + 2?", response_a="4", response_b="5")
    async with saying(status, body, headers or {}) as base_url:
        judge = HttpJudge(JudgeConfig(base_url=base_url, model="judge", api_key_env="JUDGE_KEY"), load_template("default"), api_key="sk-1")
        try:
            await judge.ask(questions(pair, pair_keys(pair), judge.identity.fingerprint)[0])
        except Exception as error:
            return error
        finally:
            await judge.aclose()


REFUSALS = {
    "litellm: the provider's quota": (
        (429, litellm(429, f"litellm.RateLimitError: RateLimitError: OpenAIException - {QUOTA}", "throttling_error"), PASSED_ON),
        "the account's quota is used up",
    ),
    "litellm: the key's own budget": (
        (429, litellm(429, "Budget has been exceeded! Current cost: 2.0, Max budget: 1.0", "budget_exceeded"), LITELLM),
        "the account's quota is used up",
    ),
    "litellm without a database: a wrong key": (
        (400, litellm(400, "No connected db.", "no_db_connection"), {}),
        "check the API key in JUDGE_KEY",
    ),
    "litellm: a model that it does not have": (
        (
            400,
            litellm(400, "/chat/completions: Invalid model name passed in model=judge. Call `/v1/models`", "invalid_request_error"),
            LITELLM,
        ),
        r"check \[judge\] model = 'judge'",
    ),
    "litellm: the key that it has for its provider": (
        (401, litellm(401, "litellm.AuthenticationError: Incorrect API key provided.", "authentication_error"), PASSED_ON),
        "check the provider's API key there, not in",
    ),
    "litellm: a model that its provider does not have": (
        (404, litellm(404, "litellm.NotFoundError: The model 'gpt-9' does not exist", "invalid_request_error"), PASSED_ON),
        "check the provider's model there, not in",
    ),
    "OpenRouter: a model that it does not have": (
        (400, '{"error": {"message": "judge is not a valid model ID", "code": 400}}', {}),
        r"check \[judge\] model",
    ),
    "DeepSeek: a model that it does not have": (
        (400, '{"error": {"message": "Model Not Exist", "type": "invalid_request_error", "code": "invalid_request_error"}}', {}),
        r"check \[judge\] model",
    ),
    "vLLM: a model that it does not have": (
        (404, '{"error": {"message": "The model `judge` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}}', {}),
        r"check \[judge\] model",
    ),
    "DeepSeek: no money left": (
        (402, '{"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}}', {}),
        "the account has no credit left",
    ),
    "OpenRouter: a wrong key": (
        (401, '{"error": {"message": "No auth credentials found", "code": 401}}', {}),
        "check the API key in JUDGE_KEY",
    ),
}


@pytest.mark.parametrize(("answer", "remedy"), REFUSALS.values(), ids=REFUSALS)
async def test_what_no_question_can_mend_stops_the_judge_and_names_what_to_check(answer, remedy):
    with pytest.raises(JudgeRefusesService, match=remedy):
        raise await error_of(*answer)


OTHERS = {
    "Gemini: a limit of a minute": ((429, json.dumps({"error": {"code": 429, "message": GEMINI}}), {}), RateLimited),
    "Gemini: a limit that says when it ends": (
        (429, json.dumps({"error": {"message": f"{QUOTA}\nPlease retry in 45.5s."}}), {}),
        RateLimited,
    ),
    "a quota that is there again soon": ((429, json.dumps({"error": {"message": QUOTA}}), {"retry-after": "20"}), RateLimited),
    "litellm: too many requests": ((429, litellm(429, "litellm.RateLimitError: slow down", "throttling_error"), PASSED_ON), RateLimited),
    "litellm: the provider failed": (
        (500, litellm(500, "litellm.InternalServerError: sorry", "internal_server_error"), PASSED_ON),
        JudgeOverloaded,
    ),
    "litellm: the connection broke": ((500, litellm(500, "litellm.InternalServerError: Connection error.", "x"), LITELLM), GatewayFailed),
    "OpenRouter: a question that a moderator has flagged": (
        (403, '{"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"], "flagged_input": "..."}}}', {}),
        QuestionRejected,
    ),
    "llama.cpp: too long": (
        (400, '{"error": {"code": 400, "message": "request (3031 tokens) exceeds the available context size (2048 tokens)"}}', {}),
        QuestionRejected,
    ),
    "words like those of a model that is not there": (
        (400, '{"error": {"message": "Unknown model output format requested", "type": "invalid_request_error"}}', {}),
        QuestionRejected,
    ),
    "vLLM: too long": (
        (400, '{"error": {"message": "This model\'s maximum context length is 2048 tokens.", "type": "BadRequestError", "code": 400}}', {}),
        QuestionRejected,
    ),
}


@pytest.mark.parametrize(("answer", "kind"), OTHERS.values(), ids=OTHERS)
async def test_what_passes_or_concerns_one_question_does_not_stop_the_judge(answer, kind):
    assert type(await error_of(*answer)) is kind


async def test_a_gateway_that_lost_its_provider_may_have_been_charged_for_the_answer():
    error = await error_of(500, litellm(500, "Connection error.", "internal_server_error"), LITELLM)
    assert error.maybe_paid
    assert not (await error_of(500, litellm(500, "sorry", "internal_server_error"), PASSED_ON)).maybe_paid


async def test_how_long_to_wait_is_heard_through_a_gateway():
    headers = PASSED_ON | {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "0",
        "llm_provider-x-ratelimit-reset-requests": "59.972s",
        "llm_provider-retry-after-ms": "59915",
        "llm_provider-retry-after": "60",
    }
    error = await error_of(429, litellm(429, "Rate limit reached.", "throttling_error"), headers)
    assert error.retry_after_s == pytest.approx(59.915)
    assert error.rates == RateHeaders(requests=Standing(limit=3, remaining=0, reset_s=59.972))


ECHOES = {  # of a response, in an error about it
    "whole": ("unknown model, and you exceeded your current quota", "cannot parse: {}"),
    "cut short": ("He said: model judge not found, and left the room in a hurry.", "near 'model judge not found'"),
    "cut out of a long line": (f"{'words ' * 50}insufficient_quota {'words ' * 50}", "near ...insufficient_quota ..."),
    "in small letters": ("MODEL judge NOT\nFOUND", "bad input: model judge not found"),
    "in capitals": ("this is not a valid model", "judge: THIS IS NOT A VALID MODEL"),
    "without its marks": ("the **model** judge `does` *not* exist", "bad input: the model judge does not exist"),
    "in parts": ("what I looked for was not found", "invalid text for model judge not found in schema"),
    "as all it says": ("Model not exist, says who?", "Model not exist"),
    "with other white space": ("you exceeded\u00a0your\n current  quota", "bad input: you exceeded your current quota"),
    "in letters of another width": ("".join(chr(ord(each) + 0xFEE0) for each in "unknownmodel"), "judge: unknown model"),
}


@pytest.mark.parametrize("status", [400, 429])
@pytest.mark.parametrize(("response", "said"), ECHOES.values(), ids=ECHOES)
async def test_a_response_under_judgement_stops_no_run_by_its_words(status, response, said):
    pair = Pair(prompt="p", response_a=response, response_b="fine")
    error = await error_of(status, json.dumps({"error": {"message": said.format(response)}}), pair=pair)
    assert type(error) is (QuestionRejected if status == 400 else RateLimited)


@pytest.mark.parametrize("said", ["Model Not Exist", "judge is not a valid model ID", "The model `judge` does not exist."])
async def test_a_model_that_is_not_there_is_found_out_by_any_question_that_does_not_speak_of_it(said):
    body = json.dumps({"error": {"message": said}})
    about_it = Pair(prompt="p", response_a=f"The server told me: {said}", response_b="fine")
    assert type(await error_of(400, body, pair=about_it)) is QuestionRejected
    about_models = Pair(prompt="Which model exists?", response_a="No model is valid.", response_b="That is unknown.")
    assert type(await error_of(400, body, pair=about_models)) is JudgeRefusesService
