"""The HTML file about a run, as a reader opens it: from disk, in a real browser."""

import functools

import pytest
import pytest_asyncio
from conftest import DESK, PHONE
from made_figures import a_hostile_run, a_judge, a_run

from judgeflow import Scheduler
from judgeflow.config import JudgeConfig, RoutingConfig
from judgeflow.judges.client import HttpJudge
from judgeflow.report.html import write_report
from judgeflow.report.survey import open_survey
from judgeflow.store import SqlStore
from judgeflow.testing import FakeJudge, FakeScorer, arithmetic_pairs
from judgeflow.verdicts.prompt import load_template

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

RUNS = {
    "usual": lambda: a_run(12),
    "one-step": lambda: a_run(1),
    "long": lambda: a_run(3000),
    "two-judges": lambda: a_run(judges=(a_judge(), a_judge("another-judge", scale=0.5))),
    "hostile": a_hostile_run,
}


@pytest_asyncio.fixture(loop_scope="session")
async def routed(tmp_path):
    """The address of the report of a run that was routed just now, with a judge over HTTP."""
    url, pairs = f"sqlite+aiosqlite:///{tmp_path}/verdicts.db", arithmetic_pairs(60)
    async with FakeJudge.from_pairs(pairs, accuracy=0.9, position_bias=0.2) as server:
        judge = HttpJudge(JudgeConfig(base_url=server.base_url, model="fake-judge", id="fake"), load_template("default"))
        routing = RoutingConfig(policy="uncertainty", max_share=0.5, audit_fraction=0.2)
        store = functools.partial(SqlStore.open, url)
        async with Scheduler(scorer=FakeScorer(), judge=judge, store=store, routing=routing, run="routed") as scheduler:
            for start in range(0, len(pairs), 20):
                await scheduler.route(pairs[start : start + 20])
    async with open_survey(url, "routed") as survey:
        write_report(await survey.refresh(), tmp_path / "report.html")
    return (tmp_path / "report.html").as_uri()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The address of every report by its name."""
    folder = tmp_path_factory.mktemp("reports")
    for name, make in RUNS.items():
        write_report(make(), folder / f"{name}.html")
    return {name: (folder / f"{name}.html").as_uri() for name in RUNS}


@pytest.mark.parametrize("name", RUNS)
async def test_every_chart_is_drawn_fits_a_phone_too_and_nothing_leaves_the_machine(visit, pages, name):
    async with visit(pages[name]) as seen:
        drawn = await seen.charts_drawn()
        assert list(drawn) == ["budget", "sources", "share", "uncertainty", "load", "waiting", "consistency", "lift"]
        assert all(drawn.values()), drawn

        await seen.look(width=PHONE)
        await seen.unfold()
        await seen.fits()
        seen.assert_nothing_leaves(pages[name])


async def test_axe_finds_nothing_in_light_in_dark_and_on_a_phone(visit, pages):
    async with visit(pages["usual"]) as seen:
        await seen.charts_drawn()
        await seen.unfold()
        found = {}
        for scheme, width in (("light", DESK), ("dark", DESK), ("light", PHONE)):
            await seen.look(scheme=scheme, width=width)
            found[scheme, width] = await seen.violations()

        assert {look: lines for look, lines in found.items() if lines} == {}


async def test_a_run_that_was_routed_can_be_read_from_its_answers_down_to_a_reply(visit, routed):
    async with visit(routed) as seen:
        drawn = await seen.charts_drawn()
        assert {"sources", "share", "uncertainty", "load", "waiting", "consistency"} <= {name for name, curves in drawn.items() if curves}
        assert await seen.page.get_by_role("heading", level=1).inner_text() == "routed"
        assert await seen.page.locator(".answer").count() == 3

        await seen.unfold()
        assert await seen.page.locator(".reply .text").first.is_visible()
        assert "<verdict>" in await seen.page.locator(".reply .text").first.inner_text()
        assert await seen.violations() == []
        seen.assert_nothing_leaves(routed)


async def test_texts_of_others_stay_texts(visit, pages):
    async with visit(pages["hostile"]) as seen:
        await seen.charts_drawn()
        await seen.unfold()

        assert (await seen.page.title()).endswith("· judgeflow")
        assert await seen.page.locator("img, iframe, object").count() == 0
        assert await seen.page.locator("body style").count() == 0
        assert await seen.violations() == []
        assert await seen.page.get_by_text("⟨U+202E⟩").count() > 0
        assert await seen.page.get_by_text("and 1,980,000 more characters: 20,000 of 2,000,000 are shown").count() > 0


async def test_the_policy_of_the_page_runs_no_other_script(visit, pages):
    async with visit(pages["usual"]) as seen:
        await seen.page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'document.title = \"stolen\"'; document.body.append(s); }"
        )
        fetched = await seen.page.evaluate("() => fetch('https://example.org/').then(() => 'sent', () => 'refused')")

        assert await seen.page.title() == "helpful-ppo-7b · judgeflow"
        assert fetched == "refused"


async def test_the_keyboard_reaches_a_pair_and_opens_it(visit, pages):
    async with visit(pages["usual"]) as seen:
        await seen.charts_drawn()
        await seen.page.keyboard.press("Tab")
        assert await seen.page.evaluate("document.activeElement.textContent") == "Skip to content"

        for _ in range(60):
            await seen.page.keyboard.press("Tab")
            if await seen.page.evaluate("document.activeElement.matches('.pair > summary')"):
                break
        assert not await seen.page.get_by_text("Because it mirrors the sea.").first.is_visible()
        await seen.page.keyboard.press("Enter")

        assert await seen.page.get_by_text("Because it mirrors the sea.").first.is_visible()
        assert await seen.page.get_by_text("A shown first: prefers A").first.is_visible()
        assert await seen.page.get_by_text("B shown first: prefers B").first.is_visible()


async def test_without_scripts_answers_tables_and_pairs_can_be_read(visit, pages):
    async with visit(pages["usual"], javascript=False) as seen:
        assert await seen.page.get_by_text("Yes: 99% of replies could be read").is_visible()
        await seen.page.get_by_text("Numbers of: Budget left").click()
        assert await seen.page.locator("#chart-budget td").first.inner_text() == "0.948"
        await seen.page.locator(".pair > summary").first.click()
        assert await seen.page.get_by_text("Because it mirrors the sea.").first.is_visible()
        seen.assert_nothing_leaves(pages["usual"])


async def test_charts_follow_the_light_and_go_to_paper_in_dark_ink(visit, pages):
    ink = "getComputedStyle(document.querySelector('#chart-budget .legendtext')).fill"
    async with visit(pages["usual"], scheme="light") as seen:
        await seen.charts_drawn()
        assert 0 < await seen.first_paint_ms() < await seen.page.evaluate("performance.now()")
        light = await seen.page.evaluate(ink)
        await seen.look(scheme="dark")
        await seen.page.wait_for_function(f"() => {ink} !== {light!r}")
        await seen.page.emulate_media(color_scheme="dark", media="print")
        await seen.page.wait_for_function(f"() => {ink} === {light!r}")
        seen.assert_nothing_leaves(pages["usual"])
