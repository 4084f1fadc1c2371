"""The fake judge over real HTTP: what it says, how it fails, what it enforces."""

import asyncio
import http.client
import io
import json
import socket
import threading
from pathlib import Path

import aiohttp
import orjson
import pytest
from held import HeldJudge

from judgeflow.errors import ConfigurationError
from judgeflow.keys import pair_keys, questions
from judgeflow.records import read_pairs
from judgeflow.testing import (
    FAULTS,
    FakeJudge,
    JudgeLimits,
    Opinions,
    Recording,
    VirtualClock,
    arithmetic_pairs,
    recording,
    serve_in_thread,
)
from judgeflow.types import Pair, Reply
from judgeflow.verdicts.parse import read_reply
from judgeflow.verdicts.prompt import load_template, packaged_templates, render

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
O1 = "o1-mini-2024-09-12/arena_hard"


@pytest.fixture
async def session():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as session:
        yield session


def body(pair, template="default", *, swapped=False, **fields):
    question = questions(pair, pair_keys(pair), b"judge")[swapped]
    messages = [{"role": message.role, "content": message.content} for message in render(load_template(template), question)]
    return {"model": "fake-judge", "messages": messages} | fields


async def post(session, judge, request, key=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with session.post(f"{judge.base_url}/chat/completions", json=request, headers=headers) as response:
        return response.status, response.headers, await response.json()


async def text_of(session, judge, request):
    status, _, answer = await post(session, judge, request)
    assert status == 200, answer
    return answer["choices"][0]["message"]["content"]


async def stats_of(session, judge):
    async with session.get(judge.base_url.removesuffix("/v1") + "/stats") as response:
        return await response.json()


def preferred(text, template="default"):
    return read_reply(Reply(text=text), load_template(template).verdicts).preferred


PAIR = arithmetic_pairs(1)[0]


class TestAnswers:
    async def test_a_perfect_judge_names_the_labelled_response_in_both_orders_of_every_template(self, session):
        pairs = arithmetic_pairs(20)
        async with FakeJudge.from_pairs(pairs, accuracy=1.0) as judge:
            for pair in pairs:
                for template in packaged_templates():
                    right = 1 if pair.label == "a" else -1
                    assert preferred(await text_of(session, judge, body(pair, template)), template) == right
                    assert preferred(await text_of(session, judge, body(pair, template, swapped=True)), template) == -right

    async def test_tags_inside_the_judged_texts_do_not_decide_how_the_judge_answers(self, session):
        pair = Pair(prompt="[[A>>B]] [[A>B]] [[A=B]] [[B>A]] [[B>>A]]", response_a="[[A]] [[B]] [[C]]", response_b="no", label="a")
        async with FakeJudge.from_pairs([pair], accuracy=1.0) as judge:
            assert (await text_of(session, judge, body(pair))).endswith("<verdict>A</verdict>")

    async def test_a_given_verdict_format_replaces_the_search_for_tags(self, session):
        async with FakeJudge.from_pairs([PAIR], verdict_format=load_template("verdict-abc").verdicts) as judge:
            assert preferred(await text_of(session, judge, body(PAIR)), "verdict-abc") is not None

    async def test_a_request_from_any_other_client_gets_a_steady_answer_too(self, session):
        request = {"model": "fake-judge", "messages": [{"role": "user", "content": [{"type": "text", "text": "A or B?"}]}]}
        async with FakeJudge() as judge:
            assert await text_of(session, judge, request) == await text_of(session, judge, request)

    async def test_the_same_question_gets_the_same_answer_in_any_order_of_arrival(self, session):
        pairs = arithmetic_pairs(10)
        answers = []
        for order in (pairs, pairs[::-1]):
            async with FakeJudge.from_pairs(pairs, accuracy=0.5, position_bias=0.3, seed=7) as judge:
                answers.append({pair.id: await text_of(session, judge, body(pair)) for pair in order})
        assert answers[0] == answers[1]

    async def test_usage_counts_four_bytes_a_token_and_the_reply_keeps_to_its_limit(self, session):
        async with FakeJudge() as judge:
            _, _, whole = await post(session, judge, body(PAIR))
            _, _, cut = await post(session, judge, body(PAIR, max_completion_tokens=10))
        sent = sum(-(-len(message["content"].encode()) // 4) for message in body(PAIR)["messages"])
        assert whole["usage"]["prompt_tokens"] == sent
        assert whole["usage"]["completion_tokens"] == -(-len(whole["choices"][0]["message"]["content"].encode()) // 4)
        assert cut["choices"][0]["finish_reason"] == "length"
        assert cut["usage"]["completion_tokens"] == 10
        assert len(cut["choices"][0]["message"]["content"]) <= 40

    async def test_both_addresses_work_below_a_longer_base_path(self, session):
        async with FakeJudge(models=["one", "two"]) as judge:
            base = judge.base_url.removesuffix("/v1") + "/some/gateway/v1"
            async with session.get(f"{base}/models") as response:
                assert [model["id"] for model in (await response.json())["data"]] == ["one", "two"]
            async with session.post(f"{base}/chat/completions", json=body(PAIR, model="two")) as response:
                assert (await response.json())["model"] == "two"

    async def test_a_megabyte_is_judged_like_anything_else(self, session):
        pair = Pair(prompt="p", response_a="long " * 250_000, response_b="short", label="b")
        request = io.BytesIO(orjson.dumps(body(pair)))
        async with (
            FakeJudge.from_pairs([pair], accuracy=1.0) as judge,
            session.post(f"{judge.base_url}/chat/completions", data=request) as response,
        ):
            assert preferred((await response.json())["choices"][0]["message"]["content"]) == -1


class TestRefusals:
    async def test_another_model_is_not_found(self, session):
        async with FakeJudge() as judge:
            status, _, answer = await post(session, judge, body(PAIR, model="gpt-9"))
        assert (status, answer["error"]["code"]) == (404, "model_not_found")
        assert "fake-judge" in answer["error"]["message"]

    async def test_a_missing_or_wrong_api_key_is_turned_away_and_never_shown(self, session):
        async with FakeJudge(api_keys=["right"]) as judge:
            assert (await post(session, judge, body(PAIR)))[0] == 401
            assert (await post(session, judge, body(PAIR), key="sk-secret"))[0] == 401
            assert (await post(session, judge, body(PAIR), key="right"))[0] == 200
            stats = judge.stats()
        assert stats["statuses"] == {"401": 2, "200": 1}
        assert set(stats["keys"]) == {"right"}
        assert "sk-secret" not in json.dumps(stats)

    @pytest.mark.parametrize("request_body", [b"{", b"[]", b'{"model": "fake-judge"}', b'{"model": "fake-judge", "messages": ["x"]}'])
    async def test_a_malformed_request_is_explained(self, session, request_body):
        async with FakeJudge() as judge, session.post(f"{judge.base_url}/chat/completions", data=request_body) as response:
            assert response.status == 400
            assert (await response.json())["error"]["message"]

    @pytest.mark.parametrize(
        "options",
        [
            {"faults": "flood:0.1"},
            {"faults": "429:2"},
            {"faults": "429:often"},
            {"faults": "429:0.1,500"},
            {"faults": "429:0.6,500:0.6"},
            {"latency": "soon"},
            {"latency": "uniform:2:1"},
            {"latency": "lognormal:0:1"},
            {"latency": "-1"},
        ],
    )
    def test_a_specification_that_makes_no_sense_is_refused_with_what_would(self, options):
        with pytest.raises(ConfigurationError, match=r"there are ok|probabilit|write seconds"):
            FakeJudge(**options)

    async def test_a_taken_port_is_named(self):
        async with FakeJudge() as judge:
            with pytest.raises(ConfigurationError, match=str(judge.port)):
                await FakeJudge(port=judge.port).__aenter__()


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            ("429", 429, "rate_limit_exceeded"),
            ("429-bare", 429, "rate_limit_exceeded"),
            ("quota", 429, "insufficient_quota"),
            ("400", 400, "invalid_request"),
            ("500", 500, "server_error"),
            ("503", 503, "overloaded"),
            ("504", 504, "gateway_timeout"),
        ],
    )
    async def test_an_error_has_its_status_and_code_and_the_next_request_is_served(self, session, fault, status, code):
        async with FakeJudge(faults=[fault, "ok"]) as judge:
            seen, headers, answer = await post(session, judge, body(PAIR))
            assert (seen, answer["error"]["code"]) == (status, code)
            assert ("retry-after" in headers) == (fault == "429")
            assert (await post(session, judge, body(PAIR)))[0] == 200
            assert judge.stats()["faults"] == {fault: 1}

    async def test_a_scripted_429_says_when_to_come_back(self, session):
        async with FakeJudge(faults=["429"], retry_after_s=90.0) as judge:
            _, headers, _ = await post(session, judge, body(PAIR))
        assert (headers["retry-after"], headers["retry-after-ms"]) == ("90", "90000")
        assert headers["x-ratelimit-reset-requests"] == "1m30s"
        assert headers["x-ratelimit-remaining-requests"] == "0"

    async def test_a_hanging_request_ends_when_the_client_gives_up(self, session):
        async with FakeJudge(faults=["hang", "ok"]) as judge:
            with pytest.raises(asyncio.TimeoutError):
                async with session.post(f"{judge.base_url}/chat/completions", json=body(PAIR), timeout=aiohttp.ClientTimeout(total=0.1)):
                    pass
            assert (await post(session, judge, body(PAIR)))[0] == 200
            async with asyncio.timeout(300):
                while (await stats_of(session, judge))["in_flight"]:
                    pass
            assert judge.stats()["questions"].popitem()[1] == {"requests": 2, "answered": 1}

    async def test_stopping_the_judge_ends_whatever_hangs_or_is_slow(self, session):
        async with asyncio.timeout(300):
            async with FakeJudge(faults=["hang", "slow"], slow_s=3600) as judge:
                tasks = [asyncio.create_task(post(session, judge, body(PAIR))) for _ in range(2)]
                while (await stats_of(session, judge))["in_flight"] < 2:
                    pass
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, aiohttp.ClientError) for result in results)
        assert judge.statistics.in_flight == 0

    async def test_a_reset_connection_is_an_error_of_the_connection(self, session):
        async with FakeJudge(faults=["reset", "ok"]) as judge:
            with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
                await post(session, judge, body(PAIR))
            assert (await post(session, judge, body(PAIR)))[0] == 200

    async def test_a_body_that_is_cut_off_is_shorter_than_announced(self, session):
        async with FakeJudge(faults=["cut-off"]) as judge:
            with pytest.raises(aiohttp.ClientPayloadError):
                await post(session, judge, body(PAIR))
            assert judge.statistics.answered == 0

    @pytest.mark.parametrize("fault", ["truncated-json", "garbage"])
    async def test_a_broken_body_arrives_whole_and_is_no_json(self, session, fault):
        async with FakeJudge(faults=[fault]) as judge:
            async with session.post(f"{judge.base_url}/chat/completions", json=body(PAIR)) as response:
                text = await response.text()
            assert response.status == 200
            with pytest.raises(ValueError):
                json.loads(text)
            assert judge.statistics.answered == 0

    @pytest.mark.parametrize(
        ("fault", "content", "refused", "finish_reason"),
        [
            ("null", None, False, "stop"),
            ("refusal", None, True, "stop"),
            ("content-filter", "", False, "content_filter"),
        ],
    )
    async def test_a_reply_without_an_answer_is_paid_for(self, session, fault, content, refused, finish_reason):
        async with FakeJudge(faults=[fault]) as judge:
            _, _, answer = await post(session, judge, body(PAIR))
        choice = answer["choices"][0]
        assert choice["message"]["content"] == content
        assert bool(choice["message"]["refusal"]) == refused
        assert choice["finish_reason"] == finish_reason
        assert answer["usage"]["prompt_tokens"] > 0

    async def test_a_reply_cut_off_by_its_length_lacks_the_verdict_and_is_billed_to_the_limit(self, session):
        async with FakeJudge(faults=["length"]) as judge:
            _, _, answer = await post(session, judge, body(PAIR, max_completion_tokens=500))
        assert answer["choices"][0]["finish_reason"] == "length"
        assert "<verdict>" not in answer["choices"][0]["message"]["content"]
        assert answer["usage"]["completion_tokens"] == 500

    async def test_an_undecided_reply_has_no_tag(self, session):
        async with FakeJudge(faults=["no-tag"]) as judge:
            assert preferred(await text_of(session, judge, body(PAIR))) is None

    async def test_thinking_names_every_verdict_and_the_answer_still_reads_right(self, session):
        async with FakeJudge.from_pairs([PAIR], accuracy=1.0, faults=["reasoning"]) as judge:
            _, _, answer = await post(session, judge, body(PAIR))
        message, usage = answer["choices"][0]["message"], answer["usage"]
        assert message["content"].startswith("<think>")
        assert "<verdict>TIE</verdict>" in message["reasoning_content"]
        assert preferred(message["content"]) == (1 if PAIR.label == "a" else -1)
        assert 0 < usage["completion_tokens_details"]["reasoning_tokens"] < usage["completion_tokens"]

    @pytest.mark.parametrize("fault", ["content-parts", "surrogate", "odd-usage", "odd-fields"])
    async def test_an_odd_answer_says_the_right_thing_in_a_way_that_naive_clients_choke_on(self, session, fault):
        async with FakeJudge.from_pairs([PAIR], accuracy=1.0, faults=[fault, "ok"]) as judge:
            _, _, odd = await post(session, judge, body(PAIR))
            _, _, plain = await post(session, judge, body(PAIR))
            assert judge.statistics.answered == 2
        choice, right = odd["choices"][0], plain["choices"][0]["message"]["content"]
        content = choice["message"]["content"]
        said = {
            "content-parts": lambda: content[1]["text"] if content[0]["type"] == "thinking" else None,
            "surrogate": lambda: content.removeprefix("\ud83d "),
            "odd-usage": lambda: content if odd["usage"]["prompt_tokens"] < 0 and odd["usage"]["completion_tokens"] > 2**63 else None,
            "odd-fields": lambda: (
                content if choice["message"]["refusal"] is False and choice["finish_reason"] == {"type": "stop"} else None
            ),
        }[fault]()
        assert said == right
        assert (content == right) == (fault in {"odd-usage", "odd-fields"})

    async def test_an_error_reported_as_a_success_is_no_answer(self, session):
        async with FakeJudge(faults=["error-200"]) as judge:
            status, _, answer = await post(session, judge, body(PAIR))
            assert judge.statistics.answered == 0
        assert (status, answer["error"]["code"]) == (200, "502")
        assert "choices" not in answer

    async def test_a_slow_answer_is_late_and_right(self, session):
        loop = asyncio.get_running_loop()
        async with FakeJudge(faults=["slow"], slow_s=0.1) as judge:
            started = loop.time()
            assert preferred(await text_of(session, judge, body(PAIR))) is not None
        assert loop.time() - started >= 0.1

    async def test_probabilities_hit_the_same_attempts_of_the_same_questions_every_time(self, session):
        pairs = arithmetic_pairs(60)
        seen = []
        for order in (pairs, pairs[::-1]):
            async with FakeJudge(faults="500:0.3,429-bare:0.2", seed=3) as judge:
                seen.append({pair.id: [(await post(session, judge, body(pair)))[0] for _ in range(2)] for pair in order})
        assert seen[0] == seen[1]
        statuses = [status for both in seen[0].values() for status in both]
        assert 15 <= statuses.count(500) <= 60
        assert 8 <= statuses.count(429) <= 45
        assert any(first != second for first, second in seen[0].values())

    async def test_every_named_fault_can_be_scripted(self, session):
        for fault in FAULTS:
            async with FakeJudge(faults=[fault], slow_s=0) as judge:
                request = asyncio.create_task(post(session, judge, body(PAIR)))
                while not judge.statistics.faults:
                    await asyncio.sleep(0)
                if fault == "hang":
                    request.cancel()
                await asyncio.wait([request])
                assert judge.stats()["faults"] == {fault: 1}


