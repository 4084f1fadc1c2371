"""A trainer asks about one response at a time, in virtual time; a real scheduler judges the groups."""

import asyncio
import contextlib

import pytest

from judgeflow import Group, Scheduler
from judgeflow.adapters.rendezvous import Closing, Patience, Rendezvous
from judgeflow.clock import VirtualClock
from judgeflow.config import RoutingConfig
from judgeflow.errors import StoreUnavailable, UsageError
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer

PROMPT = "Which number is even?"
FOUR = ("two", "three", "four", "five")


class Counted:
    """A scheduler, and the steps that were asked of it."""

    def __init__(self, scheduler):
        self.scheduler, self.steps = scheduler, []

    async def route_groups(self, groups, step=None):
        self.steps.append([group.responses for group in groups])
        return await self.scheduler.route_groups(groups, step)


class Desk:
    """What a test needs of a service: somebody to ask, and what was said meanwhile."""

    def __init__(self, router, **patience):
        self.clock, self.router, self.told = VirtualClock(), router, []
        self.rendezvous = Rendezvous(router, patience=Patience(**patience), tell=lambda event, **fields: self.told.append((event, fields)))

    def ask(self, response, prompt=PROMPT, wanted=4):
        return asyncio.create_task(self.rendezvous.join(prompt, response, wanted=wanted))

    async def ask_all(self, responses, **asked):
        return await asyncio.gather(*(self.ask(each, **asked) for each in responses))


def at_the_desk(work, **patience):
    """Run `work(desk)` in virtual time, with a scheduler that asks nobody but its scorer."""
    clock = VirtualClock()

    async def main():
        async with Scheduler(scorer=FakeScorer(), store=MemoryStore(), routing=RoutingConfig(policy="never"), clock=clock) as scheduler:
            desk = Desk(Counted(scheduler), **patience)
            desk.clock = clock
            result = await work(desk)
            await desk.rendezvous.aclose()
            return result

    return clock.run(main())


def rewards_of(places):
    return [place.reward for place in places]


def advantages(responses, prompt=PROMPT):
    """What the same group gets when it is routed as one."""

    async def routed():
        async with Scheduler(scorer=FakeScorer(), store=MemoryStore(), routing=RoutingConfig(policy="never")) as scheduler:
            result = await scheduler.route_groups([Group(id="g", prompt=prompt, responses=tuple(responses))])
            return list(result.advantages()["g"])

    return asyncio.run(routed())


def test_each_response_gets_its_advantage_over_its_siblings_in_whatever_order_they_come():
    async def work(desk):
        tasks = {response: desk.ask(response) for response in ("five", "two", "four")}
        await desk.clock.sleep(3)
        tasks["three"] = desk.ask("three")
        return [await tasks[response] for response in FOUR]

    places = at_the_desk(work)
    by_response = dict(zip(("five", "two", "four", "three"), advantages(("five", "two", "four", "three")), strict=True))
    assert rewards_of(places) == [by_response[response] for response in FOUR]
    assert all(place.whole and place.of == 4 and place.sources == {"scorer": 3} for place in places)


def test_the_same_text_twice_is_told_apart_from_what_somebody_decided():
    places = at_the_desk(lambda desk: desk.ask_all(("two", "two", "three", "two")))
    assert [place.sources for place in places] == [{"identical": 2, "scorer": 1}] * 2 + [{"scorer": 3}, {"identical": 2, "scorer": 1}]


def test_groups_that_are_whole_within_a_moment_are_one_step_and_later_ones_another():
    async def work(desk):
        early = [desk.ask(each, prompt=prompt) for prompt in ("p", "q") for each in FOUR]
        await asyncio.gather(*early)
        await desk.ask_all(FOUR, prompt="r")
        return desk.router.steps

    assert at_the_desk(work) == [[FOUR, FOUR], [FOUR]]


def test_a_group_whose_sibling_never_comes_is_answered_after_the_linger_time_and_told():
    async def work(desk):
        began = desk.clock.now()
        places = await desk.ask_all(FOUR[:3])
        return places, desk.clock.now() - began, desk.told

    places, seconds, told = at_the_desk(work, linger_s=20, gather_s=0.5)
    assert seconds == pytest.approx(20.5)
    assert rewards_of(places) == advantages(FOUR[:3])
    assert [(place.whole, place.of, place.wanted) for place in places] == [(False, 3, 4)] * 3
    assert told == [("group_incomplete", {"responses": 3, "wanted": 4, "linger_s": 20})]


def test_a_response_that_nobody_joins_is_no_better_and_no_worse_than_nothing():
    async def work(desk):
        return await desk.ask("two")

    place = at_the_desk(work, linger_s=5)
    assert (place.reward, place.of, dict(place.sources)) == (0.0, 1, {})


def test_siblings_that_say_the_same_are_siblings():
    async def work(desk):
        places = await desk.ask_all(("two", "two", "four", "four"))
        return places, desk.router.steps

    places, steps = at_the_desk(work)
    assert steps == [[("two", "two", "four", "four")]]
    assert places[0].reward == places[1].reward == -places[2].reward


