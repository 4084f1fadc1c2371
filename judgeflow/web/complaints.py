"""What a server writes to stderr about errors that nobody foresaw: where each one comes from once, and then how often it came again."""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

_LONGEST = 16_384
"""Characters of a traceback: a recursion that found no end has a long one."""


def say(text: str) -> None:
    """Write a line to stderr with the moment, as the scheduler's notices have it; a full disk stops no service."""
    moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    with suppress(OSError):
        sys.stderr.write(f"{moment} {text}\n")
        sys.stderr.flush()


class Complaints:
    """Hears of errors.  What comes again from the same line of code is told when it has come 10, 100, 1000 times."""

    def __init__(self, tell: Callable[[str], None] = say) -> None:
        self._tell = tell
        # By kind of error and line of code, so there are no more of them than there are mistakes.
        self._seen: Counter[str] = Counter()

    def __call__(self, error: BaseException) -> None:
        """Tell of an error."""
        what = f"{type(error).__name__} at {_line(error)}"
        self._seen[what] += 1
        times = self._seen[what]
        if times == 1:
            self._tell(f"a mistake in judgeflow, please report it: {what}\n{_shortened(''.join(traceback.format_exception(error)))}")
        elif str(times).strip("0") == "1":
            self._tell(f"a mistake in judgeflow has come {times:,} times by now: {what}")


def _line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"


def _shortened(text: str) -> str:
    """Both ends of a long traceback: where it begins, and what went wrong."""
    text = text.rstrip()
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n...\n{text[-_LONGEST // 2 :]}"
