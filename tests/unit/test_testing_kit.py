"""The parts of the test kit that need no network."""

import asyncio
import math
import subprocess
import sys

import orjson
import pytest

import judgeflow.testing
from judgeflow.chance import chance, parse_latency
from judgeflow.errors import ConfigurationError, RateLimited, ReplyLost, ScorerError
from judgeflow.keys import pair_keys, questions
from judgeflow.ports import Judge, Scorer
from judgeflow.records import parse_pair
from judgeflow.testing import FakeScorer, JudgeLimits, Opinions, ScriptedJudge, VirtualClock, arithmetic_pairs
from judgeflow.testing.limits import Meter, SlidingWindow, duration
from judgeflow.testing.pairs import pair_lines
from judgeflow.types import Pair

PAIRS = arithmetic_pairs(2000, seed=1)


def both(pair, judge):
    return questions(pair, pair_keys(pair), judge.identity.fingerprint)


def within(count, total, probability):
    """Whether a count lies within four standard deviations of its expectation."""
    return abs(count - total * probability) <= 4 * math.sqrt(total * probability * (1 - probability))


async def choices(judge, pairs):
    """(label's side, choice with a first, choice with b first) of every pair: +1 is response_a."""
    seen = []
    for pair in pairs:
        forward, backward = [judge.read(await judge.ask(question)).preferred for question in both(pair, judge)]
        seen.append(({"a": 1, "b": -1, "tie": 0, None: None}[pair.label], forward, -backward))
    return seen


class TestOpinions:
    async def test_a_rule_judges_pairs_without_a_label_by_their_texts_and_labels_come_before_it(self):
        def rule(shown):
            return (len(shown.response_a) > len(shown.response_b)) - (len(shown.response_a) < len(shown.response_b))

        listed = Pair(prompt="p", response_a="a", response_b="longer", label="a")
        pairs = [Pair(prompt="p", response_a="a", response_b="bb"), Pair(prompt="p", response_a="b", response_b="a"), listed]
        seen = await choices(ScriptedJudge(Opinions(truth=Opinions.truths([listed]), accuracy=1.0, rule=rule)), pairs)
        assert [(forward, backward) for _, forward, backward in seen] == [(-1, -1), (0, 0), (1, 1)]

    async def test_a_judge_is_right_as_often_as_told_and_the_same_in_both_orders(self):
        seen = await choices(ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS), accuracy=0.8)), PAIRS)
        assert all(forward == backward for _, forward, backward in seen)
        assert within(sum(truth == forward for truth, forward, _ in seen), len(seen), 0.8)

    async def test_a_biased_judge_takes_the_first_response_as_often_as_told(self):
        seen = await choices(ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS), accuracy=1.0, position_bias=0.3)), PAIRS)
        wrong = sum(forward != truth for truth, forward, _ in seen) + sum(backward != truth for truth, _, backward in seen)
        # A bias shows where the first response is the worse one: in one order of every pair.
        assert within(wrong, len(seen), 0.3)
        assert all(forward >= backward for _, forward, backward in seen)

    async def test_ties_come_as_often_as_told(self):
        seen = await choices(ScriptedJudge(Opinions(truth=Opinions.truths(PAIRS), tie_rate=0.25)), PAIRS)
        assert within(sum(forward == 0 for _, forward, _ in seen), len(seen), 0.25)

    async def test_without_labels_an_opinion_is_a_coin_that_falls_the_same_in_both_orders(self):
        seen = await choices(ScriptedJudge(), PAIRS)
        assert all(forward == backward for _, forward, backward in seen)
        assert within(sum(forward == 1 for _, forward, _ in seen), len(seen), 0.5)

    async def test_a_labelled_tie_is_called_one_by_a_perfect_judge(self):
        pair = Pair(prompt="p", response_a="x", response_b="y", label="tie")
        assert await choices(ScriptedJudge(Opinions(truth=Opinions.truths([pair]), accuracy=1.0)), [pair]) == [(0, 0, 0)]

    async def test_conversations_are_recognised_like_texts(self):
        prompt = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "2+2?"}]
        pair = Pair(prompt=prompt, response_a="5", response_b="4", label="b")
        assert await choices(ScriptedJudge(Opinions(truth=Opinions.truths([pair]), accuracy=1.0)), [pair]) == [(-1, -1, -1)]

    async def test_another_seed_is_another_judge(self):
        first, second = [await choices(ScriptedJudge(seed=seed), PAIRS[:50]) for seed in (0, 1)]
        assert first != second

    def test_a_rate_that_is_no_probability_is_refused(self):
        with pytest.raises(ConfigurationError, match="position-bias is"):
            Opinions(position_bias=1.5)


