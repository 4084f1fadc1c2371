"""GRPO with a judge that is asked about some pairs: what does a policy learn, and for how many calls?

    python examples/grpo_learns.py [--seeds 3] [--steps 80] [--json]

A policy of two layers, from nothing, is asked for one kind of symbol: vowels, digits, capitals or consonants.  Its true reward, which the
trainer never sees, is the share of its symbols that are of this kind.  The trainer sees preferences between the four completions of a
prompt: from a scorer that has learnt about the first three kinds only, and from a judge, a local HTTP server that errs in one pair of
twenty, and one time in twenty prefers what is shown first.

Each arm trains the same policy on the same prompts, and differs only in the [routing] policy: whom the judge is asked about.

    never         the scorer alone
    random        a quarter of each step's pairs, by lot
    error         the quarter that the scorer is most probably wrong about
    uncertainty   the quarter that is farthest from what the scorer knows
    always        every pair

The scorer is written by hand, to save the time to train one.  It behaves as a small SNGP scorer did that `judgeflow train` had made from
4,000 pairs about the first three kinds: about these it was right in 91 % (mean |logit| 3.0, uncertainty 1.4), about consonants in 35 %
(0.7 and 2.4).  It needs pip install "judgeflow[trl]", no GPU, no network and no account.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from judgeflow import Pair, Preference, Scheduler
from judgeflow.adapters.trl import judge_reward
from judgeflow.chance import chance
from judgeflow.config import JudgeConnection, RoutingConfig
from judgeflow.judges.client import HttpJudge
from judgeflow.store import MemoryStore
from judgeflow.testing import FakeJudge, Opinions, serve_in_thread
from judgeflow.verdicts.prompt import Shown, load_template

KINDS = {"vowels": "aeiou", "digits": "12345", "capitals": "ABCDE", "consonants": "bdkmt"}
UNFAMILIAR = "consonants"
LENGTH = 6
GENERATIONS = 4
PROMPTS = [f"write {kind}" for kind in KINDS] * 2
ARMS = ("never", "random", "error", "uncertainty", "always")
SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What one arm of one seed came to: true rewards of the trained policy between 0 and 1, and answered judge calls."""

    arm: str
    seed: int
    familiar: float
    unfamiliar: float
    calls: int


def true_reward(prompt: str, completion: str) -> float:
    """Return the share of a completion's places that hold the kind of symbol that the prompt asks for."""
    wanted = KINDS[prompt.removeprefix("write ")]
    return sum(symbol in wanted for symbol in completion.split()) / LENGTH


# The judge and the scorer


def better(shown: Shown) -> int:
    """Say which of two responses is better: +1 the one shown first, -1 the second, 0 neither.  The judge's rule."""
    first, second = (true_reward(shown.prompt.strip(), response.strip()) for response in (shown.response_a, shown.response_b))
    return (first > second) - (first < second)


class NarrowScorer:
    """A scorer that knows what is wanted of the familiar kinds, and takes consonants for something to be avoided, without being sure."""

    fingerprint = "narrow-1"

    def score(self, pairs: Sequence[Pair]) -> list[Preference]:
        """Return its beliefs: right about 91 % of familiar pairs, and about 35 % of the others."""
        return [self._belief(pair) for pair in pairs]

    def _belief(self, pair: Pair) -> Preference:
        prompt = str(pair.prompt)
        known = UNFAMILIAR not in prompt
        lead = true_reward(prompt, pair.response_a) - true_reward(prompt, pair.response_b)
        is_right = chance(0, prompt, pair.response_a, pair.response_b) < (0.91 if known else 0.35)
        size = 3.0 if known else 0.7
        logit = (size if lead > 0 else -size if lead < 0 else 0.0) * (1 if is_right else -1)
        return Preference(logit=logit, uncertainty=1.4 if known else 2.4)


def scheduler(arm: str, base_url: str, seed: int) -> Scheduler:
    """Return what routes one arm's pairs.  In production: Scheduler.from_config("judgeflow.toml")."""
    share = SHARE if arm in {"random", "error", "uncertainty"} else None
    return Scheduler(
        scorer=NarrowScorer(),
        judge=HttpJudge(JudgeConnection(base_url=base_url, model="fake-judge"), load_template("default")),
        store=MemoryStore(),
        routing=RoutingConfig(policy=arm, max_share=share, seed=seed),
        run=arm,
    )