class TestLimits:
    async def test_no_window_admits_more_requests_than_its_limit(self, session):
        loop = asyncio.get_running_loop()
        window, admitted = 0.3, []
        async with FakeJudge(limits=JudgeLimits(requests_per_minute=5, window_s=window)) as judge:
            while len(admitted) < 11 or not judge.statistics.provoked_429:
                before = loop.time()
                status, headers, _ = await post(session, judge, body(PAIR))
                if status == 200:
                    admitted.append((before, loop.time()))
                else:
                    await asyncio.sleep(int(headers["retry-after-ms"]) / 1000)
            stats = judge.stats()
        # The sixth request of any six was admitted a window after the first was: after it was answered, less before it was sent.
        assert all(late[1] - early[0] >= window for early, late in zip(admitted, admitted[5:], strict=False))
        assert stats["keys"]["anonymous"]["peak_requests"] == 5
        assert stats["violations"]["requests"] == stats["provoked_429"] == stats["statuses"]["429"] > 0

    async def test_a_window_slides_instead_of_starting_afresh(self, session):
        clock = VirtualClock()
        async with FakeJudge(limits=JudgeLimits(requests_per_minute=2), clock=clock) as judge:
            statuses = []
            for pause in (0, 40, 15, 5, 0, 39, 1):  # at 0, 40, 55, 60, 60, 99 and 100 s
                clock.advance(pause)
                statuses.append((await post(session, judge, body(PAIR)))[0])
        assert statuses == [200, 200, 429, 200, 429, 429, 200]

    async def test_whoever_waits_as_told_is_served(self, session):
        clock = VirtualClock()
        limits = JudgeLimits(requests_per_minute=3, tokens_per_minute=3000)
        async with FakeJudge(limits=limits, clock=clock) as judge:
            for pair in arithmetic_pairs(20):
                status, headers, _ = await post(session, judge, body(pair, max_tokens=600))
                if status == 429:
                    clock.advance(int(headers["retry-after-ms"]) / 1000)
                    status, _, _ = await post(session, judge, body(pair, max_tokens=600))
                assert status == 200
            assert judge.stats()["keys"]["anonymous"]["peak_tokens"] <= 3000
            assert clock.now() >= 360

    async def test_each_api_key_has_windows_of_its_own(self, session):
        async with FakeJudge(api_keys=["one", "two"], limits=JudgeLimits(requests_per_minute=1)) as judge:
            statuses = [(await post(session, judge, body(PAIR), key=key))[0] for key in ("one", "two", "one")]
            keys = judge.stats()["keys"]
        assert statuses == [200, 200, 429]
        assert keys["one"]["provoked_429"] == 1
        assert "provoked_429" not in keys["two"]

    async def test_tokens_are_reserved_with_the_longest_reply_or_charged_as_used(self, session):
        request = body(PAIR, max_completion_tokens=5000)
        for charge, served in (("reserved", 1), ("actual", 4)):
            async with FakeJudge(limits=JudgeLimits(tokens_per_minute=9000, charge=charge)) as judge:
                statuses = [(await post(session, judge, request))[0] for _ in range(4)]
            assert statuses.count(200) == served

    async def test_a_request_that_can_never_fit_is_not_told_to_come_back(self, session):
        async with FakeJudge(limits=JudgeLimits(tokens_per_minute=100)) as judge:
            status, headers, _ = await post(session, judge, body(PAIR, max_completion_tokens=5000))
        assert status == 429
        assert "retry-after" not in headers

    async def test_too_many_at_once_are_turned_away(self, session):
        async with HeldJudge(limits=JudgeLimits(max_concurrency=3)) as judge:
            asked = [asyncio.create_task(post(session, judge, body(PAIR))) for _ in range(8)]
            while judge.statistics.provoked_429 < 5:
                await asyncio.sleep(0)
            judge.let_go()
            results = await asyncio.gather(*asked)
            stats = judge.stats()
        assert [status for status, _, _ in results].count(200) == 3
        assert stats["violations"]["concurrency"] == 5

    async def test_successes_carry_what_is_left_unless_headers_are_off(self, session):
        for headers in (True, False):
            limits = JudgeLimits(requests_per_minute=10, tokens_per_minute=100_000, headers=headers)
            async with FakeJudge(limits=limits) as judge:
                _, seen, answer = await post(session, judge, body(PAIR))
            assert ("x-ratelimit-reset-tokens" in seen) == headers
            if headers:
                assert (seen["x-ratelimit-limit-requests"], seen["x-ratelimit-remaining-requests"]) == ("10", "9")
                assert seen["x-ratelimit-remaining-tokens"] == str(100_000 - answer["usage"]["total_tokens"])

    async def test_bare_limits_turn_away_without_a_word_of_when(self, session):
        async with FakeJudge(limits=JudgeLimits(requests_per_minute=1, headers=False)) as judge:
            await post(session, judge, body(PAIR))
            status, headers, _ = await post(session, judge, body(PAIR))
        assert status == 429
        assert not [name for name in headers if name.lower().startswith(("retry", "x-ratelimit"))]


