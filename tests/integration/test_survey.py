"""Figures of runs that schedulers have really written, on SQLite and PostgreSQL."""

import asyncio
import dataclasses
import shutil
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from surveyed import OPINIONS, PAIRS, ROUTING, look, route_steps, routing, total

from judgeflow.clock import LoopClock, VirtualClock
from judgeflow.config import BudgetConfig, Config, RoutingConfig
from judgeflow.engine.seat import Seat
from judgeflow.errors import SchemaMismatch, UsageError
from judgeflow.keys import pair_keys
from judgeflow.report.pairs import pair_figures
from judgeflow.report.survey import open_survey
from judgeflow.routing.agreement import share
from judgeflow.store import SqlStore, migrate
from judgeflow.store import survey as store
from judgeflow.store.compact import compact, retention
from judgeflow.testing import Opinions, ScriptedJudge
from judgeflow.testing.store_contract import JUDGE
from judgeflow.types import Cost, Decision

EVERY = RoutingConfig(policy="always")


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "verdicts.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, path):
    return path if request.param == "sqlite" else request.getfixturevalue("postgresql_url")


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    """The database of a run whose pairs were all asked about, and its figures."""
    path = str(tmp_path_factory.mktemp("every") / "verdicts.db")
    return path, run(lambda clock: _after(routed(path, clock, routing=EVERY, steps=3), path))


def sql(path, statement):
    with closing(sqlite3.connect(path)) as database, database:
        return database.execute(statement).fetchall()


def run(main):
    """Run a coroutine function of a clock in virtual time."""
    clock = VirtualClock()
    return clock.run(main(clock))


def same(figures):
    """What of figures does not depend on when somebody looked."""
    return dataclasses.replace(figures, at=0.0)


async def routed(url, clock, steps=4, **settings):
    async with routing(url, clock, **settings) as scheduler:
        return [result.statistics for result in await route_steps(scheduler, steps)]


async def test_the_figures_of_a_run_are_what_its_scheduler_has_counted(url):
    counted = await routed(url, LoopClock(), judge_settings={"latency": 0.001, "prompt_usd_per_mtok": 1.0})
    figures = await look(url)
    assert same(await look(url, page=20)) == figures
    assert figures.complete
    assert figures.pairs == sum(step.pairs for step in counted) == 200
    assert figures.sources == total([Counter(step.sources) for step in counted])
    assert [step.step for step in figures.steps] == [0, 1, 2, 3]
    for step, expected in zip(figures.steps, counted, strict=True):
        assert (step.asked, step.audits) == (expected.routed.asked + expected.audited.asked, expected.audited.asked)
        assert (step.spent, step.threshold, step.agreement) == (expected.spent, expected.threshold, expected.agreement)
        assert step.acquisition.of == step.uncertainty.of == 50
    assert figures.spent.requests == sum(step.calls for step in counted) == figures.judges[0].calls
    assert figures.spent.usd == pytest.approx(sum(step.spent.usd for step in counted))
    assert figures.judges[0].spent.tokens == figures.spent.tokens
    for kind in ("routed", "audited"):
        sums = total([getattr(step, kind) for step in counted])
        told = getattr(figures.lift, kind)
        assert told.of == sums.compared
        assert told.value == pytest.approx(1 - share(sums))


def test_changed_decisions_are_those_where_the_outcome_contradicts_the_scorer(path):
    async def main(clock):
        async with routing(path, clock) as scheduler:
            results = await route_steps(scheduler, 4)
        return [outcome for result in results for outcome in result.outcomes], await look(path)

    outcomes, figures = run(main)
    compared = [outcome for outcome in outcomes if outcome.verdict and outcome.choice in {"a", "b"}]
    changed = [outcome for outcome in compared if (outcome.preference.logit > 0) != (outcome.choice == "a")]
    assert (figures.compared, figures.changed) == (len(compared), len(changed))
    assert 0 < len(changed) < len(compared)
    assert figures.calls_per_change == figures.spent.requests / len(changed)


