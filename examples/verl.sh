#!/usr/bin/env bash
# verl with its reward from a judgeflow service: start this where judgeflow.toml is, with the trainer's other settings behind it.
#
#     examples/verl.sh data.train_files=train.parquet actor_rollout_ref.model.path=Qwen/Qwen3-0.6B ...
#
# MANAGER=no asks by a reward function instead of a reward manager; the data then need their prompt in extra_info, too.
set -euo pipefail
samples=${SAMPLES:-4} port=${PORT:-8765}

if curl --silent --output /dev/null "http://127.0.0.1:$port/"; then
  echo "port $port is taken, perhaps by the service of another training: end that one, or choose another with PORT=" >&2
  exit 1
fi
judgeflow serve --route --port "$port" &
service=$!
trap 'kill -INT $service; wait $service' EXIT
until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/readyz"; do
  kill -0 $service # or it has ended, and said why
  sleep 0.2
done

if [ "${MANAGER:-yes}" = yes ]; then
  reward=(
    reward.reward_manager.source=importlib
    reward.reward_manager.name=JudgeflowRewardManager
    reward.reward_manager.module.path=pkg://judgeflow.adapters.verl
    "+judgeflow.url=http://127.0.0.1:$port"
  )
else
  reward=(
    reward.custom_reward_function.path=pkg://judgeflow.adapters.verl
    reward.custom_reward_function.name=compute_score
    "+reward.custom_reward_function.reward_kwargs.group_size=$samples"
    "+reward.custom_reward_function.reward_kwargs.url=http://127.0.0.1:$port"
  )
fi

# A group's rewards sum to zero already; dividing by their standard deviation would make a group about which nobody knows anything as loud as
# one with clear verdicts.  In validation a prompt needs as many samples as in training, since responses are compared with each other.
"${PYTHON:-python3}" -m verl.trainer.main_ppo \
  algorithm.adv_estimator=grpo \
  algorithm.norm_adv_by_std_in_grpo=False \
  actor_rollout_ref.rollout.n="$samples" \
  actor_rollout_ref.rollout.val_kwargs.n="$samples" \
  actor_rollout_ref.rollout.val_kwargs.do_sample=True \
  "${reward[@]}" \
  "$@"
