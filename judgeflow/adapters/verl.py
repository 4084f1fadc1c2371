"""Rewards for verl: its reward workers are processes of their own, so all of them ask one judgeflow service.

    compute_score           `reward.custom_reward_function`, called for one sample at a time
    compute_score_batch     the same for verl's batch reward manager
    JudgeflowRewardManager  `reward.reward_manager` with `source: importlib`: needs nothing of the data set but its prompts

A sample's reward is its advantage over its siblings (`judgeflow.types.StepResult.advantages`), so it is known when all of them have been
sampled.  verl spreads siblings over its workers in any order; the service brings them together.  verl itself is not imported.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

from judgeflow.adapters.given import size_of
from judgeflow.adapters.groups import as_groups, groups_of, rewards_of
from judgeflow.adapters.routers import close_at_exit
from judgeflow.client import RouteClient
from judgeflow.dialogue import prompt_of
from judgeflow.engine.loop_thread import LoopThread
from judgeflow.errors import UsageError
from judgeflow.types import Prompt

URL = "http://127.0.0.1:8765"
"""Where `judgeflow serve` listens unless told otherwise."""

SIZE_KEY = "group_size"

_connections: dict[tuple[str, str | None], _Connection] = {}
"""One for each service and token: `compute_score` is called for every sample."""


async def compute_score(
    data_source: str,  # noqa: ARG001  # verl's signature
    solution_str: str,
    ground_truth: Any,  # noqa: ARG001
    extra_info: Mapping[str, Any] | None = None,
    *,
    group_size: int,
    url: str = URL,
    token_env: str | None = None,
    prompt_key: str = "prompt",
    group_key: str = "uid",
    **_: Any,
) -> dict[str, float]:
    """Return the score of one sample, and figures for verl's log: the same keys for every sample.

    `extra_info[prompt_key]` is the prompt, a text or messages; `extra_info[group_key]` names the group where the data set has such a key.
    `group_size` is `rollout.n`.  Raises `UsageError` for what is missing, `ServiceError` without a service.
    """
    size = size_of(group_size, "compute_score: group_size (rollout.n)")
    prompt = _prompt(extra_info, prompt_key, "compute_score: extra_info")
    response = _response(solution_str, "compute_score: solution_str")
    group = (extra_info or {}).get(group_key)
    return await _connection(url, token_env).score(prompt, response, size=size, group=None if group is None else str(group))


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],  # noqa: ARG001
    extra_infos: Sequence[Mapping[str, Any] | None],
    *,
    group_size: int | None = None,
    url: str = URL,
    token_env: str | None = None,
    prompt_key: str = "prompt",
    **_: Any,
) -> list[float]:
    """Return the scores of a batch that holds whole groups.  Raises like `compute_score`, and for a part of a group."""
    if not len(data_sources) == len(solution_strs) == len(extra_infos):
        raise UsageError(
            f"compute_score_batch: {len(solution_strs)} solution_strs with {len(data_sources)} data_sources and {len(extra_infos)} "
            "extra_infos; expected is one for each"
        )
    size = None if group_size is None else size_of(group_size, "compute_score_batch: group_size (rollout.n)")
    prompts = [_prompt(info, prompt_key, f"compute_score_batch: extra_infos[{place}]") for place, info in enumerate(extra_infos)]
    responses = [_response(text, f"compute_score_batch: solution_strs[{place}]") for place, text in enumerate(solution_strs)]
    try:
        places = groups_of(prompts, size)
    except UsageError as error:
        raise UsageError(f"compute_score_batch: {error}") from None
    groups = as_groups(prompts, responses, places, usable=[True] * len(prompts), name="verl")
    with RouteClient(url, token=_token(token_env)) as client:
        rewards = rewards_of(client.route_groups_sync(groups), groups, places, 1.0)
    return [reward or 0.0 for reward in rewards]


class JudgeflowRewardManager:
    """A reward manager for `reward.reward_manager: {source: importlib, module: {path: ...}, name: JudgeflowRewardManager}`.

    The group size is `actor_rollout_ref.rollout.n`; `+judgeflow.url`, `+judgeflow.token_env` and `+judgeflow.group_size` on verl's command
    line say otherwise.
    """

    def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:  # noqa: ARG002  # verl's signature
        settings = config.get("judgeflow") or {}
        size = settings.get(SIZE_KEY) or config.actor_rollout_ref.rollout.n
        self.tokenizer = tokenizer
        self._size = size_of(size, "JudgeflowRewardManager: rollout.n")
        self._url, self._token_env = settings.get("url") or URL, settings.get("token_env")

    @classmethod
    def init_class(cls, config: Any, tokenizer: Any) -> None:
        """Called by verl once; there is nothing to do."""

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Return the reward of one sample: of its last sequence, where it has several."""
        item = data[-1]
        prompt, response = await asyncio.to_thread(self._texts, item)
        group = item.non_tensor_batch.get("uid")
        connection = _connection(self._url, self._token_env)
        scored = await connection.score(prompt, response, size=self._size, group=None if group is None else str(group))
        return {"reward_score": scored["score"], "reward_extra_info": scored}

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: Sequence[float]) -> Any:
        """Return the scores as a tensor like the responses', each at the last token of its response."""
        responses = data.batch["responses"]
        scored = responses.new_zeros(responses.shape).float()
        ends = data.batch["attention_mask"][:, data.batch["prompts"].shape[1] :].sum(dim=1)
        for row, (end, score) in enumerate(zip(ends.tolist(), scores, strict=True)):
            scored[row, end - 1] = score
        return scored

    def _texts(self, item: Any) -> tuple[Prompt, str]:
        """Return the prompt, as messages where verl has them, and the response."""
        ids, mask = item.batch["responses"], item.batch["attention_mask"]
        response = self.tokenizer.decode(ids[: int(mask[-ids.shape[-1] :].sum())], skip_special_tokens=True)
        raw = item.non_tensor_batch.get("raw_prompt")
        if raw is not None:
            return _read_prompt(raw, "JudgeflowRewardManager: raw_prompt"), response
        prompt_ids = item.batch["prompts"]
        shown = mask[: prompt_ids.shape[-1]].bool()
        return self.tokenizer.decode(prompt_ids[shown], skip_special_tokens=True), response


