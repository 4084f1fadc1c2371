"""How a server ends: the first Ctrl-C or SIGTERM says what is waited for, a second leaves at once, and the last line says what is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from judgeflow.cli import INTERRUPTED
from judgeflow.cli.interrupt import say
from judgeflow.plurals import plural

if TYPE_CHECKING:
    import asyncio

    from judgeflow.types import CallEvent, StepStatistics

AGAIN = "press Ctrl-C again to stop at once"


class Ending:
    """Waits for a signal on `loop`.  `waits_for` and `lost` are sentences for the first and the second; who serves sets them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        self._came = asyncio.Event()
        self.waits_for: Callable[[], str] = lambda: "nothing has begun yet"
        self.lost = "nothing was begun"
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signal)

    async def asked(self) -> None:
        """Return when the server is to end."""
        await self._came.wait()

    def _signal(self) -> None:
        """End as a kill would where somebody insists: the database stands that."""
        if self._came.is_set():
            say(f"stopped at once: {self.lost}")
            os._exit(INTERRUPTED)
        self._came.set()
        say(f"ending: {self.waits_for()}")


def waits_for_requests(under_way: int, gathering: int, drain_s: float) -> str:
    """What a service waits for when it is told to end; those `under_way` that are still `gathering` their group it sends away."""
    under_way -= gathering
    sent_away = f", {plural(gathering, 'that waits for others is', 'that wait for others are')} told to come again" if gathering else ""
    if not under_way:
        return f"no request is under way{sent_away}"
    return f"{plural(under_way, 'request under way gets', 'requests under way get')} {drain_s:g} s at most{sent_away}; {AGAIN}"


def waits_for_replies(in_flight: int) -> str:
    """What a service waits for once nobody is answered any more."""
    replies = plural(in_flight, "reply of the judge is", "replies of the judge are")
    return f"{replies} still to come, paid for and to be stored; {AGAIN}"


def requests_ended(left: int, drain_s: float, lost: int) -> str:
    """How a service has ended: what is left undone, and whether everything that was paid for is kept."""
    answered = (
        f"{plural(left, 'request')} had no answer within {drain_s:g} s; ask again" if left else "no request was left without an answer"
    )
    kept = f"{plural(lost, 'entry', 'entries')} could not be stored" if lost else "all replies that came are stored"
    return f"ended: {answered}; {kept}"


class Losses:
    """An observer that counts what could not be stored."""

    def __init__(self) -> None:
        self.count = 0

    def call(self, event: CallEvent) -> None:
        """An attempt costs nothing here."""

    def step(self, statistics: StepStatistics) -> None:
        """Nor does a step."""

    def notice(self, event: str, **fields: object) -> None:
        """Count what a notice says is lost."""
        if event == "reply_not_stored":
            self.count += 1
        if event == "replies_not_stored":
            self.count += int(str(fields["count"]))

    def close(self) -> None:
        """Nothing more will be lost."""
