"""Rewards for TRL's trainers, without TRL: every batch is scored by a real scheduler, in whole groups, or refused with a reason."""

import asyncio
import inspect
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
from held import HeldJudge
from hypothesis import given, settings
from hypothesis import strategies as st
from trainers import advantages, scheduler

from judgeflow import Scheduler
from judgeflow.adapters.groups import groups_of
from judgeflow.adapters.routers import Gateway
from judgeflow.adapters.trl import PairwiseJudge, judge_reward, judge_reward_sync, online_dpo_reward
from judgeflow.config import JudgeConnection, RoutingConfig
from judgeflow.engine.retry import RetryPolicy
from judgeflow.errors import ConfigurationError, JudgeflowError, StoreUnavailable, UsageError
from judgeflow.judges.client import HttpJudge
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeJudge, serve_in_thread
from judgeflow.types import StepResult
from judgeflow.verdicts.prompt import load_template


@pytest.fixture
def router():
    with scheduler() as opened:
        yield opened


def say(text):
    return [{"role": "assistant", "content": text}]


def ask(text):
    return [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]


# Groups


def test_a_reward_is_the_mean_preference_over_the_siblings(router):
    rewards = judge_reward_sync(router, num_generations=3)(["p"] * 3 + ["q"] * 3, ["a", "bb", "cccc", "a", "", "aaa"])
    assert rewards == pytest.approx([*advantages(["a", "bb", "cccc"]), *advantages(["a", "", "aaa"])])
    assert sum(rewards[:3]) == pytest.approx(0)


def test_the_scale_multiplies_the_rewards(router):
    batch = ["p", "p"], ["a", "bbb"]
    plain, scaled = judge_reward_sync(router)(*batch), judge_reward_sync(router, scale=0.5)(*batch)
    assert scaled == pytest.approx([value / 2 for value in plain])


def test_two_groups_of_one_prompt_stay_apart(router):
    rewards = judge_reward_sync(router, num_generations=2)(["p"] * 4, ["a", "bb", "ccc", "cccccc"])
    assert rewards == pytest.approx([*advantages(["a", "bb"]), *advantages(["ccc", "cccccc"])])


def test_prompts_may_have_different_numbers_of_responses_where_none_is_expected(router):
    rewards = judge_reward_sync(router)(["p", "p", "q", "q", "q"], ["a", "bb", "a", "bb", "ccc"])
    assert rewards == pytest.approx([*advantages(["a", "bb"]), *advantages(["a", "bb", "ccc"])])


@given(data=st.data(), sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4, unique=True), prompts=st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_a_shuffled_batch_gives_every_response_the_reward_that_it_has_in_order(data, sizes, prompts):
    rows = [(f"prompt {prompt}", "x" * (size + prompt)) for prompt in range(prompts) for size in sizes]
    shuffled = data.draw(st.permutations(rows))
    expected = dict(zip(rows, [reward for _ in range(prompts) for reward in advantages(["x" * size for size in sizes])], strict=True))
    with scheduler() as router:
        rewards = judge_reward_sync(router, num_generations=len(sizes))(*(list(column) for column in zip(*shuffled, strict=True)))
    assert rewards == pytest.approx([expected[row] for row in shuffled])


@given(st.lists(st.sampled_from("pqr"), max_size=24), st.integers(2, 4))
def test_every_place_of_a_batch_is_in_one_whole_group_of_one_prompt_or_the_batch_is_refused(prompts, size):
    try:
        groups = groups_of(prompts, size)
    except UsageError:
        assert any(prompts.count(prompt) % size for prompt in prompts)
    else:
        assert sorted(place for group in groups for place in group) == list(range(len(prompts)))
        assert all(len(group) == size and len({prompts[place] for place in group}) == 1 for group in groups)


def test_a_part_of_a_group_is_refused_with_what_to_do(router):
    with pytest.raises(
        UsageError, match=r"prompt 'q' has 2 responses here, and its groups have 4: .* ask one service, .* each process hold whole groups"
    ):
        judge_reward_sync(router, num_generations=4)(["p"] * 4 + ["q"] * 2, list("abcdef"))


class Trainer:
    """As much of a trainer as a reward function can see."""

    num_generations, num_generations_eval = 4, 2

    def __init__(self, *, training=True, step=0):
        self.model = SimpleNamespace(training=training)
        self.state = SimpleNamespace(global_step=step)
        self.metrics, self.extra = {}, {}

    def log_metric(self, name, value):
        self.metrics[name] = value

    def log_extra(self, column, values):
        self.extra[column] = values

    @property
    def columns(self):
        return {"log_metric": self.log_metric, "log_extra": self.log_extra, "trainer_state": self.state}


