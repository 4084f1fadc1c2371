"""Whatever a trainer gets wrong, every way of asking answers with finite rewards in their places, or with an error that says where."""

import asyncio
import contextlib
import json
import math
import re
from types import SimpleNamespace

import pytest
from aiohttp import web
from everyway import MARKER, SINGLE, SIZE, WAYS, WHOLE, post
from rows import Letters, verl_config
from served import served_in_a_thread
from trainers import scheduler

from judgeflow import Pair
from judgeflow.adapters.openrlhf_local import reward_function
from judgeflow.adapters.rendezvous import Patience
from judgeflow.adapters.verl import JudgeflowRewardManager, compute_score
from judgeflow.client import RouteClient
from judgeflow.errors import ServiceError, UsageError
from judgeflow.testing import FakeJudge, Opinions, serve_in_thread
from judgeflow.web.openrlhf import RemoteReward

CONFIG = '[judge]\nmodel = "fake-judge"\nbase_url = "{}"\n[routing]\npolicy = "always"\n[store]\nurl = "{}"\n'
PROMPTS, COMPLETIONS = ["p", "p", "qq", "qq"], ["good", "g", "a", "an answer"]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": "x.png"}]}]
HALF = "\ud83d"
"""Half of a character, as a tokenizer leaves it that was stopped in the middle of one."""


def longer(shown):
    first, second = len(shown.response_a), len(shown.response_b)
    return (first > second) - (first < second)


@contextlib.contextmanager
def asked_at(folder, linger_s):
    """What there is to ask: a scheduler, a service over another, OpenRLHF's function over a judge.  All of them prefer what is longer."""
    settings = {"remote_reward": RemoteReward(group_size=SIZE, response_marker=MARKER), "patience": Patience(linger_s=linger_s)}
    with (
        serve_in_thread(FakeJudge(Opinions(rule=longer))) as judge,
        scheduler() as router,
        served_in_a_thread(make=scheduler, **settings) as served,
    ):
        (folder / "judgeflow.toml").write_text(CONFIG.format(judge.base_url, folder / "verdicts.db"))
        func = reward_function(folder / "judgeflow.toml", group_size=SIZE, linger_s=linger_s)
        yield SimpleNamespace(router=router, url=served.url, reward_func=func)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where a response waits for its sibling however long it takes."""
    with asked_at(tmp_path_factory.mktemp("place"), linger_s=60) as place:
        yield place


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """Where a response that lacks its sibling does not wait."""
    with asked_at(tmp_path_factory.mktemp("hasty"), linger_s=0.02) as place:
        yield place


def replaced(values, place, value):
    return [*values[:place], value, *values[place + 1 :]]


def asked(place, way, prompts, completions):
    """The rewards, or the error that says why there are none."""
    try:
        return WAYS[way](place, prompts, completions)
    except UsageError as error:
        return error


def told(error):
    """Everything that an error says."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