def test_what_judges_did_is_what_their_rows_say(every):
    path, figures = every
    (judge,) = figures.judges
    assert judge.calls == sql(path, "SELECT count(*) FROM call")[0][0] == 300
    assert judge.spent.tokens == sql(path, "SELECT sum(prompt_tokens + completion_tokens) FROM call")[0][0]
    assert sum(minute.requests for minute in judge.minutes) == judge.calls
    assert sum(minute.tokens for minute in judge.minutes) == judge.spent.tokens
    first, decided = sql(path, "SELECT sum(preferred = 1), sum(preferred != 0) FROM call")[0]
    assert (judge.first.value, judge.first.of) == (first / decided, decided)
    both = sql(path, "SELECT sum(preferred) FROM call GROUP BY pair_key")
    assert (judge.agree.value, judge.agree.of) == (sum(total == (0,) for total in both) / 150, 150)
    latencies = sorted(row[0] for row in sql(path, "SELECT latency_s FROM call"))
    assert judge.latency_s["p50"] == pytest.approx(latencies[149], abs=1e-3)
    assert judge.latency_s["max"] == pytest.approx(latencies[-1], abs=1e-3)
    assert judge.minutes[-1].backlog == 0
    assert max(minute.backlog for minute in judge.minutes) > 0


async def test_what_the_judge_turned_away_is_told_with_what_came_of_it(url):
    counted = await routed(url, LoopClock(), routing=EVERY, judge_settings={"latency": 0.001, "faults": ["429-bare"] * 5})
    figures = await look(url)
    (judge,) = figures.judges
    assert judge.pressure.rate_limited == 5
    assert (judge.pressure.in_flight, judge.pressure.max_in_flight) == (32, 64)
    assert judge.strain.startswith("turned away 5 requests with 429; concurrency was lowered, to 32 of 64 at the least, for ")
    assert [step.pressure for step in figures.steps] == [step.pressure for step in counted]
    assert judge.strain in figures.answers[0].text


def test_of_steps_that_an_older_version_has_routed_it_says_that_nobody_noted_what_was_turned_away(every, tmp_path):
    path = shutil.copy(every[0], tmp_path / "older.db")
    sql(path, "UPDATE step SET pressure = NULL WHERE step = 0")
    figures = asyncio.run(look(str(path)))
    assert [step.pressure for step in figures.steps] == [None, {}, {}]
    assert "what judges turned away in 1 of 3 steps was not noted: an older judgeflow routed them" in figures.notes


async def _after(work, url, **settings):
    await work
    return await look(url, **settings)


def test_reading_little_by_little_ends_where_reading_at_once_ends(path):
    """Looks in the midst of steps, at their ends, one page at a time, and with few rows to a page."""

    async def main(clock):
        async with routing(path, clock, max_in_flight=8) as scheduler:
            await scheduler.route(PAIRS[:50], step=0)
            async with open_survey(path, wall=clock.wall) as survey, open_survey(path, wall=clock.wall, page=7) as hasty:
                for step in range(1, 5):
                    task = asyncio.create_task(scheduler.route(PAIRS[step * 50 : step * 50 + 50], step=step))
                    while not task.done():
                        await clock.sleep(15.0)
                        await survey.refresh()
                        await hasty.refresh(within_s=0.0)
                    await survey.refresh(deep=step % 2 == 0)
                await scheduler.route(PAIRS[:50], step=2)  # once more: it has two ends now
                figures = [await survey.refresh(), await hasty.refresh()]
        return figures, await look(path)

    figures, afresh = run(main)
    assert len(afresh.steps) == 5
    assert [same(each) for each in figures] == [same(afresh), same(afresh)]