# The policy


def tiny_policy(seed: int) -> tuple[Any, Any]:
    """Return a GPT-2 of two layers with random weights, and a tokenizer with one token per word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["<pad>", "<end>", "<unknown>", "write", *KINDS, *"".join(KINDS.values())]
    vocabulary = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unknown>"))  # noqa: S106
    vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>")  # noqa: S106
    torch.manual_seed(seed)
    shape = GPT2Config(
        vocab_size=len(words),
        n_positions=16,
        n_embd=64,
        n_layer=2,
        n_head=2,
        initializer_range=0.05,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(shape), tokenizer


def train_policy(arm: str, base_url: str, steps: int, seed: int) -> tuple[Any, Any]:
    """Train a policy with GRPO on judgeflow's rewards; return it and its tokenizer."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    model, tokenizer = tiny_policy(seed)
    settings = GRPOConfig(
        output_dir=tempfile.gettempdir(),  # nothing is saved
        max_steps=steps,
        per_device_train_batch_size=len(PROMPTS) * GENERATIONS,
        num_generations=GENERATIONS,
        max_completion_length=LENGTH,
        scale_rewards="none",  # rewards are advantages already, and their size says how sure the judge is
        learning_rate=2e-3,
        lr_scheduler_type="constant",
        seed=seed,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    prompts = Dataset.from_dict({"prompt": PROMPTS})
    with scheduler(arm, base_url, seed) as router:
        reward = judge_reward(router)
        trainer = GRPOTrainer(model=model, reward_funcs=reward, args=settings, train_dataset=prompts, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return model, tokenizer


def measured(model: Any, tokenizer: Any, kind: str, samples: int = 64) -> float:
    """Return the mean true reward of completions that the policy samples."""
    import torch

    prompt = f"write {kind}"
    inputs = tokenizer([prompt] * samples, return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(
            inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True, top_k=0, max_new_tokens=LENGTH
        )
    completions = tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return statistics.mean(true_reward(prompt, completion) for completion in completions)


# The comparison


def play(seed: int, steps: int, arms: Sequence[str] = ARMS) -> list[Learned]:
    """Train a policy for each arm, against one judge."""
    learned = []
    with serve_in_thread(FakeJudge(Opinions(rule=better, accuracy=0.95, position_bias=0.05, seed=seed))) as judge:
        for arm in arms:
            before = judge.statistics.answered
            policy = train_policy(arm, judge.base_url, steps, seed)
            calls = judge.statistics.answered - before
            rewards = {kind: measured(*policy, kind) for kind in KINDS}
            familiar = statistics.mean(reward for kind, reward in rewards.items() if kind != UNFAMILIAR)
            learned.append(Learned(arm=arm, seed=seed, familiar=familiar, unfamiliar=rewards[UNFAMILIAR], calls=calls))
    return learned


def table(learned: Sequence[Learned]) -> str:
    """Return a line for each arm: means over the seeds, with the least and the greatest in brackets."""
    lines = [f"{'':12}{'true reward of the trained policy':^44}", f"{'judged':12}{'familiar kinds':22}{'unfamiliar kind':22}{'calls':>7}"]
    for arm in dict.fromkeys(one.arm for one in learned):
        found = [one for one in learned if one.arm == arm]
        familiar, unfamiliar = _spread([one.familiar for one in found]), _spread([one.unfamiliar for one in found])
        lines.append(f"{arm:12}{familiar:22}{unfamiliar:22}{statistics.mean(one.calls for one in found):7,.0f}")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def _hush() -> None:
    from transformers.utils import logging

    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.set_verbosity_error()


def main() -> None:
    """Play all seeds and print the table, or every figure as JSON."""
    parser = argparse.ArgumentParser(
        description="Compare what a policy learns with a judge that is asked never, by lot, when unsure, always."
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    _hush()
    learned = [one for seed in range(options.seeds) for one in play(seed, options.steps)]
    print(json.dumps([asdict(one) for one in learned]) if options.json else table(learned))


if __name__ == "__main__":
    main()