class TestStatistics:
    async def test_statistics_prove_that_nothing_was_asked_twice(self, session):
        pairs = arithmetic_pairs(6)
        async with FakeJudge(faults=["500"]) as judge:
            for pair in [pairs[0], *pairs]:
                await post(session, judge, body(pair))
            stats = await stats_of(session, judge)
        assert stats["requests"] == 7
        assert stats["answered"] == 6
        assert sorted(count["requests"] for count in stats["questions"].values()) == [1, 1, 1, 1, 1, 2]
        assert all(count["answered"] == 1 for count in stats["questions"].values())
        assert stats["statuses"] == {"500": 1, "200": 6}


class TestReplay:
    def write(self, path, records):
        path.write_bytes(b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records))
        return path

    @pytest.fixture
    def file(self, tmp_path):
        record = {"prompt": "Hi", "response_a": "Hello", "response_b": "Go away"}
        first = {"order_ab": {"raw": "one [[A>>B]]"}, "order_ba": {"raw": "two [[B>A]]"}}
        nested = {"rep1": {"order_ab": {"raw": "three"}, "order_ba": {"raw": None}}}
        return self.write(tmp_path / "pairs.jsonl", [record | {"judge": {"plain": first, "nested": nested}}])

    async def test_recorded_replies_come_back_in_whichever_order_is_asked(self, session, file):
        (pair,), _ = read_pairs(file)
        async with FakeJudge.from_recorded(file, judge="plain") as judge:
            assert await text_of(session, judge, body(pair, model="any")) == "one [[A>>B]]"
            assert await text_of(session, judge, body(pair, swapped=True)) == "two [[B>A]]"
            assert await text_of(session, judge, body(pair.swapped())) == "two [[B>A]]"

    async def test_a_repetition_is_named_and_a_missing_order_is_not_recorded(self, session, file):
        (pair,), _ = read_pairs(file)
        async with FakeJudge.from_recorded(file, judge="nested/rep1") as judge:
            assert await text_of(session, judge, body(pair)) == "three"
            for request in (body(pair, swapped=True), body(PAIR), {"model": "m", "messages": [{"role": "user", "content": "?"}]}):
                status, _, answer = await post(session, judge, request)
                assert (status, answer["error"]["code"]) == (400, "not_recorded")

    def test_an_unnamed_or_unknown_judge_is_answered_with_the_names_there_are(self, file):
        for judge in (None, "plane"):
            with pytest.raises(ConfigurationError, match="nested/rep1, plain"):
                FakeJudge.from_recorded(file, judge=judge)

    def test_a_file_without_replies_is_refused(self, tmp_path):
        file = self.write(tmp_path / "bare.jsonl", [{"prompt": "Hi", "response_a": "a", "response_b": "b"}])
        with pytest.raises(ConfigurationError, match="no recorded replies"):
            FakeJudge.from_recorded(file)

    async def test_a_replaying_judge_fails_on_request_and_knows_only_given_models(self, session, file):
        pairs, _ = read_pairs(file)
        async with FakeJudge(recording(pairs, "plain"), models=["o1"], faults=["500"]) as judge:
            assert (await post(session, judge, body(pairs[0], model="o1")))[0] == 500
            assert (await post(session, judge, body(pairs[0], model="o2")))[0] == 404
            assert (await post(session, judge, body(pairs[0], model="o1")))[0] == 200

    async def test_the_real_o1_mini_replies_are_all_served_in_both_orders(self, session):
        path = DATA / "judgebench_gpt4o.jsonl"
        if not path.exists():
            pytest.skip("skipped: no data")
        pairs, _ = read_pairs(path)
        async with FakeJudge.from_recorded(path) as judge:
            for pair in pairs:
                recorded = pair.metadata["judge"][O1]
                for order, swapped in (("order_ab", False), ("order_ba", True)):
                    assert await text_of(session, judge, body(pair, "verdict-scale", swapped=swapped)) == recorded[order]["raw"]
            assert judge.statistics.answered == 700
            assert set(judge.statistics.question_requests.values()) == {1}

    def test_every_judge_and_repetition_of_the_position_study_can_be_replayed(self):
        path = DATA / "mtbench_position_judges.jsonl"
        if not path.exists():
            pytest.skip("skipped: no data")
        pairs, _ = read_pairs(path)
        for name, repetitions in pairs[0].metadata["judge"].items():
            for repetition in repetitions:
                replay = recording(pairs, f"{name}/{repetition}")
                assert isinstance(replay, Recording)
                assert replay.pairs == len(pairs)


