"""The live page over real HTTP, on a real database that a real scheduler has written, or is writing."""

import asyncio
import functools
import itertools
import json
import re
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from judgeflow import Pair, Scheduler
from judgeflow.config import BudgetConfig, JudgeConfig, RoutingConfig
from judgeflow.judges.client import HttpJudge
from judgeflow.store import SqlStore, searching
from judgeflow.store.window import Window
from judgeflow.testing import FakeJudge, FakeScorer, ScriptedJudge, arithmetic_pairs
from judgeflow.types import Message
from judgeflow.verdicts.prompt import load_template
from judgeflow.web import desk as web_desk
from judgeflow.web import server
from judgeflow.web.desk import HITS_A_PAGE, Desk
from judgeflow.web.events import stream
from judgeflow.web.guard import HEADERS
from judgeflow.web.live import Hub, News
from judgeflow.web.server import serving
from judgeflow.web.settings import Settings

STEPS, SIZE = 3, 24
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}"
PAIRS = [
    *arithmetic_pairs(STEPS * SIZE - 1),
    Pair(prompt=f"{HOSTILE} needle", response_a=f"first {HOSTILE}", response_b="second quill", label="a"),
]
BEYOND = Pair(prompt=(Message(role="user", content='say "ÄPFEL"\nC:\\Straße'),), response_a="three\nlines", response_b="Øre", label="a")
TOKEN = "a token that nobody can guess"
QUICK = {"port": 0, "poll_s": 0.05, "heartbeat_s": 0.3}


@asynccontextmanager
async def scheduling(url, *, run="helpful", steps=STEPS):
    async with FakeJudge.from_pairs([*PAIRS, BEYOND], accuracy=0.9, latency=0.001) as server:
        settings = JudgeConfig(
            base_url=server.base_url, model="fake-judge", id="fake judge", prompt_usd_per_mtok=2.0, completion_usd_per_mtok=8.0
        )
        parts = {
            "scorer": FakeScorer([*PAIRS, BEYOND]),
            "judge": HttpJudge(settings, load_template("default")),
            "store": functools.partial(SqlStore.open, url),
            "routing": RoutingConfig(policy="always"),
            "budget": BudgetConfig(requests=10_000, steps=steps),
            "settings": {"budget": {"requests": 10_000, "steps": steps}, "judge": {"api_key_env": "JUDGE_KEY"}},
        }
        async with Scheduler(run=run, **parts) as scheduler:
            yield scheduler


async def route(scheduler, step):
    await scheduler.route(PAIRS[step * SIZE : (step + 1) * SIZE], step=step)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database with one run of three steps, which is over."""
    url = str(tmp_path_factory.mktemp("page") / "verdicts.db")

    async def fill():
        async with scheduling(url) as scheduler:
            for step in range(STEPS):
                await route(scheduler, step)

    asyncio.run(fill())
    return url


def unforeseen(error):
    raise error


@asynccontextmanager
async def visiting(url, **settings):
    async with serving(url, Settings(**(QUICK | settings)), complain=unforeseen) as port:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            yield browser


@pytest.fixture
async def browser(database):
    async with visiting(database) as browser:
        yield browser


async def text(browser, path, status=200, **options):
    async with browser.get(path, allow_redirects=False, **options) as answer:
        assert answer.status == status, await answer.text()
        return await answer.text()


async def data(browser, path, status=200):
    return json.loads(await text(browser, f"/api{path}", status))


async def whole_run(browser, number):
    """A run's figures, when all of them are read: on a busy machine a visitor is shown what there is by then."""
    while not (found := (await data(browser, f"/runs/{number}"))["run"])["complete"]:
        pass
    return found


async def first_pair(browser, words="needle"):
    return (await data(browser, f"/search?q={words}"))["found"]["hits"][0]["pair_key"]


async def test_the_runs_lead_to_a_run_its_steps_its_pairs_and_their_replies(browser):
    assert '<a href="/runs/1"><bdi>helpful</bdi></a>' in await text(browser, "/runs")
    run = await text(browser, "/runs/1")
    assert "Is judging healthy?" in run or "healthy" in run
    assert '<a href="/runs/1/steps/2">step 2</a>' in run
    step = await text(browser, "/runs/1/steps/2")
    link = re.search(r'href="(/pairs/[0-9a-f]{64}\?run=1&amp;step=2)"', step)[1].replace("&amp;", "&")
    pair = await text(browser, link)
    assert pair.count('<section class="reply">') == 2
    assert "shown first: prefers" in pair


