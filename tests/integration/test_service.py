"""Trainers ask a service over HTTP: a real server on loopback, a real scheduler with a real judge behind it."""

import asyncio
import json
import math

import aiohttp
import jsonschema
import pytest
from aiohttp import web
from held import held_port
from openapi_spec_validator import validate
from served import scheduler, served_in_a_thread, serving

from judgeflow import Group, Pair, Scheduler
from judgeflow.adapters.rendezvous import Patience
from judgeflow.client import RouteClient
from judgeflow.client.wire import PartRequest, Stretch
from judgeflow.clock import VirtualClock
from judgeflow.config import RoutingConfig
from judgeflow.errors import ServiceError, UsageError
from judgeflow.store import MemoryStore
from judgeflow.testing import Opinions, ScriptedJudge, arithmetic_pairs
from judgeflow.web.openrlhf import RemoteReward

PAIRS = arithmetic_pairs(40)
GROUPS = [
    Group(id=f"g{k}", prompt=pair.prompt, responses=(pair.response_a, pair.response_b, "I do not know.", "42"))
    for k, pair in enumerate(PAIRS[:6])
]


async def post(served, path, body, **more):
    async with aiohttp.ClientSession() as session, session.post(served.url + path, json=body, **more) as response:
        return response.status, json.loads(await response.read()), response.headers


async def test_a_client_gets_the_results_that_the_scheduler_gives():
    async with scheduler(PAIRS) as here, scheduler(PAIRS) as there, serving(there) as served, RouteClient(served.url) as client:
        ours, theirs = await here.route(PAIRS, step=3), await client.route(PAIRS, step=3)
        assert [(each.pair, each.logit, each.source, each.status, each.choice, each.preference) for each in theirs.outcomes] == [
            (each.pair, each.logit, each.source, each.status, each.choice, each.preference) for each in ours.outcomes
        ]
        assert {call.reply.text for outcome in theirs.outcomes for call in outcome.verdict.calls} == {
            call.reply.text for outcome in ours.outcomes for call in outcome.verdict.calls
        }
        assert (theirs.statistics.step, theirs.statistics.calls) == (3, ours.statistics.calls)
        assert (await client.route_groups(GROUPS)).advantages() == (await here.route_groups(GROUPS)).advantages()


def test_a_trainer_without_a_loop_asks_synchronously():
    with served_in_a_thread(PAIRS) as served, RouteClient(served.url) as client:
        assert len(client.route_sync(PAIRS).logits) == len(PAIRS)
        assert set(client.route_groups_sync(GROUPS).advantages()) == {group.id for group in GROUPS}


async def test_outcomes_are_streamed_as_they_become_final_and_equal_pairs_have_one_each():
    async with scheduler(PAIRS) as router, serving(router) as served, RouteClient(served.url) as client:
        twice = [*PAIRS, PAIRS[0]]
        outcomes = [outcome async for outcome in client.stream(twice)]
        assert sorted(str(outcome.pair.id) for outcome in outcomes) == sorted(str(pair.id) for pair in twice)
        assert {outcome.source for outcome in outcomes} == {"judge"}


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"groups": [{"id": "a", "prompt": "p", "responses": ["x", 3]}]}, "groups[0].responses[1]: Input should be a valid string"),
        ({"groups": [{"id": "a", "prompt": "p", "responses": ["x", None]}]}, "groups[0].responses[1]"),
        ({"groups": [{"id": "a", "prompt": "p", "responses": ["x"]}] * 2}, "groups[1].id: 'a' names another group"),
        ({"groups": [{"id": "a", "prompt": "p", "responses": ["x", "y"], "mask": [True]}]}, "groups[0]: group 'a': 1 mask entries for 2"),
        ({"pairs": [{"prompt": "p", "response_a": "x"}]}, "pairs[0].response_b: Field required"),
        ({"pairs": [{"prompt": [{"role": "user"}], "response_a": "x", "response_b": "y"}]}, "pairs[0].prompt[0].content: Field required"),
        ({"pair": []}, "pair: Unexpected keyword argument"),
        ({"step": "7", "pairs": []}, "step: Input should be a valid integer"),
    ],
)
async def test_a_bad_request_is_told_what_is_wrong_and_where(body, complaint):
    async with scheduler(PAIRS, policy="never") as router, serving(router) as served:
        status, answer, _ = await post(served, "/v1/route", body)
        assert (status, complaint in answer["error"]["message"]) == (400, True), answer


