"""One rank's side of a batch that several ranks hold parts of: which rank this is, and what its part looks like on the wire.

`judgeflow.adapters.assembly` is the other side.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from judgeflow.client.wire import Stretch
from judgeflow.errors import UsageError
from judgeflow.types import Prompt

_JOB = "judgeflow/job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Which of `count` processes this is, and a name that they share with each other and with no other training."""

    index: int
    count: int
    job: str


def rank_of(trainer: Any) -> Rank | None:
    """Return the rank of a trainer that trains in several processes; None for one that does not.

    Raises `UsageError` where the processes know nothing of each other that could name them.
    """
    accelerator = getattr(trainer, "accelerator", None)
    count = getattr(accelerator, "num_processes", 1)
    return Rank(index=accelerator.process_index, count=count, job=_job()) if accelerator is not None and count > 1 else None


def _job() -> str:
    """Return the name that the process group has been given: by whichever of its ranks asked first.

    The ranks agree on it by the store through which they have found each other.  Started again, they have another store.
    """
    from torch import distributed  # the trainer has imported it

    if not distributed.is_initialized():
        raise UsageError("this training has several processes without torch.distributed, by which judgeflow tells which belong together")
    store = distributed.distributed_c10d._get_default_store()  # noqa: SLF001  # a collective would have to be on the trainer's own thread
    return bytes(store.compare_set(_JOB, "", uuid.uuid4().hex)).decode()


def stretches_of(prompts: Sequence[Prompt], responses: Sequence[str], usable: Sequence[bool]) -> tuple[Stretch, ...]:
    """Return the rows of a part, those one after the other that have one prompt put together."""
    places = iter(range(len(prompts)))
    return tuple(_stretch(prompt, responses, usable, [next(places) for _ in rows]) for prompt, rows in itertools.groupby(prompts))


def _stretch(prompt: Prompt, responses: Sequence[str], usable: Sequence[bool], places: Sequence[int]) -> Stretch:
    mask = tuple(usable[place] for place in places)
    return Stretch(prompt=prompt, responses=tuple(responses[place] for place in places), mask=None if all(mask) else mask)