class _Connection:
    """A client on a loop of its own, which lasts as long as the process: the loops that ask come and go."""

    def __init__(self, url: str, token: str | None) -> None:
        self._client, self._thread = RouteClient(url, token=token), LoopThread()
        close_at_exit(self._close)

    async def score(self, prompt: Prompt, response: str, *, size: int, group: str | None) -> dict[str, float]:
        """Return what verl is told of a sample."""
        asked = self._thread.submit(self._client.reward(prompt, response, size=size, group=group))
        answer = await asyncio.wrap_future(asked)
        pairs = max(1, sum(answer.sources.values()))
        judged = answer.sources.get("judge", 0) + answer.sources.get("store", 0)
        return {
            "score": answer.reward,
            "share": answer.share,
            "judged_share": judged / pairs,
            "group_incomplete": float(answer.of < answer.wanted),
        }

    def _close(self) -> None:
        self._thread.run(self._client.aclose())
        self._thread.stop()


def _connection(url: str, token_env: str | None) -> _Connection:
    key = (url, token_env)
    if key not in _connections:
        _connections[key] = _Connection(url, _token(token_env))
    return _connections[key]


def _token(variable: str | None) -> str | None:
    if variable is None:
        return None
    token = os.environ.get(variable)
    if not token:
        raise UsageError(f"token_env: the environment variable {variable} is not set in this process")
    return token


def _prompt(extra_info: object, key: str, name: str) -> Prompt:
    """Return the prompt that stands under a key of what `name` names."""
    if extra_info is not None and not isinstance(extra_info, Mapping):
        raise UsageError(f"{name} is expected to be a dict, not {type(extra_info).__name__}")
    info = extra_info or {}
    if key not in info:
        known = ", ".join(map(str, info)) or "nothing"
        raise UsageError(f"{name} has no {key!r}, only {known}; put the prompt there, or name its key as prompt_key")
    return _read_prompt(info[key], f"{name}[{key!r}]")


def _read_prompt(value: Any, name: str) -> Prompt:
    """Return a prompt; data that was read from Parquet has messages in an array."""
    try:
        return prompt_of(value.tolist() if hasattr(value, "tolist") else value)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _response(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name} is expected to be a text, not {type(value).__name__}")
    return str(value)