@pytest.mark.parametrize(
    ("ask", "complaint"),
    [
        (
            lambda client: client.route([Pair(prompt="p", response_a="x", response_b="ab\ud83d")]),
            r"pairs\[0\].response_b: .*U\+D83D\) at position 2",
        ),
        (
            lambda client: client.route([Pair(prompt="p", response_a="x", response_b="y", metadata={"when": object()})]),
            r"pairs\[0\].metadata.when: object",
        ),
        (lambda client: client.reward("p\ude00", "x", size=2), r"prompt: .*U\+DE00\) at position 1"),
        (lambda client: client.reward("p", 4, size=2), "response: Input should be a valid string"),
        (lambda client: client.route_part(part_of("x", "y\ud83d")), r"stretches\[1\].responses\[1\]: .*U\+D83D\) at position 1"),
        (lambda client: client.route_part(part_of("x", 4.5)), r"stretches\[1\].responses\[1\]: Input should be a valid string"),
    ],
)
async def test_a_client_names_the_place_of_what_it_cannot_send_and_sends_nothing(ask, complaint):
    async with RouteClient("http://127.0.0.1:9", retry_for_s=0) as client:  # where nobody listens
        with pytest.raises(UsageError, match=f"RouteClient: {complaint}"):
            await ask(client)


def part_of(*responses):
    stretches = (Stretch(prompt="p", responses=("a",)), Stretch(prompt="q", responses=responses))
    return PartRequest(job="j", batch=0, rank=0, ranks=1, size=2, stretches=stretches)


async def test_what_is_not_json_or_too_large_is_refused():
    async with scheduler(PAIRS, policy="never") as router, serving(router, max_bytes=1000) as served, aiohttp.ClientSession() as session:
        async with session.post(served.url + "/v1/route", data=b"{", headers={"Content-Type": "application/json"}) as response:
            assert (response.status, "Invalid JSON" in await response.text()) == (400, True)
        async with session.post(served.url + "/v1/route", data=b"{}", headers={"Content-Type": "text/plain"}) as response:
            assert (response.status, "application/json is expected" in await response.text()) == (400, True)
        with pytest.raises(UsageError, match=r"1,000 bytes; send fewer pairs"):
            async with RouteClient(served.url) as client:
                await client.route(PAIRS)


async def test_more_requests_than_are_taken_at_a_time_come_again_by_themselves():
    answering = asyncio.Event()

    class Waiting(ScriptedJudge):
        async def ask(self, question):
            await answering.wait()
            return await super().ask(question)

    router = Scheduler(judge=Waiting(), store=MemoryStore(), routing=RoutingConfig(policy="always"))
    async with router, serving(router, at_once=1) as served, RouteClient(served.url) as client:
        busy = [asyncio.create_task(client.route([pair])) for pair in PAIRS[:2]]
        while not served.service.under_way:
            await asyncio.sleep(0.001)
        status, answer, headers = await post(served, "/v1/route", {"pairs": []})
        assert (status, headers["Retry-After"], answer["error"]["message"][:12]) == (503, "1", "1 request is")
        answering.set()
        assert [len(result.outcomes) for result in await asyncio.gather(*busy)] == [1, 1]


async def test_a_request_that_is_repeated_under_its_name_is_one_step():
    async with scheduler(PAIRS) as router, serving(router) as served:
        body = {"pairs": [{"prompt": "p", "response_a": "x", "response_b": "y"}]}
        answers = [await post(served, "/v1/route", body, headers={"Idempotency-Key": "one"}) for _ in range(2)]
        together = await asyncio.gather(*(post(served, "/v1/route", body, headers={"Idempotency-Key": "two"}) for _ in range(3)))
        steps = [answer["statistics"]["step"] for _, answer, _ in [*answers, *together]]
        assert steps == [0, 0, 1, 1, 1]
        _, other, _ = await post(served, "/v1/route", {"pairs": [*body["pairs"], *body["pairs"]]}, headers={"Idempotency-Key": "one"})
        assert len(other["outcomes"]) == 2


async def test_a_service_that_is_started_again_in_the_middle_of_a_step_pays_for_nothing_twice():
    store, asked = MemoryStore(), []

    class Counting(ScriptedJudge):
        async def ask(self, question):
            asked.append(question.call_key)
            return await super().ask(question)

    def routed():
        judge = Counting(Opinions(truth=Opinions.truths(PAIRS)), latency=0.05)
        return Scheduler(judge=judge, store=store, routing=RoutingConfig(policy="always"), max_in_flight=8)

    with held_port() as port:
        async with RouteClient(f"http://127.0.0.1:{port}") as client:
            async with routed() as router, serving(router, port=port, drain_s=0.1):
                step = asyncio.create_task(client.route(PAIRS, step=0))
                while len(asked) < 20:
                    await asyncio.sleep(0)
            before = len(asked)
            async with routed() as router, serving(router, port=port):
                result = await step
        assert {outcome.source for outcome in result.outcomes} == {"judge", "store"}
        assert before < len(asked) == len(set(asked)) == 2 * len(PAIRS)