@pytest.mark.parametrize("path", ["/runs", "/runs/1", "/runs/1/steps", "/runs/1/steps/2", "/judges", "/search?q=needle"])
async def test_every_page_is_there_as_json_too(browser, path):
    assert (await text(browser, path)).startswith("<!doctype html>")
    assert isinstance(await data(browser, path), dict)


async def test_the_json_of_a_run_holds_its_figures(browser):
    told = await whole_run(browser, 1)
    assert told["name"] == "helpful"
    assert told["pairs"] == len(PAIRS)
    assert [step["step"] for step in told["steps"]] == list(range(STEPS))


async def test_a_pair_says_what_was_decided_about_it_in_the_step_it_was_reached_from(browser):
    key = await first_pair(browser)
    assert (await data(browser, f"/pairs/{key}"))["pair"]["status"] is None
    told = (await data(browser, f"/pairs/{key}?run=1&step={STEPS - 1}"))["pair"]
    assert told["asked"] is True
    assert {reply["shown"] for reply in told["replies"]} == {"ab", "ba"}


async def test_what_judges_of_other_runs_say_of_a_pair_stands_on_its_own_page_alone(live, tmp_path):
    scheduler, browser = live
    await route(scheduler, 0)
    other = ScriptedJudge(latency=0.001)
    settings = {"judge": other, "store": functools.partial(SqlStore.open, str(tmp_path / "verdicts.db"))}
    async with Scheduler(run="other", routing=RoutingConfig(policy="always"), **settings) as second:
        await route(second, 0)
    for number, judge in ((1, "fake judge"), (2, other.identity.id)):
        await whole_run(browser, number)
        rows = (await data(browser, f"/runs/{number}/steps/0?order=latency"))["step"]["pairs"]
        assert {len(row["replies"]) for row in rows} == {2}
        assert {name for row in rows for name in row["judges"]} == {judge}
        pair = (await data(browser, f"/pairs/{rows[0]['key']}?run={number}&step=0"))["pair"]
        assert {reply["judge"] for reply in pair["replies"]} == {judge}
        assert pair["others"] == 2
        assert rows[0]["latency_s"] == max(reply["latency_s"] for reply in pair["replies"])
    page = await text(browser, f"/pairs/{pair['key']}?run=1")
    assert "Not shown: 2 replies of judges that this run did not ask." in page
    assert f'href="/pairs/{pair["key"]}">All replies' in page
    everything = (await data(browser, f"/pairs/{pair['key']}"))["pair"]
    assert {reply["judge"] for reply in everything["replies"]} == {"fake judge", other.identity.id}


async def test_the_page_of_judges_says_of_which_runs_it_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(web_desk, "RUNS_KEPT", 2)
    url = str(tmp_path / "verdicts.db")
    for number in range(3):
        async with scheduling(url, run=f"run {number}") as scheduler:
            await scheduler.route(PAIRS[number : number + 1])
        async with visiting(url) as browser:
            page, told = await text(browser, "/judges"), await data(browser, "/judges")
        assert (told["latest"], told["of"]) == (min(2, number + 1), number + 1)
        assert ("in the 2 runs last at work; there are 3, and" in page) == (number == 2)
        assert len(told["judges"][0]["runs"]) == told["latest"]


async def test_pairs_of_a_step_can_be_sorted(browser):
    async def column(order, read):
        return [read(pair) for pair in (await data(browser, f"/runs/1/steps/1?order={order}"))["step"]["pairs"]]

    doubts = await column("uncertainty", lambda pair: pair["decision"]["uncertainty"])
    waits = await column("latency", lambda pair: pair["latency_s"])
    states = await column("status", lambda pair: pair["decision"]["status"])
    assert len(doubts) == len(waits) == len(states) == SIZE
    assert doubts == sorted(doubts, reverse=True)
    assert waits == sorted(waits, reverse=True)
    assert states == sorted(states)


async def test_a_search_finds_prompts_and_responses_in_any_case_and_nothing_else(browser):
    for words in ("NEEDLE", "QUILL", "first </script>"):
        assert len((await data(browser, f"/search?q={words}"))["found"]["hits"]) == 1, words
    assert (await data(browser, "/search?q=haystack"))["found"] == {"hits": [], "upto": None, "share": 1.0}
    assert (await data(browser, "/search?q=%25"))["found"]["hits"] == []