@pytest.mark.parametrize("moment", ["before its siblings came", "after the group was answered"])
def test_who_gives_up_and_asks_again_gets_the_place_he_had(moment):
    async def work(desk):
        lost = desk.ask("two")
        await desk.clock.sleep(1)
        others = [desk.ask(each) for each in FOUR[1:]] if moment == "after the group was answered" else []
        await asyncio.sleep(0)
        lost.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await lost
        await desk.clock.sleep(1)
        again = desk.ask("two")
        others = others or [desk.ask(each) for each in FOUR[1:]]
        return [await again, *await asyncio.gather(*others)], desk.router.steps, desk.told

    places, steps, told = at_the_desk(work)
    assert steps == [[FOUR]]
    assert told == []
    assert rewards_of(places) == advantages(FOUR)


def test_an_answer_that_was_lost_on_its_way_is_given_again_and_a_new_group_of_equal_responses_is_judged():
    async def work(desk):
        first = await desk.ask_all(FOUR)
        again = await desk.ask("three")
        new = await desk.ask_all(("three", "six", "seven", "eight"))
        return first, again, new, desk.told

    first, again, new, told = at_the_desk(work)
    assert again == first[1]
    assert rewards_of(new) == advantages(("three", "six", "seven", "eight"))
    assert told == []


def test_answers_are_forgotten_after_a_while():
    async def work(desk):
        await desk.ask_all(FOUR)
        kept = len(desk.rendezvous._gatherings)
        await desk.clock.sleep(31)
        return kept, list(desk.rendezvous._gatherings), await desk.ask("three")

    kept, after, alone = at_the_desk(work, keep_s=30, linger_s=5)
    assert (kept, after) == (1, [])
    assert alone.of == 1


def test_a_failure_reaches_everybody_who_waits_and_the_next_attempt_begins_anew():
    class Failing(Counted):
        async def route_groups(self, groups, step=None):
            if not self.steps:
                self.steps.append("failed")
                raise StoreUnavailable("the disk is full")
            return await super().route_groups(groups, step)

    async def work(desk):
        desk.rendezvous = Rendezvous(Failing(desk.router.scheduler), tell=print)
        failed = await asyncio.gather(*(desk.ask(each) for each in FOUR), return_exceptions=True)
        return failed, await desk.ask_all(FOUR)

    failed, places = at_the_desk(work)
    assert [str(error) for error in failed] == ["the disk is full"] * 4
    assert rewards_of(places) == advantages(FOUR)


def test_who_is_being_judged_when_the_service_closes_is_answered_and_the_others_are_sent_away():
    async def work(desk):
        judged = [desk.ask(each) for each in FOUR]
        lonely = desk.ask("two", prompt="another")
        await desk.clock.sleep(0.1)
        whole = [desk.ask(each, prompt="a third") for each in FOUR]
        await asyncio.sleep(0)
        await desk.rendezvous.aclose()
        sent_away = await asyncio.gather(lonely, *whole, return_exceptions=True)
        with pytest.raises(Closing):
            await desk.ask("two")
        return await asyncio.gather(*judged), sent_away, desk.rendezvous.waiting

    judged, sent_away, waiting = at_the_desk(work)
    assert rewards_of(judged) == advantages(FOUR)
    assert [type(error) for error in sent_away] == [Closing] * 5
    assert waiting == 0


def test_who_is_being_judged_for_longer_than_the_service_waits_is_sent_away_too():
    class Endless:
        async def route_groups(self, groups, step=None):
            await asyncio.get_running_loop().create_future()

    async def work(desk):
        desk.rendezvous = rendezvous = Rendezvous(Endless(), tell=desk.told.append)
        judged = [desk.ask(each) for each in FOUR]
        await desk.clock.sleep(0.1)
        before = desk.clock.now()
        await rendezvous.aclose(within_s=7.0)
        waited = desk.clock.now() - before
        return waited, await asyncio.gather(*judged, return_exceptions=True), rendezvous.left, rendezvous.waiting

    waited, sent_away, left, waiting = at_the_desk(work)
    assert waited == pytest.approx(7.0)
    assert [type(error) for error in sent_away] == [Closing] * 4
    assert (left, waiting) == (4, 0)


def test_a_group_of_one_is_refused():
    async def work(desk):
        with pytest.raises(UsageError, match="two responses at least, not 1"):
            await desk.ask("two", wanted=1)

    at_the_desk(work)