async def test_a_judge_of_its_own_opinions_can_take_every_option(session):
    opinions = Opinions(truth=Opinions.truths([PAIR]), accuracy=1.0, words=5)
    async with FakeJudge(opinions, api_keys=["k"], latency="uniform:0:0.01", models=["m"]) as judge:
        status, _, answer = await post(session, judge, body(PAIR, model="m"), key="k")
    assert status == 200
    assert preferred(answer["choices"][0]["message"]["content"]) == (1 if PAIR.label == "a" else -1)


class TestThread:
    def test_synchronous_code_can_ask_a_judge_in_a_thread(self):
        with serve_in_thread(FakeJudge(faults=["503"])) as judge:
            for status in (503, 200):
                host = http.client.HTTPConnection(judge.host, judge.port, timeout=300)
                host.request("POST", "/v1/chat/completions", orjson.dumps(body(PAIR)))
                assert host.getresponse().status == status
                host.close()
        assert judge.statistics.statuses == {"503": 1, "200": 1}
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPConnection(judge.host, judge.port, timeout=300).connect()

    def test_a_judge_that_cannot_start_leaves_no_thread_behind(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigurationError, match=str(port)), serve_in_thread(FakeJudge(port=port)):
                pass
        assert "fake-judge" not in {thread.name for thread in threading.enumerate()}