async def test_a_long_search_goes_on_where_it_stopped_until_every_pair_was_looked_at(browser):
    seen, after, pages = [], "", 0
    while after is not None:
        found = (await data(browser, f"/search?q=verdict&after={after}"))["found"]
        seen += [hit["pair_key"] for hit in found["hits"]]
        after, pages = found["upto"], pages + 1
    assert pages > 1
    assert seen == sorted(set(seen))
    assert len(seen) == len(PAIRS)  # every reply has one


async def test_a_search_survives_pairs_that_a_run_writes_meanwhile(database, tmp_path):
    copy = tmp_path / "verdicts.db"
    with closing(sqlite3.connect(database)) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    written = []

    def write(connection, cursor, statement, *_):
        """Write a pair between two statements of the search: after it has read which pairs there are."""
        del connection, cursor
        if "text_of_prompt" in statement and not written:
            with closing(sqlite3.connect(copy)) as other, other:
                there = "SELECT ?, prompt, low, high FROM pair WHERE prompt IN (SELECT hash FROM text WHERE body LIKE '%needle')"
                written.append(other.execute(f"INSERT INTO pair {there}", (b"\x80" + bytes(31),)))

    window = await Window.open(str(copy), visit_s=30.0, at_once=1)
    async with window.connect() as connection:
        event.listen(connection.sync_connection, "before_cursor_execute", write)
        found = await searching.search(connection, "needle", after=b"", limit=200, stretch=200)
    await window.aclose()
    assert written
    assert len(found.hits) == 1


async def test_a_search_finds_quotes_lines_and_letters_beyond_ascii_in_conversations_and_texts(live):
    scheduler, browser = live
    await scheduler.route([BEYOND], step=0)
    for words in ('"äpfel"', 'L"\nc:\\', "STRASSE", "three\nLines", "øRE"):
        assert len((await data(browser, f"/search?{urlencode({'q': words})}"))["found"]["hits"]) == 1, words


class TalkativeJudge(ScriptedJudge):
    """A judge whose replies have words in them that stand in no pair."""

    async def ask(self, question):
        reply = await super().ask(question)
        if "needle" not in question.prompt:
            return reply
        return replace(reply, text=f"{HOSTILE} Haystäck \u202e {reply.text}", reasoning="Let me PONDER this.")


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request, tmp_path):
    return str(tmp_path / "verdicts.db") if request.param == "sqlite" else request.getfixturevalue("postgresql_url")


@pytest.fixture
async def talkative(anywhere):
    """Somebody who looks at a database in which a judge has much to say about one pair."""
    parts = {"judge": TalkativeJudge(latency=0.001), "store": functools.partial(SqlStore.open, anywhere)}
    async with Scheduler(routing=RoutingConfig(policy="always"), **parts) as scheduler:
        await scheduler.route(PAIRS[-3:])
    async with visiting(anywhere) as browser:
        yield browser


@pytest.mark.parametrize(("words", "place"), [("HAYSTÄCK", "reply"), ("ponder", "reasoning")])
async def test_a_search_finds_what_judges_have_replied_and_says_where(talkative, words, place):
    (hit,) = (await data(talkative, f"/search?{urlencode({'q': words})}"))["found"]["hits"]
    assert hit["texts"]["body"].endswith("needle")
    assert [reply["judge"] for reply in hit["replies"]] == ["scripted scripted-judge"] * 2
    page = await text(talkative, f"/search?{urlencode({'q': words})}")
    for shown in ("A", "B"):
        assert f'<span class="place"><bdi>scripted scripted-judge</bdi>, {place}, {shown} shown first</span>' in page
    assert page.count(f"<mark>{page.partition('<mark>')[2].partition('</mark>')[0]}</mark>") == 2
    assert f"<mark>{words.lower()}</mark>" in page.lower()
    assert words.lower() in page.lower()
    assert "<script>alert" not in page
    assert "\u202e" not in page


async def test_a_search_finds_what_a_judge_says_when_it_is_asked_again_after_a_reply_without_a_verdict(anywhere):
    for judge in (ScriptedJudge(faults=["no-tag"] * 2, latency=0.001), TalkativeJudge(latency=0.001)):
        parts = {"judge": judge, "store": functools.partial(SqlStore.open, anywhere), "retry_failed": True}
        async with Scheduler(routing=RoutingConfig(policy="always"), **parts) as scheduler:
            await scheduler.route(PAIRS[-1:])
    async with visiting(anywhere) as browser:
        (hit,) = (await data(browser, f"/search?{urlencode({'q': 'haystäck'})}"))["found"]["hits"]
    assert len(hit["replies"]) == 2


