"""judgeflow asks through the litellm proxy, as docs/judges.md sets both up; behind it stands a fake judge that fails on demand."""

import contextlib

import pytest
from recipes import blocks
from servers import MASTER_KEY, PROVIDER_KEY

from judgeflow.config import JudgeConfig
from judgeflow.errors import GatewayFailed, JudgeBusy, JudgeError, JudgeOverloaded, QuestionRejected, RateLimited
from judgeflow.judges.client import HttpJudge
from judgeflow.keys import pair_keys, questions
from judgeflow.testing import FakeJudge, JudgeLimits, Opinions, arithmetic_pairs, serve_in_thread
from judgeflow.testing.faults import FAULTS, OK
from judgeflow.verdicts.prompt import load_template

pytestmark = pytest.mark.judges
PAIRS = arithmetic_pairs(12)
ONE_BY_ONE = ("--set", "limits.max_in_flight=1")
ONCE = ("--set", "judge.retry_attempts=1")


@pytest.fixture
def behind(proxy):
    """Make a fake judge that listens where the proxy looks for its provider."""

    def make(**settings):
        opinions = Opinions(truth=Opinions.truths(PAIRS), accuracy=0.8, position_bias=0.3, tie_rate=0.1)
        return FakeJudge(opinions, **{"port": proxy.provider_port, "api_keys": [PROVIDER_KEY]} | settings)

    return make


@pytest.fixture
def through(proxy, folder):
    """A folder whose judge is the proxy's."""

    def make(pairs=PAIRS, **settings):
        made = folder(blocks("litellm proxy", "toml")[0], proxy.base_url, LITELLM_MASTER_KEY=MASTER_KEY, **settings)
        made.write_pairs(pairs)
        return made

    return make


@pytest.fixture
def direct(folder):
    """A folder whose judge is the fake judge itself."""

    def make(judge, pairs=PAIRS):
        block = '[judge]\nbase_url = ""\nmodel = "fake-judge"\napi_key_env = "PROVIDER_KEY"\n'
        made = folder(block, judge.base_url, name="direct", PROVIDER_KEY=PROVIDER_KEY)
        made.write_pairs(pairs)
        return made

    return make


def told(outcomes):
    keys = ("id", "source", "status", "logit", "choice", "choice_ab", "choice_ba", "prompt_tokens", "completion_tokens")
    return [tuple(outcome[key] for key in keys) for outcome in outcomes]


def test_verdicts_and_tokens_through_the_proxy_are_those_of_the_judge_behind_it(behind, through, direct, publish):
    here = through()
    with serve_in_thread(behind()) as judge:
        outcomes, summary, ended = here.route()
        assert (ended.code, judge.statistics.requests) == (0, 2 * len(PAIRS)), ended.err
        there = direct(judge)
        expected, paid, _ = there.route()
        assert told(outcomes) == told(expected)
        assert {outcome["choice"] for outcome in outcomes} > {"a", "b"}
        counted = ("calls", "prompt_tokens", "completion_tokens", "agreement", "accuracy")
        assert [summary[key] for key in counted] == [paid[key] for key in counted]
        publish(f"fake judge through litellm: {here.latencies()}; directly: {there.latencies()}")
        before = judge.statistics.requests
        again, summary, _ = here.route()
        assert (summary["calls"], summary["sources"], judge.statistics.requests) == (0, {"store": len(PAIRS)}, before)
        assert [outcome["choice"] for outcome in again] == [outcome["choice"] for outcome in outcomes]


def test_the_doctor_knows_the_proxy_and_hears_the_limits_of_the_judge_behind_it(behind, through):
    with serve_in_thread(behind(limits=JudgeLimits(requests_per_minute=90, tokens_per_minute=100_000))):
        found = through().doctor("--ask")
    assert found["judge"]["detail"].endswith("is there and knows judge")
    assert found["question to judge"]["ok"]
    assert "a window admits 90 requests and 100,000 tokens" in found["question to judge"]["detail"]


