"""OpenRLHF's and verl's own code, imported from build/trainers, where `.ci/trainers` puts it.

What of it asks for rewards, and makes advantages of them, runs as it is.  OpenRLHF's packages import DeepSpeed and vLLM, so they are made
here without running their `__init__`; the few names that are imported from what is not installed belong to what is not called.
"""

import sys
import types
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build" / "trainers"
PACKAGES = ("", ".utils", ".trainer", ".trainer.ppo_utils", ".trainer.ray", ".models")


def reach():
    """Let what is in build/trainers be imported, where nothing else has its name."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))


def _module(name, **names):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(names)


def openrlhf():
    """Return OpenRLHF's executor, its generator of samples, its maker of experiences and the module of each."""
    reach()
    if "openrlhf" not in sys.modules:
        for part in PACKAGES:
            _module(f"openrlhf{part}", __path__=[str(FOLDER.joinpath("openrlhf", *part.split(".")[1:]))])
        _module("vllm", SamplingParams=object)
        _module("deepspeed")
        _module("openrlhf.trainer.ray.vllm_engine", batch_vllm_engine_call=None)
        _module("openrlhf.trainer.ray.launcher", RayActorGroup=object)
    from openrlhf.trainer.ppo_utils import experience_maker, samples_generator
    from openrlhf.utils import agent

    for name in ("vllm", "deepspeed"):
        sys.modules.pop(name, None)  # others look whether they are there
    return agent, samples_generator, experience_maker


def verl_config(overrides):
    """Return verl's configuration as its command line makes it."""
    reach()
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(FOLDER / "verl" / "trainer" / "config"), version_base=None):
        return compose("ppo_trainer", overrides=overrides)
