"""`judgeflow report`, as somebody types it, over databases that schedulers have written."""

import asyncio
import csv
import json

import pytest
from surveyed import PAIRS, look, route_steps, routing
from typer.testing import CliRunner

from judgeflow.cli.app import app
from judgeflow.clock import VirtualClock
from judgeflow.config import RoutingConfig
from judgeflow.errors import JudgeflowError, UsageError
from judgeflow.store import migrate, runs
from judgeflow.store.window import Window


def report(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)], env={"COLUMNS": "120"})


def shown(*arguments):
    result = report(*arguments)
    assert result.exit_code == 0, result.exception
    return result.stdout


def complaint(*arguments):
    result = report(*arguments)
    assert isinstance(result.exception, JudgeflowError)
    return str(result.exception)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Two runs with different policies."""
    path = str(tmp_path_factory.mktemp("report") / "verdicts.db")
    clock = VirtualClock()

    async def main():
        for run, policy in (("error", "error"), ("margin", "margin")):
            settings = RoutingConfig(policy=policy, max_share=0.3, audit_fraction=0.3)
            async with routing(path, clock, run=run, routing=settings) as scheduler:
                await route_steps(scheduler, 3, first=0 if run == "error" else 3)

    clock.run(main())
    return path


def test_the_screen_answers_three_questions_first(database):
    lines = shown("error", "--url", database).splitlines()
    assert lines[0].startswith("run error, since 2023-11-14 22:13 UTC: 3 steps, 150 pairs, 45 asked about (30.0%)")
    assert [line.split()[0] for line in lines if line.split() and line.split()[0] in {"healthy", "cost", "helps"}] == [
        "healthy",
        "cost",
        "helps",
    ]
    assert lines[1].startswith("Quiet since 2023-11-14 22:1")
    text = " ".join(lines)
    for part in ("over the steps", "▄▄▄", "budget", "p50, p90, p99 s", "slowest pairs", "Decided by scorer 105, judge 45."):
        assert part in text


def test_what_the_judge_turned_away_is_said_below_it_and_stands_in_csv_and_json(tmp_path):
    path, clock = str(tmp_path / "hurried.db"), VirtualClock()

    async def main():
        hurried = {"judge_settings": {"faults": ["429-bare"] * 3}, "routing": RoutingConfig(policy="always")}
        async with routing(path, clock, **hurried) as scheduler:
            await route_steps(scheduler, 2)

    clock.run(main())
    assert "scripted scripted-judge: turned away 3 requests with 429; concurrency was lowered, to 32 of 64" in shown("--url", path)
    rows = list(csv.DictReader(report("--url", path, "--csv", "-").stdout.splitlines()))
    assert (int(rows[0]["turned_away"]), float(rows[0]["lowered_s"]) > 0) == (3, True)
    told = json.loads(shown("--url", path, "--json"))
    assert told["judges"][0]["pressure"] | {"lowered_s": 0} == {
        "max_in_flight": 64, "in_flight": 32, "rate_limited": 3, "busy": 0, "lowered_s": 0, "admits": {}
    }  # fmt: skip


def test_json_is_one_object_with_all_figures(database):
    found = json.loads(shown("error", "--url", database, "--json"))
    figures = asyncio.run(look(database, "error"))
    assert (found["pace"], found["news"].split()[0]) == ("quiet", "Quiet")
    assert (found["name"], found["pairs"], found["asked"], found["changed"]) == ("error", 150, 45, figures.changed)
    assert found["calls_per_change"] == figures.calls_per_change
    assert found["steps"][0]["acquisition"]["quantiles"] == list(figures.steps[0].acquisition.quantiles)
    assert found["judges"][0]["minutes"][0]["requests"] == figures.judges[0].minutes[0].requests
    assert [answer["mood"] for answer in found["answers"]] == [answer.mood for answer in figures.answers]
    assert found["slowest"][0]["replies"][0]["text"] == figures.slowest[0].replies[0].text


def test_csv_has_a_row_for_each_step(database, tmp_path):
    path = tmp_path / "steps.csv"
    shown("error", "--url", database, "--csv", path)
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    figures = asyncio.run(look(database, "error"))
    assert [int(row["step"]) for row in rows] == [0, 1, 2]
    assert [int(row["calls"]) for row in rows] == [step.spent.requests for step in figures.steps]
    assert [float(row["acquisition_p50"]) for row in rows] == [step.acquisition.quantiles[2] for step in figures.steps]
    assert {row["source_judge"] for row in rows} == {"15"}


def test_a_dash_writes_to_stdout_and_what_is_said_beside_goes_to_stderr(database, tmp_path):
    path = tmp_path / "steps.csv"
    shown("error", "--url", database, "--csv", path)
    written = report("error", "--url", database, "--csv", "-")
    assert written.stdout.splitlines() == path.read_text(encoding="utf-8").splitlines()
    assert written.stderr.startswith("run error, since")
    page = report("error", "--url", database, "--html", "-")
    assert page.stdout.startswith("<!doctype html>")
    assert "run error, since" not in page.stdout
    for both in (("--csv", "-", "--json"), ("--csv", "-", "--html", "-")):
        assert "write to stdout; name a file" in complaint("error", "--url", database, *both)


def test_two_runs_stand_side_by_side(database):
    text = shown("--compare", "error", "margin", "--url", database)
    assert "beyond noise" in text
    assert "mistakes among routed" in text
    found = json.loads(shown("--compare", "error", "margin", "--url", database, "--json"))
    told = {each["name"]: each for each in found["differences"]}
    assert found["runs"] == ["error", "margin"]
    assert told["pairs"] == {
        "name": "pairs", "unit": "", "first": 150, "second": 150, "change": 0, "interval": None, "beyond_noise": None
    }  # fmt: skip
    assert told["mistakes among routed"]["interval"][0] < told["mistakes among routed"]["change"]


def test_without_a_name_the_latest_run_is_told(database):
    assert shown("--url", database).startswith("run margin,")


def test_a_page_has_the_answers_of_the_screen_and_replies_to_read(database, tmp_path):
    path = tmp_path / "page.html"
    assert shown("error", "--url", database, "--html", path).startswith("run error,")
    page = path.read_text(encoding="utf-8")
    for part in ("Is judging healthy?", "Decisions changed", "Does routing find the mistakes of the scorer?", "first: prefers"):
        assert part in page


def test_what_cannot_be_told_names_the_next_step(database, tmp_path):
    assert complaint("nobody", "--url", database).endswith("no run 'nobody'; there are error, margin")
    assert "judgeflow db upgrade" in complaint("--url", tmp_path / "missing.db")
    asyncio.run(migrate.upgrade(str(tmp_path / "empty.db")))
    assert "route some pairs: judgeflow route PAIRS.jsonl" in complaint("--url", tmp_path / "empty.db")
    assert "would overwrite the database" in complaint("--url", database, "--csv", database)
    assert "would overwrite the database" in complaint("--url", database, "--html", database)
    assert "cannot be written" in complaint("--url", database, "--csv", tmp_path / "no" / "steps.csv")
    assert "no does not exist; create it" in complaint("--url", database, "--html", tmp_path / "no" / "page.html")
    assert report("--compare", "error", "margin", "--csv", "x.csv", "--url", database).exit_code == 2
    assert issubclass(UsageError, JudgeflowError)


def test_prompts_of_others_are_no_markup(tmp_path):
    path = str(tmp_path / "odd.db")
    clock = VirtualClock()

    async def main():
        from dataclasses import replace

        odd = replace(PAIRS[0], prompt="[bold]what[/bold] \x1b[31mis\x1b[0m [/]")
        async with routing(path, clock, run="[red]odd[/red]", routing=RoutingConfig(policy="always")) as scheduler:
            await scheduler.route([odd])

    clock.run(main())
    text = shown("--url", path)
    assert "run [red]odd[/red]," in text
    assert "[bold]what[/bold]  [31mis" in text
    assert "\x1b[31m" not in text


def test_a_page_takes_the_place_of_files_only_and_a_link_stays_one(database, tmp_path):
    with pytest.raises(UsageError, match="--html /dev/null: /dev/null is a device or a pipe"):
        raise report("error", "--url", database, "--html", "/dev/null").exception
    with pytest.raises(UsageError, match=r"--html \.: \. is a folder; name a file in it"):
        raise report("error", "--url", database, "--html", "").exception
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("old")
    link.symlink_to(page)
    shown("error", "--url", database, "--html", link)
    assert link.is_symlink()
    assert page.read_text().startswith("<!doctype html>")


def test_what_doctor_has_asked_is_not_the_latest_run_and_a_step_routed_twice_is_one(tmp_path):
    path, clock = str(tmp_path / "verdicts.db"), VirtualClock()

    async def main():
        for run in ("training", "training", "doctor"):
            async with routing(path, clock, run=run, routing=RoutingConfig(policy="always")) as scheduler:
                await route_steps(scheduler, 2)
        window = await Window.open(path, visit_s=5, at_once=1)
        async with window.connect() as connection:
            states = await runs.runs(connection)
        await window.aclose()
        return {state.run.name: state.steps for state in states}

    assert clock.run(main()) == {"training": 2, "doctor": 2}
    assert shown("--url", path).startswith("run training, ")
    assert shown("doctor", "--url", path).startswith("run doctor, ")
