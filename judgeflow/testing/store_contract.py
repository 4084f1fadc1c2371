"""The contract of `judgeflow.ports.Store` as a test class.

    class TestMyStore(StoreContract):
        @pytest.fixture(autouse=True)
        def _folder(self, tmp_path):
            self.address = tmp_path / "store"

        async def make_store(self):
            return await MyStore.open(self.address)

The tests are plain functions that run a coroutine each, so no pytest plugin is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from judgeflow.errors import StoreError, StoreUnavailable
from judgeflow.keys import pair_keys, questions
from judgeflow.ports import OPEN_FOR_S, Store
from judgeflow.types import (
    Call,
    Cost,
    Decision,
    Dispatch,
    JudgeIdentity,
    Message,
    Pair,
    Question,
    Reading,
    ReadingStatus,
    Reply,
    Reservation,
    StepStatistics,
    Stock,
    Usage,
)

JUDGE = JudgeIdentity(id="contract", model="judge-one", fingerprint=b"contract-judge-fingerprint-32-by", parameters={"temperature": 0.5})
RUN = "contract-run"
WORST = Cost(requests=1, tokens=1000, usd=0.01)
PLENTY = Stock(requests=1_000_000)
RACERS = 1000


class StoreContract:
    """Proves that a `Store` keeps its port's promises.  Subclass it and say in `make_store` how one is opened."""

    async def make_store(self) -> Store:
        """Return the store under test, open.  Further calls in one test open the same contents again, as another process would."""
        raise NotImplementedError

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run one test's coroutine; a subclass may use a `VirtualClock`."""
        asyncio.run(main)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        """Open the store with the contract's run and judge in it, and close it at the end."""
        store = await self.make_store()
        try:
            await store.open_run(RUN, {"routing": {"policy": "always"}}, JUDGE)
            yield store
        finally:
            await store.aclose()

    def test_is_a_store_by_the_protocol(self) -> None:
        async def main() -> None:
            async with self.opened() as store:
                assert isinstance(store, Store)

        self.run(main())

    def test_a_new_run_has_spent_nothing_and_has_no_step(self) -> None:
        async def main() -> None:
            store = await self.make_store()
            state = await store.open_run("fresh", {}, None)
            assert (state.name, state.spent, state.reserved, state.last_step) == ("fresh", Cost(), Cost(), None)
            assert await store.run_state("fresh") == state
            await store.aclose()

        self.run(main())

    def test_a_settled_reply_is_read_back_as_it_was_by_whoever_opens_the_store_next(self) -> None:
        async def main() -> None:
            call = make_call(make_question())
            async with self.opened() as store:
                await settle(store, "r", make_question(), call)
                assert await store.read([call.key]) == {call.key: call}
            async with self.opened() as store:
                assert await store.read([call.key]) == {call.key: call}

        self.run(main())

    def test_every_kind_of_reply_survives_unchanged(self) -> None:
        async def main() -> None:
            questions_ = [make_question(number) for number in range(5)]
            calls = [
                make_call(questions_[0], Reply(text="", refusal="no", finish_reason="content_filter"), ReadingStatus.REFUSED),
                make_call(questions_[1], Reply(text="I th", finish_reason="length"), ReadingStatus.TRUNCATED),
                make_call(questions_[2], Reply(text="\u65e5\u672c\u8a9e \U0001f600 \u0000", finish_reason=None), ReadingStatus.UNPARSEABLE),
                make_call(questions_[3], Reply(text="x" * 1_000_000, reasoning="because", request_id="id", model="m", attempts=3)),
                replace(make_call(questions_[4]), reading=Reading(status=ReadingStatus.OK, preferred=0, strong=True, parser_version=7)),
            ]
            async with self.opened() as store:
                for question, call in zip(questions_, calls, strict=True):
                    await settle(store, call.key.hex(), question, call)
                assert await store.read([call.key for call in calls]) == {call.key: call for call in calls}

        self.run(main())

    def test_a_reply_with_broken_characters_is_kept_rather_than_lost(self) -> None:
        async def main() -> None:
            call = make_call(make_question(), Reply(text="half a pair \ud83d [[A]]"))
            async with self.opened() as store:
                await settle(store, "r", make_question(), call)
                assert (await store.read([call.key]))[call.key].reply.text == "half a pair ? [[A]]"

        self.run(main())

    def test_conversations_and_texts_of_the_same_characters_are_different_questions(self) -> None:
        async def main() -> None:
            chat = make_question(prompt=(Message(role="system", content="Be brief."), Message(role="user", content="Why?")))
            plain = make_question(prompt='[{"content":"Be brief.","role":"system"},{"content":"Why?","role":"user"}]')
            assert chat.call_key != plain.call_key
            async with self.opened() as store:
                await settle(store, "chat", chat, make_call(chat, Reply(text="to the conversation")))
                await settle(store, "plain", plain, make_call(plain, Reply(text="to the text")))
                found = await store.read([chat.call_key, plain.call_key])
            assert found[chat.call_key].reply.text == "to the conversation"
            assert found[plain.call_key].reply.text == "to the text"

        self.run(main())

    def test_unknown_keys_are_left_out_of_what_is_read(self) -> None:
        async def main() -> None:
            call = make_call(make_question())
            async with self.opened() as store:
                assert await store.read([]) == {}
                await settle(store, "r", make_question(), call)
                assert await store.read([b"?" * 32, call.key, b"!" * 32]) == {call.key: call}

        self.run(main())

    def test_thousands_of_keys_can_be_read_at_once(self) -> None:
        async def main() -> None:
            questions_ = [make_question(number) for number in range(1200)]
            async with self.opened() as store:
                await asyncio.gather(*(settle(store, f"r{number}", item, make_call(item)) for number, item in enumerate(questions_)))
                assert (await store.read([item.call_key for item in questions_] * 2)).keys() == {item.call_key for item in questions_}

        self.run(main())

    def test_the_first_reply_to_a_question_stays_and_the_second_is_charged(self) -> None:
        async def main() -> None:
            question = make_question()
            first, second = make_call(question, Reply(text="first", usd=0.25)), make_call(question, Reply(text="second", usd=0.5))
            async with self.opened() as store:
                await settle(store, "one", question, first)
                await settle(store, "two", question, second)
                assert (await store.read([question.call_key]))[question.call_key].reply.text == "first"
                assert (await store.run_state(RUN)).spent == Cost(requests=2, tokens=0, usd=0.75)

        self.run(main())

    def test_settling_charges_the_actual_cost_instead_of_the_reservation(self) -> None:
        async def main() -> None:
            call = make_call(make_question(), Reply(text="ok", usage=Usage(prompt=70, completion=30, reasoning=20, cached=10), usd=0.003))
            async with self.opened() as store:
                reservation = await reserved(store, "r")
                assert (await store.run_state(RUN)).reserved == WORST
                await store.settle(RUN, reservation, make_question(), call)
                state = await store.run_state(RUN)
            assert (state.spent, state.reserved) == (Cost(requests=1, tokens=100, usd=0.003), Cost())

        self.run(main())

    def test_charging_counts_the_worst_case_and_releasing_counts_nothing(self) -> None:
        async def main() -> None:
            async with self.opened() as store:
                lost, unserved = await reserved(store, "lost"), await reserved(store, "unserved")
                await store.charge(RUN, lost)
                await store.release(RUN, unserved)
                state = await store.run_state(RUN)
            assert (state.spent, state.reserved) == (WORST, Cost())

        self.run(main())

    def test_a_closed_reservation_is_never_counted_again(self) -> None:
        async def main() -> None:
            question = make_question()
            async with self.opened() as store:
                for name, close in (("settled", store.charge), ("charged", store.release), ("released", store.charge)):
                    reservation = await reserved(store, name)
                    if name == "settled":
                        await store.settle(RUN, reservation, question, make_call(question))
                    else:
                        await (store.charge if name == "charged" else store.release)(RUN, reservation)
                    before = await store.run_state(RUN)
                    await close(RUN, reservation)
                    await store.settle(RUN, reservation, question, make_call(question))
                    assert await store.run_state(RUN) == before, name

        self.run(main())

    def test_a_reply_that_comes_after_its_reservation_was_charged_is_kept(self) -> None:
        async def main() -> None:
            question = make_question()
            async with self.opened() as store:
                reservation = await reserved(store, "late")
                await store.charge(RUN, reservation)
                await store.settle(RUN, reservation, question, make_call(question))
                assert question.call_key in await store.read([question.call_key])
                assert (await store.run_state(RUN)).spent == WORST

        self.run(main())

    def test_a_thousand_concurrent_reservations_never_pass_the_stock(self) -> None:
        async def main() -> None:
            for stock, admitted in ((Stock(requests=300), 300), (Stock(tokens=123_999), 123), (Stock(usd=0.5), 50), (Stock(requests=0), 0)):
                run = f"race {stock}"
                async with self.opened() as store:
                    await store.open_run(run, {}, JUDGE)
                    granted = await asyncio.gather(*(store.reserve(run, make_reservation(f"r{i}"), stock) for i in range(RACERS)))
                    assert granted.count(True) == admitted, stock
                    state = await store.run_state(run)
                assert stock.admits(state.spent + state.reserved), stock
                assert state.reserved.requests == admitted, stock

        self.run(main())

    def test_what_is_released_or_turns_out_cheaper_can_be_reserved_again(self) -> None:
        async def main() -> None:
            stock, question = Stock(tokens=2000, usd=0.02), make_question()
            async with self.opened() as store:
                first, second = await reserved(store, "first", stock), await reserved(store, "second", stock)
                assert not await store.reserve(RUN, make_reservation("third"), stock)
                await store.release(RUN, first)
                assert await store.reserve(RUN, make_reservation("fourth"), stock)
                await store.settle(RUN, second, question, make_call(question, Reply(text="free")))
                assert await store.reserve(RUN, make_reservation("fifth"), stock)

        self.run(main())

    def test_two_stores_on_the_same_contents_share_one_stock(self) -> None:
        async def main() -> None:
            async with self.opened() as here, self.opened() as there:
                stores = [here, there] * 50
                granted = await asyncio.gather(
                    *(store.reserve(RUN, make_reservation(f"r{i}"), Stock(requests=60)) for i, store in enumerate(stores))
                )
                assert granted.count(True) == 60
                assert (await here.run_state(RUN)) == (await there.run_state(RUN))

        self.run(main())

    def test_reservations_left_open_stay_charged_after_reopening(self) -> None:
        async def main() -> None:
            async with self.opened() as store:
                await reserved(store, "orphan")
            async with self.opened() as store:
                state = await store.open_run(RUN, {}, JUDGE)
                assert (state.spent, state.reserved) == (Cost(), WORST)
                assert not await store.reserve(RUN, make_reservation("next"), Stock(requests=1))

        self.run(main())

    def test_what_was_sent_to_a_judge_is_told_to_whoever_opens_the_store_next_whichever_run_sent_it(self) -> None:
        async def main() -> None:
            now = time.time()
            async with self.opened() as store:
                await store.open_run("other", {}, JUDGE)
                question, usage = make_question(), Usage(prompt=70, completion=30)
                settled, lost, unserved, _ = [await reserved(store, name) for name in ("settled", "lost", "unserved", "open")]
                await store.settle(RUN, sent(settled, now - 20, 3), question, make_call(question, Reply(text="ok", usage=usage)))
                await store.charge(RUN, sent(lost, now - 10, 1))
                await store.release(RUN, sent(unserved, now - 5, 2))
                await store.reserve("other", make_reservation("open"), PLENTY)
            async with self.opened() as store:
                found = await store.dispatches(JUDGE, now - 60)
                assert sorted(found, key=lambda item: item.at or now) == [
                    Dispatch(at=now - 20, requests=3, tokens=100, answered=True),
                    Dispatch(at=now - 10, requests=1, tokens=WORST.tokens, answered=False),
                    Dispatch(at=now - 5, requests=2, tokens=0, answered=False),
                    *[Dispatch(at=None, requests=1, tokens=WORST.tokens, answered=False)] * 2,
                ]
                assert [item.at for item in await store.dispatches(JUDGE, now - 15)].count(now - 20) == 0

        self.run(main())

    def test_what_was_sent_to_another_judge_or_never_is_not_told_and_judges_with_one_id_are_one(self) -> None:
        async def main() -> None:
            now = time.time()
            stranger = replace(JUDGE, id="stranger", fingerprint=b"!" * 32)
            twin = replace(JUDGE, fingerprint=b"?" * 32)  # the same account, asked with another template
            async with self.opened() as store:
                await store.open_run(RUN, {}, stranger)
                await store.open_run(RUN, {}, twin)
                await store.release(RUN, await reserved(store, "never sent"))
                await store.charge(RUN, sent(await reserved(store, "sent"), now, 1))
                assert await store.dispatches(stranger, now - 60) == []
                assert [item.at for item in await store.dispatches(twin, now - 60)] == [now]

        self.run(main())

    def test_what_has_been_open_for_long_is_not_taken_for_under_way(self) -> None:
        async def main() -> None:
            async with self.opened() as store:
                await reserved(store, "orphan")
                later = time.time() + OPEN_FOR_S
                assert len(await store.dispatches(JUDGE, later - 60)) == 1
                assert await store.dispatches(JUDGE, later + 60) == []

        self.run(main())

    def test_a_reservation_id_is_used_once(self) -> None:
        async def main() -> None:
            async with self.opened() as store:
                await reserved(store, "same")
                await _require_store_error(store.reserve(RUN, make_reservation("same"), PLENTY))
                assert (await store.run_state(RUN)).reserved == WORST

        self.run(main())

    def test_nothing_is_put_aside_for_a_question_whose_reply_is_stored_and_the_reply_is_returned(self) -> None:
        async def main() -> None:
            question, other = make_question(), make_question(1)
            known, unknown = (Reservation(id=name, call_key=item.call_key, cost=WORST) for name, item in (("k", question), ("u", other)))
            async with self.opened() as here, self.opened() as there:
                await there.open_run("other", {}, JUDGE)
                await settle(here, "r", question, make_call(question))
                for stock in (PLENTY, Stock(requests=0)):
                    assert await there.reserve("other", known, stock) == make_call(question)
                assert (await there.run_state("other")).reserved == Cost()
                assert await there.reserve("other", unknown, PLENTY) is True

        self.run(main())

    def test_runs_do_not_touch_each_other(self) -> None:
        async def main() -> None:
            async with self.opened() as store:
                await store.open_run("other", {}, JUDGE)
                await reserved(store, "r")
                assert await store.reserve("other", make_reservation("r"), PLENTY)
                await store.charge("other", make_reservation("r"))
                await store.record_plan(RUN, 0, [make_decision(0)])
                assert await store.decisions("other", 0) == {}
                assert (await store.run_state(RUN)).spent == Cost()
                assert (await store.run_state("other")).spent == WORST

        self.run(main())

    def test_a_run_that_was_never_opened_is_an_error_and_harms_no_other_write(self) -> None:
        async def main() -> None:
            async with self.opened() as store:
                bad = _require_store_error(store.reserve("nobody", make_reservation("r"), PLENTY))
                await asyncio.gather(*(reserved(store, f"r{i}") for i in range(5)), bad)
                assert (await store.run_state(RUN)).reserved.requests == 5
                await _require_store_error(store.run_state("nobody"))

        self.run(main())

    def test_the_first_plan_of_a_pair_in_a_step_stays(self) -> None:
        async def main() -> None:
            first, again = make_decision(0, logit=1.0), make_decision(0, logit=9.0)
            async with self.opened() as store:
                assert await store.decisions(RUN, 3) == {}
                await store.record_plan(RUN, 3, [first])
                await store.record_plan(RUN, 3, [again, make_decision(1)])
                assert await store.decisions(RUN, 3) == {first.pair_key: first, make_decision(1).pair_key: make_decision(1)}
                assert await store.decisions(RUN, 4) == {}

        self.run(main())

    def test_the_last_pacing_that_came_with_a_plan_is_kept_for_whoever_continues_the_run(self) -> None:
        async def main() -> None:
            first, last = {"windows": [[1.5, [[0.25, 3]]]], "credit": 0.1}, {"windows": [], "credit": -1e-300}
            async with self.opened() as store:
                assert (await store.run_state(RUN)).pacing is None
                await store.record_plan(RUN, 0, [], first)
                await store.record_plan(RUN, 1, [make_decision(0)])
                assert (await store.run_state(RUN)).pacing == first
                await store.open_run("other", {}, JUDGE)
                await store.record_plan(RUN, 2, [], last)
                await store.record_step(make_statistics(2), [])
                assert (await store.run_state("other")).pacing is None
            async with self.opened() as store:
                assert (await store.open_run(RUN, {}, JUDGE)).pacing == last

        self.run(main())

    def test_the_end_of_a_step_fills_in_source_and_status_and_nothing_else(self) -> None:
        async def main() -> None:
            planned, unplanned = make_decision(0, logit=1.0), make_decision(1, logit=2.0)
            ended = [replace(planned, logit=7.0, source="fallback", status="deadline"), replace(unplanned, source="judge")]
            async with self.opened() as store:
                await store.record_plan(RUN, 0, [planned])
                await store.record_step(make_statistics(0), ended)
                found = await store.decisions(RUN, 0)
            assert found[planned.pair_key] == replace(planned, source="fallback", status="deadline")
            assert found[unplanned.pair_key] == ended[1]

        self.run(main())

    def test_the_end_of_a_step_fills_in_a_threshold_that_was_not_known_when_a_pair_was_planned(self) -> None:
        async def main() -> None:
            early, known = replace(make_decision(0), threshold=None), make_decision(1)
            ended = [replace(decision, threshold=0.5, source="judge") for decision in (early, known)]
            async with self.opened() as store:
                await store.record_plan(RUN, 0, [early, known])
                await store.record_step(make_statistics(0), ended)
                found = await store.decisions(RUN, 0)
            assert found[early.pair_key] == ended[0]
            assert found[known.pair_key] == replace(known, source="judge")

        self.run(main())

    def test_the_last_step_of_a_run_is_the_highest_that_ended(self) -> None:
        async def main() -> None:
            async with self.opened() as store:
                for step in (0, 5, 2, 5):
                    await store.record_step(make_statistics(step), [])
                await store.record_plan(RUN, 9, [make_decision(0)])
                assert (await store.run_state(RUN)).last_step == 5
            async with self.opened() as store:
                assert (await store.open_run(RUN, {}, JUDGE)).last_step == 5

        self.run(main())

    def test_a_cancelled_caller_does_not_take_its_write_back(self) -> None:
        async def main() -> None:
            question = make_question()
            async with self.opened() as store:
                task = asyncio.create_task(settle(store, "r", question, make_call(question), reserve=False))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait({task})
            async with self.opened() as store:
                assert question.call_key in await store.read([question.call_key])

        self.run(main())

    def test_closing_finishes_accepted_writes_and_may_be_repeated(self) -> None:
        async def main() -> None:
            store = await self.make_store()
            await store.open_run(RUN, {}, JUDGE)
            writes = [asyncio.create_task(store.reserve(RUN, make_reservation(f"r{i}"), PLENTY)) for i in range(50)]
            await asyncio.sleep(0)
            await store.aclose()
            await store.aclose()
            assert await asyncio.gather(*writes) == [True] * 50
            async with self.opened() as again:
                assert (await again.run_state(RUN)).reserved.requests == 50

        self.run(main())

    def test_a_closed_store_is_unavailable(self) -> None:
        async def main() -> None:
            store = await self.make_store()
            await store.aclose()
            for attempt in (store.open_run(RUN, {}, None), store.read([]), store.decisions(RUN, 0), store.run_state(RUN)):
                error = await _require_store_error(attempt)
                assert isinstance(error, StoreUnavailable)

        self.run(main())


