"""What is stored about the pairs of a step: it was paid for, and is never asked again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

from judgeflow.engine.benches import take_known
from judgeflow.engine.items import Bench, Direction, Item, next_sample
from judgeflow.engine.rules import Rules
from judgeflow.ports import Store
from judgeflow.types import Call, ReadingStatus

MAX_SAMPLES = 8
"""How often a question that failed for good may be asked again, over all runs."""

_Wanted = tuple[Item, Bench, bytes, Direction]
_Failed = tuple[Item, Bench, Direction, bytes]
OffLoop = Callable[[Callable[[Sequence[_Failed]], list[_Wanted]], Sequence[_Failed]], Awaitable[list[_Wanted]]]


async def recall(items: Sequence[Item], store: Store, rules: Rules, off_loop: OffLoop) -> None:
    """Read stored replies of every judge.  Where one failed for good, a later sample of the same question may have fared better.

    `off_loop` runs its first argument on a worker thread.
    """
    found = await store.read([key for item in items for bench in item.benches for key in bench.directions])
    failed = _take(_all(items), found)
    for _ in range(1, MAX_SAMPLES):
        if not failed:
            break
        wanted = await off_loop(_next_samples, failed)
        found = await store.read([key for _, _, key, _ in wanted])
        for _, bench, key, direction in wanted:
            if rules.retry_failed or key in found:
                bench.take(key, direction)
        failed = _take(wanted, found)
    take_known(items, rules)


def _all(items: Sequence[Item]) -> Iterator[_Wanted]:
    """Everything that a verdict on the items may rest on."""
    return ((item, bench, key, direction) for item in items for bench in item.benches for key, direction in bench.directions.items())


def _take(wanted: Iterable[_Wanted], found: Mapping[bytes, Call]) -> list[_Failed]:
    """Give the items the calls that were found; return what of it failed for good, and the judge of each."""
    failed: list[_Failed] = []
    for item, bench, key, direction in wanted:
        call = found.get(key)
        if call is not None:
            item.calls[key] = call
            if call.reading.status is not ReadingStatus.OK:
                failed.append((item, bench, direction, call.judge))
    return failed


def _next_samples(failed: Sequence[_Failed]) -> list[_Wanted]:
    """Hash the next sample of each question: many keys, so off the loop."""
    return [(item, bench, *next_sample(item.keys, direction, judge)) for item, bench, direction, judge in failed]
