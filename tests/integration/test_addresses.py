"""What a service says at an address that is none, or that is asked in another way than it was: programs read JSON, browsers a page."""

import asyncio
import contextlib
import json

import aiohttp
import pytest
from served import on_a_thread, scheduler

from judgeflow.client import RouteClient
from judgeflow.errors import UsageError
from judgeflow.store import migrate
from judgeflow.web.server import serving
from judgeflow.web.service import Service, ServiceSettings
from judgeflow.web.settings import Settings

TOKEN = "a token that nobody can guess"
QUESTIONS = "POST /v1/route, POST /v1/stream, POST /v1/reward, GET /openapi.json, POST /v1/part, POST /get_reward"


def unforeseen(error):
    raise error


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("addresses") / "verdicts.db")
    asyncio.run(migrate.upgrade(path))
    return path


@contextlib.asynccontextmanager
async def served(database, *, trainers=True, **settings):
    """Where a server is, which is as `judgeflow serve` has it."""
    async with scheduler((), policy="never") as router:
        service = Service(router, ServiceSettings(), tell=router.notice) if trainers else None
        async with serving(database, Settings(port=0, **settings), complain=unforeseen, service=service) as port:
            yield f"http://127.0.0.1:{port}"


async def asked(url, method, path):
    async with aiohttp.ClientSession() as session, session.request(method, url + path, allow_redirects=False) as answer:
        return answer, await answer.read()


@pytest.fixture(scope="module")
def here(database):
    """A server for all tests that only look."""
    with on_a_thread(served(database)) as url:
        yield url


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "/v1/rout", "/v1/rout is no address here. Did you mean /v1/route? There are " + QUESTIONS),
        ("GET", "/v1/nothing", "/v1/nothing is no address here. There are " + QUESTIONS),
        ("GET", "/v1", "/v1 is no address here."),
        ("POST", "/v2/route", "Did you mean /v1/route?"),
        ("POST", "/reward", "Did you mean /v1/reward?"),
        ("POST", "/get_rewards", "Did you mean /get_reward?"),
        ("PUT", "/v1/parts", "Did you mean /v1/part?"),
        ("POST", "/x", "There are POST /v1/route"),
        ("POST", "/v1/route/", "/v1/route/ is no address here. It is written /v1/route. There are"),
        ("GET", "/openapi.json/", "It is written /openapi.json."),
        ("POST", "/get_reward/", "It is written /get_reward."),
        ("POST", "/V1/Route", "It is written /v1/route."),
        ("POST", "//v1//route", "It is written /v1/route."),
        ("POST", "/v1/%ed%a0%bd%00\n", "is no address here."),
        ("POST", "/v1/" + "x" * 5000, "xxx... is no address here."),
    ],
)
async def test_a_question_at_an_address_that_is_none_is_told_which_there_are(here, method, path, said):
    answer, body = await asked(here, method, path)
    assert (answer.status, answer.content_type) == (404, "application/json")
    message = json.loads(body)["error"]["message"]
    assert said in message
    assert len(message) < 500
    assert answer.reason == "".join(each if " " <= each <= "~" else " " for each in message)[:300]  # for who logs that alone


@pytest.mark.parametrize(
    ("method", "path", "allowed", "said"),
    [
        ("GET", "/v1/route", "POST", "/v1/route is asked by POST, and this was GET."),
        ("GET", "/get_reward?x=1", "POST", "/get_reward is asked by POST, and this was GET."),
        ("DELETE", "/v1/part", "POST", "/v1/part is asked by POST, and this was DELETE."),
        ("POST", "/openapi.json", "GET,HEAD", "/openapi.json is asked by GET or HEAD, and this was POST."),
        ("POST", "/runs", "GET,HEAD", "This page can only be read."),
    ],
)
async def test_an_address_that_is_asked_otherwise_says_how_it_is(here, method, path, allowed, said):
    answer, body = await asked(here, method, path)
    assert (answer.status, answer.content_type, answer.headers["Allow"]) == (405, "application/json", allowed)
    assert json.loads(body) == {"error": {"message": said}}


async def test_head_of_what_is_posted_is_refused_without_a_body(here):
    answer, body = await asked(here, "HEAD", "/v1/route")
    assert (answer.status, answer.headers["Allow"], body) == (405, "POST", b"")


async def test_what_pages_show_as_json_names_the_addresses_that_there_are(here):
    answer, body = await asked(here, "GET", "/api/run")
    assert (answer.status, answer.content_type) == (404, "application/json")
    assert "No page has this address. Did you mean /api/runs? There are /api/runs, /api/runs/{run}," in json.loads(body)["error"]
    _, body = await asked(here, "GET", "/api/runs/")
    assert "It is written /api/runs." in json.loads(body)["error"]
    answer, body = await asked(here, "POST", "/api/runs")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET,HEAD")
    assert json.loads(body) == {"error": "/api/runs is asked by GET or HEAD, and this was POST."}


@pytest.mark.parametrize("path", ["/nothing", "/rout", "/runs/", "/v2/route", "/apis", "/static/nothing.css"])
async def test_a_browser_gets_a_page_about_a_page_that_is_not_there(here, path):
    answer, body = await asked(here, "GET", path)
    assert (answer.status, answer.content_type) == (404, "text/html")
    assert b"No page has this address" in body


async def test_a_server_without_trainers_says_how_to_have_one_that_answers_them(database):
    async with served(database, trainers=False) as url:
        for method, path in (("POST", "/v1/route"), ("GET", "/openapi.json"), ("POST", "/get_reward")):
            answer, body = await asked(url, method, path)
            assert answer.status == 404
            assert "start judgeflow serve with --route" in json.loads(body)["error"]["message"]
        async with RouteClient(url) as client:
            with pytest.raises(UsageError, match="/v1/route is no address here: this server shows runs only"):
                await client.route([])


async def test_who_lacks_the_token_is_not_told_which_addresses_there_are(database):
    async with served(database, token=TOKEN) as url:
        for method, path in (("POST", "/v1/rout"), ("GET", "/v1/route"), ("PUT", "/runs"), ("POST", "/v1/route")):
            answer, body = await asked(url, method, path)
            assert (answer.status, b"route" in body) == (401, False)
        answer, _ = await asked(url, "POST", f"/v1/rout?token={TOKEN}")
        assert answer.status == 404
        answer, _ = await asked(url, "PUT", f"/runs?token={TOKEN}")
        assert (answer.status, "Set-Cookie" in answer.headers) == (405, False)
