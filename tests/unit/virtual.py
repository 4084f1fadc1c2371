"""Parts for tests in virtual time."""

import asyncio

from judgeflow.clock import LoopClock
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer
from judgeflow.types import Cost, JudgeIdentity, Pair, Reading, ReadingStatus, Reply, Usage


class TimedScorer(FakeScorer):
    """Takes `seconds_per_pair` of virtual time for each pair, while the rest of the world goes on.

    A virtual clock stands still while threads work, so this one moves it in small steps, and after each lets the loop do what is due.
    Construct it where the loop runs.  `spans` has when each call began and ended.
    """

    def __init__(self, pairs, *, clock, seconds_per_pair, ticks=20, **settings):
        super().__init__(pairs, **settings)
        self.clock, self.seconds_per_pair, self.ticks = clock, seconds_per_pair, ticks
        self.loop = asyncio.get_running_loop()
        self.spans = []

    def score(self, pairs):
        began = self.clock.now()
        for _ in range(self.ticks):
            asyncio.run_coroutine_threadsafe(self._tick(len(pairs) * self.seconds_per_pair / self.ticks), self.loop).result(timeout=60)
        self.spans.append((began, self.clock.now()))
        return super().score(pairs)

    async def _tick(self, seconds):
        for _ in range(20):
            await asyncio.sleep(0)
        while self.loop._busy_threads > 1:  # what other threads do takes no virtual time
            await asyncio.sleep(0)
        self.clock.advance(seconds)


class QuickJudge:
    """Prefers the response shown first, after `latency` seconds; prices and reads without looking, and remembers nothing."""

    identity = JudgeIdentity(id="quick", model="quick", fingerprint=b"q" * 32, parameters={})

    def __init__(self, *, clock=None, latency=0.0):
        self.clock, self.latency = clock or LoopClock(), latency
        self.asked = 0

    def cost(self, question):
        return Cost(requests=1, tokens=100)

    async def ask(self, question):
        self.asked += 1
        await self.clock.sleep(self.latency)
        return Reply(text="A", usage=Usage(prompt=50, completion=10), latency_s=self.latency)

    def read(self, reply):
        return Reading(status=ReadingStatus.OK, preferred=1, strong=True)

    async def aclose(self):
        pass


class ForgetfulStore(MemoryStore):
    """Keeps accounts, and nothing that grows with what is routed: for measuring what the engine itself keeps."""

    async def record_plan(self, run, step, decisions, pacing=None):
        await asyncio.sleep(0)

    async def record_step(self, statistics, decisions):
        await asyncio.sleep(0)

    async def settle(self, run, reservation, question, call):
        await super().settle(run, reservation, question, call)
        self._contents.calls.clear()
        ledger = self._contents.ledgers[run]
        ledger.entries.clear()
        self._contents.made_at.clear()
        ledger.changed.clear()


def numbered_pairs(count):
    """Yield `count` small pairs, all different, without keeping any."""
    for number in range(count):
        yield Pair(prompt=f"question {number}", response_a=f"yes {number}", response_b=f"no {number}", id=str(number))
