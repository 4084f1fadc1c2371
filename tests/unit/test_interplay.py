"""Where the engine's ways of saving meet: orders one by one, judges that stand in, steps that begin early, restarts."""

import asyncio

import pytest
from virtual import TimedScorer

from judgeflow import ConfigurationError, Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import BudgetConfig, LimitsConfig, RoutingConfig
from judgeflow.engine.seat import Seat
from judgeflow.errors import JudgeOverloaded, JudgeUnreachable
from judgeflow.judges.gate import WindowGate
from judgeflow.routing.pacing import Pacer, decide
from judgeflow.routing.plan import Candidate, Means
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer, Opinions, ScriptedJudge, arithmetic_pairs
from judgeflow.types import Cost, Decision, Stock

EVERYBODY = RoutingConfig(policy="error", threshold=-1.0)
PAIRS = arithmetic_pairs(40)


def run(main):
    clock = VirtualClock()
    return clock.run(main(clock))


def knowing(clock, name="knowing", **more):
    opinions = Opinions(truth=Opinions.truths(PAIRS), accuracy=1.0)
    return ScriptedJudge(opinions, clock=clock, model=name, **{"latency": 10.0} | more)


@pytest.mark.parametrize("moment", [5.0, 12.0, 15.0])
def test_a_step_that_is_cancelled_between_its_orders_leaves_nothing_planned(moment):
    async def main(clock):
        async with Scheduler(
            judge=knowing(clock),
            clock=clock,
            store=MemoryStore(),
            scorer=FakeScorer(PAIRS),
            routing=EVERYBODY,
            orders="adaptive",
            max_in_flight=8,
        ) as scheduler:
            routing = asyncio.ensure_future(scheduler.route(PAIRS))
            await clock.sleep(moment)
            routing.cancel()
            await asyncio.wait([routing])
            await clock.sleep(60.0)
            return scheduler._session._planning._budget.planned

    assert run(main) == Cost()


def test_a_step_that_is_cancelled_while_it_is_scored_leaves_no_second_order_planned():
    async def main(clock):
        scorer = TimedScorer(PAIRS, clock=clock, seconds_per_pair=1.0)
        async with Scheduler(
            judge=knowing(clock), clock=clock, store=MemoryStore(), scorer=scorer, routing=EVERYBODY, orders="adaptive"
        ) as scheduler:
            routing = asyncio.ensure_future(scheduler.route(PAIRS))
            while not scheduler.in_flight:
                await clock.sleep(0.5)
            routing.cancel()
            await asyncio.wait([routing])
            await clock.sleep(60.0)
            return scheduler._session._planning._budget.planned

    assert run(main) == Cost()


class Down(ScriptedJudge):
    down = True

    async def ask(self, question):
        if self.down:
            raise JudgeUnreachable("down")
        return await super().ask(question)


def test_a_verdict_that_a_stand_in_gave_in_one_order_is_not_asked_for_again():
    async def main(clock):
        store = MemoryStore()
        first = Down(Opinions(truth=Opinions.truths(PAIRS), accuracy=1.0), clock=clock, model="first")
        second = knowing(clock, "second")

        def scheduler():
            return Scheduler(
                judges=[first, second], clock=clock, store=store.reopen(), scorer=FakeScorer(PAIRS), routing=EVERYBODY, orders="adaptive"
            )

        async with scheduler() as opened:
            step = await opened.route(PAIRS)
            assert step.statistics.sources == {"judge": len(PAIRS)}
        first.down = False
        async with scheduler() as opened:
            again = await opened.route(PAIRS)
        return step, again

    step, again = run(main)
    assert again.statistics.calls == 0
    assert [outcome.logit for outcome in again.outcomes] == [outcome.logit for outcome in step.outcomes]


