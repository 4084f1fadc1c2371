"""Much at once: streams in bounded memory, long queues, many steps, and which thread does what."""

import asyncio
import gc
import resource
import sys
import threading
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from virtual import ForgetfulStore, QuickJudge, numbered_pairs

import judgeflow
from judgeflow import Scheduler
from judgeflow.clock import VirtualClock
from judgeflow.config import RoutingConfig
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeScorer

ALWAYS, NEVER = RoutingConfig(policy="always"), RoutingConfig(policy="never")
HOME = str(Path(judgeflow.__file__).parent)


def run(main):
    clock = VirtualClock()
    return clock.run(main(clock))


# Streams


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["never", "always"])
def test_a_stream_holds_no_more_after_many_pairs_than_after_a_few(policy):
    """What is allocated in the middle of a stream, after 400 pairs and after 1,400."""

    async def main():
        judge, seen, held = QuickJudge() if policy == "always" else None, 0, []
        async with Scheduler(store=ForgetfulStore(), judge=judge, routing=RoutingConfig(policy=policy), orders="first") as scheduler:
            async for _ in scheduler.stream(numbered_pairs(1500), chunk=16):
                seen += 1
                if seen in {400, 1400}:
                    gc.collect()
                    held.append(tracemalloc.get_traced_memory()[0])
        return held

    tracemalloc.start()
    try:
        early, late = asyncio.run(main())
    finally:
        tracemalloc.stop()
    assert late - early < 1000 * 150  # bytes; an outcome with its pair takes five times as many


@pytest.mark.exhaustive
@pytest.mark.parametrize(("policy", "count"), [("never", 1_000_000), ("always", 100_000)])
def test_a_million_pairs_pass_through_a_stream_in_the_memory_that_the_first_tenth_took(policy, count):
    async def main():
        judge = QuickJudge() if policy == "always" else None
        seen, early = 0, 0
        async with Scheduler(store=ForgetfulStore(), judge=judge, routing=RoutingConfig(policy=policy), orders="first") as scheduler:
            async for _ in scheduler.stream(numbered_pairs(count)):
                seen += 1
                early = _peak_mib() if seen == count // 10 else early
        return seen, early

    seen, early = asyncio.run(main())
    assert seen == count
    assert _peak_mib() - early < 32


def _peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_reader_that_does_not_read_stops_the_source():
    taken = []

    def source():
        for pair in numbered_pairs(10_000):
            taken.append(pair.id)
            yield pair

    async def main(clock):
        async with Scheduler(store=MemoryStore(), judge=QuickJudge(clock=clock), routing=ALWAYS, clock=clock) as scheduler:
            stream = scheduler.stream(source(), chunk=20)
            await anext(stream)
            await clock.sleep(3600.0)
            waiting = len(taken)
            for _ in range(200):
                await anext(stream)
            await clock.sleep(3600.0)
            await stream.aclose()
        return waiting, len(taken)

    waiting, later = run(main)
    assert waiting <= 4 * 20
    assert 200 < later <= 200 + 4 * 20


# Long queues


def _work_of_a_question(waiting):
    """Bytecode instructions that judgeflow executes for one question and for planning one small step, with `waiting` pairs in the queue.

    What is counted is the same whatever else the machine does.
    """
    counts = Counter()

    def trace(frame, event, _argument):
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        frame.f_trace_opcodes = True
        counts[event] += 1
        return trace

    async def main(clock):
        judge = QuickJudge(clock=clock, latency=1.0)
        routing = RoutingConfig(policy="always", step_deadline_s=1e9)
        store = MemoryStore()
        async with Scheduler(store=store, judge=judge, routing=routing, clock=clock, max_in_flight=10, orders="first") as scheduler:
            *many, one, two, three = numbered_pairs(waiting + 3)
            step = asyncio.ensure_future(scheduler.route(many))
            while not judge.asked:
                await clock.sleep(1.0)
            await clock.sleep(2.5)
            asked = judge.asked
            sys.settrace(trace)
            small = asyncio.ensure_future(scheduler.route([one, two, three]))
            await clock.sleep(10.0)
            sys.settrace(None)
            asked = judge.asked - asked
            step.cancel()
            small.cancel()
            await asyncio.gather(step, small, return_exceptions=True)
        return counts["opcode"] / asked

    return run(main)


def test_a_queue_ten_times_as_long_makes_no_question_dearer():
    assert _work_of_a_question(2000) < 1.1 * _work_of_a_question(200)


@pytest.mark.exhaustive
def test_a_hundred_thousand_queued_questions_make_no_question_dearer():
    assert _work_of_a_question(100_000) < 1.1 * _work_of_a_question(1000)


# Many steps


@pytest.mark.slow
def test_what_a_scheduler_holds_does_not_grow_with_its_steps():
    """Every object that is alive after 60 steps and after 120, by type."""
    scorer = FakeScorer()

    async def main(clock):
        judge = QuickJudge(clock=clock, latency=7.0)
        routing = RoutingConfig(policy="error", threshold=0.1, step_deadline_s=10.0, after_deadline="keep")
        settings = {"routing": routing, "scorer": scorer, "clock": clock, "max_in_flight": 4}
        async with Scheduler(store=ForgetfulStore(), judge=judge, **settings) as scheduler:
            source = numbered_pairs(10_000)

            async def steps(count):
                for _ in range(count):
                    await scheduler.route([next(source) for _ in range(8)])
                scheduler.late_outcomes()
                await clock.sleep(100.0)
                gc.collect()
                return Counter(type(thing).__name__ for thing in gc.get_objects())

            await steps(50)  # what is remembered of the last replies is full by then
            return await steps(10), await steps(60)

    early, late = run(main)
    grown = {name: count - early[name] for name, count in late.items() if count - early[name] > 40}
    assert grown == {}


# Which thread does what


def test_scoring_hashing_pricing_and_row_building_never_run_on_the_loop(monkeypatch, tmp_path):
    """Invariant 6.  The functions that may take long are named here; each must be seen, and never on the loop's thread."""
    import judgeflow.engine.benches as benches_module
    import judgeflow.engine.items as items_module
    import judgeflow.store.sql as sql_module
    from judgeflow.store import SqlStore

    threads = {}

    def watched(name, function):
        def watching(*arguments, **keywords):
            threads.setdefault(name, set()).add(threading.get_ident())
            return function(*arguments, **keywords)

        return watching

    class Judge(QuickJudge):
        cost = watched("pricing", QuickJudge.cost)

    class Scorer(FakeScorer):
        score = watched("scoring", FakeScorer.score)

    monkeypatch.setattr(items_module, "pair_keys", watched("hashing pairs", items_module.pair_keys))
    monkeypatch.setattr(benches_module, "question", watched("hashing questions", benches_module.question))
    monkeypatch.setattr(sql_module, "build_rows", watched("hashing texts", sql_module.build_rows))

    async def main():
        store = await SqlStore.open(f"sqlite+aiosqlite:///{tmp_path}/verdicts.db")
        routing = RoutingConfig(policy="error", threshold=0.0)
        async with Scheduler(store=store, judge=Judge(), scorer=Scorer(), routing=routing) as scheduler:
            outcomes = [outcome async for outcome in scheduler.stream(numbered_pairs(60), chunk=20)]
        await store.aclose()
        return outcomes

    assert {outcome.source for outcome in asyncio.run(main())} == {"judge"}
    assert set(threads) == {"pricing", "scoring", "hashing pairs", "hashing questions", "hashing texts"}
    assert all(threading.get_ident() not in seen for seen in threads.values())
    assert len(threads["scoring"]) == 1
