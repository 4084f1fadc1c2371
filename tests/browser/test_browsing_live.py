"""The live page as somebody sees it who looks on: a run that is over, and one that goes on."""

import functools
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from conftest import DESK, PHONE
from held import held_port

from judgeflow import Pair, Scheduler
from judgeflow.config import BudgetConfig, JudgeConfig, RoutingConfig
from judgeflow.judges.client import HttpJudge
from judgeflow.store import SqlStore
from judgeflow.testing import FakeJudge, FakeScorer, arithmetic_pairs
from judgeflow.verdicts.prompt import load_template
from judgeflow.web.server import serving
from judgeflow.web.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

STEPS, SIZE = 6, 24
HOSTILE = "</script><script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\">"
PAIRS = [*arithmetic_pairs(STEPS * SIZE - 1), Pair(prompt=f"needle {HOSTILE}", response_a=f"one {HOSTILE}", response_b="two", label="a")]
TOKEN = "a token that nobody can guess"


def unforeseen(error):
    raise error


@asynccontextmanager
async def scheduling(url):
    async with FakeJudge.from_pairs(PAIRS, accuracy=0.9, position_bias=0.2) as server:
        settings = JudgeConfig(base_url=server.base_url, model="fake-judge", id="fake judge")
        parts = {
            "scorer": FakeScorer(PAIRS),
            "judge": HttpJudge(settings, load_template("default")),
            "store": functools.partial(SqlStore.open, url),
            "routing": RoutingConfig(policy="uncertainty", threshold=1.0, max_share=1.0, audit_fraction=0.1),
            "budget": BudgetConfig(requests=10_000, steps=STEPS),
            "settings": {"budget": {"requests": 10_000, "steps": STEPS}},
        }
        async with Scheduler(run="helpful", **parts) as scheduler:
            yield scheduler


async def route(scheduler, steps):
    for step in steps:
        await scheduler.route(PAIRS[step * SIZE : (step + 1) * SIZE], step=step)


@asynccontextmanager
async def serving_at(url, **settings):
    async with serving(url, Settings(port=0, poll_s=0.1, **settings), complain=unforeseen) as port:
        yield f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def served(tmp_path_factory):
    """The address of the page about a run that is over."""
    url = str(tmp_path_factory.mktemp("live") / "verdicts.db")
    async with scheduling(url) as scheduler:
        await route(scheduler, range(STEPS))
    async with serving_at(url) as address:
        yield address


async def test_a_reader_comes_from_the_runs_to_the_charts_to_a_step_to_a_pair_and_its_two_replies(visit, served):
    async with visit(served) as seen:
        page = seen.page
        await page.get_by_role("link", name="helpful").click()
        assert all((await seen.charts_drawn()).values())
        await page.get_by_role("link", name=f"step {STEPS - 1}", exact=True).click()
        await page.get_by_role("link", name="slowest").click()
        await page.get_by_role("link", name="needle").click()
        assert await page.locator(".reply").count() == 2
        assert await page.title() != "stolen"
        seen.assert_nothing_leaves(served)


async def test_a_search_leads_to_the_pair_by_keyboard_alone(visit, served):
    async with visit(f"{served}/runs") as seen:
        keyboard = seen.page.keyboard
        await seen.page.get_by_role("searchbox").focus()
        await keyboard.type("NEEDLE")
        await keyboard.press("Enter")
        await seen.page.wait_for_url("**/search?q=NEEDLE")
        hit = seen.page.locator(".hits a")
        assert await hit.count() == 1
        await hit.focus()
        await keyboard.press("Enter")
        await seen.page.wait_for_url("**/pairs/*")
        assert "document.title='stolen'" in await seen.page.locator("main").inner_text()
        seen.assert_nothing_leaves(served)


PAGES = ["/runs", "/runs/1", "/runs/1/steps", "/runs/1/steps/0", "/judges", "/search?q=needle", "/nowhere"]


@pytest.mark.parametrize("path", PAGES)
async def test_axe_finds_nothing_in_light_in_dark_and_on_a_phone(visit, served, path):
    async with visit(served + path) as seen:
        if path == "/runs/1":
            await seen.charts_drawn()
            await seen.unfold()
        for scheme, width in (("light", DESK), ("dark", DESK), ("dark", PHONE), ("light", PHONE)):
            await seen.look(scheme=scheme, width=width)
            await seen.fits()
            assert await seen.violations() == []


