"""A reward function for OpenRLHF's `--reward.remote_url my_reward.py`, where one process samples everything.

    from judgeflow.adapters.openrlhf_local import reward_function
    reward_func = reward_function("judgeflow.toml", group_size=4)

OpenRLHF calls it once for each sample, on its threads, and each call waits for its siblings.  Python gives it at most 32 threads, so with
many prompts under way at a time let it ask `judgeflow serve` instead, which has no such bound: `--reward.remote_url http://host:port/get_reward`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from judgeflow.adapters.gathering import Place
from judgeflow.adapters.given import seconds_of, size_of
from judgeflow.adapters.openrlhf import Sample, answer_of, paired
from judgeflow.adapters.rendezvous import Patience, Rendezvous
from judgeflow.adapters.routers import close_at_exit, stop_and_say
from judgeflow.config import load_config
from judgeflow.engine.loop_thread import LoopThread
from judgeflow.engine.scheduler import Scheduler
from judgeflow.errors import UsageError

Answer = Mapping[str, Any]


def reward_function(config: str | Path, *, group_size: int, linger_s: float = 60.0) -> Callable[..., Answer]:
    """Return `reward_func(queries, prompts, labels)`; `group_size` is n_samples_per_prompt.

    The configuration is read at once, and its scheduler opened with the first sample.  What the function returns is lists, which OpenRLHF
    makes tensors of.  It raises `UsageError` for what cannot be scored; OpenRLHF writes that to its log, and goes on without a reward.
    """
    size = size_of(group_size, "reward_function: group_size (n_samples_per_prompt)")
    patience = Patience(linger_s=seconds_of(linger_s, "reward_function: linger_s"))
    asking = _Asking(Scheduler.from_config(load_config(config)), size=size, patience=patience)

    def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any] = (), **_: Any) -> Answer:  # noqa: ARG001  # OpenRLHF's signature
        try:
            return answer_of(asking.places(paired(queries, prompts)))
        except UsageError as error:
            raise UsageError(f"judgeflow's reward_func: {error}") from None

    return reward_func


class _Asking:
    """A scheduler and a rendezvous on a loop of their own, opened with the first sample."""

    def __init__(self, scheduler: Scheduler, *, size: int, patience: Patience) -> None:
        self._scheduler, self._size, self._patience = scheduler, size, patience
        self._opening = threading.Lock()
        self._thread: LoopThread | None = None
        self._rendezvous: Rendezvous | None = None

    def places(self, samples: Sequence[Sample]) -> list[Place]:
        """Return what every sample is worth, when its siblings have come on other threads."""
        with self._opening:
            thread, rendezvous = self._opened()
        return thread.run(_join_all(rendezvous, samples, self._size))

    def _opened(self) -> tuple[LoopThread, Rendezvous]:
        if self._thread is None or self._rendezvous is None:
            self._thread = LoopThread()
            self._thread.run(self._scheduler.open())
            self._rendezvous = Rendezvous(self._scheduler, patience=self._patience, tell=self._scheduler.notice)
            close_at_exit(self._close)
        return self._thread, self._rendezvous

    def _close(self) -> None:
        if self._thread is not None and self._rendezvous is not None:
            try:
                stop_and_say(self._scheduler)
                self._thread.run(self._rendezvous.aclose())
                self._thread.run(self._scheduler.aclose())
            finally:
                self._thread.stop()


async def _join_all(rendezvous: Rendezvous, samples: Sequence[Sample], size: int) -> list[Place]:
    return await asyncio.gather(*(rendezvous.join(sample.prompt, sample.response, wanted=size) for sample in samples))
