"""docs/trl.md says what is true: its configuration is accepted, its programs train and judge, its tables are complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from judgeflow.adapters import trl
from judgeflow.adapters.groups import figures_of
from judgeflow.testing import FakeJudge, serve_in_thread
from judgeflow.types import Cost, StepStatistics

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "trl.md").read_text(encoding="utf-8")
MEASURED = max((ROOT / "benchmarks" / "results").glob("*-trainer_step.md"))
MODEL = "Qwen/Qwen3-0.6B"


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


TRAINING, SHARING = blocks("python")


@pytest.fixture
def folder(tmp_path):
    """A folder with the page's configuration, and a judge that it leads to."""
    with serve_in_thread(FakeJudge()) as judge:
        (configuration,) = blocks("toml")
        (tmp_path / "judgeflow.toml").write_text(configuration.replace("http://127.0.0.1:8399/v1", judge.base_url), encoding="utf-8")
        yield tmp_path


def run(code, folder):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tiny_model(folder):
    """A model of one layer with random weights, a word-level tokenizer and a chat template, in a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = ["<pad>", "<end>", "<unknown>", "Explain", "rain", "wind", "snow", "ice", "to", "a", "child", "."]
    vocabulary = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unknown>"))
    vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=vocabulary, pad_token="<pad>", eos_token="<end>", unk_token="<unknown>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=len(words), head_dim=8, eos_token_id=1, pad_token_id=0, **shape))
    for part in (tokenizer, model):
        part.save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_five_minute_program_trains(folder):
    tiny_model(folder / "model")
    assert "12.0 pairs in the last step" in run(TRAINING.replace(MODEL, "./model"), folder)


@pytest.mark.slow
def test_the_same_program_trains_in_two_processes_with_one_scheduler(folder):
    (command,) = blocks("console")
    tiny_model(folder / "model")
    (folder / "train.py").write_text(TRAINING.replace(MODEL, "./model"), encoding="utf-8")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command.split()[1:], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    printed = re.sub(r"\{.*?\}", "", done.stdout)  # without what one of them logs; both print at the same time, in pieces
    assert (printed.count("12.0"), printed.count(" pairs in the last step")) == (2, 2)
    (log,) = folder.glob(".judgeflow/*/service.log")
    assert "pairs=24" in log.read_text(encoding="utf-8")


def test_one_scheduler_is_shared_as_the_page_shows(folder):
    assert run(SHARING, folder) == ""


def test_the_page_names_every_adapter_and_every_figure():
    adapters = {name for name in vars(trl) if name.endswith(("_reward", "_sync", "Judge")) and not name.startswith("_")}
    assert adapters == {name for name in re.findall(r"`(\w+)\(", PAGE) if hasattr(trl, name)}
    statistics = StepStatistics(
        run="r", step=0, pairs=1, threshold=1.0, sources={}, statuses={}, calls=0, spent=Cost(), prompt_tokens=0, completion_tokens=0,
        agreement=1.0, latency_s={}, remaining={}, seconds=0.0,
    )  # fmt: skip
    named = set(re.findall(r"`judgeflow/([\w/]+)`", PAGE)) | set(re.findall(r"`\.\.\./(\w+)`", PAGE))
    assert {figure.removeprefix("source/") for figure in figures_of(statistics)} <= {name.removeprefix("source/") for name in named}


def test_what_a_step_takes_was_measured_last():
    assert re.findall(r"\(\.\./benchmarks/results/(.*?)\)", PAGE) == [MEASURED.name]
    rows = [line for line in PAGE.partition("## What a step takes")[2].partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert len(rows) == 13
    assert set(rows) <= set(MEASURED.read_text(encoding="utf-8").splitlines())


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", PAGE)
    assert links
    assert all((ROOT / "docs" / link).exists() for link in links)
