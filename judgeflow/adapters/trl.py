"""Rewards for TRL's trainers: GRPO, RLOO and Online DPO ask judgeflow instead of a reward model.

>>> from judgeflow.adapters.trl import judge_reward
>>> trainer = GRPOTrainer(model=..., reward_funcs=judge_reward("judgeflow.toml"), args=..., train_dataset=...)

    judge_reward         an `async def` for GRPO and RLOO
    judge_reward_sync    the same, not async
    online_dpo_reward    for OnlineDPOTrainer, whose batches are laid out in another way
    PairwiseJudge        what TRL before 1.1 called a judge, for its trainers and callbacks

Each takes a configuration file, the address of a service (`judgeflow serve --route`), a `Scheduler`, or anything that routes groups
(`judgeflow.adapters.routers`).  TRL itself is not imported.

A response's reward is its advantage over its siblings: A_i = scale / (K-1) * sum over j != i of the logit that i is better than j.  Rewards
of a group sum to zero.  What TRL makes of them: GRPO divides by the group's standard deviation, which erases how sure the judge was (set
`scale_rewards="none"`); RLOO subtracts the mean of the others, which multiplies by K / (K-1).  docs/trl.md has the whole story.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from judgeflow.adapters.given import finite, name_of, size_of, token_ids
from judgeflow.adapters.groups import (
    Places,
    as_groups,
    figures_of,
    groups_of,
    halves_of,
    rewards_of,
    silence_of,
    sources_of,
    told_sources,
)
from judgeflow.adapters.ranks import Rank, rank_of, stretches_of
from judgeflow.adapters.routers import Gateway, RouterSource
from judgeflow.adapters.texts import check_lengths, texts_of
from judgeflow.chance import chance
from judgeflow.client.wire import PartRequest
from judgeflow.dialogue import response_of
from judgeflow.errors import UsageError
from judgeflow.keys import pair_keys
from judgeflow.types import IDENTICAL, Outcome, Prompt

_LOG = logging.getLogger("judgeflow")

Rewards = list[float | None]

FIRST, SECOND, FAILED = 0, 1, -1
"""What a pairwise judge of TRL says."""


def judge_reward(
    router: RouterSource,
    *,
    scale: float = 1.0,
    num_generations: int | None = None,
    eos_token_ids: Collection[int] = (),
    name: str = "judgeflow",
) -> Callable[..., Awaitable[Rewards]]:
    """Return an async reward function for `GRPOTrainer` and `RLOOTrainer`.

    `scale` multiplies the rewards, which are logits: a response that the judge prefers to all others gets the verdict margin, 2.0 unless
    configured otherwise.  `num_generations` is how many responses a prompt has; without it the trainer is looked up, and where that is not
    possible all responses of one prompt are one group.  With `eos_token_ids` a completion that ends in none of these was cut off: it is not
    judged, and its reward is None, which TRL leaves out of the group.  `name` is what TRL logs the reward by.

    The function raises `UsageError` for a batch that it cannot score as a whole, and whatever the router raises.
    """
    scorer = _RewardScorer(router, scale=scale, num_generations=num_generations, eos_token_ids=eos_token_ids, name=name)

    async def reward(prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any) -> Rewards:
        with _named("judge_reward"):  # the caller's loop goes on meanwhile
            return await scorer.gateway.beside(lambda: scorer.rewards(prompts, completions, completion_ids, columns))

    reward.__name__ = reward.__qualname__ = scorer.name
    return reward


def judge_reward_sync(
    router: RouterSource,
    *,
    scale: float = 1.0,
    num_generations: int | None = None,
    eos_token_ids: Collection[int] = (),
    name: str = "judgeflow",
) -> Callable[..., Rewards]:
    """Return a reward function like `judge_reward`'s that is not async, for trainers that await none."""
    scorer = _RewardScorer(router, scale=scale, num_generations=num_generations, eos_token_ids=eos_token_ids, name=name)
    return _sync_function(scorer, "judge_reward_sync")


def online_dpo_reward(router: RouterSource, *, scale: float = 1.0, name: str = "judgeflow") -> Callable[..., Rewards]:
    """Return a reward function for TRL's (experimental) `OnlineDPOTrainer`.

    Its batches hold the first response to every prompt and then the second.  Of two responses the better has `scale` times the logit, the
    other the negative; the trainer looks at the order only, and takes the first where they are equal.
    """
    scorer = _RewardScorer(router, scale=scale, name=name, find=lambda prompts, _: halves_of(prompts))
    return _sync_function(scorer, "online_dpo_reward")