async def test_a_search_says_in_which_text_of_a_pair_the_words_stand(talkative):
    page = await text(talkative, f"/search?{urlencode({'q': 'alert(1)'})}")
    places = re.findall(r'<span class="place">(.*?)</span>', page)
    first = "A" if "response A" in places else "B"
    assert places == ["prompt", f"response {first}", *(f"<bdi>scripted scripted-judge</bdi>, reply, {shown} shown first" for shown in "AB")]


async def test_a_search_with_many_judges_looks_at_fewer_pairs_at_a_time_and_misses_none(browser, monkeypatch):
    everything = (await data(browser, "/search?q=verdict"))["found"]
    monkeypatch.setattr(searching, "QUESTIONS", 10)
    again = (await data(browser, "/search?q=verdict"))["found"]
    assert [hit["pair_key"] for hit in everything["hits"]] == [hit["pair_key"] for hit in again["hits"]]
    assert len(again["hits"]) == HITS_A_PAGE


async def test_a_page_that_waits_for_an_older_reading_shows_what_has_ended_since(live, tmp_path):
    scheduler, _ = live
    window = await Window.open(str(tmp_path / "verdicts.db"), visit_s=5.0, at_once=2)
    desk = Desk(window)
    await route(scheduler, 0)
    run = (await desk.run(1)).state
    old = await desk.figures(run, "first")
    await route(scheduler, 1)

    async def begun_before():
        await asyncio.sleep(0)
        del desk._readings[1]
        return old

    desk._readings[1] = asyncio.create_task(begun_before())
    assert len((await desk.figures(run, "second")).steps) == 2
    await desk.aclose()
    await window.aclose()


async def test_texts_of_others_cannot_act_on_a_page(browser):
    key = await first_pair(browser)
    for path in (f"/pairs/{key}", "/search?q=needle", f"/runs/1/steps/{STEPS - 1}", "/search?q=%3Cscript%3Ealert(1)%3C/script%3E"):
        page = await text(browser, path)
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "{{ 7" in page or "alert(1)" in page


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/runs/99", 404, "There is no run 99"),
        (f"/runs/{2**31}", 404, f"There is no run {2**31}"),
        (f"/pairs/{'ab' * 32}?run={2**31}&step=1", 404, f"There is no run {2**31}"),
        ("/runs/x", 400, "no number of a run"),
        ("/runs/-1", 400, "no number of a run"),
        ("/runs/99999999999999999999", 400, "no number of a run"),
        ("/runs/1/steps/99", 404, "decided nothing in step 99"),
        ("/runs/1/steps/1?page=9", 404, "no page 9"),
        ("/runs/1/steps/1?page=0", 400, "pages count from 1"),
        ("/runs/1/steps/1?order=beauty", 400, "no way to sort"),
        ("/pairs/12", 400, "64 hexadecimal digits"),
        (f"/pairs/{'ab' * 32}", 404, "There is no pair"),
        (f"/search?q={'x' * 201}", 400, "at most 200"),
        ("/search?q=x&after=zz", 400, "no key of a pair"),
        ("/nowhere", 404, "No page has this address"),
        ("/static/../secret", 404, "No page has this address"),
    ],
)
async def test_an_address_that_leads_nowhere_says_why(browser, path, status, said):
    assert said in await text(browser, path, status)
    if not path.startswith("/static"):
        assert said in (await data(browser, path, status))["error"]


@pytest.mark.parametrize("path", ["/runs", "/api/runs", "/nowhere", "/static/style.css", "/events/runs", "/healthz", "/"])
async def test_every_answer_carries_the_headers_that_keep_browsers_safe(browser, path):
    async with browser.get(path, allow_redirects=False) as answer:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert "script-src 'self';" in policy
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed(browser, method):
    async with browser.request(method, "/runs") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET,HEAD"


async def test_head_gives_the_headers_alone(browser):
    for path in ("/runs", "/events/runs"):
        async with browser.head(path) as answer:
            assert answer.status == 200
            assert await answer.read() == b""


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "[bad", ""])
async def test_a_name_that_is_not_ours_is_turned_away(browser, host):
    page = await text(browser, "/runs", 421, headers={"Host": host})
    assert "helpful" not in page


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8765", "lab.example"])
async def test_names_of_this_machine_and_those_that_are_allowed_are_answered(database, host):
    async with visiting(database, names=frozenset({"lab.example"})) as browser:
        await text(browser, "/runs", headers={"Host": host})