def make_question(number: int = 0, *, prompt: Any = "Which is better?") -> Question:
    """Return the directed question of one of endlessly many pairs."""
    pair = Pair(prompt=prompt, response_a=f"first response {number}", response_b=f"second response {number}")
    return questions(pair, pair_keys(pair), JUDGE.fingerprint)[0]


def make_call(question: Question, reply: Reply | None = None, status: ReadingStatus = ReadingStatus.OK) -> Call:
    """Return a reply to `question`, by default one that cost nothing and prefers the first response."""
    return Call(
        key=question.call_key,
        pair_key=question.pair_key,
        judge=JUDGE.fingerprint,
        canonical=question.canonical,
        reply=reply or Reply(text="[[A]]", latency_s=1.5),
        reading=Reading(status=status, preferred=1 if status is ReadingStatus.OK else None),
        created_at=1_700_000_000.25,
        sample=question.sample,
    )


def make_reservation(name: str) -> Reservation:
    """Return a reservation of one request, 1,000 tokens and a cent."""
    return Reservation(id=name, call_key=b"k" * 32, cost=WORST, judge=JUDGE.fingerprint)


def sent(reservation: Reservation, at: float, times: int) -> Reservation:
    """Return the reservation of a question that was sent so often, the last time at `at` (Unix time in seconds)."""
    return replace(reservation, sends=times, sent_at=at)