class TestScriptedJudge:
    def test_an_hour_of_judging_passes_at_once_in_virtual_time(self):
        clock = VirtualClock()
        judge = ScriptedJudge(clock=clock, latency="lognormal:20:0.4")

        async def main():
            asked = [question for pair in PAIRS[:200] for question in both(pair, judge)]
            return await asyncio.gather(*(judge.ask(question) for question in asked))

        replies = clock.run(main())
        latencies = sorted(reply.latency_s for reply in replies)
        assert clock.now() == pytest.approx(latencies[-1])
        assert 18 < latencies[200] < 22
        assert judge.statistics.max_concurrency == 400
        assert judge.statistics.in_flight == 0

    def test_a_hanging_question_costs_its_timeout_and_may_be_paid_for(self):
        clock = VirtualClock()
        judge = ScriptedJudge(clock=clock, faults=["hang"], timeout_s=300)
        with pytest.raises(ReplyLost) as caught:
            clock.run(judge.ask(both(PAIRS[0], judge)[0]))
        assert caught.value.maybe_paid
        assert clock.now() == 300

    def test_limits_hold_in_virtual_time_and_tell_when_to_come_back(self):
        clock = VirtualClock()
        judge = ScriptedJudge(clock=clock, limits=JudgeLimits(requests_per_minute=3))

        async def main():
            served = []
            for question in [question for pair in PAIRS[:5] for question in both(pair, judge)]:
                try:
                    await judge.ask(question)
                except RateLimited as limited:
                    await clock.sleep(limited.retry_after_s)
                    await judge.ask(question)
                served.append(clock.now())
            return served

        assert clock.run(main()) == pytest.approx([0, 0, 0, 60, 60, 60, 120, 120, 120, 180])

    async def test_prices_are_per_million_tokens(self):
        judge = ScriptedJudge(prompt_usd_per_mtok=2.0, completion_usd_per_mtok=8.0)
        reply = await judge.ask(both(PAIRS[0], judge)[0])
        assert reply.usd == pytest.approx((2 * reply.usage.prompt + 8 * reply.usage.completion) / 1e6)
        assert isinstance(judge, Judge)


class TestFakeScorer:
    def test_it_is_right_as_often_as_told_and_surer_where_it_is_right(self):
        scorer = FakeScorer(PAIRS, accuracy=0.7)
        beliefs = list(zip(PAIRS, scorer.score(PAIRS), strict=True))
        right = [belief.uncertainty for pair, belief in beliefs if (belief.logit > 0) == (pair.label == "a")]
        wrong = [belief.uncertainty for pair, belief in beliefs if (belief.logit > 0) != (pair.label == "a")]
        assert within(len(right), len(PAIRS), 0.7)
        assert sum(wrong) / len(wrong) > sum(right) / len(right) + 0.1
        assert min(right + wrong) >= 1
        assert isinstance(scorer, Scorer)

    def test_swapped_pairs_get_exactly_the_opposite_belief(self):
        scorer = FakeScorer(PAIRS)
        swapped = scorer.score([pair.swapped() for pair in PAIRS])
        assert [belief.swapped() for belief in swapped] == scorer.score(PAIRS)

    def test_the_fingerprint_follows_what_beliefs_depend_on(self):
        names = {FakeScorer(PAIRS[:9]).fingerprint, FakeScorer(PAIRS[:9], seed=1).fingerprint, FakeScorer(PAIRS[:8]).fingerprint}
        assert len(names) == 3
        assert FakeScorer(PAIRS[:9]).fingerprint == FakeScorer(PAIRS[:9]).fingerprint

    def test_chosen_batches_fail_and_the_others_do_not(self):
        scorer = FakeScorer(fail_on=[2])
        assert len(scorer.score(PAIRS[:3])) == 3
        with pytest.raises(ScorerError, match="batch 2"):
            scorer.score(PAIRS[:3])
        assert len(scorer.score(PAIRS[:3])) == 3

    async def test_a_slow_batch_blocks_its_own_thread_only(self):
        scorer, loop = FakeScorer(seconds_per_batch=0.05), asyncio.get_running_loop()
        started = loop.time()
        scoring = loop.run_in_executor(None, scorer.score, PAIRS[:3])
        await asyncio.sleep(0)
        assert not scoring.done()
        assert len(await scoring) == 3
        assert loop.time() - started >= 0.05


