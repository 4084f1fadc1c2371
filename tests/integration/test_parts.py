"""Ranks with parts of groups ask a service over HTTP: each is answered about its own samples, in one step, which is paid for once."""

import asyncio
import itertools
import json

import aiohttp
import pytest
from served import scheduler, served_in_a_thread, serving

from judgeflow import Group
from judgeflow.adapters.ranks import stretches_of
from judgeflow.adapters.rendezvous import Patience
from judgeflow.adapters.trl import judge_reward_sync
from judgeflow.client import RouteClient
from judgeflow.client.wire import PartRequest
from judgeflow.testing import arithmetic_pairs

PAIRS = arithmetic_pairs(12)
GROUPS = [
    Group(id=f"g{k}", prompt=pair.prompt, responses=(pair.response_a, pair.response_b, f"perhaps {k}", "I do not know."))
    for k, pair in enumerate(PAIRS[:3])
]
ROWS = [(group.prompt, response) for group in GROUPS for response in group.responses]


def part(rank, ranks, *, masked=(), batch=0, step=None):
    count = len(ROWS) // ranks
    places = range(rank * count, (rank + 1) * count)
    prompts, responses = zip(*(ROWS[place] for place in places), strict=True)
    usable = [place not in masked for place in places]
    stretches = stretches_of(prompts, responses, usable)
    return PartRequest(job="job", batch=batch, rank=rank, ranks=ranks, size=4, stretches=stretches, step=step)


@pytest.mark.parametrize("ranks", [2, 6, 12])
async def test_each_rank_gets_what_its_samples_are_worth_in_whole_groups(ranks):
    async with scheduler(PAIRS) as here, scheduler(PAIRS) as there, serving(there) as served, RouteClient(served.url) as client:
        answers = await asyncio.gather(*(client.route_part(part(rank, ranks, step=7)) for rank in reversed(range(ranks))))
        whole = await here.route_groups(GROUPS)
    places = list(itertools.chain.from_iterable(answer.places for answer in reversed(answers)))
    assert [place.reward for place in places] == [value for group in GROUPS for value in whole.advantages()[group.id]]
    assert all((place.of, place.wanted, sum(place.sources.values())) == (4, 4, 3) for place in places)
    assert {(answer.statistics.step, answer.statistics.calls) for answer in answers} == {(7, whole.statistics.calls)}
    assert sum(answer.share for answer in answers) == pytest.approx(1)
    assert served.told == []


async def test_a_masked_response_counts_nowhere():
    async with scheduler(PAIRS) as here, scheduler(PAIRS) as there, serving(there) as served, RouteClient(served.url) as client:
        answers = await asyncio.gather(*(client.route_part(part(rank, 6, masked={1, 6})) for rank in range(6)))
        masked = [Group(id=group.id, prompt=group.prompt, responses=group.responses, mask=mask) for group, mask in zip(
            GROUPS, [(True, False, True, True), (True, True, False, True), (True,) * 4], strict=True)]  # fmt: skip
        whole = (await here.route_groups(masked)).advantages()
    assert [place.reward for answer in answers for place in answer.places] == [value for group in GROUPS for value in whole[group.id]]
    assert [bool(place.sources) for answer in answers for place in answer.places] == [place not in {1, 6} for place in range(12)]


async def test_without_a_rank_the_others_are_answered_about_what_is_there_and_the_late_one_about_the_whole():
    async with scheduler(PAIRS) as here, scheduler(PAIRS) as there:
        async with serving(there, patience=Patience(linger_s=0.2)) as served, RouteClient(served.url) as client:
            early = await asyncio.gather(*(client.route_part(part(rank, 6)) for rank in range(5)))
            late = await client.route_part(part(5, 6))
        whole = (await here.route_groups(GROUPS)).advantages()
        half = await here.route_groups([Group(id="half", prompt=GROUPS[2].prompt, responses=GROUPS[2].responses[:2])])
    assert [place.reward for answer in early[:4] for place in answer.places] == [*whole["g0"], *whole["g1"]]
    assert [place.reward for place in early[4].places] == list(half.advantages()["half"])
    assert [(place.of, place.wanted) for place in early[4].places] == [(2, 4)] * 2
    assert {answer.missing for answer in early} == {(5,)}
    assert [place.reward for place in late.places] == list(whole["g2"][2:])
    assert [(event, fields["missing"], fields["groups"]) for event, fields in served.told] == [("batch_incomplete", "5", 1)]


async def test_a_rank_that_asks_again_is_answered_by_the_same_step():
    async with scheduler(PAIRS) as router, serving(router) as served, RouteClient(served.url) as client:
        first = await asyncio.gather(*(client.route_part(part(rank, 3)) for rank in range(3)))
        again = await asyncio.gather(*(client.route_part(part(rank, 3)) for rank in range(3)))
        after = await asyncio.gather(*(client.route_part(part(rank, 3, batch=1)) for rank in range(3)))
    assert again == first
    assert [answer.statistics.step for answer in after] == [1] * 3


async def test_the_judge_is_asked_nothing_more_for_ranks_that_have_died():
    async with scheduler(PAIRS) as router, serving(router) as served:
        async with RouteClient(served.url) as client:
            waiting = [asyncio.create_task(client.route_part(part(rank, 3))) for rank in range(2)]
            while served.service.under_way < 2:
                await asyncio.sleep(0.001)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        while served.service.under_way:
            await asyncio.sleep(0.001)
        assert (await router.state()).spent.requests == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rank": 3}, "rank 3 is none of 3 ranks"),
        ({"size": 1}, "at least two responses to a prompt, and size is 1"),
        ({"stretches": [{"prompt": "p", "responses": ["x", 3]}]}, "stretches[0].responses[1]"),
        ({"stretches": [{"prompt": "p", "responses": ["x"], "mask": []}]}, "stretches[0]: 0 mask entries for 1 responses"),
    ],
)
async def test_a_bad_part_is_told_what_is_wrong(change, complaint):
    body = {"job": "j", "batch": 0, "rank": 0, "ranks": 3, "size": 2, "stretches": [], **change}
    async with scheduler(PAIRS, policy="never") as router, serving(router) as served, aiohttp.ClientSession() as session:
        async with session.post(served.url + "/v1/part", json=body) as response:
            answer = json.loads(await response.text())
            assert (response.status, complaint in answer["error"]["message"]) == (400, True), answer


def test_trl_takes_the_address_of_a_service():
    prompts, completions = [[row[k] for row in ROWS] for k in range(2)]
    with served_in_a_thread(PAIRS) as served:
        rewards = judge_reward_sync(served.url, num_generations=4, scale=0.5)(prompts, completions)
        with RouteClient(served.url) as client:
            whole = client.route_groups_sync(GROUPS).advantages(0.5)
    assert rewards == [value for group in GROUPS for value in whole[group.id]]
    assert any(rewards)


async def test_a_token_may_stand_in_the_address():
    client = RouteClient("http://127.0.0.1:8765/?token=a%20secret")
    assert client.url == "http://127.0.0.1:8765"
    assert client._headers == {"Authorization": "Bearer a secret"}
