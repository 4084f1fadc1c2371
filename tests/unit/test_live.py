"""Who watches hears what is new, whoever does not listen is let go, and nobody looks when nobody watches."""

import asyncio
import itertools

import pytest

from judgeflow.errors import StoreUnavailable
from judgeflow.web.kept import Kept
from judgeflow.web.live import Hub, News, TooMany

PATIENCE_S = 20


class Counting:
    """Something that is new at every look."""

    def __init__(self):
        self.looks = 0

    async def __call__(self):
        self.looks += 1
        await asyncio.sleep(0)
        return News(version=str(self.looks), summary=f"look {self.looks}")


def a_hub(**settings):
    return Hub(**{"poll_s": 0.0, "backlog": 4, "most": 100} | settings)


async def read(watcher, number):
    heard = []
    async for news in watcher.news(PATIENCE_S):
        heard.append(news.version)
        if len(heard) == number:
            break
    return heard


async def test_everybody_who_watches_the_same_hears_of_the_same_looks():
    hub, look = a_hub(poll_s=0.01), Counting()
    async with hub.watching("run", look) as one, hub.watching("run", look) as two:
        assert hub.looking == 1
        first, second = await asyncio.gather(read(one, 5), read(two, 5))
    assert first == second == ["1", "2", "3", "4", "5"]
    assert look.looks <= 6


async def test_nobody_looks_when_nobody_watches():
    hub, look = a_hub(), Counting()
    async with hub.watching("run", look) as watcher:
        await read(watcher, 2)
    await hub.aclose()
    seen = look.looks
    for _ in range(50):
        await asyncio.sleep(0)
    assert (hub.looking, look.looks) == (0, seen)


async def test_whoever_comes_later_hears_at_once_what_is_known():
    hub = a_hub(poll_s=PATIENCE_S)
    looks = itertools.count(1)

    async def look():
        return News(version=str(next(looks)), summary="")

    async with hub.watching("run", look) as one:
        assert await read(one, 1) == ["1"]
        async with hub.watching("run", look) as two:
            assert await read(two, 1) == ["1"]


async def test_a_watcher_who_does_not_listen_is_let_go_and_the_others_go_on():
    hub, look = a_hub(backlog=3), Counting()
    async with hub.watching("run", look) as slow, hub.watching("run", look) as quick:
        heard = await read(quick, 20)
        assert len(heard) == 20
        assert slow.dropped
        assert [news.version async for news in slow.news(PATIENCE_S)] == ["1", "2", "3"]
        assert not quick.dropped


async def test_what_has_not_changed_is_not_told_again():
    hub = a_hub()
    versions = iter(["a", "a", "a", "b", "b", "c"])

    async def look():
        await asyncio.sleep(0)
        return News(version=next(versions, "c"), summary="")

    async with hub.watching("run", look) as watcher:
        assert await read(watcher, 3) == ["a", "b", "c"]


async def test_a_database_that_cannot_be_read_is_news_and_so_is_that_it_can_again():
    hub, looks = a_hub(), itertools.count()

    async def look():
        await asyncio.sleep(0)
        if next(looks) < 3:
            raise StoreUnavailable("verdicts.db: it is damaged")
        return News(version="1", summary="well")

    async with hub.watching("run", look) as watcher:
        heard = [news.summary async for news in take(watcher, 2)]
    assert heard == ["verdicts.db: it is damaged", "well"]


async def take(watcher, number):
    async for news in watcher.news(PATIENCE_S):
        yield news
        number -= 1
        if not number:
            return


async def test_silence_is_told_for_the_heartbeat():
    hub = a_hub(poll_s=PATIENCE_S)

    async def look():
        return News(version="1", summary="")

    async with hub.watching("run", look) as watcher:
        heard = []
        async for news in watcher.news(0.01):
            heard.append(news and news.version)
            if len(heard) == 3:
                break
    assert heard == ["1", None, None]


async def test_a_mistake_in_a_look_lets_everybody_go_and_the_next_one_looks_anew():
    hub, looks = a_hub(), itertools.count()

    async def look():
        if next(looks) == 0:
            raise ZeroDivisionError
        return News(version="1", summary="")

    async with hub.watching("run", look) as one:
        assert [news async for news in one.news(PATIENCE_S)] == []
        async with hub.watching("run", look) as two:
            assert await read(two, 1) == ["1"]


async def test_no_more_than_so_many_watch_and_nobody_once_it_is_closed():
    hub, look = a_hub(most=1), Counting()
    async with hub.watching("run", look) as watcher:
        with pytest.raises(TooMany):
            async with hub.watching("another", look):
                pass
        await hub.aclose()
        assert watcher.dropped
    with pytest.raises(TooMany):
        async with hub.watching("run", look):
            pass


async def test_many_who_ask_at_once_wait_for_one_read():
    kept, reads = Kept(8), itertools.count(1)

    async def read_it():
        await asyncio.sleep(0)
        return next(reads)

    assert await asyncio.gather(*(kept.get("run", 1, read_it) for _ in range(5))) == [1] * 5
    assert await kept.get("run", 1, read_it) == 1
    assert await kept.get("run", 2, read_it) == 2
    kept.forget("run")
    assert await kept.get("run", 2, read_it) == 3


async def test_what_failed_is_read_again():
    kept, reads = Kept(8), itertools.count(1)

    async def read_it():
        if next(reads) == 1:
            raise StoreUnavailable
        return "there"

    with pytest.raises(StoreUnavailable):
        await kept.get("run", 1, read_it)
    assert await kept.get("run", 1, read_it) == "there"


async def test_a_visitor_who_leaves_does_not_end_the_read_for_the_others():
    kept, going_on = Kept(8), asyncio.Event()

    async def read_it():
        await going_on.wait()
        return "there"

    impatient, patient = (asyncio.create_task(kept.get("run", 1, read_it)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    going_on.set()
    assert await patient == "there"


async def test_only_the_last_values_are_kept():
    kept, reads = Kept(2), itertools.count(1)

    async def read_it():
        return next(reads)

    assert [await kept.get(key, 1, read_it) for key in ("a", "b", "c", "a", "c")] == [1, 2, 3, 4, 3]
