"""A progress bar on a terminal, nothing elsewhere: a log is not garbled by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from judgeflow.types import CallEvent, StepStatistics


class StepBar:
    """An observer that moves a bar with every step and counts replies beside it."""

    def __init__(self, bar: Progress, steps: int) -> None:
        self._bar = bar
        self._task = bar.add_task("steps", total=steps, replies=0)
        self._replies = 0

    def call(self, event: CallEvent) -> None:
        """Count a reply."""
        if event.error is None:
            self._replies += 1
            self._bar.update(self._task, replies=self._replies)

    def step(self, statistics: StepStatistics) -> None:
        """Move on by a step."""
        del statistics
        self._bar.advance(self._task)

    def notice(self, event: str, **fields: object) -> None:
        """Notices are the log's."""

    def close(self) -> None:
        """The bar ends with its block."""


@contextmanager
def progress(steps: int) -> Iterator[StepBar]:
    """Show a bar of `steps` on stderr while the block runs, if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[replies]} replies"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal, transient=True) as bar:
        yield StepBar(bar, steps)


@contextmanager
def activity() -> Iterator[Callable[[str, int, int], None]]:
    """Show what a long piece of work is doing on stderr while the block runs, if that is a terminal.

    Yields a function of (what is going on, how much of it is done, how much there is).
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield tell
