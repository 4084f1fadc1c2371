"""`POST /get_reward`: the remote reward of OpenRLHF, one response a request, and of its predecessors, a batch a request."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web

from judgeflow.adapters.gathering import Place
from judgeflow.adapters.openrlhf import Sample, answer_of, legacy_answer_of, legacy_groups_of, samples_of
from judgeflow.adapters.rendezvous import Rendezvous
from judgeflow.client.wire import complaint_about
from judgeflow.errors import UsageError
from judgeflow.web.reception import Busy
from judgeflow.web.trainers import answering, json_body, off_loop

REWARD_PATH = "/get_reward"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteReward:
    """What the trainer does not say.

    `group_size` is its n_samples_per_prompt, `response_marker` the text that a response follows where no prompts are sent.  A request that
    cannot be answered within `answer_within_s` is told to come again, before the trainer gives up (after 180 s); its place is kept.
    """

    group_size: int | None = None
    response_marker: str | None = None
    answer_within_s: float = 170.0


def openrlhf_routes(rendezvous: Rendezvous, settings: RemoteReward) -> list[web.RouteDef]:
    """Return the route that `--reward.remote_url http://host:port/get_reward` names."""

    async def reward(request: web.Request) -> web.StreamResponse:
        size = settings.group_size
        if size is None:
            raise UsageError("start judgeflow serve with --group-size, the trainer's n_samples_per_prompt")
        sent = await json_body(request)
        body = await off_loop(len(sent), lambda: _decoded(sent))
        if isinstance(body, dict) and "prompts" not in body:
            groups = await off_loop(len(sent), lambda: legacy_groups_of(body, size, settings.response_marker))
            answer = legacy_answer_of(await _placed(rendezvous, [sample for group in groups for sample in group], size, settings))
        else:
            answer = answer_of(await _placed(rendezvous, await off_loop(len(sent), lambda: samples_of(body)), size, settings))
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    return [web.post(REWARD_PATH, answering(reward))]


async def _placed(rendezvous: Rendezvous, samples: Sequence[Sample], size: int, settings: RemoteReward) -> list[Place]:
    """Return what every sample is worth.  Raises `Busy` if that takes too long."""
    try:
        async with asyncio.timeout(settings.answer_within_s):
            return await asyncio.gather(*(rendezvous.join(sample.prompt, sample.response, wanted=size) for sample in samples))
    except TimeoutError:
        raise Busy(f"not decided within {settings.answer_within_s:g} s; ask again, the place is kept") from None


def _decoded(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UsageError(complaint_about(body) or f"the body is not valid JSON: {error.msg} at column {error.colno}") from None