async def test_a_pair_is_readable_for_axe_too(visit, served):
    async with visit(f"{served}/search?q=needle") as seen:
        await seen.page.locator(".hits a").click()
        for scheme in ("light", "dark"):
            await seen.look(scheme=scheme)
            assert await seen.violations() == []


async def test_everything_can_be_read_without_scripts(visit, served):
    async with visit(f"{served}/runs/1", javascript=False) as seen:
        said = await seen.page.locator("main").inner_text()
        assert "Where decisions come from" in said
        assert await seen.page.locator("#live-status").inner_text() == "reload to see what is new"


async def test_a_page_follows_a_run_without_being_loaded_again(visit, tmp_path):
    url = str(tmp_path / "verdicts.db")
    async with scheduling(url) as scheduler, serving_at(url) as address:
        await route(scheduler, range(2))
        async with visit(f"{address}/runs/1") as seen:
            page = seen.page
            await seen.charts_drawn()
            await page.evaluate("window.here = true")
            details = page.locator("figure details").first
            await details.locator("summary").click()
            focused = page.get_by_role("link", name="step 1", exact=True)
            await focused.focus()

            await route(scheduler, range(2, STEPS))
            await page.wait_for_function(f"() => document.querySelector('#steps').innerText.includes('step {STEPS - 1}')")
            await page.wait_for_function("() => document.querySelector('#heading').innerText.includes('finished')")

            assert await page.evaluate("window.here"), "the page was loaded again"
            assert await details.get_attribute("open") is not None, "what was unfolded is folded"
            assert await page.evaluate("document.activeElement.tagName") == "A", "the focus is lost"
            points = "document.querySelector('[data-chart=sources]').data[0].x.length"
            await page.wait_for_function(f"() => {points} === {STEPS}")
            assert await page.locator("#live-status").inner_text() == "Live"
            spoken = await page.locator("#live-news").inner_text()
            assert spoken.count(".") <= 3
            seen.assert_nothing_leaves(address)


async def test_a_run_that_begins_after_the_page_was_opened_appears(visit, tmp_path):
    url = str(tmp_path / "verdicts.db")
    await (await SqlStore.open(url)).aclose()
    async with serving_at(url) as address, visit(address) as seen:
        assert "No run has been recorded yet" in await seen.page.locator("main").inner_text()
        async with scheduling(url) as scheduler:
            await route(scheduler, range(1))
            await seen.page.get_by_role("link", name="helpful").click()
            assert all((await seen.charts_drawn()).values())
        seen.assert_nothing_leaves(address)


@pytest.fixture
def port():
    with held_port() as port:
        yield port


async def test_a_page_says_that_the_server_is_gone_and_takes_up_when_it_is_back(visit, tmp_path, port):
    url = str(tmp_path / "verdicts.db")
    async with scheduling(url) as scheduler:
        await route(scheduler, range(1))
        async with serving(url, Settings(port=port), complain=unforeseen):
            opened = visit(f"http://127.0.0.1:{port}/runs/1")
            seen = await opened.__aenter__()
            await seen.page.wait_for_function("() => document.querySelector('#live-status').innerText === 'Live'")
        await seen.page.wait_for_function("() => document.querySelector('#live-status').innerText.includes('cannot be reached')")
        await route(scheduler, range(1, 2))
        async with serving(url, Settings(port=port), complain=unforeseen):
            await seen.page.wait_for_function("() => document.querySelector('#steps').innerText.includes('step 1')")
            assert await seen.page.locator("#live-status").inner_text() == "Live"
            await opened.__aexit__(None, None, None)


async def test_who_has_the_token_comes_in_and_the_address_forgets_it(visit, served, tmp_path):
    url = str(tmp_path / "verdicts.db")
    await (await SqlStore.open(url)).aclose()
    async with serving_at(url, token=TOKEN) as address, visit(f"{address}/runs") as seen:
        await seen.page.get_by_label("Token").fill(TOKEN)
        await seen.page.get_by_role("button", name="Enter").click()
        await seen.page.wait_for_url("**/runs")
        assert "No run has been recorded yet" in await seen.page.locator("main").inner_text()
        assert TOKEN not in seen.page.url
        assert await seen.page.evaluate("document.cookie") == ""