def test_a_service_that_stays_away_is_told_with_its_address():
    async def ask(url):
        async with RouteClient(url, retry_for_s=0.5) as client:
            with pytest.raises(ServiceError, match=rf"{url}: cannot be reached: .*; asked 2 times within 0.5 s"):
                await client.route(PAIRS)

    with held_port() as port:  # where nobody listens a connection is refused at once, so virtual time has nothing to miss
        VirtualClock().run(ask(f"http://127.0.0.1:{port}"))


async def test_a_service_that_does_not_answer_is_told_of_once_until_it_does(caplog):
    with held_port() as port:
        async with scheduler(PAIRS) as router, RouteClient(f"http://127.0.0.1:{port}") as client:
            waiting = [asyncio.create_task(client.route(PAIRS[:2], step=step)) for step in range(3)]
            while not caplog.records:
                await asyncio.sleep(0.05)
            async with serving(router, port=port):
                await asyncio.gather(*waiting)
    (record,) = [record for record in caplog.records if record.name == "judgeflow"]
    assert "cannot be reached" in record.getMessage()
    assert "it is asked again for " in record.getMessage()


async def test_a_step_has_a_number_that_can_be_counted_on_from():
    async with scheduler(PAIRS) as router, serving(router) as served, RouteClient(served.url) as client:
        for step in (-1, 2**63 - 1, 10**20):
            with pytest.raises(UsageError, match="step"):
                await client.route(PAIRS[:2], step=step)
        assert (await client.route(PAIRS[:2])).statistics.step == 0