def make_decision(number: int, *, logit: float = 0.0) -> Decision:
    """Return a planned decision about one of 256 pairs."""
    return Decision(
        pair_key=bytes([number]) * 32,
        asked=True,
        logit=logit,
        uncertainty=1.25,
        acquisition=0.5,
        threshold=0.25,
        propensity=0.75,
        audit=True,
    )


def make_statistics(step: int) -> StepStatistics:
    """Return the statistics of a step of one pair."""
    return StepStatistics(
        run=RUN,
        step=step,
        pairs=1,
        threshold=None,
        sources={"judge": 1},
        statuses={"ok": 1},
        calls=2,
        spent=Cost(requests=2, tokens=200, usd=0.02),
        prompt_tokens=150,
        completion_tokens=50,
        agreement=1.0,
        latency_s={"p50": 1.0, "p90": 1.0, "max": 1.0},
        remaining={"requests": None, "tokens": None, "usd": 1.5},
        seconds=2.5,
    )


async def reserved(store: Store, name: str, stock: Stock = PLENTY) -> Reservation:
    """Make a reservation that must succeed, and return it."""
    reservation = make_reservation(name)
    assert await store.reserve(RUN, reservation, stock)
    return reservation


async def settle(store: Store, name: str, question: Question, call: Call, *, reserve: bool = True) -> None:
    """Settle `call` against a reservation called `name`, made before unless `reserve` is false."""
    reservation = await reserved(store, name) if reserve else make_reservation(name)
    await store.settle(RUN, reservation, question, call)


async def _require_store_error(attempt: Coroutine[Any, Any, object]) -> StoreError:
    with pytest.raises(StoreError, match=r"\w") as caught:
        await attempt
    return caught.value
