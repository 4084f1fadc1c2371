"""Scalars of every step for TensorBoard, beside those of the training run.  docs/metrics.md lists them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from judgeflow.errors import ConfigurationError
from judgeflow.observe.places import cannot_write, try_folder
from judgeflow.types import Agreement, CallEvent, Source, StepStatistics

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

PREFIX = "judgeflow"
FLUSH_S = 10.0
"""How old, in seconds, what is not on disk yet may become while steps go on."""

MOST_UNWRITTEN = 1000
"""Steps that may wait for a slow disk before the event loop does: the package's own 10 would be reached by a hiccup."""


class ScalarsObserver:
    """Writes one event with all scalars of a step, at the step's number.  A thread of the writer's puts it on disk.

    A run that goes on writes another file into the same folder; TensorBoard shows both as one run.
    """

    def __init__(self, writer: EventFileWriter, *, wall: Callable[[], float] = time.time) -> None:
        self._writer = writer
        self._wall = wall

    def call(self, event: CallEvent) -> None:
        """Attempts are counted by their step."""

    def step(self, statistics: StepStatistics) -> None:
        """Write the scalars of a step."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=f"{PREFIX}/{tag}", simple_value=value) for tag, value in scalars(statistics).items()]
        self._writer.add_event(Event(wall_time=self._wall(), step=statistics.step, summary=Summary(value=values)))

    def notice(self, event: str, **fields: object) -> None:
        """Notices are no numbers."""

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._writer.close()


def scalars(statistics: StepStatistics) -> dict[str, float]:
    """Return the numbers of a step by tag; what a step has no value for is left out."""
    pairs = statistics.pairs
    shares = {f"share/{source}": statistics.sources.get(source, 0) / pairs if pairs else None for source in get_args(Source)}
    return _known(
        {
            "threshold": statistics.threshold,
            "pairs": pairs,
            **shares,
            "calls": statistics.calls,
            "tokens/prompt": statistics.prompt_tokens,
            "tokens/completion": statistics.completion_tokens,
            "usd": statistics.spent.usd,
            "swap_agreement": statistics.agreement,
            "scorer_agreement/routed": _share(statistics.routed),
            "scorer_agreement/audited": _share(statistics.audited),
            "seconds": statistics.seconds,
            **{f"latency_s/{name}": value for name, value in statistics.latency_s.items()},
            **{f"budget_left/{kind}": left for kind, left in statistics.remaining.items()},
        }
    )


def _known(values: Mapping[str, float | None]) -> dict[str, float]:
    return {tag: float(value) for tag, value in values.items() if value is not None}


def _share(agreement: Agreement) -> float | None:
    return agreement.agreed / agreement.weight if agreement.weight else None


def tensorboard_scalars(folder: Path) -> ScalarsObserver:
    """Return an observer that writes into `folder`.  Raises `ConfigurationError` without the package, or if it cannot write there."""
    try_scalars(folder)
    settings = {"max_queue_size": MOST_UNWRITTEN, "flush_secs": FLUSH_S}
    try:
        return ScalarsObserver(_writer()(str(folder), **settings))
    except OSError as error:
        raise _no_folder(folder, error) from None


def try_scalars(folder: Path) -> None:
    """Raise `ConfigurationError` as `tensorboard_scalars`, and write nothing."""
    _writer()
    try:
        try_folder(folder)
    except OSError as error:
        raise _no_folder(folder, error) from None


def _writer() -> Callable[..., EventFileWriter]:
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise ConfigurationError(f"[log] tensorboard: needs the extra: pip install 'judgeflow[tensorboard]' ({error})") from None
    make: Callable[..., EventFileWriter] = EventFileWriter
    return make


def _no_folder(folder: Path, error: OSError) -> ConfigurationError:
    return cannot_write("[log] tensorboard", folder, error, "name a folder that can be made and written")