SCORED = {
    "nothing wrong": (PROMPTS, COMPLETIONS),
    "an empty completion": (PROMPTS, replaced(COMPLETIONS, 1, "")),
    "only empty completions": (PROMPTS, [""] * 4),
    "equal completions": (PROMPTS, ["same", "same", "a", "bb"]),
    "the same prompt twice": (["p"] * 4, COMPLETIONS),
    "a character that ends texts elsewhere": (PROMPTS, replaced(COMPLETIONS, 0, "go\x00od")),
    "a very long completion": (PROMPTS, replaced(COMPLETIONS, 3, "word " * 40_000)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SCORED)
def test_what_can_be_scored_is_scored_in_its_place(place, way, name):
    if (way, name) == ("JudgeflowRewardManager", "a very long completion"):
        return  # the tokenizer here is written for few characters
    prompts, completions = SCORED[name]
    rewards = WAYS[way](place, prompts, completions)
    assert len(rewards) == len(completions)
    assert all(math.isfinite(reward) for reward in rewards)
    if way in SINGLE and len(set(prompts)) == 1:
        return  # whoever comes first is compared with whoever comes next
    for k in range(0, len(completions), SIZE):
        first, second = rewards[k : k + SIZE]
        if way != "PairwiseJudge" or completions[k] != completions[k + 1]:  # which tosses a coin
            assert first == -second
            assert (first > second) == (len(completions[k]) > len(completions[k + 1]))


NAMED = {  # by whom, and what it calls the last completion and the third prompt
    "judge_reward": ("judge_reward scored", r"completions\[3\]", r"prompts\[2\]"),
    "judge_reward_sync": ("judge_reward_sync scored", r"completions\[3\]", r"prompts\[2\]"),
    "online_dpo_reward": ("online_dpo_reward scored", r"completions\[3\]", r"prompts\[1\]"),
    "PairwiseJudge": ("PairwiseJudge scored", r"completions\[1\]\[1\]", r"prompts\[1\]"),
    "reward_func": ("judgeflow's reward_func: ", r"queries\[3\]", r"prompts\[2\]"),
    "/get_reward": ("/get_reward: ", r"query\[3\]", r"prompts\[2\]"),
    "/get_reward (legacy)": ("/get_reward: ", r"query\[3\]", "no prompts there"),
    "compute_score_batch": ("compute_score_batch: ", r"solution_strs\[3\]", r"extra_infos\[2\]\['prompt'\]"),
    "/v1/route": ("/v1/route: ", r"groups\[1\].responses\[1\]", r"groups\[1\].prompt"),
    "/v1/stream": ("/v1/stream: ", r"groups\[1\].responses\[1\]", r"groups\[1\].prompt"),
    "/v1/part": ("/v1/part: ", r"stretches\[0\].responses\[1\]", r"stretches\[0\].prompt"),  # of the second rank's part
    "compute_score": ("compute_score: ", "solution_str ", r"extra_info\['prompt'\]"),
    "JudgeflowRewardManager": ("JudgeflowRewardManager: ", "completions are tokens there", "raw_prompt"),
    "/v1/reward": ("/v1/reward: ", "response: ", "prompt: "),
    "RouteClient.reward": ("RouteClient|/v1/reward: ", "'response'|response: ", "prompt"),
}
REFUSED = {
    "a completion that is nothing": (PROMPTS, replaced(COMPLETIONS, 3, None), "completion"),
    "a completion that is a number": (PROMPTS, replaced(COMPLETIONS, 3, 4.5), "completion"),
    "a completion that is a list among texts": (PROMPTS, replaced(COMPLETIONS, 3, ["an", "answer"]), "completion"),
    "a prompt with a picture": ([*PROMPTS[:2], IMAGE, IMAGE], COMPLETIONS, "prompt"),
    "a prompt that is nothing": ([*PROMPTS[:2], None, None], COMPLETIONS, "prompt"),
}
"""What RouteClient is given is groups, and those refuse what is no text where they are made."""


def _cases():
    for name, (_, _, what) in REFUSED.items():
        for way in NAMED:
            by_tokens = way == "JudgeflowRewardManager" and (what == "completion" or name == "a prompt that is nothing")
            if not by_tokens and not (way == "/get_reward (legacy)" and what == "prompt"):
                yield name, way


@pytest.mark.parametrize(("name", "way"), list(_cases()))
def test_what_is_no_text_is_refused_by_name_with_its_place(hasty, name, way):
    prompts, completions, what = REFUSED[name]
    adapter, completion, prompt = NAMED[way]
    with pytest.raises(UsageError) as caught:
        WAYS[way](hasty, prompts, completions)
    assert re.search(adapter, told(caught.value))
    assert re.search(completion if what == "completion" else prompt, told(caught.value))


@pytest.mark.parametrize("way", NAMED)
def test_half_a_character_is_refused_or_scored_and_never_anything_else(hasty, way):
    if way == "JudgeflowRewardManager":
        return  # a tokenizer has made a text of it already
    rewards = asked(hasty, way, PROMPTS, replaced(COMPLETIONS, 0, f"{HALF}good"))
    if isinstance(rewards, UsageError):
        assert re.search(NAMED[way][0] + "|RouteClient", told(rewards))
    else:
        assert rewards[0] == rewards[1] == 0  # nobody can be asked about it
        assert rewards[2] == -rewards[3] < 0


HALVED = {  # and what each of them calls the first completion
    "/get_reward": r"query\[0\]",
    "/get_reward (legacy)": r"query\[0\]",
    "/v1/route": r"groups\[0\].responses\[0\]",
    "/v1/stream": r"groups\[0\].responses\[0\]",
    "/v1/part": r"stretches\[0\].responses\[0\]",
    "/v1/reward": "response",
    "compute_score": "response",
    "compute_score_batch": r"groups\[0\].responses\[0\]",
    "RouteClient.route_groups": r"groups\[0\].responses\[0\]",
    "RouteClient.reward": "response",
}


@pytest.mark.parametrize("way", HALVED)
def test_half_a_character_that_cannot_be_sent_is_named_with_its_place(hasty, way):
    with pytest.raises(UsageError) as caught:
        WAYS[way](hasty, PROMPTS, replaced(COMPLETIONS, 0, f"{HALF}good"))
    assert re.search(rf"{HALVED[way]}: there is half a character \(U\+D83D\) at position ", told(caught.value))


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("/v1/route", rb'{"pairs": [{"prompt": "p", "response_a": "x", "response_b": "\ude00"}]}', r"pairs\[0\].response_b: .*U\+DE00"),
        (
            "/v1/route",
            b'{"groups": [{"id": "\xc3", "prompt": "p", "responses": []}]}',
            r"groups\[0\].id: .*no UTF-8 \(0xc3\) at position 0",
        ),
        (
            "/v1/reward",
            b'{"prompt": [{"role": "user", "content": "a\xff"}], "response": "x"}',
            r"prompt\[0\].content: .*0xff\) at position 1",
        ),
        ("/v1/part", rb'{"stretches": [{"prompt": "\ud83d"}]}', r"stretches\[0\].prompt: .*U\+D83D"),
        ("/get_reward", b'{"query": ["x"], "prompts": ["\xe2\x82"]}', r"prompts\[0\]: .*no UTF-8 \(0xe2\)"),
        ("/v1/route", rb'{"\ud83d": []}', "the body: .*half a character"),
    ],
)
def test_bytes_that_are_no_text_are_named_with_their_place(place, path, body, complaint):
    with pytest.raises(UsageError, match=complaint):
        post(place.url, path, body)