async def test_without_the_token_nobody_sees_anything_but_the_health(database):
    async with visiting(database, token=TOKEN) as browser:
        for path in ("/", "/runs", "/runs/1", "/metrics", "/events/runs", "/static/style.css", "/nowhere", "/runs?token=wrong"):
            assert "helpful" not in await text(browser, path, 401)
        assert set(await data(browser, "/runs", 401)) == {"error"}
        assert 'type="password"' in await text(browser, "/runs", 401)
        assert await text(browser, "/healthz") == "ok\n"
        for bearer in ("", "wrong", "é", TOKEN + "x"):
            await text(browser, "/runs", 401, headers={"Authorization": f"Bearer {bearer}"})
        await text(browser, "/runs", headers={"Authorization": f"Bearer {TOKEN}"})


async def test_the_token_is_asked_for_once_and_leaves_the_address_again(database):
    async with visiting(database, token=TOKEN) as browser:
        async with browser.get("/runs/1", params={"token": TOKEN, "x": "1"}, allow_redirects=False) as answer:
            assert answer.status == 303
            assert answer.headers["Location"] == "/runs/1?x=1"
            cookie = answer.headers["Set-Cookie"]
        assert TOKEN not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "helpful" in await text(browser, "/runs")


async def test_files_are_kept_by_the_browser_until_they_change(browser):
    page = await text(browser, "/runs/1")
    paths = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert {path.partition("?")[0] for path in paths} == {f"/static/{name}" for name in ("style.css", "charts.js", "live.js", "plotly.js")}
    for path in paths:
        async with browser.get(path) as answer:
            assert answer.status == 200
            assert "immutable" in answer.headers["Cache-Control"]
            assert await answer.read()
        async with browser.get(path, headers={"If-None-Match": answer.headers["ETag"]}) as again:
            assert again.status == 304


async def test_metrics_are_those_of_the_database(browser):
    await whole_run(browser, 1)
    families = {family.name: family for family in text_string_to_metric_families(await text(browser, "/metrics"))}

    def values(name):
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in families[f"judgeflow_{name}"].samples
        }

    spent = values("run_spent")["requests", "helpful"]
    assert spent == 2 * len(PAIRS)
    assert values("run_budget_left") == {("requests", "helpful"): 10_000 - spent}
    assert values("run_last_step") == {("helpful",): STEPS - 1}
    assert sum(values("run_replies").values()) == spent


async def test_a_database_that_is_asked_too_much_at_once_says_so_and_recovers(database, monkeypatch):
    windows = []

    class Noted(Window):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            windows.append(self)

    monkeypatch.setattr(server, "Window", Noted)
    async with visiting(database, visit_s=1.0, at_once=1) as browser:
        (window,) = windows
        async with window.connect(), asyncio.TaskGroup() as group:
            answers = [group.create_task(status_of(browser, "/api/runs/1/steps/1?order=latency")) for _ in range(40)]
        assert {answer.result() for answer in answers} == {503}
        assert await status_of(browser, "/api/runs") == 200


async def status_of(browser, path):
    async with browser.get(path) as answer:
        return answer.status


class Events:
    """What a page hears, event by event; whoever waits for an hour of heartbeats waits for nothing."""

    def __init__(self, answer, patience=1000):
        self._answer = answer
        self._patience = patience

    async def block(self):
        lines = []
        while line := (await asyncio.wait_for(self._answer.content.readline(), 300)).decode().rstrip("\n"):
            lines.append(line)
        return lines

    async def next(self):
        """The next event as (id, data); retries and heartbeats are no events."""
        while self._patience > 0:
            self._patience -= 1
            told = dict(line.partition(": ")[::2] for line in await self.block())
            if told.get("event") == "news":
                return told["id"], json.loads(told["data"])
        raise AssertionError("nothing new was told")


@asynccontextmanager
async def hearing(browser, path, **options):
    async with browser.get(path, timeout=aiohttp.ClientTimeout(total=None), **options) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield Events(answer)


@pytest.fixture
async def live(tmp_path):
    """A run that has not decided anything yet, its scheduler, and somebody who looks on."""
    url = str(tmp_path / "verdicts.db")
    async with scheduling(url) as scheduler, visiting(url) as browser:
        yield scheduler, browser