class TestArithmeticPairs:
    def test_they_are_different_labelled_both_ways_and_the_same_for_every_count(self):
        assert len({pair_keys(pair).pair for pair in PAIRS}) == len(PAIRS)
        assert within(sum(pair.label == "a" for pair in PAIRS), len(PAIRS), 0.5)
        assert arithmetic_pairs(50, seed=1) == PAIRS[:50]
        assert arithmetic_pairs(50, seed=2) != PAIRS[:50]

    def test_the_labelled_response_really_is_the_right_one(self):
        sums = [pair for pair in PAIRS if pair.metadata["category"] == "sum"]
        assert sums
        for pair in sums:
            a, _, b, _, c = pair.prompt.removeprefix("What is ").removesuffix("?").split()
            answer = f"The answer is {int(a) + int(b) - int(c)}."
            assert pair.response_a.endswith(answer) == (pair.label == "a")
            assert pair.response_b.endswith(answer) == (pair.label == "b")

    def test_length_does_not_tell_which_response_is_right(self):
        longer_wins = sum((len(pair.response_a) > len(pair.response_b)) == (pair.label == "a") for pair in PAIRS)
        assert 0.44 < longer_wins / len(PAIRS) < 0.56

    def test_their_lines_are_pair_records(self):
        lines = list(pair_lines(PAIRS[:20]))
        assert [parse_pair(line) for line in lines] == PAIRS[:20]
        assert all(orjson.loads(line)["id"].startswith("arithmetic-") for line in lines)

    def test_the_module_writes_them_from_the_command_line(self):
        done = subprocess.run([sys.executable, "-m", "judgeflow.testing.pairs", "7", "--seed", "1"], capture_output=True, check=True)
        assert [parse_pair(line) for line in done.stdout.splitlines()] == PAIRS[:7]

    def test_a_reader_that_has_seen_enough_ends_the_command_line_quietly(self):
        command = f"{sys.executable} -m judgeflow.testing.pairs 2000 | head -1"
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
        assert parse_pair(done.stdout).id == "arithmetic-00001"
        assert done.stderr == b""

    @pytest.mark.parametrize("count", ["-5", "2.5", "many"])
    def test_what_is_no_number_of_pairs_is_a_mistake_of_usage(self, count):
        done = subprocess.run([sys.executable, "-m", "judgeflow.testing.pairs", count], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"{count!r} is no number of pairs; give 0 or more" in done.stderr


class TestSmallParts:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0ms"), (0.006, "6ms"), (0.9991, "1s"), (1, "1s"), (1.5, "1.5s"), (59.9999, "1m0s"), (360, "6m0s"), (3661, "1h1m1s")],
    )
    def test_durations_are_written_as_rate_limit_headers_write_them(self, seconds, text):
        assert duration(seconds) == text

    @pytest.mark.parametrize(
        ("spec", "low", "middle", "high"),
        [("0.05", 0.05, 0.05, 0.05), (2, 2, 2, 2), ("uniform:1:3", 1, 2, 3), ("lognormal:20:0", 20, 20, 20)],
    )
    def test_a_latency_follows_its_distribution(self, spec, low, middle, high):
        latency = parse_latency(spec)
        assert [latency.seconds(luck) for luck in (0, 0.5, 1 - 1e-9)] == pytest.approx([low, middle, high])

    def test_a_window_tells_when_an_amount_will_fit(self):
        window = SlidingWindow(10, 60)
        window.add(6, now=0)
        window.add(3, now=20)
        assert window.wait(1, now=30) == 0
        assert window.wait(2, now=30) == 30
        assert window.wait(8, now=30) == 50
        assert window.wait(11, now=30) == math.inf
        assert window.used(now=60) == 3
        assert window.peak == 9

    def test_a_window_tells_how_full_it_was_from_the_end_of_the_first_one_to_the_latest_admission(self):
        window = SlidingWindow(10, 60)
        for now, amount in ((0, 10), (30, 0), (90, 5), (120, 2)):
            window.add(amount, now)
        assert window.share == pytest.approx((30 * 0.0 + 30 * 0.5) / 60)

    def test_the_limits_of_a_judge_can_change_while_it_runs_and_what_was_admitted_still_counts(self):
        meter = Meter(JudgeLimits(requests_per_minute=2))
        assert [meter.admit(1, now) is None for now in (0.0, 1.0, 2.0)] == [True, True, False]
        meter.change(JudgeLimits(requests_per_minute=3))
        assert [meter.admit(1, now) is None for now in (3.0, 4.0)] == [True, False]
        for other in (JudgeLimits(requests_per_minute=3, tokens_per_minute=5), JudgeLimits(requests_per_minute=3, window_s=1.0)):
            with pytest.raises(ConfigurationError, match="windows as long as before"):
                meter.change(other)

    def test_chances_are_uniform_and_depend_on_all_their_arguments(self):
        luck = [chance(seed, "x", index) for seed in range(2) for index in range(1000)]
        assert len(set(luck)) == 2000
        assert 0.47 < sum(luck) / len(luck) < 0.53

    def test_a_limit_below_one_is_refused(self):
        with pytest.raises(ConfigurationError, match="requests-per-minute is 0"):
            JudgeLimits(requests_per_minute=0)

    def test_importing_the_kit_imports_neither_pytest_nor_aiohttp(self):
        use = "import sys, judgeflow.testing as kit; kit.arithmetic_pairs, kit.VirtualClock"
        script = f"{use}; print('pytest' in sys.modules, 'aiohttp' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["False", "False"]

    def test_every_exported_name_is_there(self):
        for name in judgeflow.testing.__all__:
            assert getattr(judgeflow.testing, name) is not None
        assert dir(judgeflow.testing) == sorted(judgeflow.testing.__all__)
        with pytest.raises(AttributeError):
            judgeflow.testing.nothing  # noqa: B018
