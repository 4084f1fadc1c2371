"""How long work says how far it is: a bar on a terminal, a line now and then elsewhere, nothing from a trainer's other processes.

All of it goes to stderr.  A bar leaves nothing behind, and whatever is written to `sys.stderr` while it stands appears above it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Literal, NoReturn, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

Look = Literal["bar", "lines", "nothing"]
Tell = Callable[[str, int, int], None]
"""Is told (what is going on, how much of it is done, how much there is: 0 where nobody knows)."""

RANKS = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Variables by which launchers number their processes; the first that is set counts, and only number 0 says how far it is."""

FIRST_LINE_S, LONGEST_GAP_S = 1.0, 60.0
"""Where there is no terminal: the first line comes after a second, the gap to each next one doubles up to a minute."""

_Item = TypeVar("_Item")


def choose_look(environ: Mapping[str, str], *, terminal: bool, wanted: bool = True) -> Look:
    """Decide how progress is shown by a process with this environment, whose stderr is a `terminal` or not."""
    rank = next((environ[name] for name in RANKS if environ.get(name)), "0")
    if not wanted or rank != "0":
        return "nothing"
    return "bar" if terminal and environ.get("TERM", "").lower() not in {"dumb", "unknown"} else "lines"


@contextmanager
def activity(*, wanted: bool = True, beside: Callable[[], str] = str) -> Iterator[Tell]:
    """Show what a long piece of work is doing while the block runs; `beside` gives words to stand behind the figures.

    What is told may come from any thread, and costs a few microseconds.
    """
    look = choose_look(os.environ, terminal=sys.stderr.isatty(), wanted=wanted)
    if look == "bar":
        with _ended_by_sigterm(), _bar(beside) as shown:
            yield _Tasks(shown)
    elif look == "lines":
        yield _Lines(sys.stderr, beside)
    else:
        yield _say_nothing


def watched(items: Sequence[_Item], name: str, tell: Tell) -> Iterator[_Item]:
    """Yield items, and tell how many of them are done."""
    for done, item in enumerate(items):
        tell(name, done, len(items))
        yield item
    tell(name, len(items), len(items))


def figures(task: Task) -> str:
    """How far a task is, how fast it goes, and how long it will take: `1,024/4,608, 23/s, 2:36 left`."""
    parts = [f"{int(task.completed):,}" + (f"/{int(task.total):,}" if task.total is not None else "")]
    speed, left = task.speed, task.time_remaining
    if speed:
        parts.append(f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.2g}/s")
    if left is not None and not task.finished:
        parts.append(f"{_duration(int(left))} left")
    return ", ".join(parts)


def _duration(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"


def _say_nothing(name: str, done: int, total: int) -> None:
    del name, done, total


class _Tasks:
    """Names of what is going on as tasks of a `Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Task] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        self.update(name, done, total)

    def update(self, name: str, done: int, total: int) -> Task:
        """Note how far it is; return the task."""
        if name not in self._tasks:
            self._progress.add_task(name, total=total or None)
            self._tasks[name] = self._progress.tasks[-1]
        task = self._tasks[name]
        self._progress.update(task.id, completed=done, total=total or None)
        return task


class _Figures(ProgressColumn):
    """The figures of a task; behind those of one that is not finished, what else is to be said."""

    def __init__(self, beside: Callable[[], str]) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))
        self._beside = beside

    def render(self, task: Task) -> Text:
        return Text(_with(figures(task), "" if task.finished else self._beside()), no_wrap=True, overflow="ellipsis")


def _bar(beside: Callable[[], str]) -> Progress:
    """A bar that disappears in the end.  stdout is left alone: what is printed there may be piped into something."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=12), _Figures(beside))
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)


class _Lines:
    """Writes a line about what is going on, ever more seldom, and one where an activity ends that has had one."""

    def __init__(self, stream: TextIO, beside: Callable[[], str], now: Callable[[], float] = time.monotonic) -> None:
        self._tasks = _Tasks(Progress(disable=True, get_time=now))
        self._stream = stream
        self._beside = beside
        self._now = now
        self._gap = FIRST_LINE_S
        self._due = now() + FIRST_LINE_S
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, name: str, done: int, total: int) -> None:
        with self._lock:
            task = self._tasks.update(name, done, total)
            ended = 0 < total <= done and name in self._begun
            if not ended and self._now() < self._due:
                return
            self._begun = self._begun - {name} if ended else self._begun | {name}
            self._gap = min(2 * self._gap, LONGEST_GAP_S)
            self._due = self._now() + self._gap
            with contextlib.suppress(OSError):  # nobody reads it any more: the work goes on
                self._stream.write(_with(f"{name} {figures(task)}", self._beside()) + "\n")
                self._stream.flush()


def _with(text: str, more: str) -> str:
    return f"{text}, {more}" if more else text


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block by an exception where nobody else heeds it, so that the terminal gets its cursor back."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