FLAT = [way for way in WHOLE if way in NAMED and not way.startswith("/v1")]
"""Ways that take lists side by side, which may not go together."""


@pytest.mark.parametrize("way", [way for way in FLAT if way != "/get_reward (legacy)"])  # which is one list only
@pytest.mark.parametrize(
    "completions", [COMPLETIONS[:3], [*COMPLETIONS, "more", "and more"], []], ids=["one too few", "two too many", "none"]
)
def test_lists_of_different_lengths_are_refused(place, way, completions):
    with pytest.raises(UsageError) as caught:
        WAYS[way](place, PROMPTS, completions)
    assert re.search(NAMED[way][0], told(caught.value))
    assert re.search(r"(completions|prompts|queries|query|solution_strs)\b.*expected", told(caught.value))


@pytest.mark.parametrize("way", [way for way in FLAT if way not in {"reward_func", "/get_reward"}])
def test_a_part_of_a_group_is_refused_where_its_siblings_cannot_come_later(place, way):
    with pytest.raises(UsageError) as caught:
        WAYS[way](place, PROMPTS[:3], COMPLETIONS[:3])
    assert re.search(NAMED[way][0], told(caught.value))


@pytest.mark.parametrize("way", ["reward_func", "/get_reward", *SINGLE])
def test_a_response_whose_sibling_does_not_come_in_time_is_worth_nothing(hasty, way):
    assert WAYS[way](hasty, [f"only one asks {way}"], ["alone"]) == [0.0]


