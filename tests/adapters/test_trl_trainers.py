"""TRL's own trainers, a tiny policy and a judge over HTTP: what the trainers see is what the judge's opinions come to, by definition."""

from pathlib import Path

import pytest
from tiny import PROMPTS, new_policy, prefer, rule, settings, text
from trainers import advantages

from judgeflow import Scheduler
from judgeflow.adapters.trl import judge_reward, judge_reward_sync, online_dpo_reward
from judgeflow.testing import FakeJudge, Opinions, serve_in_thread

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of transformers about its own names
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def router(tmp_path):
    with serve_in_thread(FakeJudge(Opinions(rule=rule, accuracy=1.0))) as judge:
        lines = ["[run]", f'directory = "{tmp_path}"', "[judge]", f'base_url = "{judge.base_url}"', 'model = "fake-judge"']
        (tmp_path / "judgeflow.toml").write_text("\n".join([*lines, "[routing]", 'policy = "always"']), encoding="utf-8")
        with Scheduler.from_config(tmp_path / "judgeflow.toml") as scheduler:
            yield scheduler


@pytest.fixture
def policy():
    return new_policy()


def watched(trainer):
    """Collect what the trainer has logged about the batches it generated: prompt, completion, reward, advantage."""
    from transformers import TrainerCallback

    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_args, **_more):
            logs = trainer._logs
            seen.append(list(zip(logs["prompt"], logs["completion"], logs["rewards"]["judgeflow"], logs["advantages"], strict=True)))

    trainer.add_callback(Watch())
    return seen


def expected(batch, size):
    """The rewards of a batch by definition, from its texts alone."""
    rewards = []
    for start in range(0, len(batch), size):
        prompts, completions = ([text(row[column]) for row in batch[start : start + size]] for column in (0, 1))
        assert len(set(prompts)) == 1
        rewards += advantages(completions, lambda first, second, prompt=prompts[0]: prefer(prompt, first, second))
    return rewards


def test_grpo_sees_the_judges_preferences_as_rewards_in_training_and_in_evaluation(tmp_path, router, policy):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = policy
    arguments = GRPOConfig(
        **settings(tmp_path, per_device_train_batch_size=8, gradient_accumulation_steps=2, per_device_eval_batch_size=8),
        num_generations=4,
        num_generations_eval=2,
        max_completion_length=6,
        scale_rewards="none",
        eval_strategy="steps",
        eval_steps=2,
    )
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": prompt}] for prompt in PROMPTS]})
    trainer = GRPOTrainer(
        model=model, args=arguments, reward_funcs=judge_reward(router), train_dataset=data, eval_dataset=data, processing_class=tokenizer
    )
    seen = watched(trainer)
    trainer.train()
    assert len(seen) == 3
    for batch in seen:
        assert [reward for _, _, reward, _ in batch] == pytest.approx(expected(batch, 4), abs=1e-5)
        assert [advantage for *_, advantage in batch] == pytest.approx(expected(batch, 4), abs=1e-5)
    assert any(reward for batch in seen for _, _, reward, _ in batch)
    trained = [entry for entry in trainer.state.log_history if "judgeflow/calls" in entry]
    assert all(entry["judgeflow/pairs"] == 24 for entry in trained)
    assert any("eval_judgeflow/pairs" in entry for entry in trainer.state.log_history)
    assert all(value for value in trainer._logs["extra"]["judgeflow/sources"])


def test_rloo_multiplies_the_rewards_by_k_over_k_minus_1(tmp_path, router, policy):
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    model, tokenizer = policy
    arguments = RLOOConfig(**settings(tmp_path, per_device_train_batch_size=12), num_generations=3, max_completion_length=6, beta=0.0)
    trainer = RLOOTrainer(
        model=model,
        args=arguments,
        reward_funcs=judge_reward_sync(router),
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tokenizer,
    )
    seen = watched(trainer)
    trainer.train()
    for batch in seen:
        assert [reward for _, _, reward, _ in batch] == pytest.approx(expected(batch, 3), abs=1e-5)
        assert [advantage for *_, advantage in batch] == pytest.approx([value * 3 / 2 for value in expected(batch, 3)], abs=1e-5)
    assert any(reward for batch in seen for _, _, reward, _ in batch)


def test_a_completion_that_was_cut_off_moves_nothing(tmp_path, router, policy):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = policy
    arguments = GRPOConfig(
        **settings(tmp_path, per_device_train_batch_size=16), num_generations=4, max_completion_length=6, scale_rewards="none"
    )
    ended, rewarded = [], []
    reward = judge_reward_sync(router, eos_token_ids=[tokenizer.eos_token_id])

    def judgeflow(prompts, completions, completion_ids, **columns):
        rewards = reward(prompts, completions, completion_ids, **columns)
        ended.extend(ids[-1] == tokenizer.eos_token_id for ids in completion_ids)
        rewarded.extend(reward is not None for reward in rewards)
        return rewards

    trainer = GRPOTrainer(
        model=model,
        args=arguments,
        reward_funcs=judgeflow,
        train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        processing_class=tokenizer,
    )
    seen = watched(trainer)
    trainer.train()
    assert ended == rewarded
    assert {True, False} == set(ended)
    flat = [row for batch in seen for row in batch]
    assert all(advantage == 0 for (*_, advantage), has_reward in zip(flat, rewarded, strict=True) if not has_reward)


def test_online_dpo_chooses_what_the_judge_prefers(tmp_path, router, policy):
    from datasets import Dataset
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    model, tokenizer = policy
    judged, calls = online_dpo_reward(router), []

    def reward(**batch):
        calls.append((batch["prompts"], batch["completions"], judged(**batch)))
        return calls[-1][2]

    arguments = OnlineDPOConfig(**settings(tmp_path, per_device_train_batch_size=4), max_new_tokens=6)
    trainer = OnlineDPOTrainer(
        model=model, args=arguments, reward_funcs=reward, train_dataset=Dataset.from_dict({"prompt": PROMPTS}), processing_class=tokenizer
    )
    trainer.train()
    assert len(calls) == 3
    for prompts, completions, rewards in calls:
        firsts, seconds = completions[:4], completions[4:]
        preferences = [prefer(text(prompt), text(one), text(other)) for prompt, one, other in zip(prompts, firsts, seconds, strict=False)]
        assert rewards == pytest.approx([*preferences, *(-preference for preference in preferences)])
    assert any(rewards for *_, rewards in calls)


def test_the_example_learns_from_an_unsure_scorer_only_where_the_judge_is_asked(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import grpo_learns as example

    never, uncertainty = example.play(0, 50, ("never", "uncertainty"))
    assert (never.calls, uncertainty.calls > 0) == (0, True)
    assert never.unfamiliar < 0.1
    assert uncertainty.unfamiliar > 0.2
    assert uncertainty.familiar > 0.5
    assert "uncertainty" in example.table([never, uncertainty])
