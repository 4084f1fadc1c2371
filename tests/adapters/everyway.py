"""Every way in which a trainer asks judgeflow, under one signature: flat prompts and completions, `SIZE` in a row, in; rewards out.

What is asked is passed on as it is, so what is wrong with it reaches the adapter; an HTTP answer that refuses is raised as `UsageError`.
"""

import asyncio
import itertools
import json
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from rows import Letters, Rows, verl_config

from judgeflow import Group
from judgeflow.adapters.trl import PairwiseJudge, judge_reward, judge_reward_sync, online_dpo_reward
from judgeflow.adapters.verl import JudgeflowRewardManager, compute_score, compute_score_batch
from judgeflow.client import RouteClient
from judgeflow.errors import UsageError

SIZE = 2
MARKER = "|answer|"


def post(url, path, body):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        with error:
            raise refusal(path, error.code, error.reason, json.load(error)["error"]["message"]) from None


def refusal(path, status, reason, message):
    """What a client makes of an answer that refuses.  Its status line says why, too, for trainers that read nothing else."""
    assert status in {400, 413}, (status, message)
    assert reason == "".join(each if " " <= each <= "~" else " " for each in message)[:300]
    return UsageError(f"{path}: {message}")


def pairs_in(prompts, completions):
    """The flat lists as (prompt, its completions)."""
    return [(prompts[k], completions[k : k + SIZE]) for k in range(0, len(prompts), SIZE)]


def trl_async(place, prompts, completions):
    return asyncio.run(judge_reward(place.router, num_generations=SIZE)(prompts, completions))


def trl_sync(place, prompts, completions):
    return judge_reward_sync(place.router, num_generations=SIZE)(prompts, completions)