def test_the_doctor_names_a_wrong_key_a_missing_key_and_a_wrong_model(through):
    here = through()
    wrong = here.doctor(LITELLM_MASTER_KEY="sk-wrong")["judge"]
    assert not wrong["ok"]
    assert "refuses the API key" in wrong["detail"]
    assert "check the key in LITELLM_MASTER_KEY" in wrong["detail"]
    (here.path / "judgeflow.toml").write_text(
        (here.path / "judgeflow.toml").read_text().replace('api_key_env = "LITELLM_MASTER_KEY"\n', "")
    )
    missing = here.doctor()["judge"]
    assert not missing["ok"]
    assert "name its variable as api_key_env" in missing["detail"]
    other = here.doctor("--set", "judge.model=other", "--set", "judge.api_key_env=LITELLM_MASTER_KEY")["judge"]
    assert not other["ok"]
    assert "has no model 'other'; it has judge" in other["detail"]


@contextlib.asynccontextmanager
async def asking(base_url, model, key):
    """Ask question after question, without the engine that tries again."""
    judge = HttpJudge(JudgeConfig(base_url=base_url, model=model, id="same"), load_template("default"), api_key=key)

    async def ask(pair):
        return await judge.ask(questions(pair, pair_keys(pair), judge.identity.fingerprint)[0])

    try:
        yield judge, ask
    finally:
        await judge.aclose()


SPOKEN = ["ok", "null", "no-tag", "length", "refusal", "content-filter", "reasoning", "odd-usage", "slow"]


async def read_all(base_url, model, key):
    """{fault: what was read of the reply that met it}."""
    async with asking(base_url, model, key) as (judge, ask):
        replies = {fault: await ask(pair) for fault, pair in zip(SPOKEN, PAIRS, strict=False)}
        return {fault: (judge.read(reply), reply.text, reply.refusal, reply.finish_reason) for fault, reply in replies.items()}


async def test_every_reply_that_is_one_is_read_through_the_proxy_as_without_it(behind, proxy):
    async with behind(faults=SPOKEN, slow_s=0.2):
        read = await read_all(proxy.base_url, "judge", MASTER_KEY)
    async with behind(faults=SPOKEN, slow_s=0.2) as judge:
        assert await read_all(judge.base_url, "fake-judge", PROVIDER_KEY) == read
    statuses = {fault: reading.status.value for fault, (reading, *_) in read.items()}
    assert (statuses["length"], statuses["refusal"], statuses["no-tag"]) == ("truncated", "refused", "unparseable")
    assert {statuses[fault] for fault in ("ok", "reasoning", "odd-usage", "slow")} == {"ok"}


FAILURES = {
    "429": RateLimited,
    "429-bare": RateLimited,
    "500": JudgeOverloaded,
    "503": JudgeBusy,
    "504": GatewayFailed,
    "400": QuestionRejected,
    "reset": GatewayFailed,
    "cut-off": GatewayFailed,
    "truncated-json": GatewayFailed,
    "garbage": GatewayFailed,
    "error-200": GatewayFailed,
    "content-parts": GatewayFailed,
    "surrogate": JudgeOverloaded,  # the proxy itself breaks down, and nothing tells its 500 from a judge's
    "odd-fields": GatewayFailed,
}


@pytest.mark.parametrize("fault", FAILURES)
async def test_a_failure_behind_the_proxy_is_told_as_what_it_is_after_one_request(behind, proxy, fault):
    async with behind(faults=[fault] * 3, retry_after_s=40) as judge:
        async with asking(proxy.base_url, "judge", MASTER_KEY) as (_, ask):
            with pytest.raises(JudgeError) as caught:
                await ask(PAIRS[0])
        assert judge.statistics.requests == 1, "the proxy tries again by itself"
    assert type(caught.value) is FAILURES[fault]
    if fault == "429":
        assert (caught.value.retry_after_s, caught.value.rates.requests.reset_s) == (40, 40)


