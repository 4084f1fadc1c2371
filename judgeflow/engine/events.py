"""One observer that passes everything on to many, and survives those that raise."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence

from judgeflow.ports import BeginningObserver, Followed, FollowingObserver, Observer
from judgeflow.types import CallEvent, StepStatistics


class Observers:
    """Tells every observer in turn.  One that raises is dropped, with a line on stderr, so that watching never stops the work."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def follow(self, scheduler: Followed) -> None:
        """Show the scheduler to those who want to look at it."""
        self._tell(lambda observer: observer.follow(scheduler) if isinstance(observer, FollowingObserver) else None)

    def begin(self, run: str, step: int) -> None:
        """Pass on that a step begins, to those who want to know."""
        self._tell(lambda observer: observer.begin(run, step) if isinstance(observer, BeginningObserver) else None)

    def call(self, event: CallEvent) -> None:
        """Pass on a finished attempt."""
        self._tell(lambda observer: observer.call(event))

    def step(self, statistics: StepStatistics) -> None:
        """Pass on a finished step."""
        self._tell(lambda observer: observer.step(statistics))

    def notice(self, event: str, **fields: object) -> None:
        """Pass on a notice."""
        self._tell(lambda observer: observer.notice(event, **fields))

    def naming(self, judge: str, seat: str) -> Callable[..., None]:
        """Return `notice`, with the judge's id among the fields, and what its seat is called if that is something else."""
        return functools.partial(self.notice, judge=judge, **({"seat": seat} if seat != judge else {}))

    def close(self) -> None:
        """Say that nothing more will come."""
        self._tell(lambda observer: observer.close())

    def _tell(self, message: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                message(observer)
            except Exception as error:  # whatever an observer does, the step goes on
                self._observers = [other for other in self._observers if other is not observer]
                complain(f"observer {observer!r} failed and is not told any more: {error!r}")


def complain(message: str) -> None:
    """Say on stderr what became of somebody who is told; where nobody can hear it any more, say nothing."""
    with contextlib.suppress(OSError, ValueError):  # a pipe that is broken, a stream that is closed
        print(f"judgeflow: {message}", file=sys.stderr)  # noqa: T201  # the log may be what failed