@pytest.mark.parametrize("way", WHOLE)
def test_an_empty_batch_has_no_rewards_or_is_refused(place, way):
    rewards = asked(place, way, [], [])
    assert "not to be empty" in told(rewards) if isinstance(rewards, UsageError) else rewards == []


@pytest.mark.parametrize("way", ["/v1/route", "/v1/stream", "/get_reward", "/v1/reward", "/v1/part"])
@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b'"p"', b"{}", b"\xff", b"NaN", b"[" * 100_000], ids=lambda body: repr(body[:4])
)
def test_a_body_that_is_no_request_is_refused(place, way, body):
    if (way, body) in {("/v1/route", b"{}"), ("/v1/stream", b"{}")}:
        assert post(place.url, way, body)  # no pairs, and nothing to say about them
        return
    with pytest.raises(UsageError):
        post(place.url, way, body)


@pytest.mark.parametrize("way", ["/v1/route", "/get_reward", "/v1/reward", "/v1/part"])
def test_a_body_that_is_too_large_is_refused_with_what_to_do(place, way):
    with pytest.raises(UsageError, match="--max-request-mb"):
        post(place.url, way, b" " * (2**20 + 1))


@pytest.mark.parametrize("way", ["/v1/route", "/v1/stream"])
def test_two_groups_of_one_name_are_refused(place, way):
    group = {"id": "a", "prompt": "p", "responses": ["x", "y"]}
    with pytest.raises(UsageError, match=r"groups\[1\].id: 'a' names another group"):
        post(place.url, way, {"groups": [group, group]})


@pytest.mark.parametrize("size", [0, 1, -3, 1.5, "4", None])
def test_a_group_size_that_compares_nothing_is_refused_before_anything_waits(place, tmp_path, size):
    (tmp_path / "judgeflow.toml").write_text(CONFIG.format("http://127.0.0.1:9/v1", tmp_path / "verdicts.db"))
    for named, ask in {
        "reward_function: group_size": lambda: reward_function(tmp_path / "judgeflow.toml", group_size=size),
        "compute_score: group_size": lambda: asyncio.run(compute_score("d", "x", None, {"prompt": "p"}, group_size=size, url=place.url)),
        "JudgeflowRewardManager: rollout.n": lambda: JudgeflowRewardManager(verl_config(place.url, size), Letters()),
        "/v1/reward: ": lambda: post(place.url, "/v1/reward", {"prompt": "p", "response": "r", "size": size}),
    }.items():
        with pytest.raises(UsageError, match=named):
            ask()


WORTH = {"reward": 1.0, "share": 0.7, "of": 2, "wanted": 2, "sources": {"judge": 1}}
WRONG = [{"reward": None}, {"reward": math.nan}, {"share": "0.7"}]
LIES = [b"null", b"{}", b"not JSON", *(json.dumps({**WORTH, **wrong}).encode() for wrong in WRONG)]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie[:20].decode())
async def test_what_no_service_says_never_becomes_a_reward(lie):
    async def answer(_request):
        return web.Response(body=lie, content_type="application/json")

    app = web.Application()
    app.add_routes([web.post(path, answer) for path in ("/v1/reward", "/v1/route")])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with RouteClient(url) as client:
        with pytest.raises(ServiceError, match="its answer cannot be read"):
            await client.reward("p", "r", size=2)
        with pytest.raises(ServiceError, match="its answer cannot be read"):
            await client.route([Pair(prompt="p", response_a="a", response_b="b")])
    await runner.cleanup()
