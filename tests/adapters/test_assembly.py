"""Ranks bring their parts of a batch together, in virtual time."""

import asyncio
import contextlib
import gc
import itertools
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judgeflow.adapters.assembly import Assembly, assembled
from judgeflow.adapters.rendezvous import Closing, Patience
from judgeflow.client.wire import PartRequest, Stretch
from judgeflow.clock import VirtualClock
from judgeflow.errors import UsageError

SIZE = 4
ROWS = [(prompt, f"{prompt}{k}") for prompt in "pqr" for k in range(SIZE)]


def part(rows, rank, ranks, *, batch=1, job="job", size=SIZE):
    """The rows that a rank has when all ranks have as many."""
    count = len(rows) // ranks
    own = rows[rank * count : (rank + 1) * count]
    stretches = [(prompt, tuple(text for _, text in group)) for prompt, group in itertools.groupby(own, lambda row: row[0])]
    return PartRequest(
        job=job,
        batch=batch,
        rank=rank,
        ranks=ranks,
        size=size,
        stretches=tuple(Stretch(prompt=prompt, responses=texts) for prompt, texts in stretches),
    )


class Desk:
    def __init__(self, clock, **patience):
        self.clock, self.told = clock, []
        self.assembly = Assembly(patience=Patience(**patience), tell=lambda event, **fields: self.told.append((event, fields)))

    def ask(self, rank, *, rows=ROWS, ranks=3, **more):
        return asyncio.create_task(self.assembly.join(part(rows, rank, ranks, **more)))

    async def settle(self):
        for _ in range(5):
            await asyncio.sleep(0)


def at_the_desk(work, **patience):
    clock = VirtualClock()

    async def main():
        desk = Desk(clock, **patience)
        result = await work(desk)
        await desk.assembly.aclose()
        return result

    return clock.run(main())


async def left(task):
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def texts(batch):
    return [group.responses for group in batch.groups]


def of_rank(batch, rank):
    """The texts of a rank, read from the groups by the places that the batch says are its."""
    by_row = {
        row: text
        for group, places in zip(batch.groups, batch.places, strict=True)
        for row, text in zip(places, group.responses, strict=True)
    }
    return [by_row[row] for row in batch.rows[rank]]


WHOLE = [tuple(f"{prompt}{k}" for k in range(SIZE)) for prompt in "pqr"]


@pytest.mark.parametrize("ranks", [2, 3, 4, 6, 12])
def test_the_groups_are_those_of_the_batch_however_many_ranks_hold_it_and_in_whatever_order_they_come(ranks):
    async def work(desk):
        tasks = {rank: desk.ask(rank, ranks=ranks) for rank in reversed(range(ranks))}
        return {rank: await task for rank, task in tasks.items()}

    answers = at_the_desk(work)
    batch = answers[0]
    assert texts(batch) == WHOLE
    assert all(answer is batch for answer in answers.values())
    assert [text for rank in range(ranks) for text in of_rank(batch, rank)] == [text for _, text in ROWS]
    assert (batch.missing, batch.incomplete, batch.count) == ((), 0, 12)


def test_two_groups_of_one_prompt_stay_apart():
    rows = [("p", f"{name}{k}") for name in "xyz" for k in range(SIZE)]
    batch = assembled({rank: part(rows, rank, 6) for rank in range(6)}, "b")
    assert texts(batch) == [tuple(f"{name}{k}" for k in range(SIZE)) for name in "xyz"]


