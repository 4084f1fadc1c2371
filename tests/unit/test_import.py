import importlib.util
import json
import subprocess
import sys

import pytest

import judgeflow

HEAVY = ("torch", "transformers", "sqlalchemy", "aiohttp", "pydantic", "alembic", "tiktoken", "numpy")
LATER = {"Scheduler"} if importlib.util.find_spec("judgeflow.engine.scheduler") is None else set()


def modules_after(code):
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(name for name in sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("code", ["import judgeflow", "from judgeflow import Pair, Group, StepResult, JudgeflowError"])
def test_importing_judgeflow_imports_nothing_heavy(code):
    loaded = modules_after(code)
    assert "judgeflow" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("name", sorted(set(judgeflow.__all__) - LATER))
def test_every_public_name_is_there(name):
    value = getattr(judgeflow, name)
    assert name == "__version__" or value.__name__ == name
    assert name == "__version__" or value.__doc__


def test_a_public_name_is_the_object_of_its_module():
    from judgeflow.errors import RecordError
    from judgeflow.types import Pair

    assert judgeflow.Pair is Pair
    assert judgeflow.RecordError is RecordError


def test_dir_lists_the_public_names_and_no_others():
    assert dir(judgeflow) == sorted(judgeflow.__all__)
    assert len(set(judgeflow.__all__)) == len(judgeflow.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'judgeflow' has no attribute 'Schedular'"):
        _ = judgeflow.Schedular
    with pytest.raises(ImportError, match="Schedular"):
        from judgeflow import Schedular  # noqa: F401
