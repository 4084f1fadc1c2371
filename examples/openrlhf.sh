#!/usr/bin/env bash
# OpenRLHF with its reward from a judgeflow service: start this where judgeflow.toml is, with the trainer's other options behind it.
#
#     examples/openrlhf.sh --actor.model_name_or_path Qwen/Qwen3-0.6B --data.prompt_dataset prompts.jsonl ...
set -euo pipefail
samples=${SAMPLES:-4} port=${PORT:-8765}

if curl --silent --output /dev/null "http://127.0.0.1:$port/"; then
  echo "port $port is taken, perhaps by the service of another training: end that one, or choose another with PORT=" >&2
  exit 1
fi
judgeflow serve --route --group-size "$samples" --port "$port" &
service=$!
trap 'kill -INT $service; wait $service' EXIT
until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/readyz"; do
  kill -0 $service # or it has ended, and said why
  sleep 0.2
done

# dr_grpo takes a reward as it is: a group's rewards sum to zero already.  group_norm would make a group about which nobody knows anything as
# loud as one with clear verdicts.  Dynamic filtering leaves out groups that nobody could tell apart.
"${PYTHON:-python3}" -m openrlhf.cli.train_ppo_ray \
  --reward.remote_url "http://127.0.0.1:$port/get_reward" \
  --rollout.n_samples_per_prompt "$samples" \
  --eval.n_samples_per_prompt "$samples" \
  --algo.advantage.estimator dr_grpo \
  --algo.dynamic_filtering_enable \
  "$@"