def _sync_function(scorer: _RewardScorer, adapter: str) -> Callable[..., Rewards]:
    def reward(prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any) -> Rewards:
        with _named(adapter):
            return scorer.rewards(prompts, completions, completion_ids, columns)

    reward.__name__ = reward.__qualname__ = scorer.name
    return reward


class PairwiseJudge:
    """A judge as TRL before 1.1 expected it (`OnlineDPOTrainer(judge=...)`, `WinRateCallback(judge=...)`).

    Where judge and scorer see no difference between two responses, one of them wins by the toss of a coin, always the same one for the same
    two responses, so that a win rate is not biased.
    """

    def __init__(self, router: RouterSource) -> None:
        self._gateway = Gateway(router)

    def judge(self, prompts: Sequence[Any], completions: Sequence[Any], shuffle_order: bool = True) -> list[int]:  # noqa: ARG002, FBT001, FBT002  # TRL's signature
        """Return for each prompt which of its two completions is better: 0 the first, 1 the second, -1 if nobody could tell.

        `shuffle_order` is ignored: judgeflow asks in both orders.  Raises `UsageError` for what is not pairs, and what the router raises.
        """
        with _named("PairwiseJudge"):
            check_lengths(prompts, completions=completions)
            firsts, seconds = _firsts_and_seconds(completions)
            texts = texts_of([*prompts, *prompts], [*firsts, *seconds])
            groups = as_groups(*texts, halves_of(texts[0]), usable=[True] * len(texts[0]), name="judge")
            return [_winner(outcome) for outcome in self._gateway.route(groups, None).outcomes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """One call of a reward function: what the judge reads, which of it takes part, and the numbers of the call and of its step."""

    prompts: Sequence[Prompt]
    responses: Sequence[str]
    usable: Sequence[bool]
    size: int | None
    number: int
    step: int | None


class _RewardScorer:
    """What the reward functions have in common: from TRL's arguments to groups, and from a result to rewards."""

    def __init__(
        self,
        router: RouterSource,
        *,
        scale: float,
        name: str,
        num_generations: int | None = None,
        eos_token_ids: Collection[int] = (),
        find: Callable[[Sequence[Prompt], int | None], list[Places]] = groups_of,
    ) -> None:
        here = "judgeflow.adapters.trl"
        self.name, self._scale = name_of(name, f"{here}: name"), finite(scale, f"{here}: scale")
        self._num_generations = None if num_generations is None else size_of(num_generations, f"{here}: num_generations")
        self._eos_token_ids = token_ids(eos_token_ids, f"{here}: eos_token_ids")
        self.gateway = Gateway(router)
        self._find = find
        self._calls = 0  # changed by _batch() only, as the next is
        self._next_step = 0  # the least number that no call has had

    def rewards(self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any, columns: Mapping[str, Any]) -> Rewards:
        """Return the rewards in the order of the batch, and log what is known about them.

        Blocks until they are there, also where the caller is in an event loop.  Raises `UsageError` for a batch that does not consist of
        whole groups of texts, and is no part of one that ranks put together.
        """
        batch = self._batch(prompts, completions, completion_ids, columns)
        rank = rank_of(_trainer(columns)) if self.gateway.brings_ranks_together else None
        return self._own(batch, columns) if rank is None else self._joined(batch, rank, columns)

    def _own(self, batch: _Batch, columns: Mapping[str, Any]) -> Rewards:
        """The rewards of a batch that is all here."""
        places = self._find(batch.prompts, batch.size)
        groups = as_groups(batch.prompts, batch.responses, places, usable=batch.usable, name=f"{self.name}-{batch.step}")
        result = self.gateway.route(groups, batch.step)
        rewards = rewards_of(result, groups, places, self._scale)
        self._warn(result.statistics.step, silence_of(result, self.gateway.refusal))
        self._log(columns, figures_of(result.statistics), sources_of(result, groups, places))
        return rewards

    def _joined(self, batch: _Batch, rank: Rank, columns: Mapping[str, Any]) -> Rewards:
        """The rewards of what this rank has of a batch, once the others have brought theirs."""
        began = time.monotonic()
        answer = self.gateway.route_part(self._part(batch, rank))
        rewards = [place.reward * self._scale if used else None for place, used in zip(answer.places, batch.usable, strict=True)]
        if not all(value is None or math.isfinite(value) for value in rewards):
            raise UsageError(f"the service gave {rewards}; expected are finite numbers")
        incomplete = sum(place.of < place.wanted for place in answer.places)
        self._warn(answer.statistics.step, answer.silence)
        if incomplete:
            _LOG.warning(
                "%s: step %d: ranks %s did not come in time; %d of %d responses here are compared with a part of their siblings",
                self.name, answer.statistics.step, list(answer.missing), incomplete, len(rewards),
            )  # fmt: skip
        figures = {**figures_of(answer.statistics, answer.share), "seconds": time.monotonic() - began, "incomplete": float(incomplete)}
        self._log(
            columns, figures, [told_sources(place.sources if used else {}) for place, used in zip(answer.places, batch.usable, strict=True)]
        )
        return rewards

    def _part(self, batch: _Batch, rank: Rank) -> PartRequest:
        if batch.size is None:
            raise UsageError("nobody says how many responses a prompt has over all processes; give num_generations")
        return PartRequest(
            job=f"{self.name}@{rank.job}",
            batch=batch.number,
            rank=rank.index,
            ranks=rank.count,
            size=batch.size,
            step=batch.step,
            stretches=stretches_of(batch.prompts, batch.responses, batch.usable),
        )

    def _batch(self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any, columns: Mapping[str, Any]) -> _Batch:
        """Return what is to be judged.  Raises `UsageError` naming what is no text."""
        check_lengths(prompts, completions=completions, completion_ids=completion_ids)
        texts, usable = texts_of(prompts, completions), self._usable(completion_ids, len(prompts))
        size = self._num_generations or _generations(_trainer(columns))
        self._calls += 1
        step = self._step(columns.get("trainer_state"))
        return _Batch(prompts=texts[0], responses=texts[1], usable=usable, size=size, number=self._calls, step=step)

    def _warn(self, step: int, silent: str) -> None:
        if silent:
            _LOG.warning("%s: step %d: nobody had a word on %s", self.name, step, silent)

    def _log(self, columns: Mapping[str, Any], figures: Mapping[str, float], sources: list[str]) -> None:
        """Give the trainer what it logs, if it takes it."""
        if (log_metric := columns.get("log_metric")) is not None:
            for name, value in figures.items():
                log_metric(f"{self.name}/{name}", value)
        if (log_extra := columns.get("log_extra")) is not None:
            log_extra(f"{self.name}/sources", sources)

    def _usable(self, completion_ids: Any, count: int) -> list[bool]:
        if not self._eos_token_ids:
            return [True] * count
        if completion_ids is None:
            raise UsageError("eos_token_ids are compared with completion_ids, which the trainer did not pass")
        return [len(ids) > 0 and int(ids[-1]) in self._eos_token_ids for ids in completion_ids]

    def _step(self, trainer_state: Any) -> int | None:
        """Return the trainer's global step; where that has been given to an earlier call, the next number that has not."""
        if trainer_state is None:
            return None
        step = max(int(trainer_state.global_step), self._next_step)
        self._next_step = step + 1
        return step


def _trainer(columns: Mapping[str, Any]) -> Any:
    """Return the trainer that calls, or None: it passes its own method to log by, so whose method that is tells."""
    return getattr(columns.get("log_metric"), "__self__", None)


def _generations(trainer: Any) -> int | None:
    """Return how many responses a trainer samples for a prompt, in training or in evaluation; None if it cannot be asked."""
    training = getattr(getattr(trainer, "model", None), "training", True)
    found = getattr(trainer, "num_generations" if training else "num_generations_eval", None)
    return found if isinstance(found, int) else None


def _firsts_and_seconds(completions: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Return the first completion of every prompt, and the second.  Raises `UsageError` naming what is no pair, or no text."""
    sides: tuple[list[str], list[str]] = ([], [])
    for place, pair in enumerate(completions):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise UsageError(f"completions[{place}]: expected two completions of one prompt")
        for side, completion in enumerate(pair):
            try:
                sides[side].append(response_of(completion))
            except ValueError as error:
                raise UsageError(f"completions[{place}][{side}]: {error}") from None
    return sides


def _winner(outcome: Outcome) -> int:
    if outcome.logit != 0:
        return FIRST if outcome.logit > 0 else SECOND
    if outcome.verdict is None and outcome.preference is None and outcome.status != IDENTICAL:
        return FAILED
    keys = pair_keys(outcome.pair)
    return FIRST if (chance(0, "coin", keys.pair.hex()) < 0.5) == keys.canonical else SECOND


@contextmanager
def _named(adapter: str) -> Iterator[None]:
    """Say in every error which adapter it comes from."""
    try:
        yield
    except Exception as error:  # whatever it is, it is raised on, and says where it came from
        error.add_note(f"(while judgeflow.adapters.trl.{adapter} scored a batch for TRL)")
        raise
