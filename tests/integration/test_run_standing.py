"""How far a run is, by what a store has written of its steps: the same in a report and in `judgeflow db info`."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from judgeflow.report.survey import open_survey
from judgeflow.store import SqlStore
from judgeflow.store.compact import compact, retention
from judgeflow.store.queries import summary
from judgeflow.testing.store_contract import JUDGE, make_decision, make_statistics

NOW = 1_700_000_000.0
LATER = NOW + 40 * 86_400
CONFIG = {"judge": {"model": "m", "retry_for_s": 60.0, "timeout_s": 60.0}, "budget": {"requests": 100, "steps": 3}}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return str(tmp_path / "verdicts.db") if request.param == "sqlite" else request.getfixturevalue("postgresql_url")


async def write(url, runs):
    """Write what runs do, by name: "+4" plans step 4, "4" ends it."""
    async with aclosing(await SqlStore.open(url, wall=lambda: NOW)) as store:
        for name, marks in runs.items():
            await store.open_run(name, CONFIG, JUDGE)
            for mark in marks.split():
                step, decisions = int(mark), [make_decision(int(mark) % 256)]
                if mark.startswith("+"):
                    await store.record_plan(name, step, decisions)
                else:
                    await store.record_step(replace(make_statistics(step), run=name), decisions)


async def told(url):
    """(pace, steps that have ended) of each run, as `judgeflow db info` tells them."""
    return {run.name: (run.pace, run.steps) for run in (await summary(url, wall=lambda: LATER)).runs}


RUNS = {
    "from 0": ("+0 0 +1 1 +2 2", ("finished", 3)),
    "from 1": ("+1 1 +2 2 +3 3", ("finished", 3)),
    "from 1, killed in the last": ("+1 1 +2 2 +3", ("interrupted", 2)),
    "from 1, killed before the last": ("+1 1 +2 2", ("quiet", 2)),
    "from 700": ("+700 700", ("quiet", 1)),
    "overtaken": ("+0 0 +1 +2 2 1", ("finished", 3)),
    "gone back": ("+0 0 +1 1 +2 2 1", ("quiet", 3)),
    "gone back and done": ("+0 0 +1 1 +2 2 1 2", ("finished", 3)),
    "in one more than planned": ("+0 0 +1 1 +2 2 +3", ("interrupted", 3)),
}


async def test_a_run_is_finished_once_as_many_steps_have_ended_as_are_planned_whatever_their_numbers(url):
    await write(url, {name: marks for name, (marks, _) in RUNS.items()})
    assert await told(url) == {name: expected for name, (_, expected) in RUNS.items()}


async def test_a_report_says_what_db_info_says_and_how_many_steps_are_wanted(tmp_path):
    url = str(tmp_path / "verdicts.db")
    await write(url, {name: RUNS[name][0] for name in ("from 0", "from 1, killed in the last", "from 700")})
    wanted = {}
    for name, (pace, _) in (await told(url)).items():
        async with open_survey(url, name, wall=lambda: LATER) as survey:
            figures = await survey.refresh(deep=False)
        assert figures.pace == pace
        wanted[name] = figures.forecast.steps_wanted
    assert wanted == {"from 0": 0, "from 1, killed in the last": 1, "from 700": 2}


async def test_a_run_whose_steps_are_compacted_counts_them_still(tmp_path):
    url = str(tmp_path / "verdicts.db")
    await write(url, {"done": "+0 0 +1 1 +2 2", "half": "+0 0 +1 1"})
    before = await told(url)
    await compact(url, retention(LATER, keep_days=30, drop_replies_days=None, scored_only=False), wall=lambda: LATER)
    assert await told(url) == before == {"done": ("finished", 3), "half": ("quiet", 2)}
    await write(url, {"half": "+2"})
    assert (await told(url))["half"] == ("interrupted", 2)
    await write(url, {"half": "2"})
    assert (await told(url))["half"] == ("finished", 3)