async def left(*tasks):
    """Whoever asked has gone, and the service has noticed."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_group_that_everybody_has_left_is_given_up_and_does_not_meet_the_next_training():
    async def work(desk):
        dead = [desk.ask(each) for each in FOUR[:2]]
        await desk.clock.sleep(1)
        await left(*dead)
        await desk.clock.sleep(11)
        gone = list(desk.rendezvous._gatherings)
        return gone, await desk.ask_all(FOUR), desk.told

    gone, places, told = at_the_desk(work, return_s=10)
    assert (gone, told) == ([], [])
    assert rewards_of(places) == advantages(FOUR)


def test_a_response_whose_asker_died_is_still_a_sibling_of_those_who_wait():
    async def work(desk):
        dead, *others = [desk.ask(each) for each in FOUR[:3]]
        await desk.clock.sleep(1)
        await left(dead)
        await desk.clock.sleep(30)
        return await asyncio.gather(*others, desk.ask("five"))

    places = at_the_desk(work, return_s=10)
    assert rewards_of(places) == advantages(FOUR)[1:]
    assert all(place.whole for place in places)


class Slow(Counted):
    """Takes a minute for a step, and says whether somebody made it stop."""

    stopped = 0

    def __init__(self, scheduler, clock):
        super().__init__(scheduler)
        self.clock = clock

    async def route_groups(self, groups, step=None):
        try:
            await self.clock.sleep(60)
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        return await super().route_groups(groups, step)


def slowly(desk):
    desk.router = Slow(desk.router.scheduler, desk.clock)
    desk.rendezvous = Rendezvous(desk.router, patience=Patience(return_s=10), tell=lambda event, **_: desk.told.append(event))


def test_a_step_that_nobody_waits_for_is_stopped_and_who_comes_later_begins_anew():
    async def work(desk):
        slowly(desk)
        dead = [desk.ask(each) for each in FOUR]
        await desk.clock.sleep(1)
        await left(*dead)
        await desk.clock.sleep(11)
        stopped, gone = desk.router.stopped, list(desk.rendezvous._gatherings)
        return stopped, gone, desk.rendezvous.waiting, await desk.ask_all(FOUR)

    stopped, gone, waiting, places = at_the_desk(work)
    assert (stopped, gone, waiting) == (1, [], 0)
    assert rewards_of(places) == advantages(FOUR)


def test_a_step_goes_on_as_long_as_somebody_waits_for_a_part_of_it_or_comes_back_in_time():
    async def work(desk):
        slowly(desk)
        dead = [desk.ask(each, prompt="another") for each in FOUR]
        alive = [desk.ask(each) for each in FOUR]
        await desk.clock.sleep(1)
        await left(*dead)
        await desk.clock.sleep(30)
        await left(*alive)
        await desk.clock.sleep(9)
        return await desk.ask_all(FOUR), desk.router.stopped, len(desk.router.steps)

    places, stopped, steps = at_the_desk(work)
    assert (stopped, steps) == (0, 1)
    assert rewards_of(places) == advantages(FOUR)


def test_a_request_that_is_repeated_under_its_name_is_no_sibling_even_while_the_first_seems_to_wait():
    async def work(desk):
        def ask(response, name):
            return asyncio.create_task(desk.rendezvous.join(PROMPT, response, wanted=4, name=name))

        first, twin = ask("two", "a"), ask("two", "b")
        await desk.clock.sleep(1)
        again = ask("two", "a")
        others = [ask("four", "c"), ask("five", "d")]
        places = await asyncio.gather(first, again, twin, *others)
        began = desk.clock.now()
        late = await ask("four", "c")
        return places, late, desk.clock.now() - began, desk.router.steps, desk.told

    places, late, seconds, steps, told = at_the_desk(work)
    assert steps == [[("two", "two", "four", "five")]]
    assert rewards_of(places) == [places[0].reward] * 3 + advantages(("two", "two", "four", "five"))[2:]
    assert (late, seconds, told) == (places[3], 0, [])


def test_who_comes_back_in_time_waits_on_for_siblings_that_come_much_later():
    async def work(desk):
        await left(await begun(desk, "two"))
        await desk.clock.sleep(5)
        again = desk.ask("two")
        await desk.clock.sleep(20)
        return await asyncio.gather(again, *(desk.ask(each) for each in FOUR[1:])), desk.told

    places, told = at_the_desk(work, return_s=10)
    assert (rewards_of(places), told) == (advantages(FOUR), [])


async def begun(desk, response, name=None):
    """Somebody who has asked, and waits."""
    task = asyncio.create_task(desk.rendezvous.join(PROMPT, response, wanted=4, name=name))
    await desk.clock.sleep(1)
    return task


def test_a_new_request_that_says_what_another_was_answered_is_not_answered_for_it():
    async def work(desk):
        await desk.ask_all(FOUR)
        return await desk.rendezvous.join(PROMPT, "four", wanted=4, name="new"), desk.told

    place, told = at_the_desk(work, linger_s=5)
    assert (place.reward, place.of) == (0.0, 1)
    assert [event for event, _ in told] == ["group_incomplete"]


def test_a_worker_that_was_started_again_takes_the_place_of_its_predecessor_under_its_own_name():
    async def work(desk):
        await left(await begun(desk, "two", "before the worker died"))
        anew = await begun(desk, "two", "after")
        repeated = await begun(desk, "two", "after")
        return await asyncio.gather(anew, repeated, *(desk.ask(each) for each in FOUR[1:])), desk.router.steps

    places, steps = at_the_desk(work)
    assert steps == [[FOUR]]
    assert rewards_of(places) == [places[0].reward, *advantages(FOUR)]