async def test_another_server_is_not_taken_for_a_service():
    async def other(_request):
        return web.json_response({"hello": "world"})

    app = web.Application()
    app.add_routes([web.post("/v1/route", other)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with RouteClient(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        with pytest.raises(ServiceError, match="cannot be read; is it a judgeflow service of this version"):
            await client.route(PAIRS)
    await runner.cleanup()


async def test_ranks_that_hold_parts_of_a_group_get_what_the_whole_group_would():
    async with scheduler(PAIRS) as here, scheduler(PAIRS) as there, serving(there) as served:
        async with RouteClient(served.url) as first, RouteClient(served.url) as second:
            ranks = [first, first, second, second]
            places = await asyncio.gather(
                *(
                    ranks[k].reward(group.prompt, response, size=4, group=group.id)
                    for group in GROUPS
                    for k, response in enumerate(group.responses)
                )
            )
        whole = (await here.route_groups(GROUPS)).advantages()
        assert [place.reward for place in places] == [value for group in GROUPS for value in whole[group.id]]
        assert all(place.of == place.wanted == 4 and sum(place.sources.values()) == 3 for place in places)


async def test_the_description_names_every_route_and_holds_for_what_is_sent():
    async with scheduler(PAIRS) as router, serving(router) as served, aiohttp.ClientSession() as session:
        async with session.get(served.url + "/openapi.json") as response:
            document = await response.json()
        _, answer, _ = await post(served, "/v1/route", {"pairs": [{"prompt": "p", "response_a": "x", "response_b": "y"}]})
    validate(document)
    assert set(document["paths"]) == {route.path for route in served.service.routes() if route.path.startswith("/v1/")}
    schema = document["paths"]["/v1/route"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(answer, {**schema, "components": document["components"]})
    broken = {**answer, "outcomes": [{**answer["outcomes"][0], "logit": "two"}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, {**schema, "components": document["components"]})


class OpenRLHF:
    """Asks as OpenRLHF 0.11 does: one sample a request, on a session of its own, five times, one second apart (here shorter)."""

    def __init__(self, served, *, total_s=180.0, pause_s=0.01, times=5):
        self.url, self.total_s, self.pause_s, self.times = served.url + "/get_reward", total_s, pause_s, times
        self.attempts = 0

    async def reward(self, query, prompt, label=None):
        for _ in range(self.times):
            self.attempts += 1
            try:
                timeout = aiohttp.ClientTimeout(total=self.total_s)
                async with (
                    aiohttp.ClientSession(timeout=timeout) as session,
                    session.post(self.url, json={"query": [query], "prompts": [prompt], "labels": [label]}) as response,
                ):
                    response.raise_for_status()
                    return await response.json()
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(self.pause_s)
        return None


def samples_of(group):
    """Each sample of a group as OpenRLHF sends it: the decoded text of everything, and the prompt."""
    prompt = f"<|im_start|>user\n{group.prompt}<|im_end|>\n<|im_start|>assistant\n"
    return [(f"{prompt}{response}<|im_end|>", prompt) for response in group.responses]


async def test_openrlhf_gets_the_advantage_of_each_sample_over_its_siblings():
    async with scheduler(PAIRS) as router, serving(router, remote_reward=RemoteReward(group_size=4)) as served:
        trainer = OpenRLHF(served)
        answers = await asyncio.gather(*(trainer.reward(*sample) for group in GROUPS for sample in samples_of(group)))
    for start in range(0, len(answers), 4):
        group = answers[start : start + 4]
        assert sum(answer["rewards"][0] for answer in group) == pytest.approx(0)
        assert len({answer["rewards"][0] for answer in group}) > 1
        assert all(0 < answer["scores"][0] < 1 for answer in group)
        assert [answer["extra_logs"] for answer in group] == [{"judged_share": [1.0], "group_incomplete": [0.0]}] * 4
    assert trainer.attempts == len(answers)


async def test_openrlhf_gives_up_and_asks_again_without_losing_its_place():
    async with scheduler(PAIRS) as router, serving(router, remote_reward=RemoteReward(group_size=4)) as served:
        patient, hasty = OpenRLHF(served), OpenRLHF(served, total_s=0.3)
        early, *rest = samples_of(GROUPS[0])
        first = asyncio.create_task(hasty.reward(*early))
        while hasty.attempts < 3:
            await asyncio.sleep(0.01)
        hasty.total_s = patient.total_s  # from the next attempt on: its fifth is its last
        answers = await asyncio.gather(first, *(patient.reward(*sample) for sample in rest))
        assert served.told == []
    assert sum(answer["rewards"][0] for answer in answers) == pytest.approx(0)
    assert len({answer["rewards"][0] for answer in answers}) > 1


async def test_a_sample_whose_siblings_never_come_is_answered_and_told():
    settings = {"remote_reward": RemoteReward(group_size=4), "patience": Patience(linger_s=0.1)}
    async with scheduler(PAIRS) as router, serving(router, **settings) as served:
        alone = await OpenRLHF(served).reward(*samples_of(GROUPS[0])[0])
        assert alone == {"rewards": [0.0], "scores": [0.0], "extra_logs": {"judged_share": [0.0], "group_incomplete": [1.0]}}
        assert [event for event, _ in served.told] == ["group_incomplete"]


async def test_an_answer_that_takes_too_long_is_asked_for_again_before_the_trainer_gives_up():
    remote = RemoteReward(group_size=4, answer_within_s=0.2)
    async with scheduler(PAIRS) as router, serving(router, remote_reward=remote) as served:
        trainer = OpenRLHF(served, times=1000)  # on a busy machine five are over before the others have come
        early, *rest = samples_of(GROUPS[0])
        first = asyncio.create_task(trainer.reward(*early))
        while trainer.attempts < 2:
            await asyncio.sleep(0.01)
        answers = await asyncio.gather(first, *(trainer.reward(*sample) for sample in rest))
    assert all(math.isfinite(answer["rewards"][0]) and answer["extra_logs"]["group_incomplete"] == [0.0] for answer in answers)


async def test_older_openrlhf_sends_whole_batches():
    remote = RemoteReward(group_size=4, response_marker="assistant\n")
    async with scheduler(PAIRS) as router, serving(router, remote_reward=remote) as served:
        queries = [f"user\n{group.prompt}\nassistant\n{response}</s>" for group in GROUPS for response in group.responses]
        status, answer, _ = await post(served, "/get_reward", {"query": queries})
        assert (status, set(answer)) == (200, {"rewards", "uncertainties"})
        assert [sum(answer["rewards"][k : k + 4]) for k in range(0, 24, 4)] == pytest.approx([0.0] * 6)
        assert all(0 <= value <= 1 for value in answer["uncertainties"])


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"query": ["p x"], "prompts": ["p ", "q "]}, "prompts has 2 entries for 1 of query"),
        ({"query": ["p x"], "prompts": ["other"]}, "query[0] does not have its prompt in it"),
        ({"query": [None], "prompts": ["p"]}, "query[0] is expected to be a text, not NoneType"),
        ({"query": [], "prompts": []}, "query is expected to be a list of texts, and not to be empty"),
        ({"query": ["p x"]}, "start judgeflow serve with --response-marker"),
        ([], "the body is expected to be an object with query and prompts"),
    ],
)
async def test_what_openrlhf_gets_wrong_is_named(body, complaint):
    async with scheduler(PAIRS, policy="never") as router, serving(router, remote_reward=RemoteReward(group_size=4)) as served:
        status, answer, _ = await post(served, "/get_reward", body)
        assert (status, complaint in answer["error"]["message"]) == (400, True), answer


async def test_without_a_group_size_the_flag_is_named():
    async with scheduler(PAIRS, policy="never") as router, serving(router) as served:
        status, answer, _ = await post(served, "/get_reward", {"query": ["p x"], "prompts": ["p "]})
        assert (status, "--group-size" in answer["error"]["message"]) == (400, True)


async def test_a_pair_can_be_built_by_hand():
    async with scheduler(PAIRS, policy="never") as router, serving(router) as served, RouteClient(served.url) as client:
        result = await client.route([Pair(prompt="p", response_a="x", response_b="")])
        assert result.outcomes[0].source == "scorer"
