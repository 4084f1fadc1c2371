"""Who watches a training run, and how it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str, int, int], None]
"""Is told (what is going on, how much of it is done, how much there is)."""

Observe = Callable[[Mapping[str, Any]], None]
"""Is told what happened, as a record that JSON can hold; its "event" names the kind.

    step         step, member, loss, lr, gradient_norm, pairs, tokens (that the body read), seconds
    evaluation   step, member, loss and accuracy (on the held-out pairs), best (loss), seconds
    resume       step, member: training goes on after this step
    restart      reason: a state was found and not used
    trial        what `tune` tried: spectral_bound (None: the plain model), accuracy, logit_std, seconds
    tuned        what `tune` chose: spectral_bound, logit_scale
    final        what training found, and the scorer's fingerprint
"""


def silent(activity: str, done: int, total: int) -> None:
    """The progress of a run that nobody watches."""
    del activity, done, total


def unobserved(record: Mapping[str, Any]) -> None:
    """The records of a run that nobody watches."""
    del record


def never() -> bool:
    """The answer of a run that nobody stops."""
    return False


@dataclass(frozen=True, slots=True)
class Watch:
    """The three of them.  `stop` is asked between steps and between batches: once true, training ends with `KeyboardInterrupt`."""

    progress: Progress = silent
    observe: Observe = unobserved
    stop: Callable[[], bool] = never

    def reading(self, done: int, total: int) -> None:
        """Tell how many texts have been read."""
        self.progress("reading", done, total)
        if self.stop():
            raise KeyboardInterrupt