@pytest.mark.parametrize("seconds", [3.0, 9.0, 25.0, 38.0])
def test_a_step_resumed_after_an_interruption_while_it_was_scored_keeps_to_its_share(seconds):
    routing = RoutingConfig(policy="error", max_share=0.6)
    pairs = arithmetic_pairs(100)

    async def main(clock):
        store = MemoryStore()
        judge = ScriptedJudge(clock=clock, latency=0.5)

        def scheduler(scorer):
            return Scheduler(judge=judge, clock=clock, store=store.reopen(), scorer=scorer, routing=routing)

        async with scheduler(TimedScorer(pairs, clock=clock, seconds_per_pair=0.4)) as opened:
            working = asyncio.ensure_future(opened.route(pairs, step=0))
            await clock.sleep(seconds)
            working.cancel()
            await asyncio.wait([working])
            await clock.sleep(60.0)
        async with scheduler(FakeScorer(pairs)) as opened:
            await opened.route(pairs, step=0)
        return judge.statistics.answered

    assert run(main) == 120


def test_a_resumed_step_is_sure_of_no_more_pairs_than_its_plan_asks_about():
    asked, declined = Decision(pair_key=b"", asked=True), Decision(pair_key=b"", asked=False, source="fallback")
    stored = [Candidate(pair_key=bytes([n]), acquisition=0.3, cost=Cost(), decided=asked) for n in range(9)]
    others = [Candidate(pair_key=bytes([n]), acquisition=0.3, cost=Cost(requests=2), decided=declined) for n in range(9, 15)]
    routing, means = RoutingConfig(policy="error", max_share=0.5), Means(allowance=Stock())
    pacer = Pacer(routing, BudgetConfig())
    sure = pacer.sure(stored + others)
    assert sure <= decide(stored + others, routing, means, pacer=pacer, step=0).asked


class Resting(ScriptedJudge):
    """Its first answer is that it wants to be left alone for an hour; the others fail a little later."""

    def __init__(self, *, clock):
        super().__init__(clock=clock)
        self.clock, self.asked_at = clock, []

    async def ask(self, question):
        self.asked_at.append(self.clock.now())
        number = len(self.asked_at)
        await self.clock.sleep(float(number))
        raise JudgeOverloaded("closed", retry_after_s=3600.0 if number == 1 else None)


def test_what_fails_while_a_judge_wants_to_be_left_alone_is_not_tried_again():
    async def main(clock):
        judge, routing = Resting(clock=clock), RoutingConfig(policy="always")
        async with Scheduler(judge=judge, clock=clock, store=MemoryStore(), routing=routing, max_in_flight=4) as scheduler:
            step = await scheduler.route(PAIRS[:6])
        return judge.asked_at, step.statistics.statuses

    asked_at, statuses = run(main)
    assert len(set(asked_at)) == 1
    assert len(asked_at) == 4
    assert statuses == {"overloaded": 6}


def test_verdicts_of_one_step_count_alike_though_the_margin_is_matched_meanwhile():
    pairs = arithmetic_pairs(100)

    async def main(clock):
        scorer = TimedScorer(pairs, clock=clock, seconds_per_pair=0.4)
        routing = RoutingConfig(policy="error", max_share=0.6, verdict_margin="matched")
        opinions = Opinions(truth=Opinions.truths(pairs), accuracy=1.0)
        judge = ScriptedJudge(opinions, clock=clock, latency=0.5)
        async with Scheduler(judge=judge, clock=clock, store=MemoryStore(), scorer=scorer, routing=routing) as scheduler:
            return await scheduler.route(pairs)

    step = run(main)
    judged = [outcome for outcome in step.outcomes if outcome.source == "judge"]
    assert len(judged) == 60
    assert len({abs(outcome.logit) for outcome in judged}) == 1


def test_a_gate_of_two_judges_is_refused():
    gate = WindowGate(LimitsConfig(requests_per_minute=10), VirtualClock())
    seats = [Seat(judge=ScriptedJudge(model=name), gate=gate) for name in ("one", "two")]
    with pytest.raises(ConfigurationError, match=r"one': another one has the same gate"):
        Scheduler(judges=seats, store=MemoryStore(), routing=RoutingConfig(policy="always"))
