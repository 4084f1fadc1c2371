"""A real Chromium for the tests that look at pages: Debian's, driven by Playwright, with axe from npm.

`bash .ci/browser` installs what they need.  A file of browser tests says

    pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

since one browser, on one loop, serves them all; a server that pages come from runs on that loop too.
"""

import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
INSTALL = "`bash .ci/browser` installs what the browser tests need"
PHONE, DESK = 390, 1280


@dataclass
class Visit:
    """A page, and what it did since it was opened."""

    page: object
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self):
        self.page.on(
            "console", lambda said: self.complaints.append(f"{said.type}: {said.text}") if said.type in {"error", "warning"} else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def assert_nothing_leaves(self, *allowed):
        """Nothing was asked for but what begins with one of `allowed`, and the page has nothing to complain of."""
        assert [url[:200] for url in self.requests if not url.startswith((*allowed, "data:", "blob:"))] == []
        assert self.complaints == []

    async def charts_drawn(self):
        """Wait until every chart is there; return how many curves, bars and points each of them has."""
        await self.page.wait_for_function("() => [...document.querySelectorAll('[data-chart]')].every(each => each.querySelector('.xy'))")
        return await self.page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('[data-chart]')].map(each => "
            "[each.dataset.chart, each.querySelectorAll('.plot path.js-line, .plot .point path, .plot path.point').length]))"
        )

    async def look(self, *, scheme=None, width=None):
        """Turn the light on or off; make the window narrow or wide."""
        if scheme:
            await self.page.emulate_media(color_scheme=scheme)
        if width:
            await self.page.set_viewport_size({"width": width, "height": 900})

    async def unfold(self):
        await self.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")

    async def violations(self):
        """What axe finds wrong with what is unfolded, a line each."""
        await self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found["violations"] for node in each["nodes"]]

    async def first_paint_ms(self):
        """Milliseconds until something could be read."""
        return await self.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")

    async def fits(self):
        """Wait until the page does not scroll sideways; charts take a moment to follow the window."""
        await self.page.wait_for_function("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser():
    from playwright.async_api import async_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.fail(f"there is no chromium: {INSTALL}, or name one in CHROMIUM")
    if not AXE.is_file():
        pytest.fail(f"{AXE} is missing: {INSTALL}")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        await started.close()


@pytest.fixture
def visit(browser):
    """An async context manager that opens an address: visit(url, scheme="dark", width=390, javascript=False)."""

    @asynccontextmanager
    async def opened(url, *, scheme="light", width=DESK, javascript=True):
        context = await browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=javascript, reduced_motion="reduce"
        )
        try:
            context.set_default_timeout(120_000)  # a busy machine
            made = Visit(await context.new_page())
            await made.page.goto(url)
            yield made
        finally:
            await context.close()

    return opened
