"""TRL's GRPO trainer with a small policy on the CPU, for the case `trainer_step`: one contender for each source of rewards.

Every round trains a new policy of the same weights with the same seed.  The learning rate is 0 and no completion ends early, so that
rounds and contenders generate the same texts and compute the same, gradients and the optimizer's step included.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.clients import Texts
from benchmarks.contest import Prepared
from benchmarks.rewards import Source

VOCABULARY = 500
PROMPT_WORDS, COMPLETION_WORDS = 24, 64
STEPS = 5
"""Of a round; the first, which opens what is opened, is not measured."""

Reward = Callable[..., Awaitable[Sequence[float | None]]]


def constant(prompts: int, responses: int, seed: int) -> Prepared:
    """A function that rewards everything with 1."""

    async def one(completions: Sequence[str], **_: Any) -> list[float]:
        return [1.0] * len(completions)

    policy = _Policy(prompts, responses, seed)
    return Prepared(run=lambda: policy.train(one))


def judgeflow(source: str, base_url: str, folder: str, *, prompts: int, responses: int, seed: int) -> Prepared:
    """`judge_reward`, answered by a source of `benchmarks.rewards`."""
    from judgeflow.adapters.trl import judge_reward

    policy, judged = _Policy(prompts, responses, seed), Source(source, base_url, folder)
    judged.know(lambda router: policy.train(judge_reward(router)))
    rewards: list[Reward] = []

    def renew() -> None:
        rewards[:] = [judge_reward(judged.new_run())]

    def run() -> dict[str, float]:
        measured = policy.train(rewards[0])
        for figures in policy.logged:
            judged.check(figures)
        return measured

    return Prepared(run=run, before=renew)


class _Policy:
    """A GPT-2 of two layers with random weights, whose tokens are words; `logged` is what the last training logged, step by step."""

    def __init__(self, prompts: int, responses: int, seed: int) -> None:
        self._responses, self._seed = responses, seed
        texts = Texts(seed, VOCABULARY)
        self._prompts = [texts.next(PROMPT_WORDS) for _ in range(prompts)]
        self._tokenizer = _word_tokenizer(texts.words)
        self.logged: list[dict[str, float]] = []
        _hush()

    def train(self, reward: Reward) -> dict[str, float]:
        """Train; return the seconds of a step and those spent in the reward function, both as means over all but the first."""
        from datasets import Dataset
        from transformers import PrinterCallback
        from trl import GRPOTrainer

        watch = _stopwatch()
        trainer = GRPOTrainer(
            model=self._model(),
            reward_funcs=watch.timed(reward),
            args=self._settings(),
            train_dataset=Dataset.from_dict({"prompt": self._prompts}),
            processing_class=self._tokenizer,
            callbacks=[watch],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        self.logged = [entry for entry in trainer.state.log_history if "reward" in entry]
        return watch.means()

    def _model(self) -> Any:
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(self._seed)
        shape = {"n_positions": PROMPT_WORDS + COMPLETION_WORDS, "n_embd": 128, "n_layer": 2, "n_head": 4}
        ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(self._tokenizer), **shape, **ends))

    def _settings(self) -> Any:
        from trl import GRPOConfig

        return GRPOConfig(
            output_dir=tempfile.gettempdir(),  # nothing is saved
            max_steps=STEPS,
            per_device_train_batch_size=len(self._prompts) * self._responses,
            num_generations=self._responses,
            max_completion_length=COMPLETION_WORDS,
            generation_kwargs={"suppress_tokens": [0, 1, 2]},
            scale_rewards="none",
            learning_rate=0.0,
            seed=self._seed,
            use_cpu=True,
            bf16=False,  # which this small a policy gains nothing by, and some processors are slow at
            gradient_checkpointing=False,
            report_to=[],
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
        )


def _stopwatch() -> Any:
    """Return a callback that times steps, and the reward function where it is told to: a class of transformers', which loads late."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []
            self.rewarding: list[float] = []

        def timed(self, reward: Reward) -> Reward:
            async def judgeflow(**batch: Any) -> Sequence[float | None]:
                started = time.perf_counter()
                try:
                    return await reward(**batch)
                finally:
                    self.rewarding.append(time.perf_counter() - started)

            return judgeflow

        def on_step_end(self, *_arguments: Any, **_more: Any) -> None:
            self.ends.append(time.perf_counter())

        def means(self) -> dict[str, float]:
            steps = len(self.ends) - 1
            return {"step_seconds": (self.ends[-1] - self.ends[0]) / steps, "reward_seconds": sum(self.rewarding[1:]) / steps}

    return Stopwatch()


def _word_tokenizer(words: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {word: number for number, word in enumerate(dict.fromkeys(("<pad>", "<end>", "<unknown>", *words)))}
    vocabulary = Tokenizer(models.WordLevel(known, unk_token="<unknown>"))  # a token of text, not a secret
    vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=vocabulary,
        pad_token="<pad>",
        eos_token="<end>",
        unk_token="<unknown>",
    )


def _hush() -> None:
    from transformers.utils import logging

    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.set_verbosity_error()
