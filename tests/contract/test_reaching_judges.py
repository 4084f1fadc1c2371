"""What `judgeflow doctor` learns from a judge's list of models, or from what comes instead of it, from a real server."""

import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from judgeflow.config import JudgeConfig
from judgeflow.judges.reach import reach


@asynccontextmanager
async def listing(status=200, body="", path="/v1/models", base="/v1"):
    """A server whose list of models is `body`; yields its base_url."""

    async def answer(_request):
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_get(path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}{base}"
    finally:
        await runner.cleanup()


async def reached(*, key=None, **server):
    async with listing(**server) as base_url:
        return await reach(JudgeConfig(base_url=base_url, model="judge", api_key_env="DOOR" if key else None), key)


def models(*names, owner="somebody"):
    return json.dumps({"object": "list", "data": [{"id": name, "owned_by": owner} for name in names]})


async def test_a_model_is_found_in_a_list_that_is_too_long_for_one_packet():
    names = [f"provider/model-{number}" for number in range(20_000)]
    assert (await reached(body=models(*names, "judge"))).ok
    missing = await reached(body=models(*names))
    assert not missing.ok
    assert "has no model 'judge'; it has provider/model-0" in missing.detail
    assert "and 19995 more" in missing.detail


async def test_llama_cpp_answers_whatever_its_model_is_called():
    found = await reached(body=models("/models/smollm2.gguf", owner="llamacpp"))
    assert found.ok
    assert "answers as its one model '/models/smollm2.gguf' whatever it is asked for" in found.detail
    assert not (await reached(body=models("one", "two", owner="llamacpp"))).ok


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_server_without_a_list_is_taken_as_it_is(status):
    found = await reached(status=status)
    assert found.ok
    assert "does not tell its models" in found.detail


async def test_an_address_without_v1_is_told_if_the_server_answers_below_it():
    found = await reached(body=models("judge"), base="")
    assert not found.ok
    assert found.detail.endswith("/v1")
    assert "answers below /v1 only; set base_url to http://127.0.0.1:" in found.detail


async def test_a_key_that_a_proxy_does_not_know_is_a_wrong_key_whatever_the_status():
    body = json.dumps({"error": {"message": "No connected db.", "type": "no_db_connection", "code": "400"}})
    found = await reached(status=400, body=body, key="sk-wrong")
    assert not found.ok
    assert "refuses the API key (400: No connected db.); check the key in DOOR" in found.detail


@pytest.mark.parametrize("status", [400, 500, 503])
async def test_a_server_that_does_not_work_is_quoted(status):
    found = await reached(status=status, body="out of order")
    assert not found.ok
    assert f"it answers {status}: out of order; if it wants an API key, name its variable as api_key_env" in found.detail
    assert "api_key_env" not in (await reached(status=status, body="out of order", key="sk-1")).detail


async def test_a_server_that_is_busy_is_there():
    found = await reached(status=429, body="slow down")
    assert found.ok
    assert "asks to be asked later (429: slow down)" in found.detail


async def test_the_key_is_not_repeated():
    found = await reached(status=401, body="wrong key: sk-secret-1", key="sk-secret-1")
    assert "sk-secret-1" not in found.detail
    assert "***" in found.detail