@given(st.sets(st.integers(0, 5), min_size=1), st.sampled_from(["pqr", "ppp", "pqp"]))
def test_without_some_ranks_every_row_that_is_here_is_compared_with_its_own_siblings_only(present, prompts):
    rows = [(prompt, f"{number}{k}") for number, prompt in enumerate(prompts) for k in range(SIZE)]
    batch = assembled({rank: part(rows, rank, 6) for rank in present}, "b")
    assert all(len({text[0] for text in group}) == 1 for group in texts(batch))
    assert {rank: of_rank(batch, rank) for rank in present} == {
        rank: [text for _, text in rows[2 * rank : 2 * rank + 2]] for rank in present
    }
    assert sorted(batch.missing) == sorted(set(range(6)) - present)
    assert len(batch.groups) == len({rank // 2 for rank in present})
    assert batch.incomplete == sum(({2 * k, 2 * k + 1} & present) not in ({2 * k, 2 * k + 1}, set()) for k in range(3))


def test_rows_in_no_order_are_grouped_by_prompt_also_where_ranks_are_missing():
    rows = [(prompt, f"{prompt}{k}") for k in range(SIZE) for prompt in "pqr"]
    whole = assembled({rank: part(rows, rank, 3) for rank in range(3)}, "b")
    assert texts(whole) == WHOLE
    some = assembled({rank: part(rows, rank, 3) for rank in (0, 2)}, "b")
    assert texts(some) == [("p0", "p1", "p3"), ("q0", "q3"), ("r0", "r2", "r3")]


def test_a_rank_that_never_comes_is_told_after_the_linger_time():
    async def work(desk):
        began = desk.clock.now()
        first = desk.ask(0)
        await desk.clock.sleep(5)
        batches = await asyncio.gather(first, desk.ask(2))
        return batches, desk.clock.now() - began, desk.told

    (batch, same), seconds, told = at_the_desk(work, linger_s=20)
    assert batch is same
    assert (seconds, batch.missing) == (20, (1,))
    assert texts(batch) == [WHOLE[0], WHOLE[2]]
    assert told == [("batch_incomplete", {"batch": 1, "missing": "1", "ranks": 3, "groups": 0, "linger_s": 20})]


def test_a_rank_that_comes_too_late_has_the_batch_judged_whole():
    async def work(desk):
        early = await asyncio.gather(*(desk.ask(rank, ranks=6) for rank in range(5)))
        return early[0], await desk.ask(5, ranks=6)

    early, late = at_the_desk(work, linger_s=20)
    assert texts(early) == [*WHOLE[:2], WHOLE[2][:2]]
    assert (early.incomplete, early.missing) == (1, (5,))
    assert texts(late) == WHOLE
    assert late.name != early.name
    assert of_rank(late, 5) == ["r2", "r3"]


@pytest.mark.parametrize("moment", ["before the others came", "after the batch was judged"])
def test_who_loses_the_connection_and_asks_again_is_in_the_batch_once(moment):
    async def work(desk):
        lost = desk.ask(0)
        await desk.settle()
        others = [desk.ask(rank) for rank in (1, 2)] if moment == "after the batch was judged" else []
        await desk.settle()
        if others:
            await lost
        else:
            await left(lost)
            assert desk.assembly.waiting == 0
        again = desk.ask(0)
        others = others or [desk.ask(rank) for rank in (1, 2)]
        return await asyncio.gather(again, *others)

    again, *others = at_the_desk(work)
    assert all(batch is again for batch in others)
    assert texts(again) == WHOLE


def test_the_part_of_a_training_that_has_died_is_not_in_its_successors_batch():
    async def work(desk):
        await desk.settle()
        old = desk.ask(0, rows=[(prompt, "old " + text) for prompt, text in ROWS])
        await desk.settle()
        await left(old)
        return await asyncio.gather(*(desk.ask(rank) for rank in range(3)))

    assert texts(at_the_desk(work)[0]) == WHOLE


def test_a_batch_that_is_judged_is_not_given_to_whoever_asks_about_something_else_under_its_number():
    async def work(desk):
        await asyncio.gather(*(desk.ask(rank) for rank in range(3)))
        other = [(prompt, "new " + text) for prompt, text in ROWS]
        return await asyncio.gather(*(desk.ask(rank, rows=other) for rank in range(3)))

    assert texts(at_the_desk(work)[2]) == [tuple("new " + text for text in group) for group in WHOLE]


def test_jobs_and_batches_do_not_meet():
    async def work(desk):
        tasks = [desk.ask(rank, job=job, batch=batch) for rank in range(3) for job in ("a", "b") for batch in (1, 2)]
        return {(batch.name, tuple(texts(batch))) for batch in await asyncio.gather(*tasks)}

    assert len(at_the_desk(work)) == 4


def test_memory_holds_a_jobs_last_batch():
    async def work(desk):
        for number in range(5):
            await asyncio.gather(*(desk.ask(rank, batch=number) for rank in range(3)))
        held = {job: list(batches) for job, batches in desk.assembly._jobs.items()}
        await desk.clock.sleep(700)
        return held, dict(desk.assembly._jobs)

    assert at_the_desk(work) == ({"job": [4]}, {})


def test_a_batch_is_let_go_of_when_its_jobs_next_one_is_whole():
    async def work(desk):
        seen = []
        for number in range(5):
            await asyncio.gather(*(desk.ask(rank, batch=number) for rank in range(3)))
            seen.append(weakref.ref(desk.assembly._jobs["job"][number].whole))
        gc.collect()
        return [whole() is not None for whole in seen]

    assert at_the_desk(work) == [False] * 4 + [True]


def test_parts_that_do_not_go_together_are_refused_for_everybody_who_waits_for_them():
    async def work(desk):
        first = desk.ask(0, rows=ROWS[:2], ranks=2, size=2)
        second = desk.ask(1, ranks=2, size=2)
        return await asyncio.gather(first, second, return_exceptions=True)

    errors = at_the_desk(work)
    assert [type(error) for error in errors] == [UsageError] * 2
    assert "rank 1 has 6 responses in groups of 2 of 2 ranks, and rank 0 has 1" in str(errors[0])


def test_two_trainings_under_one_jobs_name_are_refused():
    async def work(desk):
        first = desk.ask(0)
        await desk.settle()
        with pytest.raises(UsageError, match="two trainings, or two reward functions of one, have the name 'job'"):
            await desk.ask(0, rows=[(prompt, "other " + text) for prompt, text in ROWS])
        batches = await asyncio.gather(first, desk.ask(1), desk.ask(2))
        return batches[0]

    assert texts(at_the_desk(work)) == WHOLE


def test_who_waits_when_the_service_closes_is_sent_away():
    async def work(desk):
        waiting = desk.ask(0)
        await desk.settle()
        await desk.assembly.aclose()
        with pytest.raises(Closing):
            await waiting
        with pytest.raises(Closing):
            await desk.ask(1)

    at_the_desk(work)
