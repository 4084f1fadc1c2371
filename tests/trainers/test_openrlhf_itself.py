"""OpenRLHF's own code asks for rewards and makes advantages of them; only the model that would sample is a list of texts here."""

import asyncio
import itertools
import re
from types import SimpleNamespace

import aiohttp
import pytest
from started import CONFIG, ROOT, started
from theirs import FOLDER, openrlhf

from judgeflow.testing import FakeJudge, Opinions, arithmetic_pairs, serve_in_thread

pytestmark = [pytest.mark.trainers, pytest.mark.filterwarnings("ignore")]

PAIRS = arithmetic_pairs(6)
TOLD = [(f"<|user|>{pair.prompt}<|assistant|>", [pair.response_a, pair.response_b, "I do not know.", "Perhaps 42?"]) for pair in PAIRS[:5]]
TIMEOUT, SLEEP = aiohttp.ClientTimeout, asyncio.sleep
SAME = ("<|user|>Say yes.<|assistant|>", ["Yes."] * 4)


class Letters:
    """A tokenizer whose tokens are characters, called as OpenRLHF calls one of transformers."""

    def __call__(self, text, **_):
        import torch

        return {"input_ids": torch.tensor([[ord(letter) for letter in text]])}

    def decode(self, ids, **_):
        return "".join(map(chr, ids))


class Says:
    """An engine that samples what it was told to, one after the other, each when its turn has come."""

    def __init__(self, texts, moments=None):
        self.texts, self.moments = iter(texts), iter(moments or itertools.repeat(None))

    async def generate(self, _ids, _params, **_):
        text, moment = next(self.texts), next(self.moments)
        if moment is not None:
            await moment.wait()
        ids = [ord(letter) for letter in f"{text}</s>"]
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids, text=text, finish_reason="stop", logprobs=None)])


async def sampled(executor, prompt, texts, moments=None):
    """What OpenRLHF's engine makes of one prompt: `generate_responses` in its vllm_engine.py."""
    engine, params = Says(texts, moments), SimpleNamespace(max_tokens=64, logprobs=None)
    return await asyncio.gather(
        *(
            executor.execute(prompt=prompt, label=None, sampling_params=params, max_length=2048, hf_tokenizer=Letters(), llm_engine=engine)
            for _ in texts
        )
    )


def option(argv, name):
    return argv[argv.index(name) + 1]


def generator_of(module, argv, responses):
    """OpenRLHF's generator, with what its engines have made as what it waits for."""

    class Generator(module.SamplesGenerator):
        def _dispatch_prompts_to_vllm(self, prompts, labels, **_):
            return [responses[prompt] for prompt in prompts]

    module.ray = SimpleNamespace(wait=lambda refs, **_: (refs[:1], refs[1:]), get=lambda ref: ref)
    made = Generator.__new__(Generator)
    samples = int(option(argv, "--rollout.n_samples_per_prompt"))
    made.args = SimpleNamespace(
        rollout=SimpleNamespace(n_samples_per_prompt=samples),
        algo=SimpleNamespace(dynamic_filtering_enable="--algo.dynamic_filtering_enable" in argv, dynamic_filtering_range=(0, 1)),
    )
    return made


def advantages_of(module, experiences, argv):
    """What OpenRLHF's estimator makes of the rewards."""
    import torch

    maker = module.RemoteExperienceMaker.__new__(module.RemoteExperienceMaker)
    estimator = option(argv, "--algo.advantage.estimator")
    advantage = SimpleNamespace(estimator=estimator, gamma=1.0, lambd=1.0, no_std_norm=True, is_correction_level="off")
    rollout = SimpleNamespace(n_samples_per_prompt=int(option(argv, "--rollout.n_samples_per_prompt")))
    reward = SimpleNamespace(clip_range=(-10, 10))
    maker.advantage_estimator, maker.kl_ctl = estimator, SimpleNamespace(value=0.0)
    maker.args = SimpleNamespace(algo=SimpleNamespace(advantage=advantage), rollout=rollout, reward=reward)
    maker.strategy = SimpleNamespace(args=maker.args)
    for place, experience in enumerate(experiences):
        experience.index, experience.kl = [place], torch.zeros(1, experience.action_mask.shape[1])
    return [made.advantages[0, -1].item() for made in maker.compute_advantages_and_returns(experiences)]


