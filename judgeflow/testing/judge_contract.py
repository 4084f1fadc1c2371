"""The contract of `judgeflow.ports.Judge` as a test class.

    class TestMyJudge(JudgeContract):
        @asynccontextmanager
        async def open_judge(self, *, faults=(), model="judge-one", template="default"):
            async with FakeJudge(faults=faults, models=[model]) as server:
                judge = MyJudge(server.base_url, model=model, template=load_template(template))
                try:
                    yield judge
                finally:
                    await judge.aclose()

The tests are plain functions that run a coroutine each, so no pytest plugin is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import orjson

from judgeflow.errors import (
    GatewayFailed,
    JudgeError,
    JudgeOverloaded,
    JudgeRefusesService,
    QuestionRejected,
    RateLimited,
    ReplyLost,
)
from judgeflow.keys import pair_keys, questions
from judgeflow.ports import Judge
from judgeflow.testing.pairs import arithmetic_pairs
from judgeflow.types import Question, ReadingStatus, Reply


class JudgeContract:
    """Proves that a `Judge` keeps its port's promises.  Subclass it and say in `open_judge` how one is opened.

    `failures` maps faults of a fake judge to the error that one attempt must raise, `spoken` to how the reply must read.
    """

    failures: ClassVar[Mapping[str, type[JudgeError]]] = {
        "429": RateLimited,
        "429-bare": RateLimited,
        "quota": JudgeRefusesService,
        "400": QuestionRejected,
        "500": JudgeOverloaded,
        "503": JudgeOverloaded,
        "504": GatewayFailed,
        "error-200": GatewayFailed,
        "reset": ReplyLost,
        "cut-off": ReplyLost,
        "truncated-json": ReplyLost,
        "garbage": ReplyLost,
    }
    spoken: ClassVar[Mapping[str, ReadingStatus]] = {
        "ok": ReadingStatus.OK,
        "reasoning": ReadingStatus.OK,
        "content-parts": ReadingStatus.OK,
        "surrogate": ReadingStatus.OK,
        "odd-usage": ReadingStatus.OK,
        "odd-fields": ReadingStatus.OK,
        "no-tag": ReadingStatus.UNPARSEABLE,
        "length": ReadingStatus.TRUNCATED,
        "refusal": ReadingStatus.REFUSED,
        "content-filter": ReadingStatus.REFUSED,
    }

    def open_judge(
        self, *, faults: Sequence[str] = (), model: str = "judge-one", template: str = "default"
    ) -> AbstractAsyncContextManager[Judge]:
        """Return a context manager that opens the judge under test, closed on exit.

        `faults` is a script for whoever answers (`FakeJudge(faults=...)`), `model` any name, `template` that of a packaged template.
        """
        raise NotImplementedError

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run one test's coroutine; a subclass may use a `VirtualClock`."""
        asyncio.run(main)

    def test_is_a_judge_by_the_protocol(self) -> None:
        async def main() -> None:
            async with self.open_judge() as judge:
                assert isinstance(judge, Judge)

        self.run(main())

    def test_every_kind_of_reply_is_returned_and_read_for_what_it_is(self) -> None:
        async def main() -> None:
            async with self.open_judge(faults=list(self.spoken)) as judge:
                for fault, (question, status) in zip(self.spoken, zip(_questions(judge), self.spoken.values(), strict=False), strict=True):
                    reply = await judge.ask(question)
                    assert isinstance(reply, Reply), fault
                    assert judge.read(reply).status is status, fault
                    _require_consistent(reply)

        self.run(main())

    def test_every_failed_attempt_raises_its_error_and_the_next_one_works(self) -> None:
        async def main() -> None:
            for fault, kind in self.failures.items():
                async with self.open_judge(faults=[fault, "ok"]) as judge:
                    question = _questions(judge)[0]
                    error = await _failure(judge, question)
                    assert isinstance(error, kind), f"{fault}: {error!r}, not {kind.__name__}"
                    assert error.maybe_paid == kind.maybe_paid, fault
                    assert str(error), fault
                    assert judge.read(await judge.ask(question)).status is ReadingStatus.OK, fault

        self.run(main())

    def test_an_ask_is_one_attempt_that_never_retries_by_itself(self) -> None:
        async def main() -> None:
            async with self.open_judge(faults=["500", "500", "ok"]) as judge:
                question = _questions(judge)[0]
                assert isinstance(await _failure(judge, question), JudgeOverloaded)
                assert isinstance(await _failure(judge, question), JudgeOverloaded)
                assert (await judge.ask(question)).attempts == 1

        self.run(main())

    def test_concurrent_questions_each_get_their_own_answer(self) -> None:
        async def main() -> None:
            async with self.open_judge() as judge:
                asked = _questions(judge)[:24]
                together = await asyncio.gather(*(judge.ask(question) for question in asked))
                alone = [await judge.ask(question) for question in asked]
                assert [judge.read(reply) for reply in together] == [judge.read(reply) for reply in alone]
                assert {judge.read(reply).preferred for reply in together} >= {1, -1}

        self.run(main())

    def test_a_cancelled_question_harms_no_later_one(self) -> None:
        async def main() -> None:
            async with self.open_judge(faults=["hang", "ok"]) as judge:
                question = _questions(judge)[0]
                task = asyncio.ensure_future(judge.ask(question))
                await asyncio.wait([task], timeout=0.2)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                assert isinstance(await judge.ask(question), Reply)

        self.run(main())

    def test_reading_is_pure(self) -> None:
        async def main() -> None:
            async with self.open_judge() as judge:
                reply = await judge.ask(_questions(judge)[0])
                first = judge.read(reply)
                assert first == judge.read(reply)
                assert first.parser_version >= 1

        self.run(main())

    def test_the_cost_is_a_worst_case_that_no_reply_passes(self) -> None:
        async def main() -> None:
            async with self.open_judge(faults=["ok", "length", "reasoning", "refusal", "odd-usage"]) as judge:
                for question in _questions(judge)[:8]:
                    cost = await asyncio.to_thread(judge.cost, question)
                    assert cost == judge.cost(question)
                    assert cost.requests == 1
                    reply = await judge.ask(question)
                    assert reply.usage.total <= cost.tokens
                    assert reply.usd <= cost.usd

        self.run(main())

    def test_the_fingerprint_names_the_model_and_the_template(self) -> None:
        async def main() -> None:
            async with self.open_judge() as judge, self.open_judge() as same:
                assert len(judge.identity.fingerprint) == 32
                assert judge.identity.fingerprint == same.identity.fingerprint
                before = judge.identity
                await judge.ask(_questions(judge)[0])
                assert judge.identity == before
            async with self.open_judge(model="judge-two") as other, self.open_judge(template="verdict-scale") as scaled:
                fingerprints = {before.fingerprint, other.identity.fingerprint, scaled.identity.fingerprint}
                assert len(fingerprints) == 3

        self.run(main())

    def test_closing_twice_is_closing_once(self) -> None:
        async def main() -> None:
            async with self.open_judge() as judge:
                await judge.ask(_questions(judge)[0])
                await judge.aclose()
                await judge.aclose()

        self.run(main())


def _questions(judge: Judge) -> list[Question]:
    """Both directed questions of twelve pairs."""
    pairs = arithmetic_pairs(12)
    return [question for pair in pairs for question in questions(pair, pair_keys(pair), judge.identity.fingerprint)]


async def _failure(judge: Judge, question: Question) -> JudgeError:
    """The error that asking raises; fails if it returns, or raises anything else."""
    try:
        reply = await judge.ask(question)
    except JudgeError as error:
        return error
    raise AssertionError(f"expected a JudgeError, got {reply!r}")


def _require_consistent(reply: Reply) -> None:
    assert orjson.loads(orjson.dumps(reply.text)) == reply.text, "the text is not valid Unicode"
    assert reply.latency_s >= 0
    assert reply.attempts == 1
    assert reply.usage.total < 10**9
    assert 0 <= reply.usage.reasoning <= reply.usage.completion
    assert 0 <= reply.usage.cached <= reply.usage.prompt
    assert reply.usd >= 0