class WaitingJudge(ScriptedJudge):
    """Says when it is asked first, and answers when it may: virtual time goes on while a database is read."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def ask(self, question):
        self.asked.set()
        await self.may_answer.wait()
        return await super().ask(question)


def test_questions_under_way_are_a_backlog_until_they_are_answered(path):
    async def main(clock):
        judge = WaitingJudge(OPINIONS, clock=clock, latency=1.0)
        async with routing(path, clock, routing=EVERY, judge=judge) as scheduler:
            task = asyncio.create_task(scheduler.route(PAIRS[:20], step=0))
            await judge.asked.wait()
            async with open_survey(path, wall=clock.wall) as survey:
                before = await survey.refresh()
                judge.may_answer.set()
                await task
                return before, await survey.refresh()

    before, after = run(main)
    assert before.pace == "running"
    assert before.steps == ()
    assert "no step has ended yet" in before.notes
    assert 0 < before.judges[0].minutes[-1].backlog <= before.reserved.requests
    assert after.reserved == Cost()
    assert after.judges[0].minutes[-1].backlog == 0


def test_a_run_that_was_killed_is_interrupted_until_it_goes_on_though_what_it_has_put_aside_stays_open(path, tmp_path):
    killed = str(tmp_path / "killed.db")

    async def main(clock):
        async with routing(path, clock, routing=EVERY) as scheduler:
            await route_steps(scheduler, 1)
            task = asyncio.create_task(route_steps(scheduler, 1, first=1))
            await clock.sleep(3.0)
            with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(killed)) as copy:
                database.backup(copy)  # what a process leaves that ends here
            await task
        moments = [await at(clock, seconds) for seconds in (0.0, 600.0, 3600.0)]
        async with routing(killed, clock, routing=EVERY) as scheduler:
            await route_steps(scheduler, 1, first=1)
        return [*moments, await at(clock, 3600.0)]

    async def at(clock, seconds):
        async with open_survey(killed, wall=lambda: clock.wall() + seconds) as survey:
            return await survey.refresh()

    *died, went_on = run(main)
    assert [figures.pace for figures in died] == ["running", "quiet", "interrupted"]
    assert died[-1].news.startswith("Interrupted in step 1 after 2023-11-14 22:1")
    assert went_on.reserved.requests > 0
    assert went_on.pace == "quiet"
    assert "step 1 has ended" in went_on.news


def test_the_first_look_has_steps_and_spending_and_knows_what_it_does_not_know(path):
    async def main(clock):
        await routed(path, clock)
        async with open_survey(path) as survey:
            return await survey.refresh(deep=False), await survey.refresh()

    first, whole = run(main)
    assert not first.complete
    assert (first.pairs, first.spent, first.sources) == (whole.pairs, whole.spent, whole.sources)
    assert (first.asked, first.changed, first.steps[0].asked, first.lift.routed) == (None, None, None, None)
    assert any("still being read" in note for note in first.notes)
    assert whole.complete
    assert whole.asked == 60


def test_the_ends_of_a_step_that_was_routed_twice_count_together(path):
    async def main(clock):
        judge = ScriptedJudge(OPINIONS, clock=clock, latency="lognormal:20:0.4")
        async with routing(path, clock, judge=judge, routing=EVERY, max_in_flight=8) as scheduler:
            task = asyncio.create_task(scheduler.route(PAIRS[:40], step=0))
            while judge.statistics.answered < 10:
                await clock.sleep(1.0)
            scheduler.stop()
            late = (await task).statistics
        async with routing(path, clock, routing=EVERY) as scheduler:
            again = (await scheduler.route(PAIRS[:40], step=0)).statistics
        return late, again, await look(path)

    late, again, figures = run(main)
    assert late.statuses["interrupted"] > 0
    (step,) = figures.steps
    assert again.sources["store"] > 0
    assert (step.pairs, step.sources, step.statuses) == (40, {"judge": 40}, again.statuses)
    assert step.spent.requests == late.calls + again.calls > again.calls
    assert step.seconds == late.seconds + again.seconds
    assert step.waited_s["max"] == max(late.latency_s["max"], again.latency_s["max"])


def test_the_budget_of_a_run_that_was_routed_twice_burns_down_as_it_did_the_first_time(path):
    async def main(clock):
        looks = []
        for source in ("judge", "store"):
            async with routing(path, clock, routing=EVERY, budget=BudgetConfig(requests=300)) as scheduler:
                steps = await route_steps(scheduler, 3, size=20)
            assert [step.statistics.sources for step in steps] == [{source: 20}] * 3
            looks.append(await look(path))
            assert looks[-1].sources == {"judge": 60}
        return looks

    once, twice = run(main)
    assert [step.remaining for step in once.steps] == [{"requests": 260}, {"requests": 220}, {"requests": 180}]
    assert [step.remaining for step in twice.steps] == [step.remaining for step in once.steps]


def test_a_run_without_scorer_has_no_beliefs_to_change(path):
    figures = run(lambda clock: _after(routed(path, clock, scorer=False, routing=EVERY, steps=1), path))
    assert (figures.asked, figures.changed, figures.compared) == (50, 0, 0)
    assert figures.steps[0].uncertainty is None
    assert "no pair has both a scorer's belief and a judge's preference" in figures.answers[2].text
    assert figures.usd_per_change is None


def test_a_run_without_judge_has_asked_nothing(path):
    figures = run(lambda clock: _after(routed(path, clock, judge=None, routing=RoutingConfig(policy="never"), steps=1), path))
    assert (figures.asked, figures.judges, figures.spent) == (0, (), Cost())
    assert figures.answers[0].text == "Nothing has been asked yet, so nobody can tell."


def test_a_run_that_has_not_begun_says_so(path):
    async def main(clock):
        async with routing(path, clock):
            pass
        return await look(path)

    figures = run(main)
    assert figures.complete
    assert (figures.pairs, figures.asked, figures.steps) == (0, 0, ())
    assert "no step has ended yet" in figures.notes
    assert [answer.title for answer in figures.answers] == ["healthy", "cost", "helps"]


def test_several_judges_are_told_apart(path):
    async def main(clock):
        judges = [Seat(judge=ScriptedJudge(OPINIONS, clock=clock, model=name), weight=2.0) for name in ("one", "two")]
        (counted,) = await routed(path, clock, judge=judges, routing=RoutingConfig(policy="always", panel="weights"), steps=1)
        return counted, await look(path)

    counted, figures = run(main)
    assert {judge.id: judge.spent for judge in figures.judges} == counted.judges
    assert len(figures.judges) == 2
    assert sum(judge.agree.of for judge in figures.judges) == 50


def test_what_was_charged_without_a_reply_is_told(path):
    settings = {"faults": "504:0.2", "latency": 1.0}
    figures = run(lambda clock: _after(routed(path, clock, routing=EVERY, judge_settings=settings, steps=1), path))
    (judge,) = figures.judges
    charged = sql(path, "SELECT count(*) FROM reservation WHERE state = 'charged'")[0][0]
    assert judge.unanswered == charged > 0
    assert judge.spent.requests == figures.spent.requests == judge.calls + charged


def test_a_judge_who_goes_by_position_is_not_healthy_and_its_contradictions_can_be_read(path):
    opinions = Opinions(truth=Opinions.truths(PAIRS), position_bias=0.9)
    figures = run(lambda clock: _after(routed(path, clock, routing=EVERY, opinions=opinions, steps=1), path))
    assert figures.answers[0].mood == "bad"
    assert figures.judges[0].first.value > 0.8
    assert len(figures.inconsistent) == 5
    for pair in figures.inconsistent:
        assert [reply.shown for reply in pair.replies] == ["ab", "ba"]
        assert [reply.preferred for reply in pair.replies] in (["a", "b"], ["b", "a"])
        assert all("<verdict>" in reply.text for reply in pair.replies)
        assert pair.step == 0
        assert pair.source == "judge"


def test_the_slowest_pairs_come_with_both_replies(every):
    path, figures = every
    slowest = [max(reply.latency_s for reply in pair.replies) for pair in figures.slowest]
    expected = sql(path, "SELECT max(latency_s) FROM call GROUP BY pair_key ORDER BY 1 DESC LIMIT 5")
    assert slowest == [row[0] for row in expected]
    known = {(pair.prompt, *sorted((pair.response_a, pair.response_b))) for pair in PAIRS}
    assert {(pair.prompt, *sorted((pair.response_a, pair.response_b))) for pair in figures.slowest} <= known


async def test_pairs_to_read_have_the_replies_of_this_runs_judges_and_count_those_of_others(url):
    for name in ("theirs", "ours"):  # the same pairs in both runs
        judge = ScriptedJudge(OPINIONS, model=name, latency=0.001)
        async with routing(url, LoopClock(), judge=judge, routing=EVERY, run=name) as scheduler:
            await route_steps(scheduler, 1)
    for name in ("theirs", "ours"):
        figures = await look(url, name)
        assert figures.slowest
        assert figures.inconsistent
        for pair in (*figures.slowest, *figures.inconsistent):
            assert [(reply.judge, reply.shown) for reply in pair.replies] == [(f"scripted {name}", "ab"), (f"scripted {name}", "ba")]
            assert pair.others == 2


async def test_judges_of_one_id_are_told_apart_by_their_fingerprints(url):
    for run, longest in (("short", 512), ("long", 1024)):
        judge = ScriptedJudge(OPINIONS, max_completion_tokens=longest, latency=0.001)
        async with routing(url, LoopClock(), judge=judge, routing=EVERY, run=run) as scheduler:
            await route_steps(scheduler, 1, size=5)
    async with store.readable(url) as database:
        pair = await pair_figures(database, pair_keys(PAIRS[0]).pair.hex())
    assert len({reply.judge for reply in pair.replies}) == 2
    assert {reply.judge.partition("@")[0] for reply in pair.replies} == {"scripted scripted-judge"}


async def test_a_pair_can_be_read_by_its_key(url):
    await routed(url, LoopClock(), routing=EVERY, judge_settings={"latency": 0.0}, steps=1)
    key = pair_keys(PAIRS[0]).pair.hex()
    async with store.readable(url) as database:
        pair = await pair_figures(database, key, run_id=1, step=0)
        assert await pair_figures(database, "00" * 32) is None
        assert await pair_figures(database, "not a key") is None
    assert {pair.response_a, pair.response_b} == {PAIRS[0].response_a, PAIRS[0].response_b}
    assert [reply.shown for reply in pair.replies] == ["ab", "ba"]
    assert (pair.step, pair.asked, pair.source) == (0, True, "judge")


async def test_reservations_are_the_same_whether_they_are_looked_for_by_name_or_by_time(url):
    await routed(url, LoopClock(), routing=EVERY, judge_settings={"latency": 0.0}, steps=1)
    async with store.readable(url) as database, database.connect() as connection:
        every = await store.all_replies(connection, 1, "")
        named = await store.these_replies(connection, 1, every.ids[:30])
        late = await store.new_replies(connection, 1, every.created.min())
        assert await store.newest_reservation(connection) == every.created.max()
    assert len(every.ids) == 100
    assert set(named.ids) == set(every.ids[:30])
    assert set(late.ids) == set(every.ids)
    by_name = dict(zip(every.ids, every.keys.tolist(), strict=True))
    assert dict(zip(named.ids, named.keys.tolist(), strict=True)) == {name: by_name[name] for name in named.ids}


def test_verdicts_that_another_run_has_paid_for_are_compared_and_cost_nothing_here(path):
    async def main(clock):
        await routed(path, clock, routing=EVERY, steps=1, opinions=Opinions(truth=Opinions.truths(PAIRS), accuracy=1.0))
        mine = await SqlStore.open(path, wall=clock.wall)
        await mine.open_run("other", {}, JUDGE)
        decisions = []
        for pair in PAIRS[:10]:
            keys = pair_keys(pair)
            believes_a = 1.0 if keys.canonical else -1.0
            decisions.append(Decision(pair_key=keys.pair, asked=True, logit=believes_a, uncertainty=1.2, propensity=1.0, source="store"))
        counted = (await _one_step(clock)).statistics
        await mine.record_plan("other", 0, decisions)
        await mine.record_step(dataclasses.replace(counted, run="other", step=0, pairs=10, sources={"store": 10}), decisions)
        await mine.aclose()
        return await look(path, "other")

    figures = run(main)
    assert figures.compared == 10
    assert figures.changed == sum(pair.label == "b" for pair in PAIRS[:10])
    assert all(judge.calls == 0 for judge in figures.judges)


async def _one_step(clock):
    from judgeflow import Scheduler
    from judgeflow.store import MemoryStore

    async with Scheduler(store=MemoryStore(), judge=ScriptedJudge(clock=clock), routing=EVERY, clock=clock) as scheduler:
        return await scheduler.route(PAIRS[:10])


def test_after_compacting_what_is_gone_is_said(path):
    async def main(clock):
        await routed(path, clock)
        now = clock.wall() + 40 * 86_400
        await compact(path, retention(now, keep_days=30, drop_replies_days=None, scored_only=False), wall=lambda: now)
        return await look(path)

    figures = run(main)
    assert figures.complete
    assert (len(figures.steps), figures.asked, figures.changed) == (1, None, 0)
    assert figures.spent.requests == 120
    assert any("1 of 1 step are not in the database" in note for note in figures.notes)
    assert any("replies of this run are not in the database any more" in note for note in figures.notes)


def test_limits_and_budget_are_those_of_the_stored_configuration(path):
    config = Config.model_validate(
        {
            "judge": {"id": "fake", "model": "m"},
            "limits": {"requests_per_minute": 100, "window_s": 30.0},
            "judges": {"other": {"model": "n", "base_url": "http://localhost/v1", "limits": {"tokens_per_minute": 9000}}},
            "budget": {"requests": 7, "steps": 3},
            "routing": {"policy": "always"},
        }
    )

    async def main(clock):
        async with routing(path, clock, settings=config.model_dump(mode="json")):
            pass
        return await look(path)

    figures = run(main)
    assert [(judge.id, judge.requests_per_minute, judge.tokens_per_minute) for judge in figures.judges] == [
        ("fake", 200.0, None),
        ("http://localhost/v1 n", None, 9000.0),
    ]
    assert figures.stock.requests == 7


def test_latest_is_the_run_in_which_something_happened_last(path):
    async def main(clock):
        for name in ("one", "two", "one"):
            async with routing(path, clock, run=name) as scheduler:
                await scheduler.route(PAIRS[:10])
            await clock.sleep(1.0)
        return await look(path)

    assert run(main).name == "one"


async def test_an_unknown_run_names_those_there_are_and_an_empty_database_says_what_to_do(path):
    with pytest.raises(SchemaMismatch, match="judgeflow db upgrade"):
        await look(path)
    await migrate.upgrade(path)
    with pytest.raises(UsageError, match="holds no run yet; route some pairs: judgeflow route"):
        await look(path)
    await routed(path, LoopClock(), steps=1, judge_settings={"latency": 0.0})
    with pytest.raises(UsageError, match="no run 'nobody'; there are live"):
        await look(path, "nobody")


def test_audited_pairs_tell_whether_routing_helps(path):
    """The made scorer errs where it is unsure, so asking there finds more of its mistakes."""
    figures = run(lambda clock: _after(routed(path, clock, steps=6, opinions=Opinions(truth=Opinions.truths(PAIRS), accuracy=1.0)), path))
    assert figures.lift.audited.of >= 20
    assert figures.lift.routed.value > figures.lift.audited.value
    assert figures.lift.ratio[1] <= figures.lift.ratio[0] <= figures.lift.ratio[2]
    assert figures.lift.verdict in figures.answers[2].text
    assert ROUTING.audit_fraction == 0.3