def test_the_number_of_generations_is_the_trainers_in_training_and_in_evaluation(router):
    reward = judge_reward_sync(router)
    with pytest.raises(UsageError, match="its groups have 4"):
        reward(["p"] * 2, ["a", "bb"], **Trainer().columns)
    pairs = reward(["p"] * 4, ["a", "bb", "a", "bbb"], **Trainer(training=False).columns)
    assert pairs == pytest.approx([*advantages(["a", "bb"]), *advantages(["a", "bbb"])])


def test_a_single_response_to_a_prompt_is_refused(router):
    with pytest.raises(UsageError, match="at least two"):
        judge_reward_sync(router)(["p", "q"], ["a", "b"])


# Formats


def test_messages_and_texts_are_rewarded_alike(router):
    reward = judge_reward_sync(router)
    plain = reward(["p"] * 3, ["a", "bb", ""])
    assert plain == reward([ask("p")] * 3, [say("a"), say("bb"), say("")])
    assert plain == reward([ask([{"type": "text", "text": "p"}])] * 3, [say([{"type": "text", "text": text}]) for text in ("a", "bb", "")])


def test_a_completion_that_called_tools_is_judged_as_a_whole():
    asked = []

    class Noting:
        def route_groups_sync(self, groups, step=None):
            asked.extend(groups)
            raise StoreUnavailable

    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}
    with pytest.raises(StoreUnavailable):
        judge_reward_sync(Noting())([ask("p")] * 2, [[call, {"role": "tool", "content": "2"}, *say("two")], say("one")])
    assert asked[0].responses == (
        '[assistant]\n{"function":{"arguments":{"a":1},"name":"add"}}\n\n[tool]\n2\n\n[assistant]\ntwo',
        "one",
    )


