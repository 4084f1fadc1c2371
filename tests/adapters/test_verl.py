"""verl's ways of asking, against a running service: one sample at a time from several processes, and a batch at once."""

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from rows import Letters, Rows, verl_config
from served import scheduler, served_in_a_thread

from judgeflow import Group
from judgeflow.adapters.rendezvous import Patience
from judgeflow.adapters.verl import JudgeflowRewardManager, compute_score, compute_score_batch
from judgeflow.errors import UsageError
from judgeflow.testing import arithmetic_pairs

PAIRS = arithmetic_pairs(12)
GROUPS = [
    Group(id=f"g{k}", prompt=pair.prompt, responses=(pair.response_a, pair.response_b, "I do not know.", "42"))
    for k, pair in enumerate(PAIRS[:6])
]
SAMPLES = [(group.prompt, response) for group in GROUPS for response in group.responses]


def advantages():
    """What the same groups get when they are routed here."""

    async def routed():
        async with scheduler(PAIRS) as router:
            found = (await router.route_groups(GROUPS)).advantages()
            return [value for group in GROUPS for value in found[group.id]]

    return asyncio.run(routed())


WORKER = """
import asyncio, json, sys
from judgeflow.adapters.verl import compute_score

async def main():
    url, samples = json.loads(sys.stdin.read())
    scored = await asyncio.gather(*(
        compute_score("data", response, "truth", {"prompt": [{"role": "user", "content": prompt}]}, group_size=4, url=url, unknown=1)
        for prompt, response in samples
    ))
    print(json.dumps(scored))

asyncio.run(main())
"""


def asked_by_a_worker(url, samples):
    """What a process of its own is told about some samples."""
    command = [sys.executable, "-W", "error", "-c", WORKER]
    done = subprocess.run(command, input=json.dumps([url, samples]), capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_samples_that_are_spread_over_processes_get_what_whole_groups_would():
    with served_in_a_thread(PAIRS) as served:
        with ThreadPoolExecutor() as threads:
            answers = list(threads.map(lambda place: asked_by_a_worker(served.url, SAMPLES[place::3]), range(3)))
        assert served.told == []
    scored = [answers[place % 3][place // 3] for place in range(len(SAMPLES))]
    assert [each["score"] for each in scored] == pytest.approx(conversational_advantages())
    assert {tuple(each) for each in scored} == {("score", "share", "judged_share", "group_incomplete")}
    assert all(each["group_incomplete"] == 0 for each in scored)


def conversational_advantages():
    """What the groups get when their prompts are messages, as the workers send them."""

    async def routed():
        async with scheduler(PAIRS) as router:
            groups = [
                Group(id=group.id, prompt=({"role": "user", "content": group.prompt},), responses=group.responses) for group in GROUPS
            ]
            found = (await router.route_groups(groups)).advantages()
            return [value for group in groups for value in found[group.id]]

    return asyncio.run(routed())


def test_a_batch_of_whole_groups_is_scored_at_once_in_whatever_order_it_is():
    order = sorted(range(len(SAMPLES)), key=lambda place: (place * 7) % len(SAMPLES))
    with served_in_a_thread(PAIRS) as served:
        scores = compute_score_batch(
            ["d"] * len(order),
            [SAMPLES[place][1] for place in order],
            [None] * len(order),
            [{"prompt": SAMPLES[place][0]} for place in order],
            group_size=4,
            url=served.url,
        )
    by_sample = dict(zip(SAMPLES, advantages(), strict=True))
    assert scores == pytest.approx([by_sample[SAMPLES[place]] for place in order])


def manager(url, n=4):
    return JudgeflowRewardManager(verl_config(url, n), Letters())


def test_a_reward_manager_decodes_samples_tells_groups_by_their_uid_and_puts_scores_on_last_tokens():
    data = Rows(SAMPLES, uid=[f"uid-{place // 4}" for place in range(len(SAMPLES))])

    async def run(url):
        reward = manager(url)
        return await asyncio.gather(*(reward.run_single(data.row(place)) for place in range(len(SAMPLES))))

    with served_in_a_thread(PAIRS) as served:
        results = asyncio.run(run(served.url))
    scores = [result["reward_score"] for result in results]
    assert scores == pytest.approx(advantages())
    assert all(result["reward_extra_info"]["judged_share"] == 1.0 for result in results)
    scored = JudgeflowRewardManager.assemble_rm_scores(data, scores)
    assert (scored.dtype, scored.shape) == (torch.float32, data.batch["responses"].shape)
    for row, (_, response) in enumerate(SAMPLES):
        assert scored[row, len(response) - 1].item() == pytest.approx(scores[row])
        assert scored[row].count_nonzero() == int(scores[row] != 0)


def test_two_groups_of_one_prompt_are_kept_apart_by_their_uid():
    samples = [("p", text) for text in ("a", "b", "c", "d")]
    data = Rows(samples, uid=["one", "two", "one", "two"], raw_prompt=[[{"role": "user", "content": "p"}]] * 4)

    async def run(url):
        reward = manager(url, n=2)
        return await asyncio.gather(*(reward.run_single(data.row(place)) for place in range(4)))

    with served_in_a_thread(PAIRS, patience=Patience(linger_s=5)) as served:
        scores = [result["reward_score"] for result in asyncio.run(run(served.url))]
    assert scores[0] == -scores[2] != 0
    assert scores[1] == -scores[3] != 0


def test_what_is_missing_is_named():
    with pytest.raises(UsageError, match="compute_score: extra_info has no 'prompt', only index"):
        asyncio.run(compute_score("d", "x", "t", {"index": 3}, group_size=2))
    with pytest.raises(UsageError, match=r"extra_infos\[1\]\['prompt'\]: a prompt given as messages needs at least one message"):
        compute_score_batch(["d"] * 2, ["x", "y"], [None] * 2, [{"prompt": "p"}, {"prompt": []}])
    with pytest.raises(UsageError, match="2 solution_strs with 2 data_sources and 1 extra_infos"):
        compute_score_batch(["d"] * 2, ["x", "y"], [None] * 2, [{"prompt": "p"}])
    with pytest.raises(UsageError, match="has one response here"):
        compute_score_batch(["d"], ["x"], [None], [{"prompt": "p"}])
    with pytest.raises(UsageError, match=r"rollout.n is 1; responses are compared with their siblings"):
        manager("http://127.0.0.1:1", n=1)
    with pytest.raises(UsageError, match="JUDGE_TOKEN is not set"):
        asyncio.run(compute_score("d", "x", "t", {"prompt": "p"}, group_size=2, token_env="JUDGE_TOKEN"))