def test_the_script_trains_with_the_judges_preferences_and_leaves_out_what_nobody_could_tell_apart(tmp_path):
    agent, samples_generator, experience_maker = openrlhf()
    cli = (FOLDER / "openrlhf" / "cli" / "train_ppo_ray.py").read_text()
    script = ("openrlhf.sh", tmp_path)
    with serve_in_thread(FakeJudge.from_pairs(PAIRS)) as judge, started(*script, judge, "--train.seed", "7") as argv:
        assert argv[:2] == ["-m", "openrlhf.cli.train_ppo_ray"]
        assert all(f'"{flag}"' in cli for flag in argv if flag.startswith("--"))
        executor = agent.SingleTurnAgentExecutor(option(argv, "--reward.remote_url").split(","))

        async def all_prompts():
            return await asyncio.gather(*(sampled(executor, prompt, texts) for prompt, texts in [*TOLD, SAME]))

        responses = dict(zip([prompt for prompt, _ in [*TOLD, SAME]], asyncio.run(all_prompts()), strict=True))
    generator = generator_of(samples_generator, argv, responses)
    loader = iter([(None, [prompt], [None], [None]) for prompt in responses])
    experiences, consumed, _ = generator._generate_vllm(loader, 6, generator.args.algo.dynamic_filtering_enable)
    assert (consumed, len(experiences)) == (6, 4 * len(TOLD))
    for experience in experiences:
        assert experience.info["judged_share"].item() == 1.0
        assert experience.info["group_incomplete"].item() == 0.0
        assert 0 < experience.info["score"].item() < 1
    rewards = [experience.rewards.item() for experience in experiences]
    for start in range(0, len(rewards), 4):
        group = rewards[start : start + 4]
        assert sum(group) == pytest.approx(0, abs=1e-6)
        assert len(set(group)) > 1
    whole = type(experiences[0]).concat_experiences(experiences[:4], 0)
    assert whole.rewards.flatten().tolist() == rewards[:4]
    assert whole.info["judged_share"].flatten().tolist() == [1.0] * 4
    assert advantages_of(experience_maker, experiences, argv) == pytest.approx(rewards, rel=1e-5)


def longer(shown):
    first, second = len(shown.response_a), len(shown.response_b)
    return (first > second) - (first < second)


async def patiently(executor, prompt, texts, late):
    """The first text is sampled at once, the others when `late` has come."""
    early = asyncio.Event()
    early.set()
    return await sampled(executor, prompt, texts, [early, *[late] * (len(texts) - 1)])


@pytest.mark.parametrize("texts", [["4", "5", "22", "x"], ["4", "4", "22", "x"], ["4", "4", "4", "4"]], ids=["none", "two", "all"])
def test_openrlhf_that_gives_up_and_asks_again_gets_what_a_patient_one_gets_however_many_are_equal(tmp_path, monkeypatch, texts):
    agent, _, _ = openrlhf()
    lines = []
    monkeypatch.setattr(agent.logger, "info", lines.append)
    monkeypatch.setattr(agent.aiohttp, "ClientTimeout", lambda total: TIMEOUT(total=total / 180))  # a second instead of three minutes
    with serve_in_thread(FakeJudge(Opinions(rule=longer))) as judge, started("openrlhf.sh", tmp_path, judge) as argv:
        executor = agent.SingleTurnAgentExecutor([option(argv, "--reward.remote_url")])

        async def both():
            late, now = asyncio.Event(), asyncio.Event()
            now.set()
            hasty = asyncio.create_task(patiently(executor, "p:", texts, late))
            while not lines:  # the first has given up, and asks again in a second
                await asyncio.sleep(0.01)
            await asyncio.sleep(1.5)
            late.set()
            return await hasty, await patiently(executor, "q:", texts, now)

        hasty, patient = asyncio.run(both())
    assert lines[0].startswith("Unexpected error, please check: ")  # which is what it says when the time is up
    assert [each["reward"] for each in hasty] == [each["reward"] for each in patient]
    assert all(each["extra_logs"] == {"judged_share": each["extra_logs"]["judged_share"], "group_incomplete": [0.0]} for each in hasty)


def test_openrlhf_writes_to_its_log_why_a_request_was_refused(tmp_path, caplog, monkeypatch):
    agent, _, _ = openrlhf()
    monkeypatch.setattr(agent.asyncio, "sleep", lambda _: SLEEP(0))
    lines = []
    monkeypatch.setattr(agent.logger, "info", lines.append)
    with serve_in_thread(FakeJudge()) as judge, started("openrlhf.sh", tmp_path, judge) as argv:
        executor = agent.SingleTurnAgentExecutor([option(argv, "--reward.remote_url")])
        (response,) = asyncio.run(sampled(executor, "", ["an answer to nothing"]))
    assert response["reward"] is None
    assert re.search(r"400, message='query\[0\] has an empty prompt'", lines[0])
    assert len(lines) == 6


def test_the_local_file_is_loaded_and_called_by_openrlhf(tmp_path, monkeypatch):
    agent, _, _ = openrlhf()
    with serve_in_thread(FakeJudge.from_pairs(PAIRS)) as judge:
        (tmp_path / "judgeflow.toml").write_text(CONFIG.format(judge.base_url))
        monkeypatch.chdir(tmp_path)
        executor = agent.SingleTurnAgentExecutor(str(ROOT / "examples" / "openrlhf_reward.py"))
        prompt, texts = TOLD[0]
        responses = asyncio.run(sampled(executor, prompt, texts))
    rewards = [response["reward"][0] for response in responses]
    assert sum(rewards) == pytest.approx(0)
    assert len(set(rewards)) > 1