@pytest.mark.parametrize(
    ("prompts", "completions", "message"),
    [
        (["p", "p"], ["a"], "completions has 1 entries for 2 prompts"),
        (["p", "p"], ["a", None], r"completions\[1\]: a completion is a text or a list of messages, not NoneType"),
        (["p", math.nan], ["a", "b"], r"prompts\[1\]: a prompt is a text or a list of messages, not float"),
        (["p", ask("p")], ["a", "b"], r"prompts\[1\] is in another format than prompts\[0\]"),
        ([ask("p")] * 2, [say("a"), "b"], r"completions\[1\] is in another format"),
        ([[]] * 2, ["a", "b"], r"prompts\[0\]: a prompt given as messages needs at least one"),
        ([[{"content": "p"}]] * 2, ["a", "b"], r"prompts\[0\]: a message has no 'role'"),
        (["p", "p"], [[{"role": "assistant"}], say("b")], r"completions\[0\]: the content of a message is a text, not NoneType"),
        ([ask([{"type": "image"}])] * 2, ["a", "b"], r"prompts\[0\]: a message has a part of type image; the judge is shown text only"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_place(router, prompts, completions, message):
    with pytest.raises(UsageError, match=message) as caught:
        judge_reward_sync(router)(prompts, completions)
    assert "judgeflow.adapters.trl.judge_reward_sync" in caught.value.__notes__[0]


def test_completion_ids_of_another_length_are_refused(router):
    with pytest.raises(UsageError, match="completion_ids has 1 entries for 2 prompts"):
        judge_reward_sync(router)(["p", "p"], ["a", "b"], [[1]])


# Masks


def test_a_completion_that_was_cut_off_is_not_judged_and_has_no_reward(router):
    reward = judge_reward_sync(router, eos_token_ids=[7])
    rewards = reward(["p"] * 3, ["a", "long and cut", "bbb"], [[1, 7], [1, 2], [3, 7]])
    assert rewards[1] is None
    assert [rewards[0], rewards[2]] == pytest.approx(advantages(["a", "bbb"]))


def test_whoever_is_alone_after_masking_has_reward_zero(router):
    assert judge_reward_sync(router, eos_token_ids=[7])(["p"] * 2, ["a", "b"], [[7], []]) == [0.0, None]


def test_masking_without_tokens_is_refused(router):
    with pytest.raises(UsageError, match="completion_ids, which the trainer did not pass"):
        judge_reward_sync(router, eos_token_ids=[7])(["p"] * 2, ["a", "b"])


# Steps and logs


def test_steps_are_the_trainers_and_never_the_same_twice():
    steps = []

    class Noting:
        def __init__(self, inner):
            self.inner = inner

        def route_groups_sync(self, groups, step=None):
            steps.append(step)
            return self.inner.route_groups_sync(groups, step)

    with scheduler() as inner:
        reward = judge_reward_sync(Noting(inner), num_generations=2)
        for number in (0, 1, 1, 1, 2, 7):
            reward(["p"] * 2, ["a", "b"], trainer_state=SimpleNamespace(global_step=number))
    assert steps == [0, 1, 2, 3, 4, 7]


def test_the_trainers_log_gets_the_steps_figures_and_every_completions_sources(router):
    trainer = Trainer()
    judge_reward_sync(router, name="helpful")(["p"] * 4, ["a", "b", "c", "c"], **trainer.columns)
    assert (trainer.metrics["helpful/source/scorer"], trainer.metrics["helpful/pairs"]) == (5, 6)
    assert trainer.metrics["helpful/judged_share"] == trainer.metrics["helpful/calls"] == 0
    assert "helpful/agreement" not in trainer.metrics
    assert trainer.extra == {"helpful/sources": ["scorer 3"] * 2 + ["identical 1, scorer 2"] * 2}


def test_a_masked_completions_source_says_so(router):
    trainer = Trainer()
    reward = judge_reward_sync(router, num_generations=3, eos_token_ids=[7])
    reward(["p"] * 3, ["a", "b", "c"], [[7], [1], [7]], **trainer.columns)
    assert trainer.extra == {"judgeflow/sources": ["scorer 1", "masked", "scorer 1"]}


# Loops and threads


def test_the_async_reward_is_a_coroutine_function_with_the_name_that_trl_logs_it_by(router):
    assert inspect.iscoroutinefunction(judge_reward(router, name="helpful"))
    assert judge_reward(router, name="helpful").__name__ == judge_reward_sync(router, name="helpful").__name__ == "helpful"


def test_one_scheduler_serves_several_loops_and_synchronous_callers_at_once(router):
    reward, sync = judge_reward(router), judge_reward_sync(router)

    async def step(number):
        batch = ["p"] * 2, ["a", "b" * number]
        awaited = await asyncio.gather(reward(*batch), reward(*batch))
        assert awaited == [sync(*batch)] * 2 == [pytest.approx(advantages(batch[1]))] * 2

    for number in range(1, 4):
        asyncio.run(step(number))


def test_the_callers_loop_goes_on_while_the_reward_is_awaited():
    with serve_in_thread(HeldJudge()) as judge:
        ticks = []

        async def tick():
            while True:
                ticks.append(judge.statistics.requests)
                if sum(map(bool, ticks)) == 3:
                    judge.let_go()
                await asyncio.sleep(0.01)

        async def main(reward):
            ticking = asyncio.create_task(tick())
            await reward(["p"] * 2, ["a", "b"])
            ticking.cancel()

        connection = JudgeConnection(base_url=judge.base_url, model="fake-judge", timeout_s=60.0)
        with scheduler("always", judge=HttpJudge(connection, load_template("default"))) as router:
            asyncio.run(main(judge_reward(router)))
    assert sum(map(bool, ticks)) >= 3  # while the judge was being asked


def test_a_router_that_is_only_async_is_awaited_on_one_loop():
    loops = set()

    class Client:
        def __init__(self, inner):
            self.inner = inner

        async def route_groups(self, groups, step=None):
            loops.add(asyncio.get_running_loop())
            return await asyncio.to_thread(self.inner.route_groups_sync, groups, step)

    with scheduler() as inner:
        reward = judge_reward(Client(inner))
        for _ in range(2):
            assert asyncio.run(reward(["p"] * 2, ["a", "bb"])) == pytest.approx(advantages(["a", "bb"]))
    assert len(loops) == 1


# Failures


def test_an_error_of_the_router_keeps_its_class_names_the_adapter_and_leaves_the_next_step_usable():
    class Failing:
        fails = True

        def __init__(self, inner):
            self.inner = inner

        def route_groups_sync(self, groups, step=None):
            if self.fails:
                raise StoreUnavailable("the disk is full")
            return self.inner.route_groups_sync(groups, step)

    with scheduler() as inner:
        failing = Failing(inner)
        reward = judge_reward(failing)
        with pytest.raises(StoreUnavailable, match="the disk is full") as caught:
            asyncio.run(reward(["p"] * 2, ["a", "bb"]))
        assert "judgeflow.adapters.trl.judge_reward scored a batch" in caught.value.__notes__[0]
        failing.fails = False
        assert asyncio.run(reward(["p"] * 2, ["a", "bb"])) == pytest.approx(advantages(["a", "bb"]))


def test_pairs_that_nobody_had_a_word_on_are_warned_of(caplog):
    judge = HttpJudge(JudgeConnection(base_url="http://127.0.0.1:9/v1", model="gone"), load_template("default"))
    with Scheduler(judge=judge, store=MemoryStore(), routing=RoutingConfig(policy="always"), retry=RetryPolicy(attempts=1)) as router:
        assert judge_reward_sync(router)(["p"] * 3, ["a", "bb", "ccc"]) == [0.0, 0.0, 0.0]
    (record,) = caplog.records
    assert record.name == "judgeflow"
    assert "step 0: nobody had a word on 3 of 3 pairs (" in record.getMessage()


def test_the_warning_says_why_the_judge_answers_nothing(caplog):
    with serve_in_thread(FakeJudge()) as serving:
        judge = HttpJudge(JudgeConnection(base_url=f"{serving.base_url}/nowhere", model="m"), load_template("default"))
        with Scheduler(judge=judge, store=MemoryStore(), routing=RoutingConfig(policy="always")) as router:
            assert judge_reward_sync(router)(["p"] * 2, ["a", "bb"]) == [0.0, 0.0]
    (record,) = caplog.records
    assert "1 of 1 pair (judge_stopped 1), which count as even: the judge at" in record.getMessage()
    assert "answered 404: Not Found" in record.getMessage()


def test_no_reward_is_ever_anything_but_a_finite_number(router):
    for scale in (math.nan, math.inf, "one"):
        with pytest.raises(UsageError, match=rf"trl: scale is {scale!r}; expected is a finite number"):
            judge_reward_sync(router, scale=scale)
    with pytest.raises(UsageError, match="expected are 2 finite numbers"):
        judge_reward_sync(router, scale=1e308)(["p"] * 2, ["a", "b" * 20])


def test_a_result_about_other_groups_is_refused(router):
    class Other:
        def route_groups_sync(self, groups, step=None):
            result = router.route_groups_sync(groups, step)
            return StepResult(outcomes=(), statistics=result.statistics, groups=())

    with pytest.raises(UsageError, match=r"the router gave \(\) for group judgeflow-None\.0"):
        judge_reward_sync(Other())(["p"] * 2, ["a", "bb"])


def test_what_routes_nothing_and_mistakes_of_a_configuration_are_told_before_training(tmp_path):
    with pytest.raises(UsageError, match="routes no groups; give a configuration file, the address of a service, a Scheduler"):
        judge_reward(object())
    (tmp_path / "judgeflow.toml").write_text('[judge]\nmodle = "x"\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="modle"):
        judge_reward(tmp_path / "judgeflow.toml")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[store]\nurl = "no/such/folder/judgeflow.db"\n', "the folder .*no/such/folder does not exist"),
        ('[scorer]\npath = "no-scorer"\n', r"\[scorer\] path: .*no-scorer is no folder"),
        ('[log]\npath = "no/such/folder/judgeflow.log"\n', r"\[log\] path: .* cannot be written"),
    ],
)
def test_folders_that_a_configuration_names_are_looked_for_before_training(tmp_path, more, message):
    (tmp_path / "judgeflow.toml").write_text(
        f'[run]\ndirectory = "{tmp_path}"\n[judge]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n[routing]\npolicy = "always"\n{more}',
        encoding="utf-8",
    )
    with pytest.raises(JudgeflowError, match=message):
        judge_reward(tmp_path / "judgeflow.toml")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": ""}, "name is ''"),
        ({"num_generations": "4"}, "num_generations is '4'"),
        ({"num_generations": 1}, "num_generations is 1; responses are compared with their siblings"),
        ({"eos_token_ids": "</s>"}, "eos_token_ids is '</s>'; expected is a list"),
        ({"eos_token_ids": 2}, "eos_token_ids is 2; expected is a list"),
        ({"eos_token_ids": [None]}, "eos_token_ids holds None; expected are whole numbers"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_training(router, settings, message):
    with pytest.raises(UsageError, match=message):
        judge_reward(router, **settings)


# Online DPO, and judges of older TRL


def test_online_dpo_compares_the_first_half_with_the_second_also_where_a_prompt_comes_twice(router):
    rewards = online_dpo_reward(router)(["p", "p", "q"] * 2, ["a", "bbb", "cc", "aa", "b", "cc"])
    assert [first - second for first, second in zip(rewards[:3], rewards[3:], strict=True)] == pytest.approx([-0.5, 1.0, 0.0])


@pytest.mark.parametrize("prompts", [["p", "q", "q", "p"], ["p", "p", "p"]])
def test_online_dpo_refuses_what_is_not_doubled(router, prompts):
    with pytest.raises(UsageError, match="does not repeat the prompts of the first"):
        online_dpo_reward(router)(prompts, ["a"] * len(prompts))


def test_a_pairwise_judge_says_which_of_two_is_better(router):
    assert PairwiseJudge(router).judge(["p", "q"], [["a", "bb"], ("bbb", "a")], shuffle_order=False) == [1, 0]
    assert PairwiseJudge(router).judge([ask("p")], [[say("a"), say("bb")]]) == [1]


def test_a_pairwise_judge_tosses_a_coin_about_equals_that_does_not_depend_on_their_order(router):
    judge = PairwiseJudge(router)
    pairs = [[f"a{number:03}", f"b{number:03}"] for number in range(200)]
    first = judge.judge(["p"] * 200, pairs)
    swapped = judge.judge(["p"] * 200, [pair[::-1] for pair in pairs])
    assert [1 - winner for winner in swapped] == first == judge.judge(["p"] * 200, pairs)
    assert 70 < sum(first) < 130


def test_a_pairwise_judge_fails_where_nobody_has_spoken(tmp_path):
    (tmp_path / "judgeflow.toml").write_text(
        f'[run]\ndirectory = "{tmp_path}"\n[judge]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n[routing]\npolicy = "never"\n',
        encoding="utf-8",
    )
    with Scheduler.from_config(tmp_path / "judgeflow.toml") as opened:
        assert PairwiseJudge(opened).judge(["p"], [["a", "b"]]) == [-1]


@pytest.mark.parametrize("completions", [["ab"], [["a"]], [["a", "b", "c"]], [3]])
def test_a_pairwise_judge_refuses_what_is_not_two(router, completions):
    with pytest.raises(UsageError, match=r"completions\[0\]: expected two completions"):
        PairwiseJudge(router).judge(["p"], completions)


# From a configuration


@pytest.mark.parametrize(("here", "everywhere", "shared"), [("2", "2", True), ("1", "1", False), ("2", "4", False), (None, "2", False)])
def test_processes_that_are_all_on_this_machine_have_a_service_in_common(tmp_path, monkeypatch, here, everywhere, shared):
    (tmp_path / "judgeflow.toml").write_text(
        f'[run]\ndirectory = "{tmp_path}"\n[judge]\nbase_url = "http://127.0.0.1:1/v1"\nmodel = "m"\n[routing]\npolicy = "always"\n',
        encoding="utf-8",
    )
    for name, value in (("LOCAL_WORLD_SIZE", here), ("WORLD_SIZE", everywhere)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert Gateway(tmp_path / "judgeflow.toml").brings_ranks_together is shared


PROGRAM = """
import asyncio, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"trl", "torch", "transformers"}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from judgeflow.adapters.trl import judge_reward
reward = judge_reward("judgeflow.toml")
from pathlib import Path
assert not Path("judgeflow.db").exists(), "opened before it is needed"
for _ in range(2):
    print(asyncio.run(reward(["p"] * 2, ["a", "bb"])))
"""


def test_a_configuration_is_opened_with_the_first_step_and_closed_with_the_program_also_without_trl(tmp_path):
    with serve_in_thread(FakeJudge()) as judge:
        (tmp_path / "judgeflow.toml").write_text(
            f'[judge]\nbase_url = "{judge.base_url}"\nmodel = "fake-judge"\n[routing]\npolicy = "always"\n', encoding="utf-8"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert judge.statistics.answered == 2
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in {"[2.0, -2.0]\n" * 2, "[-2.0, 2.0]\n" * 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["judgeflow.db", "judgeflow.toml"]  # closed: no write-ahead log is left
