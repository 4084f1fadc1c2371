"""Errors that nobody foresaw are answered as any other, and told once in whole, then by how often they came."""

import asyncio

import aiohttp
import pytest

from judgeflow.store import migrate
from judgeflow.web.complaints import Complaints
from judgeflow.web.server import serving
from judgeflow.web.service import Service, ServiceSettings
from judgeflow.web.settings import Settings


class Broken:
    """A router that has a mistake in it."""

    refusal = None

    async def route(self, pairs, step=None):
        return {}["nowhere"]


@pytest.fixture
def database(tmp_path):
    asyncio.run(migrate.upgrade(str(tmp_path / "verdicts.db")))
    return str(tmp_path / "verdicts.db")


async def test_a_mistake_is_answered_as_json_every_time_and_its_traceback_is_told_once(database):
    told = []
    service = Service(Broken(), ServiceSettings(), tell=lambda *_: None)
    async with (
        serving(database, Settings(port=0), complain=Complaints(told.append), service=service) as port,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(12):
            async with session.post(f"http://127.0.0.1:{port}/v1/route", json={"pairs": []}) as answer:
                assert (answer.status, "a mistake in judgeflow" in (await answer.json())["error"]["message"]) == (500, True)
    first, again = told
    assert first.startswith(f"a mistake in judgeflow, please report it: KeyError at {__file__}:")
    assert "Traceback (most recent call last)" in first
    assert first.endswith("KeyError: 'nowhere'")
    assert again.startswith(f"a mistake in judgeflow has come 10 times by now: KeyError at {__file__}:")


def raised(error):
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def test_other_mistakes_are_told_for_themselves():
    told = []
    complain = Complaints(told.append)
    for error in (ValueError("x"), TypeError("y"), ValueError("z")):
        complain(raised(error))
    assert [line.splitlines()[-1] for line in told] == ["ValueError: x", "TypeError: y"]  # from one line of code


def test_an_endless_recursion_is_told_at_some_length_only_with_both_its_ends():
    def deeper(n):
        return deeper(n + 1) if n < 300 else deeper_still("x" * 1_000_000)

    def deeper_still(text):
        raise ValueError(text)

    told = []
    try:
        deeper(0)
    except ValueError as error:
        Complaints(told.append)(error)
    assert len(told[0]) < 20_000
    assert "Traceback" in told[0]