async def test_a_page_hears_of_every_step_while_the_run_goes_on(live):
    scheduler, browser = live
    async with hearing(browser, "/events/runs/1") as events:
        _, news = await events.next()
        assert "no step has ended yet" in news["summary"]
        for step in range(STEPS):
            await route(scheduler, step)
            while f"step {step} has" not in news["summary"] and "Finished" not in news["summary"]:
                _, news = await events.next()
        while "Finished" not in news["summary"]:
            _, news = await events.next()
    told = await data(browser, "/runs/1")
    assert told["head"]["pace"] == "finished"
    assert len(told["run"]["steps"]) == STEPS


async def test_a_page_that_was_away_hears_what_it_has_missed_and_only_that(live):
    scheduler, browser = live
    async with hearing(browser, "/events/runs/1") as events:
        seen, _ = await events.next()
    await route(scheduler, 0)
    async with hearing(browser, "/events/runs/1", headers={"Last-Event-ID": seen}) as events:
        version, news = await events.next()
        assert version != seen
        assert "step 0" in news["summary"]


async def test_a_page_that_shows_the_latest_hears_nothing_but_that_it_is_connected(live):
    _, browser = live
    page = await text(browser, "/runs/1")
    version = re.search(r'data-version="(\w+)"', page)[1]
    async with serving_with_heartbeats(browser, version) as blocks:
        assert blocks == [["retry: 2000"], [": still here"], [": still here"]]


@asynccontextmanager
async def serving_with_heartbeats(browser, version):
    async with hearing(browser, f"/events/runs/1?seen={version}") as events:
        yield [await events.block() for _ in range(3)]


async def test_a_run_that_begins_later_appears(live, tmp_path):
    _, browser = live
    async with hearing(browser, "/events/runs") as events:
        _, news = await events.next()
        assert "1 run" in news["summary"]
        async with scheduling(str(tmp_path / "verdicts.db"), run="another"):
            while "2 runs" not in news["summary"]:
                _, news = await events.next()
    assert "another" in await text(browser, "/runs")


async def test_events_of_a_run_that_is_not_there_are_refused(browser):
    assert "There is no run 99" in await text(browser, "/events/runs/99", 404)


async def test_too_many_watchers_are_told_to_close_some(database):
    async with visiting(database, watchers=1) as browser, hearing(browser, "/events/runs"):
        assert "Too many pages" in await text(browser, "/events/runs/1", 503)


async def test_the_server_ends_at_once_although_pages_are_listening(database, monkeypatch):
    monkeypatch.setattr(server, "GOODBYE_S", 600.0)
    loop = asyncio.get_running_loop()
    async with serving(database, Settings(port=0), complain=unforeseen) as port:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser:
            answers = [await browser.get("/events/runs") for _ in range(5)]
            started = loop.time()
    assert loop.time() - started < 300
    for answer in answers:
        answer.close()


async def test_the_pages_are_the_same_on_a_server(postgresql_url):
    async with scheduling(postgresql_url) as scheduler, visiting(postgresql_url) as browser:
        await route(scheduler, STEPS - 1)
        step = f"/runs/{(await data(browser, '/runs'))['runs'][0]['run']['id']}/steps/{STEPS - 1}"
        for order in ("uncertainty", "latency", "status"):
            pairs = (await data(browser, f"{step}?order={order}"))["step"]["pairs"]
            assert len(pairs) == SIZE
            assert all(pair["latency_s"] > 0 and len(pair["replies"]) == 2 for pair in pairs)
        assert "shown first: prefers" in await text(browser, f"/pairs/{await first_pair(browser)}")
        assert "fake judge" in await text(browser, "/judges")
        assert "judgeflow_run_replies" in await text(browser, "/metrics")


async def test_who_does_not_read_what_was_sent_is_hung_up_on_and_the_others_go_on():
    hub, settings, looks = Hub(poll_s=0.0, backlog=4, most=10), Settings(send_s=2.0, heartbeat_s=0.1), itertools.count()

    async def look():
        await asyncio.sleep(0.002)
        return News(version=str(next(looks)), summary="x" * 200_000)

    async def events(request):
        return await stream(request, hub, settings, look)

    app = web.Application()
    app.router.add_get("/events", events)
    async with TestServer(app) as server:
        async with aiohttp.ClientSession(server.make_url("/")) as browser, browser.get("/events", read_bufsize=2**20) as answer:
            reader = Events(answer, patience=10_000)
            _, deaf = await asyncio.open_connection(server.host, server.port, limit=1024)
            deaf.write(f"GET /events HTTP/1.1\r\nHost: {server.host}\r\n\r\n".encode())
            while hub.watchers < 2:
                await reader.next()
            while hub.watchers > 1:
                await reader.next()
            await reader.next()
        deaf.close()
        await hub.aclose()