def test_an_answer_that_the_proxy_lost_is_counted_as_paid_for(behind, through):
    with serve_in_thread(behind(faults=["cut-off"])) as judge:
        _, summary, ended = through(PAIRS[:1]).route(*ONE_BY_ONE)
        assert (ended.code, judge.statistics.requests) == (0, 3), ended.err
    assert summary["remaining"]["requests"] == 10_000 - 3


@pytest.mark.parametrize("fault", ["429", "500", "cut-off"])
def test_what_passes_is_asked_again_and_answered(behind, through, fault):
    with serve_in_thread(behind(faults=[fault, fault])) as judge:
        outcomes, _, ended = through(PAIRS[:2]).route(*ONE_BY_ONE)
        assert (ended.code, judge.statistics.requests) == (0, 6), ended.err
    assert {outcome["status"] for outcome in outcomes} == {"ok"}


STOPS = {
    "quota": ({"faults": ["quota"] * 9}, "the account's quota is used up"),
    "the provider's key": ({"api_keys": ["sk-other"]}, "check the provider's API key there, not in [judge]"),
    "the provider's model": ({"models": ["other"]}, "check the provider's model there, not in [judge]"),
}


@pytest.mark.parametrize(("settings", "remedy"), STOPS.values(), ids=STOPS)
def test_what_no_question_can_mend_stops_the_run_after_one(behind, through, settings, remedy):
    with serve_in_thread(behind(**settings)) as judge:
        _, _, ended = through().route(*ONE_BY_ONE)
        assert judge.statistics.requests == 1
    assert ended.code == 1
    assert remedy in ended.err


@pytest.mark.parametrize(
    ("setting", "key", "remedy"),
    [
        ("judge.model=judge", "sk-wrong", "check the API key in LITELLM_MASTER_KEY"),
        ("judge.model=other", MASTER_KEY, "check [judge] model = 'other'"),
    ],
)
def test_a_wrong_key_or_model_of_the_proxy_stops_the_run(behind, through, setting, key, remedy):
    with serve_in_thread(behind()) as judge:
        _, _, ended = through().route(*ONE_BY_ONE, "--set", setting, LITELLM_MASTER_KEY=key)
        assert judge.statistics.requests == 0
    assert ended.code == 1
    assert remedy in ended.err


def test_a_provider_that_is_not_there_ends_the_run_with_its_reason(through):
    outcomes, _, ended = through(PAIRS[:2]).route(*ONCE)
    assert ended.code == 1
    assert "Connection error" in ended.err
    assert {outcome["status"] for outcome in outcomes} <= {"overloaded"}


def test_limits_that_only_the_judge_behind_knows_are_kept_without_a_single_429(behind, through):
    here = through(PAIRS[:6])
    with serve_in_thread(behind(limits=JudgeLimits(requests_per_minute=5, window_s=2.0))) as judge:
        _, _, ended = here.route(*ONE_BY_ONE, "--set", "limits.window_s=2.0", "--set", "limits.margin_s=1.0")
        assert ended.code == 0, ended.err
        assert (judge.statistics.answered, judge.statistics.statuses["429"]) == (12, 0)
    assert here.events("limits_tightened")[0]["requests_per_minute"] == 5


def test_a_judge_that_takes_longer_than_timeout_s_is_lost_and_counted_as_paid(behind, through):
    here = through(PAIRS[:1])
    with serve_in_thread(behind(faults=["hang"] * 2)):
        outcomes, summary, ended = here.route(*ONE_BY_ONE, *ONCE, "--set", "judge.timeout_s=2", "--set", "judge.orders=first")
    assert [outcome["status"] for outcome in outcomes] == ["reply_lost"]
    assert summary["remaining"]["requests"] == 9_999
    assert "[judge] timeout_s" in ended.err


def test_every_fault_of_the_fake_judge_is_tried():
    assert {*SPOKEN, *FAILURES, "quota", "hang"} == {*FAULTS, OK}