def trl_online_dpo(place, prompts, completions):
    halves = [prompts[::2] + prompts[1::2], completions[::2] + completions[1::2]]
    rewards, middle = online_dpo_reward(place.router)(*halves), len(completions) // 2
    return [rewards[k // 2 + middle * (k % 2)] for k in range(len(rewards))]


def trl_judge(place, prompts, completions):
    pairs = [list(completions[k : k + SIZE]) for k in range(0, len(completions), SIZE)]
    signs = {0: (1.0, -1.0), 1: (-1.0, 1.0), -1: (0.0, 0.0)}
    return [sign for winner in PairwiseJudge(place.router).judge(prompts[::SIZE], pairs) for sign in signs[winner]]


def joined(prompts, completions):
    """Prompt and completion as OpenRLHF decodes them together; what is no text stays what it is."""
    texts = [f"{p}{c}" if isinstance(p, str) and isinstance(c, str) else c for p, c in zip(prompts, completions, strict=False)]
    return texts + list(completions[len(texts) :])


def openrlhf_func(place, prompts, completions):
    return place.reward_func(joined(prompts, completions), prompts, [None] * len(prompts))["rewards"]


def openrlhf_remote(place, prompts, completions):
    body = {"query": joined(prompts, completions), "prompts": prompts, "labels": [None] * len(prompts)}
    return json.loads(post(place.url, "/get_reward", body))["rewards"]


def openrlhf_legacy(place, prompts, completions):
    queries = [f"{p}{MARKER}{c}" if isinstance(c, str) else c for p, c in zip(prompts, completions, strict=False)]
    return json.loads(post(place.url, "/get_reward", {"query": queries}))["rewards"]


def verl_sample(place, prompts, completions):
    async def all_of_them():
        asked = (
            compute_score("data", completion, None, {"prompt": prompt}, group_size=SIZE, url=place.url)
            for prompt, completion in zip(prompts, completions, strict=False)
        )
        return [scored["score"] for scored in await asyncio.gather(*asked)]

    return asyncio.run(all_of_them())


def verl_batch(place, prompts, completions):
    infos = [{"prompt": prompt} for prompt in prompts]
    return compute_score_batch(["data"] * len(prompts), completions, [None] * len(prompts), infos, group_size=SIZE, url=place.url)


def verl_manager(place, prompts, completions):
    def row(prompt, completion):
        return Rows([("?", completion)], raw_prompt=[prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]])

    async def all_of_them():
        manager = JudgeflowRewardManager(verl_config(place.url, SIZE), Letters())
        rows = [row(prompt, completion) for prompt, completion in zip(prompts, completions, strict=False)]
        return [scored["reward_score"] for scored in await asyncio.gather(*map(manager.run_single, rows))]

    return asyncio.run(all_of_them())


def groups_as_json(prompts, completions):
    return {"groups": [{"id": f"g{k}", "prompt": p, "responses": list(pair)} for k, (p, pair) in enumerate(pairs_in(prompts, completions))]}


def http_route(place, prompts, completions):
    return [
        value
        for found in json.loads(post(place.url, "/v1/route", groups_as_json(prompts, completions)))["advantages"].values()
        for value in found
    ]


def http_stream(place, prompts, completions):
    lines = post(place.url, "/v1/stream", groups_as_json(prompts, completions)).splitlines()
    *outcomes, last = map(json.loads, lines)
    assert last == {"total": len(outcomes)}
    logits = {line["index"]: line["outcome"]["logit"] for line in outcomes}
    return [value for index in range(len(logits)) for value in (logits[index], -logits[index])]


def http_reward(place, prompts, completions):
    def ask(prompt, completion):
        return json.loads(post(place.url, "/v1/reward", {"prompt": prompt, "response": completion, "size": SIZE}))["reward"]

    with ThreadPoolExecutor(len(prompts) or 1) as threads:
        return list(threads.map(ask, prompts, completions))


def as_part(prompts, completions, rank, ranks, job):
    """What one rank has of the batch: each prompt with the completions that follow one another."""
    count = len(prompts) // ranks
    rows = list(zip(prompts, completions, strict=True))[rank * count : (rank + 1) * count]
    found = [list(each) for _, each in itertools.groupby(rows, key=lambda row: row[0])]
    stretches = [{"prompt": each[0][0], "responses": [completion for _, completion in each]} for each in found]
    return {"job": job, "batch": 0, "rank": rank, "ranks": ranks, "size": SIZE, "stretches": stretches}


def http_part(place, prompts, completions):
    job, ranks = uuid.uuid4().hex, 2
    with ThreadPoolExecutor(ranks) as threads:
        bodies = [as_part(prompts, completions, rank, ranks, job) for rank in range(ranks)]
        answers = list(threads.map(lambda body: json.loads(post(place.url, "/v1/part", body)), bodies))
    return [worth["reward"] for answer in answers for worth in answer["places"]]


def client_route_groups(place, prompts, completions):
    groups = [Group(id=f"g{k}", prompt=p, responses=tuple(pair)) for k, (p, pair) in enumerate(pairs_in(prompts, completions))]
    with closing(RouteClient(place.url)) as client:
        return [value for found in client.route_groups_sync(groups).advantages().values() for value in found]


def client_reward(place, prompts, completions):
    async def all_of_them():
        async with RouteClient(place.url) as client:
            asked = (client.reward(p, c, size=SIZE) for p, c in zip(prompts, completions, strict=False))
            return [answer.reward for answer in await asyncio.gather(*asked)]

    return asyncio.run(all_of_them())


WHOLE = {
    "judge_reward": trl_async,
    "judge_reward_sync": trl_sync,
    "online_dpo_reward": trl_online_dpo,
    "PairwiseJudge": trl_judge,
    "reward_func": openrlhf_func,
    "/get_reward": openrlhf_remote,
    "/get_reward (legacy)": openrlhf_legacy,
    "compute_score_batch": verl_batch,
    "/v1/route": http_route,
    "/v1/stream": http_stream,
    "/v1/part": http_part,
    "RouteClient.route_groups": client_route_groups,
}
"""Asked about a batch at once."""

SINGLE = {
    "compute_score": verl_sample,
    "JudgeflowRewardManager": verl_manager,
    "/v1/reward": http_reward,
    "RouteClient.reward": client_reward,
}
"""Asked about a sample at a time."""

WAYS = WHOLE | SINGLE
