"""verl's own reward workers ask for rewards, configured by its own command line; only Ray and the model that would sample are left out."""

import asyncio

import pytest
from started import started
from theirs import reach, verl_config

from judgeflow.adapters.verl import JudgeflowRewardManager
from judgeflow.testing import FakeJudge, arithmetic_pairs, serve_in_thread

pytestmark = [pytest.mark.trainers, pytest.mark.filterwarnings("ignore")]

PAIRS = arithmetic_pairs(6)
GROUPS = [(pair.prompt, [pair.response_a, pair.response_b, "I do not know.", "Perhaps 42?"]) for pair in PAIRS]
SAMPLES = [(number, prompt, text) for number, (prompt, texts) in enumerate(GROUPS) for text in texts]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tokenizer whose tokens are bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: k for k, letter in enumerate([*letters, "<pad>", "<end>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)
    return folder


def row(tokenizer, number, prompt, text):
    """One sample as verl's agent loop sends it to a reward worker: `_compute_score` in its agent_loop.py."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    before = torch.tensor([tokenizer.encode(f"user: {prompt}")])
    after = torch.tensor([[*tokenizer.encode(text), tokenizer.eos_token_id]])
    mask = torch.ones(1, before.shape[1] + after.shape[1], dtype=torch.int64)
    messages = [{"role": "user", "content": prompt}]
    columns = {
        "raw_prompt": np.array([messages]),
        "uid": np.array([f"uid-{number}"]),
        "data_source": np.array(["arithmetic"]),
        "reward_model": np.array([{"ground_truth": "unknown"}]),
        "extra_info": np.array([{"index": number, "prompt": messages}]),
        "__num_turns__": np.array([2]),
        "tool_extra_fields": np.array([{}], dtype=object),
    }
    batch = TensorDict({"prompts": before, "responses": after, "attention_mask": mask}, batch_size=1)
    return DataProto(batch=batch, non_tensor_batch=columns)


def scored(argv, model):
    """What verl's workers answer about all samples, which go to one or the other of them."""
    config = verl_config([*argv[2:], f"actor_rollout_ref.model.path={model}"])
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker

    async def asked():
        workers = [RewardLoopWorker(config) for _ in range(3)]
        tokenizer = workers[0].input_tokenizer
        rows = [row(tokenizer, *sample) for sample in SAMPLES]
        return await asyncio.gather(*(workers[place % 3].compute_score(each) for place, each in enumerate(rows)))

    return asyncio.run(asked())


@pytest.mark.parametrize("manager", ["yes", "no"], ids=["a reward manager", "a reward function"])
def test_the_script_scores_samples_that_are_spread_over_workers_by_the_judges_preferences(tmp_path, model, manager):
    with (
        serve_in_thread(FakeJudge.from_pairs(PAIRS)) as judge,
        started("verl.sh", tmp_path, judge, "trainer.total_epochs=1", MANAGER=manager) as argv,
    ):
        assert argv[:2] == ["-m", "verl.trainer.main_ppo"]
        results = scored(argv, model)
    scores = [result["reward_score"] for result in results]
    for start in range(0, len(scores), 4):
        assert sum(scores[start : start + 4]) == pytest.approx(0)
        assert len(set(scores[start : start + 4])) > 1
    infos = [result["reward_extra_info"] for result in results]
    assert len({tuple(info) for info in infos}) == 1  # verl asks every sample for the keys of the first
    assert all((info["judged_share"], info["group_incomplete"]) == (1.0, 0.0) for info in infos)
    assert judge.statistics.answered == 2 * 6 * len(GROUPS)


def test_scores_stand_where_verl_puts_them():
    import torch
    from tensordict import TensorDict

    reach()
    from verl import DataProto
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

    mask = torch.tensor([[0, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    data = DataProto(batch=TensorDict({"prompts": mask[:, :2], "responses": mask[:, 2:], "attention_mask": mask}, batch_size=3))
    scores = [1.5, -0.5, -1.0]
    assert torch.equal(JudgeflowRewardManager.assemble_rm_scores(data, scores), RewardManagerBase.assemble_rm_scores(data, scores))
