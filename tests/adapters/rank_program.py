"""Trainings by TRL in two processes, which are forked, since loading TRL takes longer than training.

Each line of standard input is one training, {"trainer", "router", "folder", "port"} and perhaps "dies_in", the step in which rank 1 kills
itself; it is answered by a line with the exit codes of both ranks.  Each call of the reward function is one line of JSON in
folder/rank-N.jsonl: what was asked, what came back, what TRL was given to log.  What a rank says goes to folder/rank-N.log.
"""

import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

import tiny
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from judgeflow.adapters.trl import judge_reward, judge_reward_sync

warnings.simplefilter("ignore")


def noted(reward, folder, dies_in):
    """The reward function, and a line about each of its calls."""
    rank = int(os.environ["RANK"])
    lines = (folder / f"rank-{rank}.jsonl").open("w", encoding="utf-8")

    def before(trainer):
        if rank == 1 and trainer.state.global_step == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)

    def after(trainer, prompts, completions, rewards):
        metrics = {name: values[-1] for name, values in trainer._pending_metrics.items()}
        asked = {"step": trainer.state.global_step, "training": trainer.model.training}
        extra = {name: values[-len(prompts) :] for name, values in trainer._pending_extra_logs.items()}
        row = {**asked, "prompts": prompts, "completions": completions, "rewards": rewards, "metrics": metrics, "extra": extra}
        print(json.dumps(row), file=lines, flush=True)
        if trainer.state.global_step == dies_in:
            os._exit(0)  # nobody is left to gather with

    if reward.__name__ == "of_async":

        async def judgeflow(prompts, completions, completion_ids, log_metric, **columns):
            before(log_metric.__self__)
            rewards = await reward(prompts, completions, completion_ids, log_metric=log_metric, **columns)
            after(log_metric.__self__, prompts, completions, rewards)
            return rewards

    else:

        def judgeflow(prompts, completions, completion_ids, log_metric, **columns):
            before(log_metric.__self__)
            rewards = reward(prompts, completions, completion_ids, log_metric=log_metric, **columns)
            after(log_metric.__self__, prompts, completions, rewards)
            return rewards

    return judgeflow


def trained(kind, router, folder, dies_in):
    """Train, and return the trainer."""
    model, tokenizer = tiny.new_policy()
    if kind == "grpo":
        # Three groups of four over two ranks with six samples each: one of the groups is in both.
        arguments = GRPOConfig(
            **tiny.settings(folder, per_device_train_batch_size=6, per_device_eval_batch_size=3, eval_strategy="steps", eval_steps=2),
            num_generations=4,
            num_generations_eval=2,
            max_completion_length=6,
            scale_rewards="none",
        )
        data = Dataset.from_dict({"prompt": [[{"role": "user", "content": prompt}] for prompt in tiny.PROMPTS[:6]]})
        reward = noted(judge_reward(router, name="of_async"), folder, dies_in)
        trainer = GRPOTrainer(
            model=model, args=arguments, reward_funcs=reward, train_dataset=data, eval_dataset=data, processing_class=tokenizer
        )
    else:
        # The same, of one prompt: three equal groups side by side.
        arguments = RLOOConfig(**tiny.settings(folder, per_device_train_batch_size=6), num_generations=4, max_completion_length=6, beta=0.0)
        data = Dataset.from_dict({"prompt": tiny.PROMPTS[:1] * 6})
        trainer = RLOOTrainer(
            model=model,
            args=arguments,
            reward_funcs=noted(judge_reward_sync(router), folder, dies_in),
            train_dataset=data,
            processing_class=tokenizer,
        )
    trainer.train()
    return trainer


def run(rank, training):
    """Be a rank, as torchrun would have started it, but without its agent, which ends all ranks when one dies."""
    folder = Path(training["folder"])
    said = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    world = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= world | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(training["port"])}
    try:
        done = trained(training["trainer"], training["router"], folder, training.get("dies_in", -1))
        if rank == 0:
            (folder / "history.json").write_text(json.dumps(done.state.log_history), encoding="utf-8")
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def forked(rank, training):
    child = os.fork()
    if not child:
        run(rank, training)
        sys.exit()  # whoever wants to close with the program does
    return child


if __name__ == "__main__":
    say("ready")
    for line in sys.stdin:
        ranks = [forked(rank, json.loads(line)) for rank in range(2)]
        say(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks]))
