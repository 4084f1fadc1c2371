"""OpenRLHF's reward from judgeflow, in OpenRLHF's own process: a file that its --reward.remote_url names.

    python -m openrlhf.cli.train_ppo_ray --reward.remote_url examples/openrlhf_reward.py --rollout.n_samples_per_prompt 4 ...

Start it where judgeflow.toml is, or say where that is in JUDGEFLOW_CONFIG: Ray's workers have a folder of their own.  Each vLLM engine
loads this file, so each has a scheduler.  For one that all of them share, and for many prompts at a time, see openrlhf.sh.
"""

import os

from judgeflow.adapters.openrlhf_local import reward_function

reward_func = reward_function(
    os.environ.get("JUDGEFLOW_CONFIG", "judgeflow.toml"),
    group_size=int(os.environ.get("SAMPLES", "4")),  # --rollout.n_samples_per_prompt, and --eval.n_samples_per_prompt
)
